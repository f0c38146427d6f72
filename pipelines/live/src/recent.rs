//! Keeps the embeddings of recently seen faces, so that they can be given names.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use face_gallery::evidence::{Embedded, Heaviest};
use face_meta::Face;
use gst::prelude::*;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// How many embeddings to keep per track: the heaviest.
const MOST_EMBEDDINGS: usize = 16;

/// How many tracks to keep per camera: the most recently seen.
const MOST_TRACKS: usize = 200;

/// Tracks not seen for this long are forgotten.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The tracks of all cameras, by the camera's name.
#[derive(Default)]
pub struct Recent(Mutex<HashMap<String, Arc<CameraTracks>>>);

/// The tracks of one camera.
pub struct CameraTracks {
    pub gallery: Option<PathBuf>,
    tracks: Mutex<BTreeMap<u64, Track>>,
}

struct Track {
    model: String,
    name: Option<String>,
    embeddings: Heaviest,
    last: Instant,
}

/// The description of a track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    pub track: u64,
    pub name: Option<String>,
    pub embeddings: usize,
    pub seconds_ago: f64,
}

/// A track's embeddings, heaviest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// The name of the model that computed them.
    pub model: String,
    pub rows: Vec<Vec<f32>>,
}

impl Recent {
    /// Starts a camera without tracks.
    pub fn begin(&self, camera: &str, gallery: Option<&Path>) -> Arc<CameraTracks> {
        let tracks = Arc::new(CameraTracks {
            gallery: gallery.map(Path::to_owned),
            tracks: Mutex::default(),
        });
        self.0.lock().insert(camera.to_owned(), tracks.clone());
        tracks
    }

    /// Removes a camera that is gone, unless a new one has taken its name.
    pub fn end(&self, camera: &str, tracks: &Arc<CameraTracks>) {
        let mut cameras = self.0.lock();
        if cameras.get(camera).is_some_and(|t| Arc::ptr_eq(t, tracks)) {
            cameras.remove(camera);
        }
    }

    pub fn get(&self, camera: &str) -> Option<Arc<CameraTracks>> {
        self.0.lock().get(camera).cloned()
    }

    pub fn cameras(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.lock().keys().cloned().collect();
        names.sort();
        names
    }
}

impl CameraTracks {
    /// Inspects the frames that pass `pad`.
    pub fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let tracks = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                tracks.see(face_meta::read(buffer), Instant::now());
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn see(&self, faces: Vec<Face>, now: Instant) {
        if faces.is_empty() {
            return;
        }
        let mut tracks = self.tracks.lock();
        for mut face in faces {
            let embedding = face.embedding.take();
            let Some(id) = face.track.map(|track| track.id) else {
                continue;
            };
            let track = match (tracks.get_mut(&id), &embedding) {
                (Some(track), _) => track,
                // A track is useful only with an embedding.
                (None, None) => continue,
                (None, Some(embedding)) => tracks.entry(id).or_insert(Track {
                    model: embedding.model.clone(),
                    name: None,
                    embeddings: Heaviest::new(MOST_EMBEDDINGS),
                    last: now,
                }),
            };
            track.last = now;
            if let Some(recognition) = &face.recognition {
                track.name = Some(recognition.name.clone());
            }
            if let Some(embedding) = embedding {
                track.embeddings.add(Embedded::from(embedding));
            }
        }
        tracks.retain(|_, track| now.saturating_duration_since(track.last) < KEPT_FOR);
        while tracks.len() > MOST_TRACKS {
            let oldest = tracks.iter().min_by_key(|(_, track)| track.last);
            let Some(id) = oldest.map(|(id, _)| *id) else {
                break;
            };
            tracks.remove(&id);
        }
    }

    /// Drops the tracks of a person.
    pub fn forget(&self, person: &str) {
        self.tracks
            .lock()
            .retain(|_, track| track.name.as_deref() != Some(person));
    }

    /// The tracks, most recently seen first.
    pub fn list(&self, now: Instant) -> Vec<Listed> {
        let tracks = self.tracks.lock();
        let mut listed: Vec<_> = tracks
            .iter()
            .map(|(id, track)| Listed {
                track: *id,
                name: track.name.clone(),
                embeddings: track.embeddings.as_slice().len(),
                seconds_ago: now.saturating_duration_since(track.last).as_secs_f64(),
            })
            .collect();
        listed.sort_by(|a, b| a.seconds_ago.total_cmp(&b.seconds_ago));
        listed
    }

    /// The embeddings of a track with their weights, if that model computed them.
    pub fn weighted(&self, id: u64, model: &str) -> Option<Vec<Embedded>> {
        let tracks = self.tracks.lock();
        let track = tracks.get(&id).filter(|track| track.model == model)?;
        Some(track.embeddings.as_slice().to_vec())
    }

    pub fn embeddings(&self, id: u64) -> Option<Embeddings> {
        let tracks = self.tracks.lock();
        let track = tracks.get(&id)?;
        let mut rows: Vec<&Embedded> = track.embeddings.as_slice().iter().collect();
        rows.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        Some(Embeddings {
            model: track.model.clone(),
            rows: rows.iter().map(|row| row.embedding.to_vec()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use face_meta::Embedding;

    use super::*;

    fn face(track: u64, weight: f64, embedding: Option<f32>) -> Face {
        Face {
            track: Some(face_meta::Track {
                id: track,
                first_seen: 0,
                predicted: false,
            }),
            embedding: embedding.map(|value| Embedding {
                model: "sface".into(),
                values: vec![value],
                weight: Some(weight),
            }),
            ..Default::default()
        }
    }

    #[test]
    fn the_best_embeddings_of_a_track_are_kept() {
        let recent = Recent::default();
        let tracks = recent.begin("door", None);
        let now = Instant::now();
        tracks.see(vec![face(1, 0.9, None)], now);
        assert!(tracks.list(now).is_empty(), "nothing to enrol yet");
        for i in 0..40 {
            tracks.see(
                vec![face(1, 0.5 + f64::from(i) / 100.0, Some(i as f32))],
                now,
            );
        }
        let found = tracks.embeddings(1).expect("seen");
        assert_eq!(found.rows.len(), MOST_EMBEDDINGS);
        assert_eq!(found.rows[0], [39.0]);
        assert_eq!(found.model, "sface");
        assert_eq!(recent.cameras(), ["door"]);
        recent.end("door", &tracks);
        assert!(recent.get("door").is_none());
    }

    #[test]
    fn old_tracks_and_too_many_are_forgotten() {
        let recent = Recent::default();
        let tracks = recent.begin("door", None);
        let start = Instant::now();
        for id in 0..MOST_TRACKS as u64 + 50 {
            let now = start + Duration::from_millis(id);
            tracks.see(vec![face(id, 0.9, Some(1.0))], now);
        }
        let now = start + Duration::from_secs(1);
        let listed = tracks.list(now);
        assert_eq!(listed.len(), MOST_TRACKS);
        assert_eq!(listed[0].track, MOST_TRACKS as u64 + 49);
        tracks.see(vec![face(9999, 0.9, Some(1.0))], now + KEPT_FOR);
        assert_eq!(tracks.list(now + KEPT_FOR).len(), 1);
    }
}
