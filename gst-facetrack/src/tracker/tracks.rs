//! The life cycle of a track, for trackers with a motion model.

use super::place::{counted, distance, hides, same_face, same_size};
use super::{Appearance, Detection, Ended, MOST_TRACKS, Params, Scene, Step, Tracked};
use crate::kalman::{Motion, limited};
use crate::sight::{Eyes, Looks, Sight};
use face_meta::assignment::assign;
use face_meta::geometry::Rect;

/// After this many detections, a face is not a false alarm. (SORT's `min_hits`. SORT does not even
/// report a face before that.)
const CONFIRMED_HITS: u32 = 3;
/// How many frames a lost track survives when the clock stands still.
const MAX_STALLED_FRAMES: u32 = 300;
/// A predicted box's sides may differ from the last detected box's by at most this factor.
const MAX_GROWTH: f64 = 2.0;

/// Up to here a face looks like a track, wherever it comes up again. Of faces of one person within
/// seconds, 95 % are nearer, and of other people's 2 %.
const SAME: f64 = 0.45;
/// From here on a face is another one even where the track should be. Of faces of one person of which half
/// is hidden, 90 % are nearer, and of other people's 20 %.
const DIFFERENT: f64 = 0.65;
/// Between the two: looks that speak neither for a pair nor against it.
const NEUTRAL: f64 = 0.5;
/// From here on, what is seen where a face should be is not it. (Of halves, 99 % are nearer. A box that ends
/// too early would show a face that is to be blurred.)
const GONE: f64 = 0.9;
/// The weight of looks relative to overlap (IoU) where the place leaves a doubt. Both span about 0.5 between
/// right and wrong pairs. (Deep OC-SORT, Maggiolino et al., ICIP 2023, weights appearance by how well it
/// discriminates; here it counts only in doubt.)
const WEIGHT: f64 = 1.0;
/// How long a face that was lost is found again by its place, in ns. (SORT's 30 frames.) After that it must
/// look the same, too.
const PLACE_MEMORY: u64 = 1_000_000_000;
/// How far a face comes, in faces per second, and without any time, because boxes jitter and frames are
/// apart. A walker passes three faces a second, a runner ten; nobody is looked for further away. (The gate
/// of BoT-SORT, Aharon et al., 2022: looks count only within reach.)
const REACH: f64 = 4.0;
const LEAST_REACH: f64 = 1.0;
/// How long a new track may turn out to be a face that was lost, in ns: until a face has come out from
/// behind something.
const YOUNG: u64 = 1_000_000_000;

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
    looks: Looks,
    /// Whether the face was seen to be gone from where it should be.
    gone: bool,
    /// Whether the track became part of another.
    merged: bool,
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
            looks: Looks::default(),
            gone: false,
            merged: false,
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

    /// Whether detection `d`, which is where this face may be, may be this face by what it looks like.
    pub fn may_be(&self, sight: &Sight, d: usize, time: u64) -> bool {
        let recent = self.is_recent(time);
        !self.lost
            || match sight.unlike(&self.looks, d) {
                Some(unlike) => unlike < if recent { DIFFERENT } else { SAME },
                None => recent,
            }
    }

    /// Whether the face was seen a moment ago, so that its place says something.
    fn is_recent(&self, time: u64) -> bool {
        time.saturating_sub(self.last_seen) <= PLACE_MEMORY
    }

    /// The distance of `rect` to where the face should be, or was last, whichever is nearer; in faces.
    fn apart(&self, rect: &Rect) -> f64 {
        distance(&self.predicted, rect).min(distance(&self.observed, rect))
    }

    /// What its looks add to the cost of a pair with detection `d`: not finite if it cannot be this
    /// face, and 0 if the place leaves no doubt.
    pub fn doubt(&self, sight: &Sight, d: usize, doubtful: bool, time: u64) -> f64 {
        if !(doubtful || self.lost || sight.is_always()) {
            return 0.0;
        }
        if !self.may_be(sight, d, time) {
            return f64::INFINITY;
        }
        let unlike = sight.unlike(&self.looks, d);
        unlike.map_or(0.0, |unlike| WEIGHT * (unlike - NEUTRAL))
    }

    /// Whether the face can have come to `rect`.
    fn reaches(&self, rect: &Rect, time: u64) -> bool {
        let seconds = time.saturating_sub(self.last_seen) as f64 / 1e9;
        same_size(&self.observed, rect) && self.apart(rect) < LEAST_REACH + REACH * seconds
    }

    /// The cost of taking detection `d` for this face by its looks: below 0, or not finite if it does not
    /// look like it or cannot have come there.
    fn recognises(&self, sight: &Sight, d: usize, time: u64) -> f64 {
        let rect = limited(&sight.detections()[d].rect);
        if !self.is_confirmed() || !self.reaches(&rect, time) {
            return f64::INFINITY;
        }
        let expected = self.is_recent(time) && self.apart(&rect) < LEAST_REACH;
        let limit = if expected { DIFFERENT } else { SAME };
        let unlike = sight.unlike(&self.looks, d);
        let cost = unlike.map_or(f64::INFINITY, |unlike| unlike - limit);
        if cost < 0.0 { cost } else { f64::INFINITY }
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
        self.gone = false;
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

    /// Implements [`Tracker::follow`]. `associate` gets the tracks, predicted for this frame, and sight of
    /// the detections that count. It returns disjoint pairs of `(track, detection)`, as indices into the
    /// two. Unmatched detections begin tracks if `is_start` allows.
    ///
    /// [`Tracker::follow`]: super::Tracker::follow
    pub fn follow(
        &mut self,
        scene: &Scene,
        params: &Params,
        eyes: &mut dyn Eyes,
        associate: impl FnOnce(&[Track<M>], &Sight) -> Vec<(usize, usize)>,
        is_start: impl Fn(&Detection) -> bool,
    ) -> Step {
        let time = scene.time;
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

        if scene.examined || !scene.detections.is_empty() {
            let indices = counted(scene.detections);
            let usable: Vec<Detection> = indices.iter().map(|&i| scene.detections[i]).collect();
            let sight = Sight::new(eyes, params.appearance, &usable);
            let mut pairs = associate(&self.tracks, &sight);
            self.find_again(&sight, time, &mut pairs, &is_start);
            let mut track_of = vec![None; usable.len()];
            let mut is_found = vec![false; self.tracks.len()];
            for (t, d) in pairs {
                track_of[d] = Some(t);
                is_found[t] = true;
            }
            for (track, found) in self.tracks.iter_mut().zip(is_found) {
                track.lost = !found;
            }
            for (d, known) in track_of.into_iter().enumerate() {
                let rect = usable[d].rect;
                let t = match known {
                    Some(t) => {
                        self.tracks[t].found(&rect, time);
                        t
                    }
                    None if is_start(&usable[d]) => {
                        self.tracks.push(Track::new(self.next_id, &rect, time));
                        self.next_id = self.next_id.saturating_add(1);
                        self.tracks.len() - 1
                    }
                    None => continue,
                };
                if self.remember(t, d, &sight, time) {
                    step.ended.extend(self.rejoin(t, d, &sight, time));
                }
                step.tracked
                    .push(self.tracks[t].tracked(&rect, Some(indices[d])));
            }
            self.tracks.retain(|track| !track.merged);
            self.tracks.retain(|track| {
                let false_alarm = track.lost && !track.is_confirmed();
                if false_alarm {
                    step.ended.push(track.ended());
                }
                !false_alarm
            });
            step.ended.extend(self.end_excess());
        }
        self.show_predicted(scene, params, eyes, &mut step);
        step
    }

    /// Pairs the rest: a detection that sits where a track should be or was last is that track, unless it
    /// looks different; and one that looks the same is a face that was lost within reach.
    fn find_again(
        &self,
        sight: &Sight,
        time: u64,
        pairs: &mut Vec<(usize, usize)>,
        is_start: &impl Fn(&Detection) -> bool,
    ) {
        let detections = sight.detections();
        let mut track_taken = vec![false; self.tracks.len()];
        let mut detection_taken = vec![false; detections.len()];
        for &(t, d) in pairs.iter() {
            track_taken[t] = true;
            detection_taken[d] = true;
        }
        let free =
            |taken: &[bool]| -> Vec<usize> { (0..taken.len()).filter(|&i| !taken[i]).collect() };
        let (tracks, found) = (free(&track_taken), free(&detection_taken));
        let pairs_found = assign(tracks.len(), found.len(), 0.0, |t, d| {
            let (track, d) = (&self.tracks[tracks[t]], found[d]);
            let rect = limited(&detections[d].rect);
            if track.lost && !is_start(&detections[d]) {
                return f64::INFINITY;
            }
            let here = same_face(&track.predicted, &rect) || same_face(&track.observed, &rect);
            match here {
                true if track.may_be(sight, d, time) => track.apart(&rect) - 1.0,
                true => f64::INFINITY,
                false => track.recognises(sight, d, time),
            }
        });
        pairs.extend(pairs_found.into_iter().map(|(t, d)| (tracks[t], found[d])));
    }

    /// Looks at track `t`, which is detection `d`, if it is time to. Returns whether it was.
    fn remember(&mut self, t: usize, d: usize, sight: &Sight, time: u64) -> bool {
        let looks = &self.tracks[t].looks;
        let due = looks.is_due(time, true) && (looks.is_due(time, false) || sight.is_close(d));
        if !due || sight.is_covered(d) {
            return false;
        }
        let descriptor = sight.descriptor(d);
        let seen = descriptor.is_some();
        if let Some(descriptor) = descriptor {
            self.tracks[t].looks.add(descriptor, time);
        }
        seen
    }

    /// If the young track `t`, which is detection `d`, turns out to be a face that was lost, it goes on under
    /// the older id, and the younger one ends. A face that comes out from behind something is only half
    /// seen at first.
    fn rejoin(&mut self, t: usize, d: usize, sight: &Sight, time: u64) -> Option<Ended> {
        let young = &self.tracks[t];
        if time.saturating_sub(young.first_seen) > YOUNG {
            return None;
        }
        // Two that were seen at the same time are two.
        let candidates = self.tracks.iter().enumerate().filter(|(_, old)| {
            !old.merged && old.lost && old.id < young.id && old.last_seen < young.first_seen
        });
        let costs = candidates.map(|(o, old)| (old.recognises(sight, d, time), o));
        let (cost, o) = costs.min_by(|a, b| a.0.total_cmp(&b.0))?;
        if !cost.is_finite() {
            return None;
        }
        let ended = young.ended();
        // The entry of the old one leaves under the young one's number.
        let old = &mut self.tracks[o];
        let (id, first_seen) = (old.id, old.first_seen);
        let looks = std::mem::take(&mut old.looks);
        old.id = ended.id;
        old.merged = true;
        let young = &mut self.tracks[t];
        (young.id, young.first_seen) = (id, first_seen);
        young.hits = young.hits.saturating_add(CONFIRMED_HITS);
        young.looks.follow(looks);
        Some(ended)
    }

    /// Adds the faces that were not detected in this frame. None of them lies over another face of the
    /// result, outside the frame, or where something else is seen.
    fn show_predicted(
        &mut self,
        scene: &Scene,
        params: &Params,
        eyes: &mut dyn Eyes,
        step: &mut Step,
    ) {
        let mut order: Vec<usize> = (0..self.tracks.len())
            .filter(|&t| self.tracks[t].unseen > 0 && self.tracks[t].is_shown(scene.time, params))
            .collect();
        // Those that were just followed come first, then the older ones.
        order.sort_by_key(|&t| self.tracks[t].lost);
        let mut shown: Vec<Rect> = step.tracked.iter().map(|t| limited(&t.rect)).collect();
        let mut chosen = Vec::new();
        for t in order {
            let track = &mut self.tracks[t];
            let rect = track.predicted;
            let over = |other: &Rect| match track.lost {
                true => hides(other, &rect),
                false => same_face(other, &rect),
            };
            if shown.iter().any(over) {
                continue;
            }
            if track.lost && !track.gone {
                let center = rect.center();
                let inside = |(width, height): (f64, f64)| {
                    (0.0..width).contains(&center.x) && (0.0..height).contains(&center.y)
                };
                track.gone = !scene.size.is_none_or(inside);
                if params.appearance != Appearance::None && !track.gone && track.looks.len() > 0 {
                    let unlike = eyes
                        .look(&rect)
                        .and_then(|seen| track.looks.distance(&seen));
                    track.gone = unlike.is_some_and(|unlike| unlike > GONE);
                }
            }
            if track.lost && track.gone {
                continue;
            }
            shown.push(rect);
            chosen.push(t);
        }
        chosen.sort_unstable();
        let tracks = chosen.into_iter().map(|t| &self.tracks[t]);
        step.tracked
            .extend(tracks.map(|track| track.tracked(&track.predicted, None)));
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
