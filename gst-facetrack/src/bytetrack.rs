//! ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box",
//! ECCV 2022): detections of low confidence continue tracks, but do not begin them.

use crate::kalman::HeightFilter;
use crate::sight::{Eyes, Sight};
use crate::tracker::pairs::Overlaps;
use crate::tracker::{Detection, Ended, Params, Scene, Step, Track, TrackSet, Tracker};
use face_meta::assignment::assign;

/// Confidence from which a detection is good enough to begin a track.
///
/// Face detectors are usually run at a threshold of 0.7, and give clear faces 0.8 and more. With
/// the paper's 0.6, no detection would count as low. At 0.75, the low ones are faces that are
/// blurred, turned or half hidden. For the full benefit, run the detector at about 0.3.
const HIGH_CONFIDENCE: f64 = 0.75;
/// Detections below this are noise (the paper's code).
const LOW_CONFIDENCE: f64 = 0.1;

// Least IoU of a track's predicted box and a detection, as in the paper's code: for good detections
// of confirmed and of tentative tracks, and for low detections, which are less reliable. (The code
// first multiplies IoU by confidence. Among good detections this changes little.)
const MIN_IOU_CONFIRMED: f64 = 0.2;
const MIN_IOU_TENTATIVE: f64 = 0.3;
const MIN_IOU_LOW: f64 = 0.5;

fn is_high(detection: &Detection) -> bool {
    detection.confidence >= HIGH_CONFIDENCE
}

fn is_low(detection: &Detection) -> bool {
    // NaN is neither high nor low.
    (LOW_CONFIDENCE..HIGH_CONFIDENCE).contains(&detection.confidence)
}

/// An association in progress.
struct Association<'a, 'e> {
    tracks: &'a [Track<HeightFilter>],
    sight: &'a Sight<'e>,
    time: u64,
    track_taken: Vec<bool>,
    detection_taken: Vec<bool>,
    pairs: Vec<(usize, usize)>,
}

impl Association<'_, '_> {
    /// Pairs the remaining tracks with detections of one kind.
    fn stage(
        &mut self,
        min_iou: f64,
        track: impl Fn(&Track<HeightFilter>) -> bool,
        detection: impl Fn(&Detection) -> bool,
    ) {
        let detections = self.sight.detections();
        let rows: Vec<usize> = (0..self.tracks.len())
            .filter(|&t| !self.track_taken[t] && track(&self.tracks[t]))
            .collect();
        let columns: Vec<usize> = (0..detections.len())
            .filter(|&d| !self.detection_taken[d] && detection(&detections[d]))
            .collect();
        let overlaps = Overlaps::new(
            rows.iter().map(|&t| self.tracks[t].predicted()),
            columns.iter().map(|&d| &detections[d].rect),
            min_iou,
        );
        for (r, c) in assign(rows.len(), columns.len(), 0.0, |r, c| {
            let Some(iou) = overlaps.get(r, c) else {
                return f64::INFINITY;
            };
            let (track, d) = (&self.tracks[rows[r]], columns[c]);
            let doubtful = overlaps.is_doubtful(r, c);
            track.doubt(self.sight, d, doubtful, self.time) - iou
        }) {
            let (t, d) = (rows[r], columns[c]);
            self.track_taken[t] = true;
            self.detection_taken[d] = true;
            self.pairs.push((t, d));
        }
    }
}

fn associate(tracks: &[Track<HeightFilter>], sight: &Sight, time: u64) -> Vec<(usize, usize)> {
    let mut association = Association {
        tracks,
        sight,
        time,
        track_taken: vec![false; tracks.len()],
        detection_taken: vec![false; sight.detections().len()],
        pairs: Vec::new(),
    };
    association.stage(MIN_IOU_CONFIRMED, Track::is_confirmed, is_high);
    association.stage(MIN_IOU_TENTATIVE, |track| !track.is_confirmed(), is_high);
    // A low detection cannot recover a face that was lost for some time. Unlike in the paper,
    // tentative tracks take part: at a threshold of 0.7, faces hover around it and would get a new
    // id each time.
    association.stage(MIN_IOU_LOW, |track| !track.is_lost(), is_low);
    association.pairs
}

/// The ByteTrack tracker.
pub struct ByteTrack(TrackSet<HeightFilter>);

impl ByteTrack {
    pub fn new(next_id: u64) -> Self {
        Self(TrackSet::new(next_id))
    }
}

impl Tracker for ByteTrack {
    fn follow(&mut self, scene: &Scene, params: &Params, eyes: &mut dyn Eyes) -> Step {
        let time = scene.time;
        self.0.follow(
            scene,
            params,
            eyes,
            |tracks, sight| associate(tracks, sight, time),
            is_high,
        )
    }

    fn finish(&mut self) -> Vec<Ended> {
        self.0.finish()
    }

    fn live(&self) -> usize {
        self.0.live()
    }

    fn next_id(&self) -> u64 {
        self.0.next_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::tests::{FRAME, at};

    fn scored(x: f64, confidence: f64) -> Detection {
        Detection {
            confidence,
            ..at(x, 0.0)
        }
    }

    #[test]
    fn low_detections_continue_tracks_but_begin_none() {
        let (mut tracker, params) = (ByteTrack::new(1), Params::default());
        for n in 0..10u64 {
            let confidence = if n % 2 == 0 { 0.9 } else { 0.5 };
            let found = [scored(3.0 * n as f64, confidence), scored(500.0, 0.7)];
            let step = tracker.step(&found, true, n * FRAME, &params);
            assert_eq!(step.tracked.len(), 1);
            assert_eq!(
                (step.tracked[0].id, step.tracked[0].detection),
                (1, Some(0))
            );
        }
        assert_eq!(tracker.next_id(), 2);
    }

    #[test]
    fn a_lost_face_is_found_again_by_a_high_detection_only() {
        let (mut tracker, params) = (ByteTrack::new(1), Params::default());
        for n in 0..5 {
            tracker.step(&[scored(0.0, 0.9)], true, n * FRAME, &params);
        }
        tracker.step(&[], true, 5 * FRAME, &params);
        let step = tracker.step(&[scored(0.0, 0.6)], true, 6 * FRAME, &params);
        assert!(step.tracked.iter().all(|t| t.detection.is_none()));
        let step = tracker.step(&[scored(0.0, 0.8)], true, 7 * FRAME, &params);
        assert_eq!(
            (step.tracked[0].id, step.tracked[0].detection),
            (1, Some(0))
        );
    }

    #[test]
    fn a_confidence_that_is_not_a_number_counts_for_nothing() {
        let (mut tracker, params) = (ByteTrack::new(1), Params::default());
        for n in 0..5 {
            let step = tracker.step(&[scored(0.0, f64::NAN)], true, n * FRAME, &params);
            assert_eq!(step, Step::default());
        }
    }
}
