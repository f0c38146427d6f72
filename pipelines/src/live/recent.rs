//! The embeddings of the faces that were seen lately, so that they can be given names.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use face_core::meta::{self, Face};
use gst::prelude::*;
use gstfacerecog::quality;
use serde::{Deserialize, Serialize};

/// Embeddings kept of a track: the heaviest.
const MOST_EMBEDDINGS: usize = 16;

/// Tracks kept of a camera: those seen last.
const MOST_TRACKS: usize = 200;

/// Tracks that were not seen for so long are forgotten.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The tracks of all cameras, by camera.
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
    /// With their weights.
    embeddings: Vec<(f64, Vec<f32>)>,
    last: Instant,
}

/// What is said of a track.
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
    /// The name of the model that made them.
    pub model: String,
    pub rows: Vec<Vec<f32>>,
}

impl Recent {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<CameraTracks>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tracks of a camera, none at first.
    pub fn begin(&self, camera: &str, gallery: Option<&Path>) -> Arc<CameraTracks> {
        let tracks = Arc::new(CameraTracks {
            gallery: gallery.map(Path::to_owned),
            tracks: Mutex::default(),
        });
        self.lock().insert(camera.to_owned(), tracks.clone());
        tracks
    }

    /// Forgets a camera that is gone, unless another of its name has come.
    pub fn end(&self, camera: &str, tracks: &Arc<CameraTracks>) {
        let mut cameras = self.lock();
        if cameras.get(camera).is_some_and(|t| Arc::ptr_eq(t, tracks)) {
            cameras.remove(camera);
        }
    }

    pub fn get(&self, camera: &str) -> Option<Arc<CameraTracks>> {
        self.lock().get(camera).cloned()
    }

    pub fn cameras(&self) -> Vec<String> {
        let mut names: Vec<_> = self.lock().keys().cloned().collect();
        names.sort();
        names
    }
}

impl CameraTracks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Track>> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the frames that pass `pad`.
    pub fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let tracks = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(buffer) = info.buffer() {
                tracks.see(meta::read(buffer), Instant::now());
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn see(&self, faces: Vec<Face>, now: Instant) {
        if faces.is_empty() {
            return;
        }
        let mut tracks = self.lock();
        for mut face in faces {
            let embedding = face.embedding.take();
            let Some(id) = face.track.map(|track| track.id) else {
                continue;
            };
            let track = match (tracks.get_mut(&id), &embedding) {
                (Some(track), _) => track,
                // Of use once it has an embedding.
                (None, None) => continue,
                (None, Some(embedding)) => tracks.entry(id).or_insert(Track {
                    model: embedding.model.clone(),
                    name: None,
                    embeddings: Vec::new(),
                    last: now,
                }),
            };
            track.last = now;
            if let Some(recognition) = &face.recognition {
                track.name = Some(recognition.name.clone());
            }
            if let Some(embedding) = embedding {
                track.add(weight(&face), embedding.values);
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
        self.lock()
            .retain(|_, track| track.name.as_deref() != Some(person));
    }

    /// The tracks, last seen first.
    pub fn list(&self, now: Instant) -> Vec<Listed> {
        let tracks = self.lock();
        let mut listed: Vec<_> = tracks
            .iter()
            .map(|(id, track)| Listed {
                track: *id,
                name: track.name.clone(),
                embeddings: track.embeddings.len(),
                seconds_ago: now.saturating_duration_since(track.last).as_secs_f64(),
            })
            .collect();
        listed.sort_by(|a, b| a.seconds_ago.total_cmp(&b.seconds_ago));
        listed
    }

    pub fn embeddings(&self, id: u64) -> Option<Embeddings> {
        let tracks = self.lock();
        let track = tracks.get(&id)?;
        let mut rows = track.embeddings.clone();
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        Some(Embeddings {
            model: track.model.clone(),
            rows: rows.into_iter().map(|(_, row)| row).collect(),
        })
    }
}

impl Track {
    /// Adds an embedding, or has it replace the lightest where there are enough.
    fn add(&mut self, weight: f64, row: Vec<f32>) {
        if self.embeddings.len() < MOST_EMBEDDINGS {
            self.embeddings.push((weight, row));
            return;
        }
        let all = self.embeddings.iter_mut();
        let lightest = all.min_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(lightest) = lightest.filter(|lightest| lightest.0 < weight) {
            *lightest = (weight, row);
        }
    }
}

/// The weight of a face's embedding, as far as it can be told without the pixels.
fn weight(face: &Face) -> f64 {
    let landmarks = face
        .landmarks
        .unwrap_or_else(|| face_core::align::landmarks_in(&face.rect));
    quality::weight(&landmarks, face.confidence.unwrap_or(1.0), f64::MAX)
}

#[cfg(test)]
mod tests {
    use face_core::geometry::Rect;
    use face_core::meta::Embedding;

    use super::*;

    fn face(track: u64, confidence: f64, embedding: Option<f32>) -> Face {
        Face {
            rect: Rect::new(0.0, 0.0, 100.0, 120.0),
            confidence: Some(confidence),
            track: Some(meta::Track {
                id: track,
                first_seen: 0,
                predicted: false,
            }),
            embedding: embedding.map(|value| Embedding {
                model: "sface".into(),
                values: vec![value],
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
