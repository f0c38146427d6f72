//! What is known of a video after it was analysed: the JSON lines that facemetajson prints, and the
//! summary beside them. Everything that reads results goes through here.
//!
//! `facepipe analyze … -o DIR` writes a folder an input:
//!
//! ```text
//! DIR/NAME/faces.jsonl          a line a frame and a track, as facemetajson prints them
//! DIR/NAME/summary.json         a Summary; written last, with size and sha256 of the others
//! DIR/NAME/tracks.safetensors   `embeddings` [N, D] f32, normalised; metadata: `tracks`, a JSON array of
//!                               the track of each row, and `model`, `model-sha256`
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

pub use face_core::names::UNKNOWN;
pub use files::Written;

/// A line of `faces.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Line {
    Frame(Frame),
    Track(Track),
}

/// The faces of one frame.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// Counted from 0.
    pub frame: u64,
    /// Presentation time in nanoseconds.
    pub pts: Option<u64>,
    /// Size of the picture, in pixels.
    pub width: u32,
    pub height: u32,
    pub faces: Vec<Face>,
}

/// One face on one frame. The order of the fields is that of the keys.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// x, y, width, height in pixels.
    pub r#box: [f64; 4],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landmarks: Option<[[f64; 2]; 5]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub predicted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender_confidence: Option<f64>,
}

/// A whole track.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Track {
    pub track: u64,
    pub first_pts: Option<u64>,
    pub last_pts: Option<u64>,
    /// Frames on which the face was detected.
    pub frames: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_confidence: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender_confidence: Option<f64>,
}

/// `summary.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Of this format: 1.
    pub version: u32,
    /// The absolute path of the input, or its URI.
    pub input: String,
    /// Tells a changed input or other options from what was analysed before.
    pub fingerprint: String,
    pub width: u32,
    pub height: u32,
    pub frames: u64,
    /// From the first frame's beginning to the last one's end; 0 for a picture.
    pub duration_ns: u64,
    /// Named people, longest on screen first.
    pub people: Vec<Person>,
    /// All tracks, in order of their ids.
    pub tracks: Vec<TrackSummary>,
    /// The other files of the folder, by their paths in it.
    #[serde(default)]
    pub files: BTreeMap<String, Written>,
    /// The tracks that somebody is removing from the other files, which are as they were or edited until
    /// the summary is without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removing: Option<BTreeSet<u64>>,
}

/// A named person in one input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub name: String,
    pub screen_time_ns: u64,
    /// Of the input's duration, 0 to 1.
    pub share: f64,
    pub first_pts: u64,
    pub last_pts: u64,
    pub tracks: Vec<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gender_confidence: Option<f64>,
}

/// A track in one input.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrackSummary {
    #[serde(flatten)]
    pub track: Track,
    /// Cosine distance to the name's nearest row in the gallery, in the mean over the vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance: Option<f64>,
    pub screen_time_ns: u64,
    /// When it was on screen: pairs of first and last pts.
    pub appearances: Vec<[u64; 2]>,
    /// Relative to the folder of the summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thumbnail: Option<String>,
}

/// `clusters.json`: the tracks of unknown people over all inputs of a folder, grouped.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Clusters {
    /// Of this format: 1.
    pub version: u32,
    /// By the name of an input's folder, the sha256 of its tracks and their embeddings: where it is
    /// another one now, the tracks in `clusters` are not those of today.
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
    /// Name of the input's folder.
    pub folder: String,
    pub track: u64,
}

/// The longest line, in bytes: tens of thousands of faces on one frame.
pub const LONGEST_LINE: u64 = 16 << 20;

/// The longest document, in bytes: a summary of a million tracks.
const LONGEST_DOCUMENT: u64 = 512 << 20;

/// Reads JSON lines one by one; an error names file and line. Empty lines are skipped.
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
                    // What comes next may be the rest of this line.
                    ended = true;
                    Err(error.into())
                }
            };
            return Some(parsed.with_context(|| format!("{name}, line {}", lines.number())));
        }
        None
    }))
}

/// Reads one JSON document; an error names the file.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = read_at_most(path, LONGEST_DOCUMENT)?;
    serde_json::from_slice(&bytes)
        .with_context(|| format!("{} is not what facepipe writes", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_and_written_unchanged() {
        for text in [
            r#"{"type":"frame","frame":12,"pts":null,"width":640,"height":360,"faces":[{"box":[0.0,1.3,10.0,20.0]}]}"#,
            r#"{"type":"frame","frame":0,"pts":5,"width":64,"height":36,"faces":[{"box":[1.0,2.0,3.0,4.0],"confidence":0.9123,"track":18446744073709551615,"predicted":true,"name":"a","name_confidence":0.6667,"distance":0.4,"age":27.4,"gender":"female","gender_confidence":1.0}]}"#,
            r#"{"type":"track","track":1,"first_pts":10,"last_pts":20,"frames":2,"name":"penny","name_confidence":0.75,"age":20.1}"#,
        ] {
            let line: Line = serde_json::from_str(text).expect("valid");
            assert_eq!(serde_json::to_string(&line).expect("serialises"), text);
        }
    }

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
