//! Names that tracks must not get ("this is not Bob"), in `names.json` in a folder of results.
//!
//! An analysis numbers tracks again, so a bar recognises its track by what stays: the input, the time
//! on screen and the look. It therefore holds an embedding, and the file is for its owner only.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use face_core::file::hex;
use face_gallery::edit::distance;
use face_meta::names;
use face_parts::output::Output;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::analyze::people;
use crate::record::{self, Summary, TrackSummary};

/// The name of the file.
pub const FILE: &str = "names.json";

const VERSION: u32 = 1;

/// The cosine distance up to which a track at the same time in the same input is the same face. Two
/// people are rarely nearer than twice this; the same frames give nearly the same embedding.
const SAME_FACE: f64 = 0.3;

/// The names that tracks must not get, by the ids of the tracks.
pub type Barred = BTreeMap<u64, BTreeSet<String>>;

/// A track and a name that it must not get.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// In its normal form.
    pub name: String,
    /// The input's folder and the track's number when the bar was made.
    pub folder: String,
    pub track: u64,
    /// As in [`Summary::input`].
    pub input: String,
    /// As in [`TrackSummary::appearances`].
    pub appearances: Vec<[u64; 2]>,
    /// The sha256 of the model of `embedding`.
    pub model: String,
    /// Of length 1.
    pub embedding: Vec<f32>,
}

impl Bar {
    /// Whether this is about a track of the bar's input with this embedding.
    pub fn is_of(&self, track: &TrackSummary, embedding: &[f32]) -> bool {
        let (own, others) = (&self.appearances, &track.appearances);
        // Pictures have no times.
        let meet = own.is_empty() && others.is_empty()
            || own
                .iter()
                .any(|a| others.iter().any(|b| a[0] <= b[1] && b[0] <= a[1]));
        meet && self.embedding.len() == embedding.len()
            && distance(&self.embedding, embedding) <= SAME_FACE
    }
}

/// The content of `names.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Bars {
    version: u32,
    pub bars: Vec<Bar>,
}

impl Bars {
    /// Reads the bars of a folder of results. Without the file there are none.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let bars: Self = record::read(&path)?;
        ensure!(
            bars.version == VERSION,
            "{} has version {}; this program supports only version {VERSION}",
            path.display(),
            bars.version
        );
        Ok(bars)
    }

    /// Writes the bars, or removes the file if there are none. The caller holds the folder's lock.
    pub fn write(&mut self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let unwritable = || format!("{} cannot be written", path.display());
        if self.bars.is_empty() {
            return match path.exists() {
                true => fs::remove_file(&path).with_context(unwritable),
                false => Ok(()),
            };
        }
        self.version = VERSION;
        let output = Output::create_private(&path)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(output.writable(), text).with_context(unwritable)?;
        output.keep().map(drop)
    }

    /// The bars of an input.
    pub fn of<'a>(&'a self, input: &'a str) -> impl Iterator<Item = &'a Bar> {
        self.bars.iter().filter(move |bar| bar.input == input)
    }

    /// Changes with the bars of an input. `None` without any.
    pub fn digest(&self, input: &str) -> Option<String> {
        let mut hash = Sha256::new();
        let mut any = false;
        for bar in self.of(input) {
            any = true;
            for part in [&bar.name, &bar.folder] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            hash.update(bar.track.to_le_bytes());
            bar.embedding
                .iter()
                .for_each(|v| hash.update(v.to_le_bytes()));
        }
        any.then(|| hex(&hash.finalize()))
    }

    /// The names that the tracks of an input must not get. `embedding` gives the mean of a track, of
    /// length 1, made by the model with this sha256.
    pub fn barred<E: AsRef<[f32]>>(
        &self,
        input: &str,
        model: &str,
        tracks: &[TrackSummary],
        embedding: impl Fn(u64) -> Option<E>,
    ) -> Barred {
        let bars: Vec<&Bar> = self.of(input).filter(|bar| bar.model == model).collect();
        let mut barred = Barred::new();
        if bars.is_empty() {
            return barred;
        }
        for track in tracks {
            let id = track.track.track;
            let Some(embedding) = embedding(id) else {
                continue;
            };
            for bar in &bars {
                if bar.is_of(track, embedding.as_ref()) {
                    barred.entry(id).or_default().insert(bar.name.clone());
                }
            }
        }
        barred
    }
}

