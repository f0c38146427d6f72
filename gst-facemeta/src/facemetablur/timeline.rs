//! Where to hide faces over time: on the frames for which they are reported, for some time after,
//! and for some time before.

use std::collections::VecDeque;

use face_meta::geometry::Rect;

/// Without tracks, two boxes that overlap more than this (IoU) belong to the same face.
const SAME: f64 = 0.3;

/// The most frames that wait, whatever their timestamps say.
const MOST_WAITING: usize = 600;

/// The most faces that are remembered in addition to those of the last frame. If the clock stands
/// still, none are forgotten.
const MOST_KNOWN: usize = 1000;

/// Parameters, which may change from frame to frame. In ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params {
    /// How long a face that is no longer reported stays hidden at its last position.
    pub hold: u64,
    /// How long before its first report a face is hidden. Frames wait that long.
    pub look_back: u64,
}

impl Params {
    /// The most frames that wait, besides the current one, if they are `duration` ns apart.
    pub fn waiting(&self, duration: u64) -> u32 {
        let frames = self.look_back.div_ceil(duration.max(1));
        frames.min(MOST_WAITING as u64) as u32
    }
}

/// A face as reported for a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reported {
    pub track: Option<u64>,
    pub rect: Rect,
    pub predicted: bool,
    /// Whether to hide it.
    pub hidden: bool,
}

/// A face that was reported for some frame.
#[derive(Debug, Clone, Copy)]
struct Known {
    track: Option<u64>,
    rect: Rect,
    time: u64,
    hidden: bool,
    /// When and where it was last detected rather than predicted.
    detected: Option<(u64, Rect)>,
}

/// A waiting frame, with the boxes to hide on it.
#[derive(Debug)]
struct Waiting<T> {
    time: u64,
    item: T,
    boxes: Vec<Rect>,
}

/// The frames (`T`) in transit, with the faces to hide.
#[derive(Debug)]
pub struct Timeline<T> {
    waiting: VecDeque<Waiting<T>>,
    known: Vec<Known>,
    time: u64,
}

impl<T> Default for Timeline<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            known: Vec::new(),
            time: 0,
        }
    }
}

fn between(a: &Rect, b: &Rect, share: f64) -> Rect {
    let mix = |a: f64, b: f64| a + (b - a) * share;
    Rect::new(mix(a.x, b.x), mix(a.y, b.y), mix(a.w, b.w), mix(a.h, b.h))
}

impl<T> Timeline<T> {
    /// Adds the next frame, at `time` in ns.
    pub fn push(&mut self, time: u64, item: T, faces: &[Reported], params: &Params) {
        if time < self.time {
            self.known.clear();
        }
        self.time = time;
        let mut boxes = Vec::new();
        for face in faces.iter().filter(|face| face.hidden) {
            boxes.push(face.rect);
            self.hide_before(time, face, params);
        }
        self.remember(time, faces, params, &mut boxes);
        self.waiting.push_back(Waiting { time, item, boxes });
    }

    /// Queues an item that is not a frame, to leave after the frames before it. Returns it if none
    /// waits.
    pub fn follow(&mut self, item: T) -> Option<T> {
        let Some(last) = self.waiting.back() else {
            return Some(item);
        };
        let (time, boxes) = (last.time, Vec::new());
        self.waiting.push_back(Waiting { time, item, boxes });
        None
    }

    /// Hides a face on the waiting frames: along its path between the last two detections, or where
    /// it is now if it is new.
    fn hide_before(&mut self, time: u64, face: &Reported, params: &Params) {
        if face.predicted {
            return;
        }
        let before = face.track.and_then(|id| {
            let known = self.known.iter().find(|known| known.track == Some(id))?;
            known.detected
        });
        for frame in &mut self.waiting {
            match before {
                Some((then, rect)) if then < time && then < frame.time => {
                    let share = (frame.time - then) as f64 / (time - then) as f64;
                    frame.boxes.push(between(&rect, &face.rect, share));
                }
                Some((then, _)) if then < time => {}
                _ if time.saturating_sub(frame.time) <= params.look_back => {
                    frame.boxes.push(face.rect);
                }
                _ => {}
            }
        }
    }

