//! What is kept of the live tracks: a few numbers and a name each.

use std::collections::BTreeMap;

use face_core::meta::{Face, Gender};

use super::line::{Line, fine, tenths};

/// A track so far.
#[derive(Debug, Default)]
pub struct Summary {
    first_pts: Option<u64>,
    last_pts: Option<u64>,
    /// Frames on which the face was detected, and the last of them.
    frames: u64,
    last_frame: Option<u64>,
    // The recogniser's vote and the means over the track run on: the last ones stand for all of it.
    name: Option<(String, f64)>,
    age: Option<f64>,
    gender: Option<Gender>,
}

impl Summary {
    fn update(&mut self, frame: u64, pts: Option<u64>, face: &Face) {
        if !face.is_predicted() && self.last_frame != Some(frame) {
            self.frames += 1;
            self.last_frame = Some(frame);
            self.first_pts = self.first_pts.or(pts);
            self.last_pts = pts.or(self.last_pts);
        }
        if let Some(recognition) = &face.recognition {
            match &mut self.name {
                Some((name, confidence)) if *name == recognition.name => {
                    *confidence = recognition.confidence;
                }
                other => *other = Some((recognition.name.clone(), recognition.confidence)),
            }
        }
        self.age = face.age.or(self.age);
        if let Some(gender) = &face.gender {
            self.gender = Some(gender.clone());
        }
    }

    /// The line of the track `id`.
    pub fn line(&self, id: u64) -> Line<'_> {
        Line::Track {
            track: id,
            first_pts: self.first_pts,
            last_pts: self.last_pts,
            frames: self.frames,
            name: self.name.as_ref().map(|(name, _)| name.as_str()),
            name_confidence: self.name.as_ref().map(|(_, confidence)| fine(*confidence)),
            age: self.age.map(tenths),
            gender: self.gender.as_ref().map(|g| g.label.as_str()),
            gender_confidence: self.gender.as_ref().map(|g| fine(g.confidence)),
        }
    }
}

/// Tracks that are kept at most. A tracker of ours ends its tracks; ids by somebody else may never end.
const MOST_TRACKS: usize = 10_000;

/// The live tracks by id.
#[derive(Debug, Default)]
pub struct Summaries(BTreeMap<u64, Summary>);

impl Summaries {
    /// Takes in the faces of a frame.
    pub fn update(&mut self, frame: u64, pts: Option<u64>, faces: &[Face]) {
        for face in faces {
            if let Some(track) = &face.track {
                self.0.entry(track.id).or_default().update(frame, pts, face);
            }
        }
    }

    /// Ends the half of too many tracks that was detected least recently.
    pub fn end_excess(&mut self) -> Vec<(u64, Summary)> {
        if self.0.len() <= MOST_TRACKS {
            return Vec::new();
        }
        let mut last: Vec<_> = self.0.values().map(|summary| summary.last_frame).collect();
        let (_, &mut middle, _) = last.select_nth_unstable(MOST_TRACKS / 2);
        let (ended, live): (BTreeMap<_, _>, _) = std::mem::take(&mut self.0)
            .into_iter()
            .partition(|(_, summary)| summary.last_frame <= middle);
        self.0 = live;
        ended.into_iter().collect()
    }

    /// Ends one track.
    pub fn end(&mut self, id: u64) -> Option<Summary> {
        self.0.remove(&id)
    }

    /// Ends all tracks, lowest id first.
    pub fn end_all(&mut self) -> impl Iterator<Item = (u64, Summary)> + use<> {
        std::mem::take(&mut self.0).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use face_core::meta::{Recognition, Track};

    use super::*;

    fn face(id: u64, predicted: bool) -> Face {
        Face {
            track: Some(Track {
                id,
                first_seen: 0,
                predicted,
            }),
            ..Default::default()
        }
    }

    fn named(name: &str, confidence: f64) -> Face {
        Face {
            recognition: Some(Recognition {
                name: name.into(),
                confidence,
                distance: 0.3,
            }),
            age: Some(20.06),
            ..face(1, false)
        }
    }

    fn print(summary: &Summary, id: u64) -> String {
        serde_json::to_string(&summary.line(id)).expect("serialises")
    }

    #[test]
    fn counts_detected_frames_only() {
        let mut tracks = Summaries::default();
        tracks.update(0, Some(0), &[face(1, true)]);
        tracks.update(1, Some(10), &[face(1, false), face(1, false)]);
        tracks.update(2, Some(20), &[face(1, false), Face::default()]);
        tracks.update(3, Some(30), &[face(1, true)]);
        let summary = tracks.end(1).expect("track 1 lives");
        assert_eq!(
            print(&summary, 1),
            r#"{"type":"track","track":1,"first_pts":10,"last_pts":20,"frames":2}"#
        );
        assert!(tracks.end(1).is_none());
    }

    #[test]
    fn the_last_values_stand_for_the_track() {
        let mut tracks = Summaries::default();
        tracks.update(0, None, &[named("bob", 1.0)]);
        tracks.update(1, None, &[named("penny", 0.5)]);
        tracks.update(2, None, &[named("penny", 0.75)]);
        tracks.update(3, None, &[face(1, false)]);
        let summary = tracks.end(1).expect("track 1 lives");
        assert_eq!(
            print(&summary, 1),
            r#"{"type":"track","track":1,"first_pts":null,"last_pts":null,"frames":4,"name":"penny","name_confidence":0.75,"age":20.1}"#
        );
    }

    #[test]
    fn tracks_that_never_end_do_not_pile_up() {
        let mut tracks = Summaries::default();
        let mut ended = 0;
        for frame in 0..50 {
            let faces: Vec<Face> = (0..1000).map(|i| face(1000 * frame + i, false)).collect();
            tracks.update(frame, None, &faces);
            let over = tracks.end_excess();
            assert!(over.iter().all(|(id, _)| *id < 1000 * frame), "the oldest");
            ended += over.len();
            assert!(tracks.0.len() <= MOST_TRACKS);
        }
        assert_eq!(ended + tracks.0.len(), 50_000);
    }

    #[test]
    fn ends_in_ascending_order() {
        let mut tracks = Summaries::default();
        tracks.update(0, None, &[face(9, false), face(2, false), face(5, false)]);
        let ids: Vec<u64> = tracks.end_all().map(|(id, _)| id).collect();
        assert_eq!(ids, [2, 5, 9]);
        assert_eq!(tracks.end_all().count(), 0);
    }
}
