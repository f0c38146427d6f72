//! The tracks in a folder of results, with their embeddings.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use face_core::file::{hex, read_at_most};
use face_gallery::{ModelId, normalised};
use safetensors::{Dtype, SafeTensors};
use sha2::{Digest, Sha256};

use crate::analyze::stitch::Look;
use crate::enroll::visible_entries;
use crate::gallery;
use crate::record::{self, ClusterTrack, Summary, TrackSummary};

/// The limit for `tracks.safetensors` in bytes: about two million tracks.
pub const LARGEST_FILE: u64 = 1 << 30;

/// `tracks.safetensors`.
pub struct Embeddings {
    pub model: ModelId,
    pub dimensions: usize,
    /// Vectors of length 1, by track. A track may have several. Rows without a direction are left out.
    pub rows: BTreeMap<u64, Vec<Vec<f32>>>,
    /// The sums of the weights of the faces behind them. Results of earlier versions have none.
    pub weights: BTreeMap<u64, f64>,
    /// The sha256 of tracks and embeddings.
    pub sha256: String,
}

impl Embeddings {
    /// Reads the embeddings from the folder of an input.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("tracks.safetensors");
        let name = path.display();
        let bytes = read_at_most(&path, LARGEST_FILE)?;
        Self::parse(&bytes).with_context(|| format!("{name} is not what `facepipe analyze` writes"))
    }

    /// The mean of a track's embeddings, of length 1.
    pub fn mean(&self, track: u64) -> Option<Vec<f32>> {
        mean(self.rows.get(&track)?)
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let text = |key: &str| {
            let value: Option<&String> = metadata.get(key);
            value.with_context(|| format!("its metadata has no `{key}`"))
        };
        let tracks: Vec<u64> = serde_json::from_str(text("tracks")?).context("`tracks`")?;
        let weights: Vec<f64> = match metadata.get("weights") {
            Some(weights) => serde_json::from_str(weights).context("`weights`")?,
            None => Vec::new(),
        };
        let model = ModelId {
            name: text("model")?.clone(),
            sha256: text("model-sha256")?.clone(),
        };
        let file = SafeTensors::deserialize(bytes)?;
        let tensor = file.tensor("embeddings")?;
        let &[count, dimensions] = tensor.shape() else {
            anyhow::bail!("`embeddings` has the shape {:?}", tensor.shape());
        };
        ensure!(
            tensor.dtype() == Dtype::F32,
            "`embeddings` are not 32-bit numbers"
        );
        ensure!(
            count == tracks.len(),
            "there are {count} embeddings of {} tracks",
            tracks.len()
        );
        let mut hash = Sha256::new();
        hash.update(text("tracks")?);
        hash.update(tensor.data());
        let (numbers, _) = tensor.data().as_chunks::<4>();
        let mut rows: BTreeMap<u64, Vec<Vec<f32>>> = BTreeMap::new();
        // Without embeddings, the length is 0.
        for (track, row) in tracks.iter().zip(numbers.chunks_exact(dimensions.max(1))) {
            let row: Vec<f32> = row.iter().map(|b| f32::from_le_bytes(*b)).collect();
            if let Some(unit) = normalised(&row) {
                rows.entry(*track).or_default().push(unit);
            }
        }
        Ok(Self {
            model,
            dimensions,
            rows,
            weights: tracks.into_iter().zip(weights).collect(),
            sha256: hex(&hash.finalize()),
        })
    }
}

/// A track that can be compared with others.
pub struct Track {
    pub key: ClusterTrack,
    pub summary: TrackSummary,
    pub look: Look,
    /// Whether it is from a picture, where a track has at most one frame.
    pub in_picture: bool,
}

/// Everything that `facepipe analyze` wrote into a folder.
#[derive(Default)]
pub struct Results {
    /// By folder and id.
    pub tracks: Vec<Track>,
    /// `None` if there are no inputs.
    pub model: Option<ModelId>,
    pub dimensions: usize,
    /// The sha256 of each input's tracks, by its folder.
    pub inputs: BTreeMap<String, String>,
    /// Tracks without an embedding, which cannot be compared.
    pub without_embedding: usize,
    /// Folders whose results cannot be read, with the reasons.
    pub unreadable: Vec<(String, String)>,
}

