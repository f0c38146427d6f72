//! OC-SORT (Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object
//! Tracking", CVPR 2023): SORT that trusts observations more than its filter's estimates.

use crate::kalman::{AreaFilter, Motion};
use crate::sight::{Eyes, Sight};
use crate::tracker::pairs::Overlaps;
use crate::tracker::{Ended, Params, Scene, Step, Track, TrackSet, Tracker};
use face_meta::assignment::assign;
use face_meta::geometry::{Point, Rect};
use std::collections::VecDeque;
use std::f64::consts::PI;

/// Least IoU of a track's box and a detection (section 5 of the paper).
const MIN_IOU: f64 = 0.3;
/// Weight λ of the direction's consistency relative to IoU (section 5).
const INERTIA: f64 = 0.2;
/// Δt: from how many observations back a direction is measured (section 5). The paper counts frames.
/// Observations also work if only every few frames are examined.
const DELTA_T: usize = 3;
/// A face that moved by less than this share of its size has no direction: the detector's jitter is
/// as large.
const MIN_MOTION: f64 = 0.1;
/// By what share of its size a box is expanded on each side in the recovery stage. Heads move fast
/// for their size, and a face that turned back while hidden need not overlap its last box. (The
/// smaller of the two buffers of Yang et al., "Hard to Track Objects with Irregular Motions and
/// Similar Appearances? Make It Easier by Buffering the Matching Space", WACV 2023.)
const RECOVERY_BUFFER: f64 = 0.3;
/// The longest gap, in frames, that a virtual trajectory bridges. After a longer one the filter
/// starts afresh, since it would have forgotten everything before the gap anyway.
const MAX_VIRTUAL_FRAMES: u32 = 120;

/// SORT's filter with its recent observations.
pub(crate) struct ObservedMotion {
    filter: AreaFilter,
    /// `filter` as it was at the last observation, `gap` frames ago.
    observed: AreaFilter,
    gap: u32,
    /// The last `DELTA_T` + 1 observations, never empty.
    history: VecDeque<Rect>,
}

impl ObservedMotion {
    fn last(&self) -> &Rect {
        &self.history[self.history.len() - 1]
    }

    /// Observation-centric re-update (ORU): replays the gap since the last observation as if the
    /// face had moved straight to `rect`, instead of what the filter assumed.
    fn re_update(&mut self, rect: &Rect) {
        self.filter = self.observed.clone();
        let from = *self.last();
        for frame in 1..=self.gap {
            let share = f64::from(frame) / f64::from(self.gap);
            let between = |a: f64, b: f64| a + (b - a) * share;
            self.filter.predict(false);
            self.filter.update(&Rect::new(
                between(from.x, rect.x),
                between(from.y, rect.y),
                between(from.w, rect.w),
                between(from.h, rect.h),
            ));
        }
    }

    /// Observation-centric momentum (OCM): how well the direction to `rect` agrees with the
    /// direction so far, from -0.5 (opposite) over 0 (perpendicular, or one is unknown) to 0.5.
    fn consistency(&self, rect: &Rect) -> f64 {
        let origin = self.history[0].center();
        let way = |to: &Rect| Point::new(to.center().x - origin.x, to.center().y - origin.y);
        let (so_far, onward) = (way(self.last()), way(rect));
        let lengths = (so_far.x.hypot(so_far.y), onward.x.hypot(onward.y));
        if lengths.0.min(lengths.1) < MIN_MOTION * self.last().area().sqrt() {
            return 0.0;
        }
        let cosine = (so_far.x * onward.x + so_far.y * onward.y) / (lengths.0 * lengths.1);
        0.5 - cosine.clamp(-1.0, 1.0).acos() / PI
    }
}

impl Motion for ObservedMotion {
    fn new(rect: &Rect) -> Self {
        let filter = AreaFilter::new(rect);
        Self {
            observed: filter.clone(),
            filter,
            gap: 0,
            history: VecDeque::from([*rect]),
        }
    }

    fn predict(&mut self, lost: bool) {
        self.gap = self.gap.saturating_add(1);
        self.filter.predict(lost);
    }

    fn update(&mut self, rect: &Rect) {
        match self.gap {
            0 | 1 => self.filter.update(rect),
            2..=MAX_VIRTUAL_FRAMES => self.re_update(rect),
            _ => {
                self.filter = AreaFilter::new(rect);
                self.history.clear();
            }
        }
        self.observed = self.filter.clone();
        self.gap = 0;
        if self.history.len() > DELTA_T {
            self.history.pop_front();
        }
        self.history.push_back(*rect);
    }

    fn rect(&self) -> Rect {
        self.filter.rect()
    }
}

/// `rect` expanded by [`RECOVERY_BUFFER`].
fn buffered(rect: &Rect) -> Rect {
    let (dx, dy) = (rect.w * RECOVERY_BUFFER, rect.h * RECOVERY_BUFFER);
    Rect::new(
        rect.x - dx,
        rect.y - dy,
        rect.w + 2.0 * dx,
        rect.h + 2.0 * dy,
    )
}

