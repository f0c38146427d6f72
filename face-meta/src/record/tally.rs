//! Makes lines from the faces of frames. It counts frames, and keeps a few numbers and a name per
//! live track.

use std::collections::BTreeMap;

use super::{Frame, Times, Track};
use crate::{Face, Gender};

/// A track so far.
#[derive(Debug, Default)]
struct Summary {
    first: Times,
    last: Times,
    /// Frames on which the face was detected, and the last of them.
    frames: u64,
    last_frame: Option<u64>,
    // The vote and the means cover the whole track so far, so the last values are those of the
    // track.
    name: Option<(String, f64)>,
    age: Option<f64>,
    gender: Option<Gender>,
}

impl Summary {
    fn update(&mut self, frame: u64, times: Times, face: &Face) {
        if !face.is_predicted() && self.last_frame != Some(frame) {
            self.frames += 1;
            self.last_frame = Some(frame);
            self.first = self.first.or(times);
            self.last = times.or(self.last);
        }
        // After a cut, the name is where the face appears, and a predicted one loses it.
        let counts = !face.is_predicted() || self.name.is_none();
        if let Some(recognition) = face.recognition.as_ref().filter(|_| counts) {
            match &mut self.name {
                Some((name, confidence)) if *name == recognition.name => {
                    *confidence = recognition.confidence;
                }
                other => *other = Some((recognition.name.clone(), recognition.confidence)),
            }
        }
        // These are taken back where a track's frames turn out to disagree.
        if !face.is_predicted() {
            self.age = face.age;
            self.gender = face.gender.clone();
        }
    }

    fn track(&self, id: u64) -> Track {
        let track = Track {
            track: id,
            frames: self.frames,
            ..Default::default()
        };
        let track = track.between(self.first, self.last);
        track.with(self.name.as_ref(), self.age, self.gender.as_ref())
    }
}

/// The most tracks that are kept. Our tracker ends its tracks; the ids of a foreign one may never
/// end.
const MOST_TRACKS: usize = 10_000;

/// Makes the lines of one stream.
#[derive(Debug, Default)]
pub struct Tally {
    frames: u64,
    /// The live tracks, by id.
    tracks: BTreeMap<u64, Summary>,
}

impl Tally {
    /// The line of the next frame, with its times and size, and the tracks that end because
    /// there are too many.
    pub fn frame(&mut self, times: Times, size: (u32, u32), faces: &[Face]) -> (Frame, Vec<Track>) {
        let number = self.frames;
        self.frames += 1;
        for face in faces {
            if let Some(track) = &face.track {
                let summary = self.tracks.entry(track.id).or_default();
                summary.update(number, times, face);
            }
        }
        (Frame::of(number, times, size, faces), self.end_excess())
    }

    /// If there are too many tracks, ends the half that was detected least recently.
    fn end_excess(&mut self) -> Vec<Track> {
        if self.tracks.len() <= MOST_TRACKS {
            return Vec::new();
        }
        let mut last: Vec<_> = self.tracks.values().map(|s| s.last_frame).collect();
        let (_, &mut middle, _) = last.select_nth_unstable(MOST_TRACKS / 2);
        let ended = self
            .tracks
            .extract_if(.., |_, summary| summary.last_frame <= middle);
        ended.map(|(id, summary)| summary.track(id)).collect()
    }

    /// Ends one track.
    pub fn end(&mut self, id: u64) -> Option<Track> {
        self.tracks.remove(&id).map(|summary| summary.track(id))
    }

    /// Ends all tracks, lowest id first.
    pub fn end_all(&mut self) -> Vec<Track> {
        let tracks = std::mem::take(&mut self.tracks);
        let ended = tracks.iter().map(|(id, summary)| summary.track(*id));
        ended.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Line;
    use super::*;
    use crate::Recognition;

    const SIZE: (u32, u32) = (64, 48);

    /// A stream that begins at 10.
    fn at(pts: u64) -> Times {
        Times {
            pts: Some(pts),
            stream: pts.checked_sub(10),
        }
    }

    fn face(id: u64, predicted: bool) -> Face {
        Face {
            track: Some(crate::Track {
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

    fn print(track: Track) -> String {
        serde_json::to_string(&Line::Track(track)).expect("serialises")
    }

    #[test]
    fn counts_detected_frames_only() {
        let mut tracks = Tally::default();
        tracks.frame(at(0), SIZE, &[face(1, true)]);
        tracks.frame(at(10), SIZE, &[face(1, false), face(1, false)]);
        tracks.frame(at(20), SIZE, &[face(1, false), Face::default()]);
        tracks.frame(at(30), SIZE, &[face(1, true)]);
        let track = tracks.end(1).expect("track 1 lives");
        assert_eq!(
            print(track),
            r#"{"type":"track","track":1,"first_pts":10,"last_pts":20,"first_stream_time":0,"last_stream_time":10,"frames":2}"#
        );
        assert!(tracks.end(1).is_none());
    }

    #[test]
    fn the_last_values_stand_for_the_track() {
        let mut tracks = Tally::default();
        tracks.frame(Times::default(), SIZE, &[named("bob", 1.0)]);
        tracks.frame(Times::default(), SIZE, &[named("penny", 0.5)]);
        tracks.frame(Times::default(), SIZE, &[named("penny", 0.75)]);
        tracks.frame(Times::default(), SIZE, &[face(1, true)]);
        let so_far = tracks.tracks.get(&1).expect("track 1 lives").track(1);
        assert_eq!(
            print(so_far),
            r#"{"type":"track","track":1,"first_pts":null,"last_pts":null,"frames":3,"name":"penny","name_confidence":0.75,"age":20.1}"#
        );
        tracks.frame(Times::default(), SIZE, &[face(1, false)]);
        let track = tracks.end(1).expect("track 1 lives");
        assert_eq!(track.name.as_deref(), Some("penny"));
        assert_eq!(track.age, None, "it was taken back");
    }

    #[test]
    fn tracks_that_never_end_do_not_pile_up() {
        let mut tracks = Tally::default();
        let mut ended = 0;
        for frame in 0..50 {
            let faces: Vec<Face> = (0..1000).map(|i| face(1000 * frame + i, false)).collect();
            let (_, over) = tracks.frame(Times::default(), SIZE, &faces);
            assert!(
                over.iter().all(|track| track.track < 1000 * frame),
                "the oldest"
            );
            ended += over.len();
            assert!(tracks.tracks.len() <= MOST_TRACKS);
        }
        assert_eq!(ended + tracks.tracks.len(), 50_000);
    }

    #[test]
    fn ends_in_ascending_order() {
        let mut tracks = Tally::default();
        tracks.frame(
            Times::default(),
            SIZE,
            &[face(9, false), face(2, false), face(5, false)],
        );
        let ids: Vec<u64> = tracks.end_all().iter().map(|t| t.track).collect();
        assert_eq!(ids, [2, 5, 9]);
        assert_eq!(tracks.end_all().len(), 0);
    }
}
