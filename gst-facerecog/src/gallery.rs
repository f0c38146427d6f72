//! The gallery: embeddings of known people. `file.rs` knows its file, `scan.rs` searches it,
//! `images.rs` tells which rows come of one image, `watch.rs` shares it and sees its file change.

mod file;
mod images;
mod scan;
pub mod watch;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use face_core::{Error, names};
use serde::{Deserialize, Serialize};

use file::FiledNumbers;
pub use file::Stamp;
use images::Images;
pub use images::{variation_of, variation_source};

/// Whose face a row is, and the picture that it was computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub person: String,
    pub source: String,
}

/// The model that embeddings were computed by: only those of one model can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelId {
    pub name: String,
    /// Of the weights, in hexadecimal.
    pub sha256: String,
}

/// Embeddings of known people.
#[derive(Debug, Clone)]
pub struct Gallery {
    pub model: ModelId,
    /// What its file says besides, in the metadata; kept when it is written.
    pub notes: BTreeMap<String, String>,
    dimensions: usize,
    roll: Roll,
    numbers: Numbers,
    /// Found when first needed; unset again by every new row.
    images: OnceLock<Option<Images>>,
}

/// Whose each row is and where it comes from, a few bytes a row.
#[derive(Debug, Clone, Default)]
struct Roll {
    /// The person of each row, an index into `people`.
    person: Vec<u32>,
    people: Vec<String>,
    /// Rows of each person.
    counts: Vec<usize>,
    /// The inverse of `people`; empty until somebody is added one by one.
    index: HashMap<String, u32>,
    /// The sources of all rows, one behind the other, and where each ends.
    sources: String,
    ends: Vec<u32>,
}

impl Roll {
    /// `false` if there are too many people or too much text, which no file could hold either.
    fn push(&mut self, person: &str, source: &str) -> bool {
        if self.index.len() != self.people.len() {
            let people = self.people.iter().cloned();
            self.index = people.zip(0..).collect();
        }
        let next = self.people.len();
        let (Ok(next), Ok(end)) = (
            u32::try_from(next),
            u32::try_from(self.sources.len() + source.len()),
        ) else {
            return false;
        };
        let index = match self.index.get(person) {
            Some(&index) => index,
            None => {
                self.index.insert(person.to_owned(), next);
                self.add_person(person);
                next
            }
        };
        self.add_row(index, source, end);
        true
    }

    fn add_person(&mut self, name: &str) {
        self.people.push(name.to_owned());
        self.counts.push(0);
    }

    /// Adds a row whose source then ends at `end`.
    fn add_row(&mut self, person: u32, source: &str, end: u32) {
        self.counts[person as usize] += 1;
        self.person.push(person);
        self.sources.push_str(source);
        self.ends.push(end);
    }

    fn len(&self) -> usize {
        self.person.len()
    }

    fn person(&self, row: usize) -> &str {
        &self.people[self.person[row] as usize]
    }

    fn source(&self, row: usize) -> &str {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.sources[start as usize..self.ends[row] as usize]
    }
}

/// The embeddings, row-major [N, D], exact and rounded to 16 bits (`scan::fixed`).
#[derive(Debug, Clone)]
enum Numbers {
    Owned { exact: Vec<f32>, fixed: Vec<i16> },
    Filed(FiledNumbers),
}

impl Numbers {
    fn fixed(&self) -> &[i16] {
        match self {
            Self::Owned { fixed, .. } => fixed,
            Self::Filed(filed) => filed.fixed(),
        }
    }

    /// Copies all numbers to memory; `false` if they were in a file that was changed.
    fn own(&mut self) -> bool {
        let Self::Filed(filed) = self else {
            return true;
        };
        let Some(exact) = filed.all_exact() else {
            return false;
        };
        let fixed = filed.fixed().to_vec();
        *self = Self::Owned { exact, fixed };
        true
    }
}

/// A row of the gallery near to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    pub row: usize,
    /// Index for [`Gallery::person_name`].
    pub person: usize,
    /// Cosine distance, 0..=2.
    pub distance: f64,
}