/// Takes tracks out of the people they are barred from, and lists the people again. Call it after
/// [`people::update`]. Tracks barred from one person stay together.
pub fn hold(summary: &mut Summary, barred: &Barred) {
    // Each round rules out a person for a track.
    for _ in 0..=barred.values().map(BTreeSet::len).sum::<usize>() {
        let mut changed = false;
        for track in &mut summary.tracks {
            if let Some(names) = barred.get(&track.track.track)
                && let Some(person) = &track.person
                && names.iter().any(|name| names::same(name, person))
            {
                track.person = Some(format!("not {person}"));
                changed = true;
            }
        }
        if !changed {
            break;
        }
        people::update(summary);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Track;

    fn track(id: u64, name: Option<&str>, person: &str, appearances: &[[u64; 2]]) -> TrackSummary {
        TrackSummary {
            track: Track {
                track: id,
                name: name.map(Into::into),
                frames: 5,
                ..Track::default()
            },
            person: Some(person.into()),
            appearances: appearances.to_vec(),
            ..TrackSummary::default()
        }
    }

    fn unit(degrees: f32) -> Vec<f32> {
        let (y, x) = degrees.to_radians().sin_cos();
        vec![x, y]
    }

    fn bar() -> Bar {
        Bar {
            name: "Bob".into(),
            folder: "film".into(),
            track: 3,
            input: "/film.mp4".into(),
            appearances: vec![[10, 20]],
            model: "ab".into(),
            embedding: unit(0.0),
        }
    }

    #[test]
    fn a_track_is_recognised_by_its_time_and_look() {
        let bar = bar();
        let seen =
            |times: &[[u64; 2]], degrees| bar.is_of(&track(9, None, "", times), &unit(degrees));
        assert!(seen(&[[10, 20]], 0.0) && seen(&[[0, 12], [50, 60]], 20.0));
        assert!(!seen(&[[21, 30]], 0.0), "later");
        assert!(!seen(&[[10, 20]], 60.0), "somebody else");
        assert!(!seen(&[], 0.0));
        assert!(
            !bar.is_of(&track(9, None, "", &[[10, 20]]), &[1.0]),
            "another model"
        );
    }

    #[test]
    fn bars_are_for_one_input_and_model() {
        let bars = Bars {
            version: VERSION,
            bars: vec![bar()],
        };
        let tracks = [
            track(7, None, "", &[[5, 15]]),
            track(8, None, "", &[[5, 15]]),
        ];
        let look = |id| Some(unit(if id == 7 { 3.0 } else { 90.0 }));
        let barred = |input, model| bars.barred(input, model, &tracks, look);
        let bob = Barred::from([(7, BTreeSet::from(["Bob".into()]))]);
        assert_eq!(barred("/film.mp4", "ab"), bob);
        assert!(barred("/other.mp4", "ab").is_empty() && barred("/film.mp4", "cd").is_empty());
        assert!(bars.digest("/film.mp4").is_some() && bars.digest("/other.mp4").is_none());
    }

    #[test]
    fn the_file_is_private_whole_and_gone_with_the_last_bar() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut bars = Bars {
            version: VERSION,
            bars: vec![bar()],
        };
        bars.write(folder.path()).expect("writable");
        let path = folder.path().join(FILE);
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Bars::read(folder.path()).expect("readable"), bars);
        bars.bars.clear();
        bars.write(folder.path()).expect("writable");
        assert!(!path.exists());
        assert_eq!(Bars::read(folder.path()).expect("none"), Bars::default());
        for damaged in ["", "{", "{\"version\":2,\"bars\":[]}", "[]"] {
            fs::write(&path, damaged).expect("writable");
            let error = format!("{:#}", Bars::read(folder.path()).expect_err("damaged"));
            assert!(error.contains(FILE), "{error}");
        }
    }

    #[test]
    fn a_barred_track_leaves_the_person_and_takes_barred_ones_along() {
        let mut summary = Summary {
            duration_ns: 100,
            frames: 100,
            tracks: vec![
                track(1, Some("Bob"), "a", &[[0, 9]]),
                track(2, None, "a", &[[20, 29]]),
                track(3, None, "a", &[[40, 49]]),
                track(4, None, "a", &[[60, 69]]),
            ],
            ..Summary::default()
        };
        people::update(&mut summary);
        assert!(summary.strangers.is_empty());
        let bob = || BTreeSet::from(["Bob".to_owned()]);
        let barred = Barred::from([(2, bob()), (3, bob())]);
        hold(&mut summary, &barred);
        let persons: Vec<_> = summary.tracks.iter().map(|t| t.person.as_deref()).collect();
        let expected = ["Bob", "stranger-1", "stranger-1", "Bob"].map(Some);
        assert_eq!(persons, expected);
        assert_eq!(summary.people[0].tracks, [1, 4]);
        assert_eq!(summary.strangers[0].tracks, [2, 3]);
        people::update(&mut summary);
        let again: Vec<_> = summary.tracks.iter().map(|t| t.person.as_deref()).collect();
        assert_eq!(again, expected, "it stays");
    }
}