/// Reads the results in `folder`. Unreadable ones are noted; results of different models are an error.
pub fn read(folder: &Path) -> Result<Results> {
    let mut results = Results::default();
    let mut first = String::new();
    for path in visible_entries(folder)? {
        if !path.join("summary.json").is_file() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (summary, embeddings) = match read_input(&path) {
            Ok(input) => input,
            Err(error) => {
                let cause = face_parts::ui::causes(&error);
                results.unreadable.push((name.into_owned(), cause));
                continue;
            }
        };
        let Embeddings {
            model, dimensions, ..
        } = &embeddings;
        // Without tracks there are no embeddings to compare.
        if !embeddings.rows.is_empty() {
            let known = results.model.get_or_insert_with(|| {
                first = name.to_string();
                results.dimensions = *dimensions;
                model.clone()
            });
            ensure!(
                known.sha256 == model.sha256 && results.dimensions == *dimensions,
                "{first} was analysed with the model {}, {name} with {}: their embeddings cannot be \
                 compared; analyse all with one model",
                gallery::model(known),
                gallery::model(model)
            );
        }
        results.add(&name, summary, embeddings);
    }
    Ok(results)
}

fn read_input(folder: &Path) -> Result<(Summary, Embeddings)> {
    let path = folder.join("summary.json");
    let summary: Summary = record::read(&path)?;
    ensure!(
        summary.version == 1,
        "{} has version {}; this program supports only version 1",
        path.display(),
        summary.version
    );
    Ok((summary, Embeddings::read(folder)?))
}

impl Results {
    fn add(&mut self, folder: &str, summary: Summary, embeddings: Embeddings) {
        let in_picture = summary.frames == 1;
        self.inputs.insert(folder.to_owned(), embeddings.sha256);
        let mut rows: HashMap<u64, Vec<Vec<f32>>> = embeddings.rows.into_iter().collect();
        for track in summary.tracks {
            let rows = rows.remove(&track.track.track).unwrap_or_default();
            let Some(unit) = mean(&rows) else {
                self.without_embedding += 1;
                continue;
            };
            let known = embeddings.weights.get(&track.track.track);
            let weight = known.copied().unwrap_or_else(|| usual_weight(&track));
            self.tracks.push(Track {
                key: ClusterTrack {
                    folder: folder.to_owned(),
                    track: track.track.track,
                },
                summary: track,
                look: Look { unit, weight },
                in_picture,
            });
        }
    }
}

/// What the embeddings of a track usually weigh together: as many as are kept, of faces of a usual
/// size.
fn usual_weight(track: &TrackSummary) -> f64 {
    0.3 * track.track.frames.clamp(1, 64) as f64
}

/// The normalised mean of vectors of length 1.
fn mean(rows: &[Vec<f32>]) -> Option<Vec<f32>> {
    let mut sum = rows.first()?.clone();
    for row in &rows[1..] {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
    normalised(&sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(tracks: &str, shape: [usize; 2], numbers: &[f32]) -> Vec<u8> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let metadata = HashMap::from(
            [
                ("tracks", tracks),
                ("model", "sface"),
                ("model-sha256", "ab"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let tensor = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).expect("of that size");
        safetensors::serialize([("embeddings", tensor)], Some(metadata)).expect("serialises")
    }

    #[test]
    fn a_track_may_have_several_rows_or_none() {
        let numbers = [3.0, 4.0, 0.0, 2.0, f32::NAN, 1.0, 0.0, 0.0, 1.0, 0.0];
        let read = Embeddings::parse(&file("[4,2,9,8,4]", [5, 2], &numbers)).expect("valid");
        assert_eq!((&*read.model.name, read.dimensions), ("sface", 2));
        assert_eq!(read.rows.keys().copied().collect::<Vec<_>>(), [2, 4]);
        assert_eq!(read.rows[&4], [[0.6, 0.8], [1.0, 0.0]]);
        let mean = mean(&read.rows[&4]).expect("a direction");
        assert!((mean[0] - 0.894).abs() < 1e-3 && (mean[1] - 0.447).abs() < 1e-3);
        for empty in [[0, 128], [0, 0]] {
            let read = Embeddings::parse(&file("[]", empty, &[])).expect("valid");
            assert!(read.rows.is_empty());
        }
        let other = Embeddings::parse(&file("[4,2,9,8,5]", [5, 2], &numbers)).expect("valid");
        assert_ne!(other.sha256, read.sha256);
    }

    #[test]
    fn damage_is_an_error() {
        let error =
            |bytes: &[u8]| format!("{:#}", Embeddings::parse(bytes).err().expect("damaged"));
        let whole = file("[1]", [1, 2], &[1.0, 0.0]);
        for cut in 0..whole.len() {
            error(&whole[..cut]);
        }
        assert!(error(&file("[1,2]", [1, 2], &[1.0, 0.0])).contains("1 embeddings of 2 tracks"));
        assert!(error(&file("x", [1, 2], &[1.0, 0.0])).contains("`tracks`"));
    }
}