fn associate(tracks: &[Track<ObservedMotion>], sight: &Sight, time: u64) -> Vec<(usize, usize)> {
    let detections = sight.detections();
    // First by predicted box and direction. The paper's code also weights the direction by the
    // detection's confidence, which says nothing about where a face came from.
    let overlaps = Overlaps::new(
        tracks.iter().map(Track::predicted),
        detections.iter().map(|detection| &detection.rect),
        MIN_IOU,
    );
    let mut pairs = assign(tracks.len(), detections.len(), 0.0, |t, d| {
        let Some(iou) = overlaps.get(t, d) else {
            return f64::INFINITY;
        };
        let (track, rect) = (&tracks[t], &detections[d].rect);
        let doubt = track.doubt(sight, d, overlaps.is_doubtful(t, d), time);
        doubt - iou - INERTIA * track.motion().consistency(rect)
    });

    // Then observation-centric recovery (OCR) for the rest: by the last observation, for faces that
    // stopped or turned while the filter went on.
    let left = |count: usize, taken: &dyn Fn(usize) -> bool| -> Vec<usize> {
        (0..count).filter(|&i| !taken(i)).collect()
    };
    let tracks_left = left(tracks.len(), &|t| pairs.iter().any(|p| p.0 == t));
    let detections_left = left(detections.len(), &|d| pairs.iter().any(|p| p.1 == d));
    let recovered = assign(
        tracks_left.len(),
        detections_left.len(),
        -MIN_IOU,
        |t, d| {
            let (track, d) = (&tracks[tracks_left[t]], detections_left[d]);
            let iou = buffered(track.observed()).iou(&buffered(&detections[d].rect));
            if iou <= MIN_IOU || !track.may_be(sight, d, time) {
                return f64::INFINITY;
            }
            -iou
        },
    );
    pairs.extend(
        recovered
            .into_iter()
            .map(|(t, d)| (tracks_left[t], detections_left[d])),
    );
    pairs
}

/// The OC-SORT tracker. It treats all detections alike, whatever their confidence.
pub struct OcSort(TrackSet<ObservedMotion>);

impl OcSort {
    pub fn new(next_id: u64) -> Self {
        Self(TrackSet::new(next_id))
    }
}

impl Tracker for OcSort {
    fn follow(&mut self, scene: &Scene, params: &Params, eyes: &mut dyn Eyes) -> Step {
        let time = scene.time;
        self.0.follow(
            scene,
            params,
            eyes,
            |tracks, sight| associate(tracks, sight, time),
            |_| true,
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
    use crate::tracker::tests::{FRAME, Rng, at};

    #[test]
    fn faces_that_cross_keep_their_ids() {
        for (seed, speed, offset) in [(1, 4.0, 5.0), (2, 6.0, 15.0), (3, 10.0, 25.0)] {
            let (mut tracker, params) = (OcSort::new(1), Params::default());
            let mut rng = Rng(seed);
            let mut hidden = 0;
            for n in 0..150u64 {
                let way = speed * n as f64;
                let mut seen =
                    |x: f64, y: f64| at(x + rng.range(-1.5, 1.5), y + rng.range(-1.5, 1.5));
                let front = seen(way, 100.0);
                let back = seen(speed * 150.0 - way, 100.0 + offset);
                // The detector's own suppression drops the face behind.
                let found = if front.rect.iou(&back.rect) > 0.4 {
                    hidden += 1;
                    vec![front]
                } else {
                    vec![front, back]
                };
                let step = tracker.step(&found, true, n * FRAME, &params);
                for t in step.tracked.iter().filter(|t| t.detection.is_some()) {
                    let expected = if t.detection == Some(0) { 1 } else { 2 };
                    assert_eq!(t.id, expected, "speed {speed}, frame {n}");
                }
            }
            assert!(hidden > 1);
        }
    }

    #[test]
    fn a_face_that_turned_back_while_hidden_is_recovered() {
        let (mut tracker, params) = (OcSort::new(1), Params::default());
        for n in 0..20u64 {
            tracker.step(&[at(15.0 * n as f64, 0.0)], true, n * FRAME, &params);
        }
        for n in 20..28 {
            tracker.step(&[], true, n * FRAME, &params);
        }
        let step = tracker.step(&[at(15.0 * 15.0, 0.0)], true, 28 * FRAME, &params);
        assert_eq!(step.tracked[0].id, 1);
    }

    #[test]
    fn re_update_learns_the_velocity_over_the_gap() {
        let box_at = |x: f64| Rect::new(x, 0.0, 100.0, 100.0);
        let mut motion = ObservedMotion::new(&box_at(0.0));
        for _ in 0..10 {
            motion.predict(false);
        }
        motion.update(&box_at(60.0));
        motion.predict(false);
        assert!((motion.rect().x - 66.0).abs() < 1.0, "{:?}", motion.rect());
    }

    #[test]
    fn consistency_tells_onward_from_back() {
        let box_at = |x: f64, y: f64| Rect::new(x, y, 100.0, 100.0);
        let mut motion = ObservedMotion::new(&box_at(0.0, 0.0));
        assert_eq!(motion.consistency(&box_at(50.0, 0.0)), 0.0);
        motion.update(&box_at(20.0, 0.0));
        assert!((motion.consistency(&box_at(40.0, 0.0)) - 0.5).abs() < 1e-9);
        assert!((motion.consistency(&box_at(-40.0, 0.0)) + 0.5).abs() < 1e-9);
        assert!(motion.consistency(&box_at(0.0, 40.0)).abs() < 1e-9);
    }
}
