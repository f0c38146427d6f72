//! The results of a video's analysis: the JSON lines that facemetajson prints, and the summary next
//! to them. All reading of results goes through here.
//!
//! `facepipe analyze … -o DIR` writes one folder per input:
//!
//! ```text
//! DIR/NAME/faces.jsonl          one line per frame and track, as facemetajson prints them
//! DIR/NAME/summary.json         a Summary; written last, with size and sha256 of the other files
//! DIR/NAME/tracks.safetensors   `embeddings` [N, D] f32, normalised; metadata: `tracks`, a JSON array of
//!                               the track of each row; `weights`, the same of the evidence for it;
//!                               `model` and `model-sha256`
//! DIR/NAME/thumbnails/ID.jpg    the best picture of a track
//! DIR/clusters.json             Clusters, written by `facepipe cluster`
//! DIR/clusters/ID.png           the contact sheet of a cluster
//! ```

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use face_core::file::{Lines, read_at_most};
use serde::{Deserialize, Serialize};

pub use crate::name::NamedBy;
pub use face_meta::names::UNKNOWN;
pub use face_meta::record::{Face, Frame, Line, Times, Track};
pub use files::Written;

/// `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Of this format: 1.
    pub version: u32,
    /// The absolute path of the input, or its URI.
    pub input: String,
    /// Reveals a changed input or other options than in an earlier analysis, apart from `naming`.
    pub fingerprint: String,
    /// Where the names come from. `None` in results of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming: Option<NamedBy>,
    pub width: u32,
    pub height: u32,
    pub frames: u64,
    /// From the start of the first frame to the end of the last; 0 for a picture.
    pub duration_ns: u64,
    /// What is missing of the input, in words, if it ends early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
    /// Named people, longest on screen first.
    pub people: Vec<Person>,
    /// People without a name, longest on screen first. Their names are `stranger-N`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<Person>,
    /// Strangers up to this number are the same people in all inputs of the folder; those above are
    /// the input's own. `facepipe cluster` sets it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub shared_strangers: u64,
    /// Who was on screen with whom, longest together first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub together: Vec<Together>,
    /// All tracks, in the order of their ids.
    pub tracks: Vec<TrackSummary>,
    /// The other files of the folder, by their paths in it.
    #[serde(default)]
    pub files: BTreeMap<String, Written>,
    /// The tracks being removed from the other files. While this is set, those files may be edited
    /// or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing: Option<BTreeSet<u64>>,
    /// While this is set, the lines have the names of the tracks or earlier ones.
    #[serde(default, skip_serializing_if = "is_false")]
    pub renaming: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Two people on screen at the same time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Together {
    /// As in [`TrackSummary::person`], in alphabetical order.
    pub people: [String; 2],
    pub time_ns: u64,
    /// The first and the last time, as a player shows it, in nanoseconds.
    pub first: u64,
    pub last: u64,
}

/// A person in one input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub name: String,
    pub screen_time_ns: u64,
    /// The share of the input's duration, 0 to 1.
    pub share: f64,
    /// Timestamps of the first and the last frame on which they were detected.
    pub first_pts: u64,
    pub last_pts: u64,
    /// The same as a player shows them, in nanoseconds. Without stream times, these are timestamps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_stream_time: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_stream_time: Option<u64>,
    pub tracks: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender_confidence: Option<f64>,
}

impl Person {
    /// When the person is on screen for the first and the last time, as a player shows it.
    pub fn shown(&self) -> [u64; 2] {
        [
            self.first_stream_time.unwrap_or(self.first_pts),
            self.last_stream_time.unwrap_or(self.last_pts),
        ]
    }
}

/// A track in one input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackSummary {
    #[serde(flatten)]
    pub track: Track,
    /// The cosine distance to the name's nearest row in the gallery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    /// Who it is: the name of one of the input's `people` or `strangers`. Tracks of one person have
    /// the same. `None` if it cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    pub screen_time_ns: u64,
    /// When it was on screen: pairs of the first and the last time, as a player shows them.
    /// Results of earlier versions have timestamps.
    pub appearances: Vec<[u64; 2]>,
    /// When it had which expression, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<ExpressionSpan>,
    /// Relative to the folder of the summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

/// Some time with the same expression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpressionSpan {
    pub expression: String,
    /// As a player shows it, in nanoseconds.
    pub first: u64,
    pub last: u64,
}

/// `clusters.json`: the tracks of unknown people in all inputs of a folder, grouped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clusters {
    /// Of this format: 1.
    pub version: u32,
    /// The sha256 of each input's tracks and embeddings, by the name of its folder. If it has
    /// changed, `clusters` refers to tracks that no longer exist.
    #[serde(default)]
    pub inputs: BTreeMap<String, String>,
    /// Longest on screen first, then by the number of tracks, then by the first track.
    pub clusters: Vec<Cluster>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// `stranger-1`, …
    pub id: String,
    pub tracks: Vec<ClusterTrack>,
    pub screen_time_ns: u64,
    /// The contact sheet, relative to the folder of `clusters.json`.
    pub sheet: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterTrack {
    /// The name of the input's folder.
    pub folder: String,
    pub track: u64,
}

/// The longest line, in bytes: tens of thousands of faces on one frame.
pub const LONGEST_LINE: u64 = 16 << 20;

/// The longest document, in bytes: a summary of a million tracks.
const LONGEST_DOCUMENT: u64 = 512 << 20;

/// Reads JSON lines one by one. Errors name file and line. Empty lines are skipped.
pub fn lines(path: &Path) -> Result<impl Iterator<Item = Result<Line>>> {
    let name = path.display().to_string();
    let lines = Lines::open(path, LONGEST_LINE);
    let mut lines = lines.with_context(|| format!("{name} cannot be read"))?;
    let mut text = String::new();
    let mut ended = false;
    Ok(std::iter::from_fn(move || {
        while !ended {
            let parsed = match lines.next_into(&mut text) {
                Ok(false) => break,
                Ok(true) if text.trim().is_empty() => continue,
                Ok(true) => serde_json::from_str(&text).map_err(anyhow::Error::from),
                Err(error) => {
                    // What follows may be the rest of this line.
                    ended = true;
                    Err(error.into())
                }
            };
            return Some(parsed.with_context(|| format!("{name}, line {}", lines.number())));
        }
        None
    }))
}

/// Reads one JSON document. Errors name the file.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_at_most(path, LONGEST_DOCUMENT)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not what facepipe writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_file_and_line() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "\n{\"type\":\"frame\"}\n").expect("writable");
        let error = lines(file.path())
            .expect("readable")
            .next()
            .expect("a line")
            .expect_err("incomplete");
        assert!(
            format!("{error:#}").contains("line 2: missing field"),
            "{error:#}"
        );
    }
}
