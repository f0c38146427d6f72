//! The gallery: embeddings of known people in one safetensors file.
//!
//! The tensor `embeddings` is float32 [N, D], each row L2-normalised. The file's metadata holds
//! `format` (`gst-face-gallery`), `version`, `model` (its name), `model-sha256` (of its weights) and
//! `rows`, a JSON array of `{"person": …, "source": …}`, one for each row.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use face_core::Error;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};

const FORMAT: &str = "gst-face-gallery";
const VERSION: &str = "1";

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
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    pub model: ModelId,
    dimensions: usize,
    rows: Vec<Row>,
    /// Index into `people` for each row.
    person: Vec<usize>,
    people: Vec<String>,
    /// Rows of each person.
    counts: Vec<usize>,
    /// Row-major [N, D].
    embeddings: Vec<f32>,
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

impl Gallery {
    /// An empty gallery for embeddings of `dimensions` numbers by `model`.
    pub fn new(model: ModelId, dimensions: usize) -> Self {
        Self {
            model,
            dimensions,
            rows: Vec::new(),
            person: Vec::new(),
            people: Vec::new(),
            counts: Vec::new(),
            embeddings: Vec::new(),
        }
    }

    /// Adds an embedding, which is normalised. `false` if it has another length or no direction.
    pub fn push(&mut self, row: Row, embedding: &[f32]) -> bool {
        if embedding.len() != self.dimensions {
            return false;
        }
        let Some(embedding) = normalised(embedding) else {
            return false;
        };
        let person = match self.people.iter().position(|p| *p == row.person) {
            Some(person) => person,
            None => {
                self.people.push(row.person.clone());
                self.counts.push(0);
                self.people.len() - 1
            }
        };
        self.counts[person] += 1;
        self.person.push(person);
        self.rows.push(row);
        self.embeddings.extend(embedding);
        true
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The length of an embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub fn embedding(&self, row: usize) -> &[f32] {
        &self.embeddings[row * self.dimensions..(row + 1) * self.dimensions]
    }

    /// The people, in the order of their first rows.
    pub fn people(&self) -> &[String] {
        &self.people
    }

    pub fn person_name(&self, person: usize) -> &str {
        &self.people[person]
    }

    /// How many rows a person has.
    pub fn rows_of(&self, person: usize) -> usize {
        self.counts[person]
    }

    /// The `k` rows nearest to `query` (of length 1) by cosine distance, nearest first. Exact: every
    /// row is compared.
    pub fn nearest(&self, query: &[f32], k: usize) -> Vec<Neighbor> {
        if query.len() != self.dimensions || k == 0 {
            return Vec::new();
        }
        // The best so far, ascending; k is small, so insertion is cheaper than a heap.
        let mut best: Vec<(f32, usize)> = Vec::with_capacity(k.min(self.len()) + 1);
        for (row, embedding) in self.embeddings.chunks_exact(self.dimensions).enumerate() {
            let distance = 1.0 - dot(query, embedding);
            if best.len() == k && distance >= best[k - 1].0 {
                continue;
            }
            let at = best.partition_point(|(d, _)| *d <= distance);
            best.insert(at, (distance, row));
            best.truncate(k);
        }
        best.into_iter()
            .map(|(distance, row)| Neighbor {
                row,
                person: self.person[row],
                distance: f64::from(distance).max(0.0),
            })
            .collect()
    }

    /// Reads a gallery file.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = std::fs::read(path).map_err(|e| match Error::reading(path, e) {
            Error::NotFound(what) => Error::NotFound(format!(
                "gallery {what}; make one with `facepipe enroll PEOPLE_DIR -o {}`",
                path.display()
            )),
            other => other,
        })?;
        Self::parse(&bytes).map_err(|cause| {
            Error::invalid(
                path,
                format!("{cause}; make the gallery anew with `facepipe enroll PEOPLE_DIR -o FILE`"),
            )
        })
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let no_gallery = |cause: &dyn std::fmt::Display| format!("not a gallery: {cause}");
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| no_gallery(&e))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let value = |key: &str| {
            metadata
                .get(key)
                .cloned()
                .ok_or_else(|| no_gallery(&format!("no `{key}` in its metadata")))
        };
        if value("format")? != FORMAT {
            return Err(no_gallery(&format!("its format is not {FORMAT}")));
        }
        if value("version")? != VERSION {
            return Err(format!(
                "a gallery of format version {}, this program reads version {VERSION}",
                value("version")?
            ));
        }
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| no_gallery(&e))?;
        let tensor = tensors.tensor("embeddings").map_err(|e| no_gallery(&e))?;
        let rows: Vec<Row> = serde_json::from_str(&value("rows")?).map_err(|e| no_gallery(&e))?;
        let &[count, dimensions] = tensor.shape() else {
            return Err(no_gallery(&"`embeddings` is not a matrix"));
        };
        if tensor.dtype() != Dtype::F32 || count != rows.len() || dimensions == 0 {
            return Err(no_gallery(&format!(
                "`embeddings` is {:?} {:?}, expected F32 [{}, D]",
                tensor.dtype(),
                tensor.shape(),
                rows.len()
            )));
        }
        let model = ModelId {
            name: value("model")?,
            sha256: value("model-sha256")?,
        };
        let mut gallery = Self::new(model, dimensions);
        let (numbers, _) = tensor.data().as_chunks::<4>();
        let numbers: Vec<f32> = numbers.iter().map(|&b| f32::from_le_bytes(b)).collect();
        for (row, embedding) in rows.into_iter().zip(numbers.chunks_exact(dimensions)) {
            let person = row.person.clone();
            if !gallery.push(row, embedding) {
                return Err(format!("damaged: a row of {person:?} has no direction"));
            }
        }
        Ok(gallery)
    }

    /// Writes the gallery, whole or not at all: to a temporary file in the same folder, which then
    /// takes the name. Readable and writable by its owner only.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |cause: std::io::Error| Error::Unwritable {
            path: path.to_owned(),
            cause,
        };
        let rows = serde_json::to_string(&self.rows).map_err(|e| failed(e.into()))?;
        let metadata = HashMap::from(
            [
                ("format", FORMAT),
                ("version", VERSION),
                ("model", &self.model.name),
                ("model-sha256", &self.model.sha256),
                ("rows", &rows),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let data: Vec<u8> = self
            .embeddings
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let shape = vec![self.len(), self.dimensions];
        let bytes = TensorView::new(Dtype::F32, shape, &data)
            .and_then(|view| safetensors::serialize([("embeddings", view)], Some(metadata)))
            .map_err(|e| failed(std::io::Error::other(e)))?;
        let folder = path
            .parent()
            .filter(|p| !p.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|e| failed(e.error))?;
        Ok(())
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

/// The scalar product; eight sums side by side, so that it runs in vector registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 8];
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    for (a, b) in a8.iter().zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
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
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("g.safetensors");
        gallery().write(&path).expect("writable");
        let whole = std::fs::read(&path).expect("just written");
        for cut in 0..whole.len() {
            assert!(Gallery::parse(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for i in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[i] ^= 0x15;
            let _ = Gallery::parse(&flipped);
        }
        let missing = Gallery::read(&folder.path().join("none")).expect_err("no such file");
        assert!(missing.to_string().contains("facepipe enroll"), "{missing}");
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
