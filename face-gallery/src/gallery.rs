//! The gallery: embeddings of known people. `file.rs` reads and writes its file, `scan.rs` searches
//! it, `images.rs` groups rows by image, `strangers.rs` holds the faces that are not to be named, and `watch.rs` shares galleries and watches their files.

mod file;
mod images;
pub(crate) mod scan;
mod strangers;
pub mod watch;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

use face_core::Error;
use face_core::model::{Model, Task};
use face_meta::names;
use serde::{Deserialize, Serialize};

use file::FiledNumbers;
pub use file::Stamp;
use images::Images;
pub use images::{variation_of, variation_source};
pub use strangers::MOST_STRANGERS;
use strangers::Strangers;

/// The person whose face a row is, and the picture from which it was computed. In a gallery, names
/// have one form ([`names::normal`]): two forms of a name are one person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub person: String,
    pub source: String,
}

/// The model that computed the embeddings. Only embeddings of one model can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelId {
    pub name: String,
    /// Of the weights, in hexadecimal.
    pub sha256: String,
}

impl ModelId {
    /// Identifies an installed recognition model by reading its weights. Also returns the length of
    /// its embeddings.
    pub fn of(name: &str) -> Result<(Self, usize), Error> {
        let model = Model::find(name)?;
        model.expect_task(Task::Recognition)?;
        let (_, sha256) = model.read_weights()?;
        let dimensions = model.descriptor.dimensions.ok_or_else(|| {
            Error::invalid(
                model.weights.with_extension("json"),
                "the length of embeddings is missing: `dimensions`",
            )
        })?;
        let name = model.descriptor.name;
        Ok((Self { name, sha256 }, dimensions))
    }
}

/// Embeddings of known people.
#[derive(Debug, Clone)]
pub struct Gallery {
    pub model: ModelId,
    /// Other metadata of its file. Kept when the gallery is written.
    pub notes: BTreeMap<String, String>,
    dimensions: usize,
    roll: Roll,
    numbers: Numbers,
    strangers: Strangers,
    /// Computed when first needed; reset by every new row.
    images: OnceLock<Option<Images>>,
}

/// The person and source of each row, in a few bytes per row.
#[derive(Debug, Clone, Default)]
struct Roll {
    /// The person of each row, an index into `people`.
    person: Vec<u32>,
    people: Vec<String>,
    /// Rows of each person.
    counts: Vec<usize>,
    /// The inverse of `people`; empty until people are added one by one.
    index: HashMap<String, u32>,
    /// The sources of all rows, concatenated, and where each ends.
    sources: String,
    ends: Vec<u32>,
}

impl Roll {
    /// Returns `false` if there are too many people or too much text. No file could hold that
    /// either.
    fn push(&mut self, person: &str, source: &str) -> bool {
        let person = &*names::normal(person);
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

    /// Adds a row whose source ends at `end`.
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

/// The embeddings, row-major [N, D]: exact, and rounded to 16 bits (`scan::fixed`).
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

    /// Copies all numbers to memory. Returns `false` if they were in a file that was changed.
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

/// A row of the gallery near a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbor {
    pub row: usize,
    /// Index for [`Gallery::person_name`].
    pub person: usize,
    /// Cosine distance, 0..=2.
    pub distance: f64,
}

/// Scales to length 1. `None` for a vector without direction.
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

/// A vector of length 1 unchanged, any other one [`normalised`].
fn unit(embedding: &[f32]) -> Option<Vec<f32>> {
    let is_unit = (scan::similarity(embedding, embedding) - 1.0).abs() < 1e-6;
    match is_unit {
        true => Some(embedding.to_vec()),
        false => normalised(embedding),
    }
}

impl Gallery {
    /// An empty gallery for embeddings of `dimensions` numbers, computed by `model`.
    pub fn new(model: ModelId, dimensions: usize) -> Self {
        Self {
            model,
            dimensions,
            roll: Roll::default(),
            numbers: Numbers::Owned {
                exact: Vec::new(),
                fixed: Vec::new(),
            },
            strangers: Strangers::default(),
            notes: BTreeMap::new(),
            images: OnceLock::new(),
        }
    }

    /// Adds an embedding and normalises it. Returns `false` if it has another length or no
    /// direction (or if the sources of all rows exceed 4 GB, or the gallery's file was changed in
    /// place).
    pub fn push(&mut self, row: Row, embedding: &[f32]) -> bool {
        if embedding.len() != self.dimensions {
            return false;
        }
        let Some(unit) = normalised(embedding) else {
            return false;
        };
        self.push_unit(&row, &unit)
    }

    /// Adds a row of `other`, with its numbers unchanged, under the name `person`. Returns `false`
    /// if it has another length (or if the sources of all rows exceed 4 GB, or a gallery's file was
    /// changed in place).
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