    /// Updates the known faces with those of a frame. Adds to `boxes` those that are missing there
    /// and must stay hidden.
    fn remember(&mut self, time: u64, faces: &[Reported], params: &Params, boxes: &mut Vec<Rect>) {
        let mut before = std::mem::take(&mut self.known);
        let mut fresh = Vec::new();
        for face in faces {
            let same = |known: &Known| face.track.is_some() && known.track == face.track;
            let known = before.iter().position(same).map(|i| before.swap_remove(i));
            if known.is_none() {
                fresh.push(face);
            }
            let detected = match (face.predicted, known) {
                (false, _) => Some((time, face.rect)),
                (true, Some(known)) => known.detected,
                (true, None) => None,
            };
            self.known.push(Known {
                track: face.track,
                rect: face.rect,
                time,
                hidden: face.hidden,
                detected,
            });
        }
        for known in before {
            let age = time - known.time;
            // A face that begins where this one ended is the same face, so nothing stays hidden
            // there.
            let goes_on = fresh.iter().any(|face| {
                let alike = face.hidden || face.track.is_none() && known.track.is_none();
                alike && face.rect.iou(&known.rect) > SAME
            });
            if known.hidden && age <= params.hold && !goes_on {
                boxes.push(known.rect);
            }
            if age <= params.hold.max(params.look_back) && !goes_on {
                self.known.push(known);
            }
        }
        self.known.truncate(faces.len() + MOST_KNOWN);
    }

    /// The next frame that need not wait any longer, with the boxes to hide on it.
    pub fn pop(&mut self, params: &Params) -> Option<(T, Vec<Rect>)> {
        let front = self.waiting.front()?;
        let waited = self.time.saturating_sub(front.time);
        let due = waited >= params.look_back
            || front.time > self.time
            || self.waiting.len() > MOST_WAITING;
        due.then(|| self.take()).flatten()
    }

