//! The life cycle of a track, for trackers with a motion model.

use super::{Detection, Ended, MOST_DETECTIONS, MOST_TRACKS, Params, Step, Tracked, is_usable};
use crate::kalman::{Motion, limited};
use face_meta::geometry::Rect;

/// After this many detections, a face is not a false alarm. (SORT's `min_hits`. SORT does not even
/// report a face before that.)
const CONFIRMED_HITS: u32 = 3;
/// How many frames a lost track survives when the clock stands still.
const MAX_STALLED_FRAMES: u32 = 300;
/// A predicted box's sides may differ from the last detected box's by at most this factor.
const MAX_GROWTH: f64 = 2.0;

/// A face with a motion model.
pub(crate) struct Track<M> {
    id: u64,
    first_seen: u64,
    last_seen: u64,
    hits: u32,
    /// Frames since the last detection.
    unseen: u32,
    /// Whether the face was not found in the last examined frame.
    lost: bool,
    /// The last detected box.
    observed: Rect,
    /// Where the face should be in this frame.
    predicted: Rect,
    motion: M,
}

impl<M: Motion> Track<M> {
    fn new(id: u64, rect: &Rect, time: u64) -> Self {
        let observed = limited(rect);
        Self {
            id,
            first_seen: time,
            last_seen: time,
            hits: 1,
            unseen: 0,
            lost: false,
            observed,
            predicted: observed,
            motion: M::new(&observed),
        }
    }

    pub fn is_confirmed(&self) -> bool {
        self.hits >= CONFIRMED_HITS
    }

    pub fn is_lost(&self) -> bool {
        self.lost
    }

    pub fn observed(&self) -> &Rect {
        &self.observed
    }

    pub fn predicted(&self) -> &Rect {
        &self.predicted
    }

    pub fn motion(&self) -> &M {
        &self.motion
    }

    fn predict(&mut self) {
        self.unseen = self.unseen.saturating_add(1);
        self.motion.predict(self.lost);
        let believed = self.motion.rect();
        let center = believed.center();
        let side = |side: f64, last: f64| side.clamp(last / MAX_GROWTH, last * MAX_GROWTH);
        let (w, h) = (
            side(believed.w, self.observed.w),
            side(believed.h, self.observed.h),
        );
        let rect = Rect::new(center.x - w / 2.0, center.y - h / 2.0, w, h);
        self.predicted = if rect.is_finite() {
            rect
        } else {
            self.observed
        };
    }

    fn found(&mut self, rect: &Rect, time: u64) {
        self.observed = limited(rect);
        self.motion.update(&self.observed);
        self.hits = self.hits.saturating_add(1);
        self.unseen = 0;
        self.lost = false;
        self.last_seen = time;
    }

    fn is_over(&self, time: u64, params: &Params) -> bool {
        let age = time.saturating_sub(self.last_seen);
        age > params.max_lost || (age == 0 && self.unseen > MAX_STALLED_FRAMES)
    }

    /// Whether the face is reported although it was not detected in this frame.
    fn is_shown(&self, time: u64, params: &Params) -> bool {
        !self.lost || time.saturating_sub(self.last_seen) <= params.max_predicted
    }

    fn tracked(&self, rect: &Rect, detection: Option<usize>) -> Tracked {
        Tracked {
            id: self.id,
            rect: *rect,
            first_seen: self.first_seen,
            detection,
        }
    }

    fn ended(&self) -> Ended {
        Ended::new(self.id, self.first_seen, self.last_seen)
    }
}

/// The live tracks of a tracker. Trackers differ only in their motion model and their association.
pub(crate) struct TrackSet<M> {
    tracks: Vec<Track<M>>,
    next_id: u64,
}

impl<M: Motion> TrackSet<M> {
    pub fn new(next_id: u64) -> Self {
        Self {
            tracks: Vec::new(),
            next_id,
        }
    }

    /// Implements [`Tracker::step`]. `associate` gets the tracks, predicted for this frame, and the
    /// usable detections. It returns disjoint pairs of `(track, detection)`, as indices into the
    /// two. Unmatched detections begin tracks if `is_start` allows.
    pub fn step(
        &mut self,
        detections: &[Detection],
        examined: bool,
        time: u64,
        params: &Params,
        associate: impl FnOnce(&[Track<M>], &[Detection]) -> Vec<(usize, usize)>,
        is_start: impl Fn(&Detection) -> bool,
    ) -> Step {
        let mut step = Step::default();
        self.tracks.retain_mut(|track| {
            // If the clock ran backwards, tracks age from its new time.
            track.last_seen = track.last_seen.min(time);
            let over = track.is_over(time, params);
            if over {
                step.ended.push(track.ended());
            } else {
                track.predict();
            }
            !over
        });

        if examined || !detections.is_empty() {
            let (indices, usable): (Vec<usize>, Vec<Detection>) = detections
                .iter()
                .copied()
                .enumerate()
                .filter(|(_, detection)| is_usable(&detection.rect))
                .take(MOST_DETECTIONS)
                .unzip();
            let mut track_of = vec![None; usable.len()];
            let mut is_found = vec![false; self.tracks.len()];
            for (t, d) in associate(&self.tracks, &usable) {
                track_of[d] = Some(t);
                is_found[t] = true;
            }
            for (track, found) in self.tracks.iter_mut().zip(is_found) {
                track.lost = !found;
            }
            for ((index, detection), known) in indices.into_iter().zip(&usable).zip(track_of) {
                let t = match known {
                    Some(t) => {
                        self.tracks[t].found(&detection.rect, time);
                        t
                    }
                    None if is_start(detection) => {
                        self.tracks
                            .push(Track::new(self.next_id, &detection.rect, time));
                        self.next_id = self.next_id.saturating_add(1);
                        self.tracks.len() - 1
                    }
                    None => continue,
                };
                step.tracked
                    .push(self.tracks[t].tracked(&detection.rect, Some(index)));
            }
            self.tracks.retain(|track| {
                let false_alarm = track.lost && !track.is_confirmed();
                if false_alarm {
                    step.ended.push(track.ended());
                }
                !false_alarm
            });
            step.ended.extend(self.end_excess());
        }

        let undetected = self.tracks.iter().filter(|track| track.unseen > 0);
        step.tracked.extend(
            undetected
                .filter(|track| track.is_shown(time, params))
                .map(|track| track.tracked(&track.predicted, None)),
        );
        step
    }

    /// Ends the tracks beyond [`MOST_TRACKS`] that went undetected longest.
    fn end_excess(&mut self) -> Vec<Ended> {
        if self.tracks.len() <= MOST_TRACKS {
            return Vec::new();
        }
        // Fewer than that were just detected.
        self.tracks.sort_by_key(|track| track.unseen);
        let ended = self.tracks.drain(MOST_TRACKS..).map(|track| track.ended());
        let ended = ended.collect();
        self.tracks.sort_by_key(|track| track.id);
        ended
    }

    pub fn finish(&mut self) -> Vec<Ended> {
        self.tracks.drain(..).map(|track| track.ended()).collect()
    }

    pub fn live(&self) -> usize {
        self.tracks.len()
    }

    pub fn next_id(&self) -> u64 {
        self.next_id
    }
}
