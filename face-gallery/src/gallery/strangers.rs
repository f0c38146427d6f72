//! Faces that are not to be named: rows without a person. A face that is nearer to one of them than
//! to a person gets no name.

use super::{Gallery, normalised, scan};
use face_core::Error;

/// The most rows without a person. The oldest leave.
pub const MOST_STRANGERS: usize = 10_000;

/// The rows, in order of arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Strangers {
    sources: Vec<String>,
    /// Row-major [S, D], each row of length 1.
    exact: Vec<f32>,
    /// The same in fixed point, for the search.
    fixed: Vec<i16>,
}

impl Strangers {
    /// From a file. Fails with the number of a row that has no direction. Without their sources, rows
    /// have empty ones.
    pub fn read(sources: Vec<String>, numbers: &[f32], dimensions: usize) -> Result<Self, usize> {
        let mut rows = Self::default();
        let mut sources = sources.into_iter();
        for (i, row) in numbers.chunks_exact(dimensions).enumerate() {
            let unit = super::unit(row).ok_or(i)?;
            rows.push(sources.next().unwrap_or_default(), &unit);
        }
        rows.limit(dimensions);
        Ok(rows)
    }

    fn push(&mut self, source: String, unit: &[f32]) {
        self.sources.push(source);
        self.exact.extend_from_slice(unit);
        self.fixed.extend(unit.iter().map(|v| scan::fixed(*v)));
    }

    /// Drops the oldest if there are too many.
    fn limit(&mut self, dimensions: usize) {
        let excess = self.sources.len().saturating_sub(MOST_STRANGERS);
        self.sources.drain(..excess);
        self.exact.drain(..excess * dimensions);
        self.fixed.drain(..excess * dimensions);
    }

    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    pub fn exact(&self) -> &[f32] {
        &self.exact
    }
}

impl Gallery {
    /// Adds a face that is not to be named, and normalises its embedding. Returns `false` if that has
    /// another length or no direction. If there are [`MOST_STRANGERS`], the oldest leaves.
    pub fn push_stranger(&mut self, source: &str, embedding: &[f32]) -> bool {
        if embedding.len() != self.dimensions {
            return false;
        }
        let Some(unit) = normalised(embedding) else {
            return false;
        };
        self.strangers.push(source.to_owned(), &unit);
        self.strangers.limit(self.dimensions);
        true
    }

    /// The sources of the faces that are not to be named, oldest first.
    pub fn strangers(&self) -> &[String] {
        self.strangers.sources()
    }

    /// The embedding of a face that is not to be named.
    pub fn stranger(&self, number: usize) -> &[f32] {
        &self.strangers.exact[self.range(number)]
    }

    /// The number of the nearest face that is not to be named, and its cosine distance.
    pub fn nearest_stranger(&self, query: &[f32]) -> Option<(usize, f64)> {
        if query.len() != self.dimensions || self.strangers.sources.is_empty() {
            return None;
        }
        scan::Query::new(query)?
            .candidates(&self.strangers.fixed, 1)
            .into_iter()
            .map(|number| (number, scan::similarity(query, self.stranger(number))))
            .filter(|(_, similarity)| similarity.is_finite())
            // Of equals the first, like `Gallery::nearest`.
            .reduce(|best, next| if next.1 > best.1 { next } else { best })
            .map(|(number, similarity)| (number, (1.0 - similarity).max(0.0)))
    }

    /// Whether this face is among those that are not to be named.
    pub fn has_stranger(&self, embedding: &[f32]) -> bool {
        normalised(embedding)
            .and_then(|unit| self.nearest_stranger(&unit))
            .is_some_and(|(_, distance)| distance <= crate::edit::IDENTICAL)
    }

    /// Takes over the faces that `other` does not name, in place of its own.
    pub fn keep_strangers_of(&mut self, other: &Gallery) {
        if other.dimensions == self.dimensions {
            self.strangers = other.strangers.clone();
        }
    }

    /// Adds the faces that `other` does not name, unless they are here already. Returns how many
    /// were added.
    pub fn add_strangers_of(&mut self, other: &Gallery) -> usize {
        let mut added = 0;
        for (number, source) in other.strangers().iter().enumerate() {
            let embedding = other.stranger(number);
            if embedding.len() == self.dimensions && !self.has_stranger(embedding) {
                self.strangers.push(source.clone(), embedding);
                added += 1;
            }
        }
        self.strangers.limit(self.dimensions);
        added
    }

    /// Drops the faces from these sources; all if there are none. Fails if there is no such source.
    pub fn remove_strangers(&mut self, sources: &[String]) -> Result<usize, Error> {
        for wanted in sources {
            if !self.strangers.sources.contains(wanted) {
                return Err(Error::Settings(format!(
                    "there is no stranger {wanted:?}; `facepipe gallery list` shows what there is"
                )));
            }
        }
        let before = std::mem::take(&mut self.strangers);
        for (number, source) in before.sources.iter().enumerate() {
            if !sources.is_empty() && !sources.contains(source) {
                let row = &before.exact[self.range(number)];
                self.strangers.push(source.clone(), row);
            }
        }
        Ok(before.sources.len() - self.strangers.sources.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelId;

    fn gallery() -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: "00".into(),
        };
        Gallery::new(model, 2)
    }

    fn unit(degrees: f32) -> [f32; 2] {
        let (y, x) = degrees.to_radians().sin_cos();
        [x, y]
    }

    #[test]
    fn the_oldest_leave() {
        let mut gallery = gallery();
        for i in 0..MOST_STRANGERS + 3 {
            assert!(gallery.push_stranger(&i.to_string(), &unit(i as f32 / 1000.0)));
        }
        assert_eq!(gallery.strangers().len(), MOST_STRANGERS);
        assert_eq!(gallery.strangers()[0], "3");
        assert_eq!(gallery.stranger(0), unit(0.003));
        assert!(!gallery.push_stranger("", &[0.0, 0.0]) && !gallery.push_stranger("", &[1.0]));
    }

    #[test]
    fn the_nearest_is_found_and_all_can_be_removed() {
        let mut gallery = gallery();
        assert_eq!(gallery.nearest_stranger(&unit(0.0)), None);
        for (source, degrees) in [("a", 0.0), ("b", 50.0), ("a", 90.0)] {
            assert!(gallery.push_stranger(source, &unit(degrees)));
        }
        let (number, distance) = gallery.nearest_stranger(&unit(60.0)).expect("three");
        assert_eq!(number, 1);
        assert!((distance - (1.0 - 10f64.to_radians().cos())).abs() < 1e-6);
        assert!(gallery.has_stranger(&unit(90.0)) && !gallery.has_stranger(&unit(89.0)));
        let mut other = self::gallery();
        assert!(other.push_stranger("c", &unit(50.0)) && other.push_stranger("d", &unit(120.0)));
        assert_eq!(gallery.add_strangers_of(&other), 1);
        assert_eq!(gallery.strangers(), ["a", "b", "a", "d"]);
        assert!(gallery.remove_strangers(&["x".into()]).is_err());
        assert_eq!(gallery.remove_strangers(&["a".into()]).ok(), Some(2));
        assert_eq!(gallery.strangers(), ["b", "d"]);
        assert_eq!(gallery.remove_strangers(&[]).ok(), Some(2));
    }
}