/// Scales to length 1; `None` for a vector without direction.
pub fn normalised(embedding: &[f32]) -> Option<Vec<f32>> {
    let norm = embedding
        .iter()
        .map(|v| f64::from(*v) * f64::from(*v))
        .sum::<f64>()
        .sqrt();
    (norm.is_finite() && norm > 0.0).then(|| {
        embedding
            .iter()
            .map(|v| (f64::from(*v) / norm) as f32)
            .collect()
    })
}

/// A vector of length 1 as it is, another one [`normalised`].
fn unit(embedding: &[f32]) -> Option<Vec<f32>> {
    let is_unit = (scan::similarity(embedding, embedding) - 1.0).abs() < 1e-6;
    match is_unit {
        true => Some(embedding.to_vec()),
        false => normalised(embedding),
    }
}

impl Gallery {
    /// An empty gallery for embeddings of `dimensions` numbers by `model`.
    pub fn new(model: ModelId, dimensions: usize) -> Self {
        Self {
            model,
            dimensions,
            roll: Roll::default(),
            numbers: Numbers::Owned {
                exact: Vec::new(),
                fixed: Vec::new(),
            },
            notes: BTreeMap::new(),
            images: OnceLock::new(),
        }
    }

    /// Adds an embedding, which is normalised. `false` if it has another length or no direction (or
    /// if the sources of all rows exceed 4 GB, or the gallery's file was changed in place).
    pub fn push(&mut self, row: Row, embedding: &[f32]) -> bool {
        if embedding.len() != self.dimensions {
            return false;
        }
        let Some(unit) = normalised(embedding) else {
            return false;
        };
        self.push_unit(&row, &unit)
    }

    /// Adds a row of `other`, its numbers as they are, under the name `person`. `false` if it has
    /// another length (or if the sources of all rows exceed 4 GB, or a gallery's file was changed in
    /// place).
    pub fn push_row(&mut self, other: &Gallery, row: usize, person: &str) -> bool {
        let source = other.row(row).source;
        let person = person.to_owned();
        let exact = match other.dimensions == self.dimensions {
            true => other.exact(row),
            false => None,
        };
        exact.is_some_and(|unit| self.push_unit(&Row { person, source }, &unit))
    }

    fn push_unit(&mut self, row: &Row, unit: &[f32]) -> bool {
        if !self.numbers.own() || !self.roll.push(&row.person, &row.source) {
            return false;
        }
        self.images = OnceLock::new();
        if let Numbers::Owned { exact, fixed } = &mut self.numbers {
            exact.extend_from_slice(unit);
            fixed.extend(unit.iter().map(|v| scan::fixed(*v)));
        }
        true
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.roll.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The length of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// All rows, made for the caller; [`Gallery::row`] makes one.
    pub fn rows(&self) -> Vec<Row> {
        (0..self.len()).map(|row| self.row(row)).collect()
    }

    pub fn row(&self, row: usize) -> Row {
        Row {
            person: self.roll.person(row).to_owned(),
            source: self.roll.source(row).to_owned(),
        }
    }

    /// The person of a row, an index for [`Gallery::person_name`].
    pub fn person_of(&self, row: usize) -> usize {
        self.roll.person[row] as usize
    }

    pub fn source_of(&self, row: usize) -> &str {
        self.roll.source(row)
    }

    /// A row. Of a large gallery it is read from the file; should that have been changed in place, it is
    /// the row rounded to 16 bits.
    pub fn embedding(&self, row: usize) -> Cow<'_, [f32]> {
        match &self.numbers {
            Numbers::Owned { exact, .. } => exact[self.range(row)].into(),
            Numbers::Filed(filed) => filed.row(row),
        }
    }