    /// The next frame, due or not.
    pub fn take(&mut self) -> Option<(T, Vec<Rect>)> {
        let frame = self.waiting.pop_front()?;
        Some((frame.item, frame.boxes))
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Scales the boxes to frames that are larger by these factors. No frame may be waiting.
    pub fn scale(&mut self, sx: f64, sy: f64) {
        for known in &mut self.known {
            known.rect = known.rect.scaled(sx, sy);
            known.detected = known
                .detected
                .map(|(time, rect)| (time, rect.scaled(sx, sy)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(x: f64) -> Rect {
        Rect::new(x, 0.0, 10.0, 10.0)
    }

    fn seen(track: u64, x: f64) -> Reported {
        Reported {
            track: (track > 0).then_some(track),
            rect: at(x),
            predicted: false,
            hidden: true,
        }
    }

    /// Runs frames 40 ms apart. Returns the left edges of the hidden boxes for each.
    fn run(params: Params, frames: &[&[Reported]]) -> Vec<Vec<f64>> {
        let mut timeline = Timeline::default();
        let mut out = Vec::new();
        for (i, faces) in frames.iter().enumerate() {
            timeline.push(i as u64 * 40 * MS, i, faces, &params);
            out.extend(std::iter::from_fn(|| timeline.pop(&params)));
        }
        out.extend(std::iter::from_fn(|| timeline.take()));
        let numbers: Vec<usize> = out.iter().map(|(i, _)| *i).collect();
        assert_eq!(numbers, (0..frames.len()).collect::<Vec<_>>());
        let edges = |rects: Vec<Rect>| rects.iter().map(|r| r.x).collect();
        out.into_iter().map(|(_, rects)| edges(rects)).collect()
    }

    const HOLD: Params = Params {
        hold: 80 * MS,
        look_back: 0,
    };
    const LOOK: Params = Params {
        hold: 0,
        look_back: 80 * MS,
    };

    #[test]
    fn a_missing_face_is_held() {
        for track in [0, 1] {
            let face = [seen(track, 5.0)];
            let found = run(HOLD, &[&face, &[], &[], &[], &face]);
            assert_eq!(found, [vec![5.0], vec![5.0], vec![5.0], vec![], vec![5.0]]);
        }
    }

    #[test]
    fn a_face_that_moves_on_leaves_no_ghost() {
        for (before, after) in [(1, 1), (0, 0), (1, 2), (1, 0)] {
            let found = run(HOLD, &[&[seen(before, 5.0)], &[seen(after, 7.0)], &[]]);
            assert_eq!(found, [vec![5.0], vec![7.0], vec![7.0]]);
        }
        // A different face elsewhere is no reason to show this one.
        let found = run(HOLD, &[&[seen(1, 5.0)], &[seen(2, 50.0)]]);
        assert_eq!(found[1], [50.0, 5.0]);
    }

    #[test]
    fn who_is_recognised_is_held_no_longer() {
        let shown = |track| Reported {
            hidden: false,
            ..seen(track, 5.0)
        };
        let found = run(HOLD, &[&[seen(1, 5.0)], &[shown(1)], &[]]);
        assert_eq!(found, [vec![5.0], vec![], vec![]]);
        let found = run(HOLD, &[&[seen(0, 5.0)], &[shown(0)], &[]]);
        assert_eq!(found, [vec![5.0], vec![], vec![]]);
        // A second person in front does not uncover the one behind.
        let found = run(HOLD, &[&[seen(1, 5.0)], &[shown(2)], &[]]);
        assert_eq!(found, [vec![5.0], vec![5.0], vec![5.0]]);
    }

    #[test]
    fn a_new_face_is_hidden_before() {
        for track in [0, 3] {
            let found = run(LOOK, &[&[], &[], &[], &[seen(track, 5.0)], &[]]);
            assert_eq!(found, [vec![], vec![5.0], vec![5.0], vec![5.0], vec![]]);
        }
    }

    #[test]
    fn between_two_detections_a_face_is_where_it_went() {
        let predicted = Reported {
            predicted: true,
            ..seen(1, 0.0)
        };
        let frames: [&[Reported]; 4] = [
            &[seen(1, 0.0)],
            &[predicted],
            &[predicted],
            &[seen(1, 30.0)],
        ];
        let found = run(LOOK, &frames);
        assert_eq!(
            found,
            [vec![0.0], vec![0.0, 10.0], vec![0.0, 20.0], vec![30.0]]
        );
    }

    #[test]
    fn frames_leave_when_they_must() {
        let mut timeline = Timeline::default();
        for i in 0..2000_u64 {
            // All at the same time: nothing would ever be due.
            timeline.push(0, i, &[], &LOOK);
            while timeline.pop(&LOOK).is_some() {}
            assert!(timeline.waiting.len() <= MOST_WAITING);
        }
        // Time runs backwards: waiting frames leave, and nothing is held.
        timeline.clear();
        timeline.push(500 * MS, 0, &[seen(1, 5.0)], &LOOK);
        timeline.push(0, 1, &[], &LOOK);
        assert_eq!(timeline.pop(&LOOK).map(|(i, _)| i), Some(0));
        assert_eq!(timeline.pop(&LOOK), None);
        assert_eq!(timeline.take(), Some((1, vec![])));
    }

    #[test]
    fn as_many_wait_as_it_says() {
        for (look_back, duration) in [(0, 40), (30, 40), (80, 40), (90, 40), (100, 33)] {
            let params = Params {
                hold: 0,
                look_back: look_back * MS,
            };
            let mut timeline = Timeline::default();
            let mut most = 0;
            for i in 0..20 {
                timeline.push(i * duration * MS, i, &[], &params);
                timeline.pop(&params);
                most = most.max(timeline.waiting.len());
            }
            let said = params.waiting(duration * MS);
            assert_eq!(most, said as usize, "{look_back} ms, {duration} ms apart");
        }
        let long = Params {
            hold: 0,
            look_back: u64::MAX,
        };
        assert_eq!(long.waiting(0), MOST_WAITING as u32);
    }

    #[test]
    fn another_size_scales_what_is_held() {
        let mut timeline = Timeline::default();
        timeline.push(0, (), &[seen(1, 5.0)], &HOLD);
        timeline.take();
        timeline.scale(2.0, 0.5);
        timeline.push(40 * MS, (), &[], &HOLD);
        let (_, boxes) = timeline.pop(&HOLD).expect("due");
        assert_eq!(boxes, [Rect::new(10.0, 0.0, 20.0, 5.0)]);
    }

    #[test]
    fn a_clock_that_stands_still_fills_no_memory() {
        let mut timeline = Timeline::default();
        let params = Params {
            hold: 1000 * MS,
            look_back: 0,
        };
        for n in 0..100 {
            let faces: Vec<Reported> = (0..50)
                .map(|i| seen(1 + 50 * n + i, 20.0 * (50 * n + i) as f64))
                .collect();
            timeline.push(0, n, &faces, &params);
            let (_, boxes) = timeline.pop(&params).expect("none waits");
            assert!(boxes.len() <= 50 + MOST_KNOWN + 50);
        }
        assert_eq!(timeline.known.len(), 50 + MOST_KNOWN);
    }
}
