//! The simplest tracker: greedy matching of this frame's boxes with the last frame's, by overlap.

use crate::kalman::limited;
use crate::sight::Eyes;
use crate::tracker::place::{counted, distance, same_face};
use crate::tracker::{Detection, Ended, Params, Scene, Step, Tracked, Tracker};
use face_meta::geometry::Rect;

struct Track {
    id: u64,
    rect: Rect,
    first_seen: u64,
    last_seen: u64,
}

impl Track {
    fn ended(self) -> Ended {
        Ended::new(self.id, self.first_seen, self.last_seen)
    }
}

/// Greedy matching of boxes in consecutive frames. It predicts nothing: a track ends at its first
/// miss, and keeps its box during skipped frames.
pub struct Iou {
    tracks: Vec<Track>,
    next_id: u64,
}

impl Iou {
    pub fn new(next_id: u64) -> Self {
        Self {
            tracks: Vec::new(),
            next_id,
        }
    }

    /// The track of each detection. Pairs must overlap more than the threshold, or sit on one face; the
    /// best are matched first.
    fn matched(&self, detections: &[(usize, Detection)], threshold: f64) -> Vec<Option<usize>> {
        let mut pairs: Vec<(f64, usize, usize)> = Vec::new();
        for (d, (_, detection)) in detections.iter().enumerate() {
            let rect = limited(&detection.rect);
            for (t, track) in self.tracks.iter().enumerate() {
                let iou = track.rect.iou(&detection.rect);
                if iou > threshold {
                    pairs.push((iou, t, d));
                } else if same_face(&limited(&track.rect), &rect) {
                    // After all that overlap enough.
                    pairs.push((-distance(&limited(&track.rect), &rect), t, d));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut track_of = vec![None; detections.len()];
        let mut taken = vec![false; self.tracks.len()];
        for (_, t, d) in pairs {
            if !taken[t] && track_of[d].is_none() {
                taken[t] = true;
                track_of[d] = Some(t);
            }
        }
        track_of
    }

    /// Keeps all boxes where they were, until they are older than `max_lost`.
    fn skip(&mut self, time: u64, max_lost: u64) -> Step {
        let mut step = Step::default();
        for track in std::mem::take(&mut self.tracks) {
            if time.saturating_sub(track.last_seen) > max_lost {
                step.ended.push(track.ended());
                continue;
            }
            step.tracked.push(Tracked {
                id: track.id,
                rect: track.rect,
                first_seen: track.first_seen,
                detection: None,
            });
            self.tracks.push(track);
        }
        step
    }
}

impl Tracker for Iou {
    fn follow(&mut self, scene: &Scene, params: &Params, _: &mut dyn Eyes) -> Step {
        let time = scene.time;
        if !scene.examined && scene.detections.is_empty() {
            return self.skip(time, params.max_lost);
        }
        let usable: Vec<(usize, Detection)> = counted(scene.detections)
            .into_iter()
            .map(|d| (d, scene.detections[d]))
            .collect();
        let track_of = self.matched(&usable, params.iou_threshold);
        let mut before: Vec<Option<Track>> = self.tracks.drain(..).map(Some).collect();
        let mut step = Step::default();
        for ((d, detection), track) in usable.into_iter().zip(track_of) {
            let known = track.and_then(|t| before[t].take());
            let (id, first_seen) = match known {
                Some(track) => (track.id, track.first_seen),
                None => {
                    let id = self.next_id;
                    self.next_id = id.saturating_add(1);
                    (id, time)
                }
            };
            step.tracked.push(Tracked {
                id,
                rect: detection.rect,
                first_seen,
                detection: Some(d),
            });
            self.tracks.push(Track {
                id,
                rect: detection.rect,
                first_seen,
                last_seen: time,
            });
        }
        step.ended = before.into_iter().flatten().map(Track::ended).collect();
        step
    }

    fn finish(&mut self) -> Vec<Ended> {
        self.tracks.drain(..).map(Track::ended).collect()
    }

    fn live(&self) -> usize {
        self.tracks.len()
    }

    fn next_id(&self) -> u64 {
        self.next_id
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::tests::{FRAME, at};

    #[test]
    fn a_track_ends_at_its_first_miss() {
        let (mut tracker, params) = (Iou::new(1), Params::default());
        for n in 0..5 {
            let step = tracker.step(&[at(0.0, 0.0)], true, n * FRAME, &params);
            assert_eq!((step.tracked[0].id, step.ended.len()), (1, 0));
        }
        let step = tracker.step(&[], true, 5 * FRAME, &params);
        assert!(step.tracked.is_empty());
        assert_eq!(step.ended, [Ended::new(1, 0, 4 * FRAME)]);
        let step = tracker.step(&[at(0.0, 0.0)], true, 6 * FRAME, &params);
        assert_eq!(step.tracked[0].id, 2);
    }

    #[test]
    fn the_best_overlap_is_served_first() {
        let (mut tracker, params) = (Iou::new(1), Params::default());
        tracker.step(&[at(0.0, 0.0), at(30.0, 0.0)], true, 0, &params);
        // This overlaps both, the second one more.
        let step = tracker.step(&[at(0.0, 25.0), at(25.0, 0.0)], true, FRAME, &params);
        let ids: Vec<u64> = step.tracked.iter().map(|t| t.id).collect();
        assert_eq!(ids, [1, 2]);
        let step = tracker.step(&[at(50.0, 0.0)], true, 2 * FRAME, &params);
        assert_eq!(step.tracked[0].id, 2);
    }

    #[test]
    fn an_overlap_equal_to_the_threshold_is_too_small() {
        let params = Params {
            iou_threshold: 0.25,
            ..Default::default()
        };
        let mut tracker = Iou::new(1);
        tracker.step(&[at(0.0, 0.0)], true, 0, &params);
        // Too narrow to be the same face.
        let mut quarter = at(50.0, 0.0);
        quarter.rect.w = 25.0;
        let step = tracker.step(&[quarter], true, FRAME, &params);
        assert_eq!(step.tracked[0].id, 2);
    }

    #[test]
    fn skipped_frames_keep_the_last_box() {
        let (mut tracker, params) = (Iou::new(1), Params::default());
        let face = at(0.0, 0.0);
        tracker.step(&[face], true, 0, &params);
        let step = tracker.step(&[], false, FRAME, &params);
        assert_eq!(step.tracked[0].rect, face.rect);
        assert_eq!((step.tracked[0].id, step.tracked[0].detection), (1, None));
        let step = tracker.step(&[at(5.0, 0.0)], true, 2 * FRAME, &params);
        assert_eq!((step.tracked[0].id, step.tracked[0].first_seen), (1, 0));
    }
}