    /// The exact row; `None` if it was in a file that was changed in place.
    fn exact(&self, row: usize) -> Option<Cow<'_, [f32]>> {
        match &self.numbers {
            Numbers::Owned { exact, .. } => Some(exact[self.range(row)].into()),
            Numbers::Filed(filed) => Some(filed.exact(row)?.into()),
        }
    }

    fn range(&self, row: usize) -> Range<usize> {
        row * self.dimensions..(row + 1) * self.dimensions
    }

    /// The people, in the order of their first rows.
    pub fn people(&self) -> &[String] {
        &self.roll.people
    }

    pub fn person_name(&self, person: usize) -> &str {
        &self.roll.people[person]
    }

    /// How many rows a person has.
    pub fn rows_of(&self, person: usize) -> usize {
        self.roll.counts[person]
    }

    /// Bytes that a search reads: the embeddings in 16 bits a number.
    pub fn searched_bytes(&self) -> usize {
        size_of_val(self.numbers.fixed())
    }

    /// The `k` rows nearest to `query` by cosine distance, nearest first, of equal ones the lower row
    /// first. Exact: all rows are compared in 16 bits, and in full those that rounding leaves in
    /// doubt. A query without direction (zero, NaN) is near to nothing.
    ///
    /// `query` is of length 1; another length scales the similarity, as ever with a scalar product.
    pub fn nearest(&self, query: &[f32], k: usize) -> Vec<Neighbor> {
        if query.len() != self.dimensions || k == 0 {
            return Vec::new();
        }
        let Some(rounded) = scan::Query::new(query) else {
            return Vec::new();
        };
        let mut best: Vec<(f64, usize)> = rounded
            .candidates(self.numbers.fixed(), k)
            .into_iter()
            .map(|row| (scan::similarity(query, &self.embedding(row)), row))
            // Only a damaged row has none; see `file.rs` on what is checked.
            .filter(|(similarity, _)| similarity.is_finite())
            .collect();
        // Stable, and in the order of rows before.
        best.sort_by(|(a, _), (b, _)| b.partial_cmp(a).unwrap_or(Ordering::Equal));
        best.truncate(k);
        best.into_iter()
            .map(|(similarity, row)| Neighbor {
                row,
                person: self.roll.person[row] as usize,
                distance: (1.0 - similarity).max(0.0),
            })
            .collect()
    }

    /// Reads a gallery file. Fails if one of the people is called what nobody can be
    /// ([`face_core::names`]), as in galleries that others made.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self::read_stamped(path)?.0)
    }

    /// Reads a gallery file, and says which content of it that was.
    pub fn read_stamped(path: &Path) -> Result<(Self, Stamp), Error> {
        let read = file::read(path, file::LARGE)?;
        read.0.check_names(path)?;
        Ok(read)
    }

    /// Reads a gallery file, whatever its people are called: to look at it, or to give them other names.
    pub fn read_any_names(path: &Path) -> Result<Self, Error> {
        Ok(file::read(path, file::LARGE)?.0)
    }

    fn check_names(&self, path: &Path) -> Result<(), Error> {
        let mut people = self.people().iter();
        let Some((name, reason)) = people.find_map(|name| Some((name, names::check(name).err()?)))
        else {
            return Ok(());
        };
        // What can be typed.
        let plain = name.bytes().all(|b| (b' '..0x7f).contains(&b)) && name.len() <= names::LONGEST;
        let advice = match plain {
            true => format!("`facepipe gallery rename {} {name:?} NEW`", path.display()),
            false => "`facepipe gallery rename`".into(),
        };
        Err(Error::invalid(
            path,
            format!("{reason}; give them another name by {advice}, or remove them"),
        ))
    }

    /// Reads a gallery file that is treated as a large one from `large` bytes on.
    #[cfg(fuzzing)]
    pub fn read_large_from(path: &Path, large: u64) -> Result<Self, Error> {
        Ok(file::read(path, large)?.0)
    }

    /// Whether both have the same model, rows and embeddings, these in 16 bits: nothing is read from files.
    pub fn is_like(&self, other: &Self) -> bool {
        self.model == other.model
            && self.dimensions == other.dimensions
            && self.roll.person == other.roll.person
            && self.roll.people == other.roll.people
            && self.roll.sources == other.roll.sources
            && self.roll.ends == other.roll.ends
            && self.numbers.fixed() == other.numbers.fixed()
    }

    /// Writes the gallery's file, whole or not at all: to a temporary file in the same folder, which then
    /// takes the name; where `path` is a link, that of what it leads to. Readable and writable by its owner
    /// only. Fails for what is no regular file. Who changes a gallery keeps others from it meanwhile.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        file::write(self, path, file::LARGE)
    }

    /// Writes the bytes of the gallery's file.
    pub fn write_to(&self, writer: &mut impl std::io::Write) -> std::io::Result<()> {
        file::write_to(self, writer, file::LARGE)
    }

    /// Fails, with both names, unless the gallery was made by `model`.
    pub fn expect_model(&self, path: &Path, model: &ModelId) -> Result<(), Error> {
        if self.model.sha256 == model.sha256 {
            return Ok(());
        }
        let short = |sha: &str| sha.chars().take(12).collect::<String>();
        Err(Error::Settings(format!(
            "gallery {} was made by model `{}` (sha256 {}…), the recogniser runs `{}` ({}…): their \
             embeddings cannot be compared; enroll anew with this model, or set `model`",
            path.display(),
            self.model.name,
            short(&self.model.sha256),
            model.name,
            short(&model.sha256)
        )))
    }
}