    /// All rows, newly allocated. [`Gallery::row`] makes a single one.
    pub fn rows(&self) -> Vec<Row> {
        (0..self.len()).map(|row| self.row(row)).collect()
    }

    pub fn row(&self, row: usize) -> Row {
        Row {
            person: self.roll.person(row).to_owned(),
            source: self.roll.source(row).to_owned(),
        }
    }

    /// The person of a row, as an index for [`Gallery::person_name`].
    pub fn person_of(&self, row: usize) -> usize {
        self.roll.person[row] as usize
    }

    pub fn source_of(&self, row: usize) -> &str {
        self.roll.source(row)
    }

    /// A row's embedding. Large galleries read it from the file. If that was changed in place, they
    /// return the embedding rounded to 16 bits.
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

    /// The bytes that a search reads: the embeddings with 16 bits per number.
    pub fn searched_bytes(&self) -> usize {
        size_of_val(self.numbers.fixed())
    }

    /// The `k` rows nearest to `query` by cosine distance, nearest first, the lower row first if
    /// equal. The search is exact: it compares all rows in 16 bits, and then in full those that
    /// rounding leaves in doubt. A query without direction (zero, NaN) has no neighbours.
    ///
    /// `query` should have length 1. Another length scales the similarity, as always with a scalar
    /// product.
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
            // Only a damaged row has none; see `file.rs` for what is checked.
            .filter(|(similarity, _)| similarity.is_finite())
            .collect();
        // Stable; the rows were in order before.
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

    /// Reads a gallery file. Fails if a person has a name that is not allowed
    /// ([`face_meta::names`]), as other programs may write.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Ok(Self::read_stamped(path)?.0)
    }

    /// Reads a gallery file, and returns the stamp of the content read.
    pub fn read_stamped(path: &Path) -> Result<(Self, Stamp), Error> {
        let read = file::read(path, file::LARGE)?;
        read.0.check_names(path)?;
        Ok(read)
    }

    /// Reads a gallery file whatever its people are called, to list them or to rename them.
    pub fn read_any_names(path: &Path) -> Result<Self, Error> {
        Ok(file::read(path, file::LARGE)?.0)
    }

    fn check_names(&self, path: &Path) -> Result<(), Error> {
        let mut people = self.people().iter();
        let Some((name, reason)) = people.find_map(|name| Some((name, names::check(name).err()?)))
        else {
            return Ok(());
        };
        // A name that can be typed.
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

    /// Reads a gallery file, treating it as large from `large` bytes on.
    #[cfg(fuzzing)]
    pub fn read_large_from(path: &Path, large: u64) -> Result<Self, Error> {
        Ok(file::read(path, large)?.0)
    }

    /// Whether both have the same model, rows and embeddings, the latter in 16 bits. Reads nothing
    /// from files.
    pub fn is_like(&self, other: &Self) -> bool {
        self.model == other.model
            && self.dimensions == other.dimensions
            && self.roll.person == other.roll.person
            && self.roll.people == other.roll.people
            && self.roll.sources == other.roll.sources
            && self.roll.ends == other.roll.ends
            && self.numbers.fixed() == other.numbers.fixed()
            && self.strangers == other.strangers
    }

    /// Writes the gallery's file atomically: to a temporary file in the same folder, which is then
    /// renamed. If `path` is a link, this replaces the link's target. Only the owner may read and
    /// write the file. Fails if `path` is not a regular file. Callers that change a gallery must
    /// keep others from changing it meanwhile.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        file::write(self, path, file::LARGE)
    }

    /// Writes the bytes of the gallery's file.
    pub fn write_to(&self, writer: &mut impl std::io::Write) -> std::io::Result<()> {
        file::write_to(self, writer, file::LARGE)
    }

    /// Fails, naming both models, unless the gallery was made by `model`.
    pub fn expect_model(&self, path: &Path, model: &ModelId) -> Result<(), Error> {
        if self.model.sha256 == model.sha256 {
            return Ok(());
        }
        let short = |sha: &str| sha.chars().take(12).collect::<String>();
        Err(Error::Settings(format!(
            "gallery {} was made by model `{}` (sha256 {}…), the recogniser runs `{}` ({}…): their \
             embeddings cannot be compared; set `model`, or enroll again with this model (`facepipe \
             gallery convert` does it from the photos)",
            path.display(),
            self.model.name,
            short(&self.model.sha256),
            model.name,
            short(&model.sha256)
        )))
    }
}

/// Equal if model, rows and embeddings are equal, wherever they are stored.
impl PartialEq for Gallery {
    fn eq(&self, other: &Self) -> bool {
        let same = |row| self.embedding(row) == other.embedding(row);
        self.is_like(other) && (0..self.len()).all(same)
    }
}

#[cfg(test)]
mod tests;
