//! Images and their variations: several rows may come from one image, and vote as one.
//!
//! The source of a variation is that of its image followed by `#` and a number: `ann/1.jpg#3` is a
//! variation of `ann/1.jpg`. A person with one photo and eight variations of it has been seen once.

use std::collections::{HashMap, HashSet};

use super::{Gallery, Neighbor, Roll};

/// The source of an image's variation `number`, counted from 1.
pub fn variation_source(image: &str, number: usize) -> String {
    format!("{image}#{number}")
}

/// The image and the number, if the source has the form of a variation's.
pub fn variation_of(source: &str) -> Option<(&str, usize)> {
    let (image, number) = source.rsplit_once('#')?;
    let digits = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
    Some((image, number.parse().ok().filter(|_| digits)?))
}

/// The image of each row, in a gallery with variations.
#[derive(Debug, Clone)]
pub(super) struct Images {
    /// The image of each row, as the number of the image's first row.
    of_row: Vec<u32>,
    /// Images of each person.
    counts: Vec<usize>,
    /// The most rows that one image has.
    most_rows: usize,
}

impl Images {
    /// `None` if every row is its own image.
    pub fn find(roll: &Roll) -> Option<Self> {
        if !roll.sources.contains('#') {
            return None;
        }
        let mut of_row = Vec::with_capacity(roll.len());
        let mut originals: HashMap<(u32, &str), u32> = HashMap::new();
        let mut rows_of_image: HashMap<u32, usize> = HashMap::new();
        let mut counts = vec![0; roll.people.len()];
        for (row, &person) in (0u32..).zip(&roll.person) {
            let source = roll.source(row as usize);
            // A file whose name only looks like a variation's has no original before it.
            let original = variation_of(source)
                .and_then(|(image, _)| originals.get(&(person, image)).copied());
            let image = original.unwrap_or_else(|| {
                originals.insert((person, source), row);
                counts[person as usize] += 1;
                row
            });
            of_row.push(image);
            *rows_of_image.entry(image).or_default() += 1;
        }
        let most_rows = rows_of_image.into_values().max().unwrap_or(1);
        (most_rows > 1).then_some(Self {
            of_row,
            counts,
            most_rows,
        })
    }
}

impl Gallery {
    /// Groups the rows by image, if not yet done.
    pub(super) fn find_images(&self) {
        self.images();
    }

    fn images(&self) -> Option<&Images> {
        self.images
            .get_or_init(|| Images::find(&self.roll))
            .as_ref()
    }

    /// The image of a row, as the number of the image's first row. That row is the image itself;
    /// the others are its variations.
    pub fn image_of(&self, row: usize) -> usize {
        self.images()
            .map_or(row, |images| images.of_row[row] as usize)
    }

    /// How many images a person has.
    pub fn images_of(&self, person: usize) -> usize {
        match self.images() {
            Some(images) => images.counts[person],
            None => self.rows_of(person),
        }
    }

    /// The nearest row of each of the `k` images nearest to `query`. Without variations this equals
    /// [`Gallery::nearest`].
    pub fn nearest_images(&self, query: &[f32], k: usize) -> Vec<Neighbor> {
        let Some(images) = self.images() else {
            return self.nearest(query, k);
        };
        // This many rows include `k` images in any case.
        let mut found = self.nearest(query, k.saturating_mul(images.most_rows));
        let mut seen = HashSet::new();
        found.retain(|neighbor| seen.insert(images.of_row[neighbor.row]));
        found.truncate(k);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::{ModelId, Row};

    /// Rows at these angles in degrees, all in one half of the circle.
    fn gallery(rows: &[(&str, &str, f32)]) -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: String::new(),
        };
        let mut gallery = Gallery::new(model, 2);
        for &(person, source, degrees) in rows {
            let (y, x) = degrees.to_radians().sin_cos();
            let row = Row {
                person: person.into(),
                source: source.into(),
            };
            assert!(gallery.push(row, &[x, y]));
        }
        gallery
    }

    #[test]
    fn sources_of_variations() {
        assert_eq!(variation_source("a/1.jpg", 3), "a/1.jpg#3");
        assert_eq!(variation_of("a/1.jpg#3"), Some(("a/1.jpg", 3)));
        assert_eq!(variation_of("#1#12"), Some(("#1", 12)));
        for other in [
            "a/1.jpg", "a#", "a#0", "a#03", "a#1.jpg", "a#+1", "a#²", "#",
        ] {
            assert_eq!(variation_of(other), None, "{other}");
        }
        assert_eq!(variation_of("a#99999999999999999999999"), None);
    }

    #[test]
    fn variations_count_as_their_image() {
        let gallery = gallery(&[
            ("ann", "1.jpg", 0.0),
            ("ann", "1.jpg#1", 2.0),
            ("ann", "1.jpg#2", 4.0),
            ("bob", "1.jpg", 30.0),
            // A file with this name: Bob has no `x`.
            ("bob", "x#1", 32.0),
            ("bob", "1.jpg#1", 5.0),
            // The same file again.
            ("ann", "1.jpg", 60.0),
            ("ann", "1.jpg#1", 61.0),
        ]);
        let images: Vec<usize> = (0..8).map(|row| gallery.image_of(row)).collect();
        assert_eq!(images, [0, 0, 0, 3, 4, 3, 6, 6]);
        assert_eq!([0, 1].map(|person| gallery.images_of(person)), [2, 2]);
        assert_eq!([0, 1].map(|person| gallery.rows_of(person)), [5, 3]);
        let rows = |k| -> Vec<usize> {
            let found = gallery.nearest_images(&[1.0, 0.0], k);
            found.iter().map(|n| n.row).collect()
        };
        assert_eq!(rows(1), [0]);
        assert_eq!(rows(3), [0, 5, 4]);
        assert_eq!(rows(99), [0, 5, 4, 6]);
    }

    #[test]
    fn without_variations_every_row_is_an_image() {
        let mut gallery = gallery(&[("ann", "a#1", 0.0), ("ann", "b#1", 9.0)]);
        assert_eq!((gallery.image_of(1), gallery.images_of(0)), (1, 2));
        let query = [1.0, 0.0];
        assert_eq!(
            gallery.nearest_images(&query, 6),
            gallery.nearest(&query, 6)
        );
        // Rows pushed later count, too.
        let row = Row {
            person: "ann".into(),
            source: "b#1#1".into(),
        };
        assert!(gallery.push(row, &query));
        assert_eq!((gallery.image_of(2), gallery.images_of(0)), (1, 2));
        assert_eq!(gallery.nearest_images(&query, 6).len(), 2);
    }
}