/// The same model, rows and embeddings, wherever they lie.
impl PartialEq for Gallery {
    fn eq(&self, other: &Self) -> bool {
        let same = |row| self.embedding(row) == other.embedding(row);
        self.is_like(other) && (0..self.len()).all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(person: &str) -> Row {
        Row {
            person: person.into(),
            source: format!("{person}/1.jpg"),
        }
    }

    fn gallery() -> Gallery {
        let model = ModelId {
            name: "sface".into(),
            sha256: "ab".repeat(32),
        };
        let mut gallery = Gallery::new(model, 3);
        assert!(gallery.push(row("ann"), &[2.0, 0.0, 0.0]));
        assert!(gallery.push(row("bob"), &[0.0, 5.0, 0.0]));
        assert!(gallery.push(row("ann"), &[1.0, 1.0, 0.0]));
        gallery
    }

    /// Numbers that are the same on every run.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            self.0 >> 33
        }

        fn below(&mut self, end: usize) -> usize {
            self.next() as usize % end
        }

        /// -1 to 1, more often near 0.
        fn number(&mut self) -> f32 {
            let unit = |n: u64| n as f32 / (1u64 << 31) as f32;
            unit(self.next()) - unit(self.next())
        }

        /// Rows around the centres of `people`.
        fn gallery(
            &mut self,
            dimensions: usize,
            count: usize,
            people: usize,
            noise: f32,
        ) -> Gallery {
            let centres: Vec<Vec<f32>> = (0..people)
                .map(|_| (0..dimensions).map(|_| self.number()).collect())
                .collect();
            let mut gallery = Gallery::new(gallery().model, dimensions);
            for i in 0..count {
                let centre = &centres[i % people];
                let embedding: Vec<f32> =
                    centre.iter().map(|v| v + noise * self.number()).collect();
                assert!(gallery.push(row(&format!("p{}", i % people)), &embedding));
            }
            gallery
        }
    }

    fn brute_force(gallery: &Gallery, query: &[f32], k: usize) -> Vec<Neighbor> {
        let similarity = |row: usize| -> f64 {
            let row = gallery.embedding(row);
            let products = row.iter().zip(query);
            products.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let mut all: Vec<(usize, f64)> = (0..gallery.len())
            .map(|row| (row, similarity(row)))
            .collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let neighbor = |(row, similarity): (usize, f64)| Neighbor {
            row,
            person: gallery.roll.person[row] as usize,
            distance: (1.0 - similarity).max(0.0),
        };
        all.into_iter().take(k).map(neighbor).collect()
    }

    #[test]
    fn nearest_by_cosine_distance() {
        let found = gallery().nearest(&[1.0, 0.0, 0.0], 2);
        assert_eq!(found.iter().map(|n| n.row).collect::<Vec<_>>(), [0, 2]);
        assert!(found[0].distance.abs() < 1e-6);
        assert!((found[1].distance - (1.0 - 0.5f64.sqrt())).abs() < 1e-6);
        assert!(
            gallery().nearest(&[1.0, 0.0], 2).is_empty(),
            "another length"
        );
        assert_eq!(gallery().nearest(&[1.0, 0.0, 0.0], 99).len(), 3);
    }

    #[test]
    fn vectors_without_direction_are_refused() {
        let mut gallery = gallery();
        for bad in [[0.0; 3], [f32::NAN, 1.0, 0.0], [f32::INFINITY, 0.0, 0.0]] {
            assert!(!gallery.push(row("eve"), &bad));
        }
        assert!(!gallery.push(row("eve"), &[1.0, 2.0]));
        assert_eq!((gallery.len(), gallery.people().len()), (3, 2));
    }

    #[test]
    fn what_is_written_is_read_and_only_the_owner_may() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("g.safetensors");
        gallery().write(&path).expect("writable");
        assert_eq!(Gallery::read(&path).expect("just written"), gallery());
        gallery()
            .write(&path)
            .expect("an existing file is replaced");
        let names: Vec<_> = std::fs::read_dir(folder.path())
            .expect("readable")
            .collect();
        assert_eq!(names.len(), 1, "no temporary file is left");
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&path)
            .expect("exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("new", &link).expect("writable");
        gallery()
            .write(&link)
            .expect("a link to nothing is followed");
        assert!(link.is_symlink() && folder.path().join("new").is_file());
    }

    #[test]
    fn nearest_is_brute_force() {
        let mut random = Random(7);
        // Numbers of dimensions beside the width of registers, rows beside the length of blocks.
        for (dimensions, count, people, noise) in [
            (128, 3000, 3000, 1.0),
            (128, 3000, 20, 0.05),
            (128, 1000, 5, 1e-4),
            (512, 700, 30, 0.3),
            (37, 257, 9, 0.2),
            (2, 300, 300, 1.0),
            (1, 5, 5, 1.0),
        ] {
            let gallery = random.gallery(dimensions, count, people, noise);
            for k in [1, 6, 50, count + 1] {
                for _ in 0..4 {
                    let row = random.below(count);
                    let near = gallery.embedding(row);
                    let query: Vec<f32> = near
                        .iter()
                        .map(|v| v + noise * random.number() / 8.0)
                        .collect();
                    let query = normalised(&query).expect("a direction");
                    assert_eq!(
                        gallery.nearest(&query, k),
                        brute_force(&gallery, &query, k),
                        "{dimensions} {count} {noise} {k}"
                    );
                }
            }
        }
    }

    /// Photos enrolled twice are as near as each other: the lower row comes first.
    #[test]
    fn equal_rows_keep_their_order() {
        let mut random = Random(8);
        let mut gallery = random.gallery(16, 600, 3, 0.5);
        for copy in 0..600 {
            let embedding = gallery.embedding(copy % 10).to_vec();
            assert!(gallery.push(row("twin"), &embedding));
        }
        let query = gallery.embedding(3).to_vec();
        let found = gallery.nearest(&query, 40);
        assert_eq!(found, brute_force(&gallery, &query, 40));
        assert_eq!(found[0].row, 3);
        assert_eq!(found[1].row, 603);
    }

    #[test]
    fn a_query_without_direction_is_near_to_nothing() {
        for query in [[f32::NAN, 1.0, 0.0], [0.0; 3], [f32::INFINITY, 0.0, 0.0]] {
            assert_eq!(gallery().nearest(&query, 2), []);
        }
        let long = gallery().nearest(&[0.0, 2.0, 0.0], 1);
        assert_eq!((long[0].row, long[0].distance), (1, 0.0));
        assert_eq!(gallery().nearest(&[f32::MAX; 3], 3).len(), 3);
        assert_eq!(gallery().nearest(&[1e-40, 0.0, 0.0], 3)[0].row, 0);
    }

    #[test]
    fn rows_come_back_in_the_order_of_pushing() {
        let gallery = gallery();
        assert_eq!(gallery.people(), ["ann", "bob"]);
        assert_eq!([0, 1].map(|person| gallery.rows_of(person)), [2, 1]);
        assert_eq!(gallery.rows(), [row("ann"), row("bob"), row("ann")]);
        assert_eq!(gallery.row(2), row("ann"));
        assert_eq!(gallery.searched_bytes(), 3 * 3 * 2);
    }

    #[test]
    fn another_model_is_refused_with_both_names() {
        let other = ModelId {
            name: "arcface".into(),
            sha256: "cd".repeat(32),
        };
        let error = gallery()
            .expect_model(Path::new("g"), &other)
            .expect_err("another model");
        assert!(error.to_string().contains("`sface`") && error.to_string().contains("`arcface`"));
    }
}
