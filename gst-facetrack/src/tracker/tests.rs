//! Tests that hold for all trackers.

use super::*;
use std::collections::HashSet;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn range(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A frame at 30 frames/s, in ns.
pub const FRAME: u64 = 33_333_333;
const ALL: [Algorithm; 3] = [Algorithm::OcSort, Algorithm::ByteTrack, Algorithm::Iou];

/// A face of 100 × 100 pixels.
pub fn at(x: f64, y: f64) -> Detection {
    Detection {
        rect: Rect::new(x, y, 100.0, 100.0),
        confidence: 0.9,
    }
}

fn any_number(rng: &mut Rng) -> f64 {
    match rng.below(12) {
        0 => f64::NAN,
        1 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 0.0,
        4 => f64::MAX,
        5 => f64::MIN_POSITIVE,
        6 => -rng.range(0.0, 500.0),
        7 => 10f64.powf(rng.range(-300.0, 300.0)),
        _ => rng.range(0.0, 500.0),
    }
}

fn any_detection(rng: &mut Rng) -> Detection {
    let wild = rng.below(2) == 0;
    let mut number = |low, high| {
        if wild {
            any_number(rng)
        } else {
            rng.range(low, high)
        }
    };
    let rect = Rect::new(
        number(0.0, 300.0),
        number(0.0, 300.0),
        number(50.0, 150.0),
        number(50.0, 150.0),
    );
    let confidence = number(0.5, 1.0);
    Detection { rect, confidence }
}

/// Runs `steps` random steps, checks the invariants at each, and returns all results.
fn run_wild(algorithm: Algorithm, seed: u64, steps: usize) -> Vec<Step> {
    let mut rng = Rng(seed);
    let mut tracker = create(algorithm, 1);
    let mut params = Params::default();
    let (mut live, mut dead) = (HashSet::new(), HashSet::new());
    let mut end = |live: &mut HashSet<u64>, ended: &[Ended]| {
        for e in ended {
            assert!(live.remove(&e.id) && dead.insert(e.id));
            assert!(e.first_seen <= e.last_seen);
        }
    };
    let mut time = 0u64;
    let mut answers = Vec::new();
    for _ in 0..steps {
        time = match rng.below(40) {
            0 => rng.next(),
            1 => time.saturating_sub(rng.next() % 3_000_000_000),
            2 => [0, u64::MAX][rng.below(2)],
            3 => time,
            _ => time.saturating_add(FRAME),
        };
        if rng.below(50) == 0 {
            params.iou_threshold = any_number(&mut rng);
            params.max_lost = rng.next() % 2_000_000_000;
            params.max_predicted = [0, u64::MAX, 250_000_000][rng.below(3)];
        }
        let examined = rng.below(3) > 0;
        let count = if examined { rng.below(8) } else { 0 };
        let detections: Vec<Detection> = (0..count).map(|_| any_detection(&mut rng)).collect();
        let first_new = tracker.next_id();
        let step = tracker.step(&detections, examined, time, &params);
        let mut times = vec![0; count];
        let mut ids = HashSet::new();
        for t in &step.tracked {
            assert!(ids.insert(t.id), "an id occurs twice in a frame");
            assert!(t.rect.is_finite() && t.rect.w > 0.0 && t.rect.h > 0.0);
            if t.id >= first_new {
                assert!(t.detection.is_some() && live.insert(t.id));
            }
            assert!(live.contains(&t.id), "an ended id came back");
            if let Some(d) = t.detection {
                times[d] += 1;
                assert_eq!(t.rect, detections[d].rect);
            }
        }
        let counted = place::counted(&detections);
        for (i, (n, d)) in times.into_iter().zip(&detections).enumerate() {
            if !counted.contains(&i) {
                assert_eq!(n, 0);
            } else if algorithm == Algorithm::ByteTrack {
                assert!(n == 1 || (n == 0 && (d.confidence < 0.75 || d.confidence.is_nan())));
            } else {
                assert_eq!(n, 1);
            }
        }
        end(&mut live, &step.ended);
        answers.push(step);
        if rng.below(500) == 0 {
            end(&mut live, &tracker.finish());
            assert!(live.is_empty());
            tracker = create(algorithm, tracker.next_id());
        }
    }
    end(&mut live, &tracker.finish());
    assert!(live.is_empty(), "finish ends all tracks");
    answers
}

#[test]
fn wild_input_breaks_no_promise() {
    for algorithm in ALL {
        for seed in 0..4 {
            run_wild(algorithm, seed, 3000);
        }
    }
}

#[test]
fn the_same_input_has_the_same_answer() {
    for algorithm in ALL {
        assert!(run_wild(algorithm, 9, 1000) == run_wild(algorithm, 9, 1000));
    }
}

#[test]
fn a_tentative_track_ends_at_its_first_miss_and_a_confirmed_one_after_max_lost() {
    let params = Params::default();
    for algorithm in [Algorithm::OcSort, Algorithm::ByteTrack] {
        let mut tracker = create(algorithm, 1);
        tracker.step(&[at(0.0, 0.0)], true, 0, &params);
        tracker.step(&[at(0.0, 0.0)], true, FRAME, &params);
        let step = tracker.step(&[], true, 2 * FRAME, &params);
        assert!(step.tracked.is_empty());
        assert_eq!(step.ended, [Ended::new(1, 0, FRAME)]);

        for n in 3..6 {
            let step = tracker.step(&[at(0.0, 0.0)], true, n * FRAME, &params);
            assert_eq!(
                (step.tracked[0].id, step.tracked[0].first_seen),
                (2, 3 * FRAME)
            );
        }
        for n in 6..120 {
            let step = tracker.step(&[], true, n * FRAME, &params);
            let age = (n - 5) * FRAME;
            assert_eq!(step.tracked.len(), usize::from(age <= params.max_predicted));
            let is_end = age > params.max_lost && age - FRAME <= params.max_lost;
            assert_eq!(step.ended.len(), usize::from(is_end), "frame {n}");
        }
    }
}

#[test]
fn lost_tracks_end_by_a_clock_that_stands_still() {
    let params = Params::default();
    for algorithm in [Algorithm::OcSort, Algorithm::ByteTrack] {
        let mut tracker = create(algorithm, 1);
        for _ in 0..3 {
            tracker.step(&[at(0.0, 0.0)], true, 5, &params);
        }
        let ended = (0..400).map(|_| tracker.step(&[], true, 5, &params).ended.len());
        assert_eq!(ended.sum::<usize>(), 1);
    }
}

#[test]
fn with_every_fifth_frame_searched_a_face_keeps_its_id_and_place() {
    let params = Params::default();
    for algorithm in [Algorithm::OcSort, Algorithm::ByteTrack] {
        let (mut tracker, mut rng) = (create(algorithm, 1), Rng(5));
        for n in 0..300u64 {
            let turn = (n as f64 / 25.0).sin();
            let truth = at(300.0 + 150.0 * turn, 100.0 + n as f64).rect;
            let examined = n % 5 == 0;
            let seen = at(
                truth.x + rng.range(-2.0, 2.0),
                truth.y + rng.range(-2.0, 2.0),
            );
            let found = if examined { vec![seen] } else { vec![] };
            let step = tracker.step(&found, examined, n * FRAME, &params);
            assert_eq!((step.tracked.len(), step.ended.len()), (1, 0));
            assert_eq!(step.tracked[0].id, 1);
            assert_eq!(step.tracked[0].detection.is_some(), examined);
            assert!(step.tracked[0].rect.iou(&truth) > 0.5, "{algorithm:?} {n}");
        }
    }
}

#[test]
fn a_face_hidden_for_ten_frames_keeps_its_id() {
    let params = Params::default();
    for algorithm in [Algorithm::OcSort, Algorithm::ByteTrack] {
        let mut tracker = create(algorithm, 1);
        for n in 0..60u64 {
            let seen = at(5.0 * n as f64, 100.0);
            let hidden = (25..35).contains(&n);
            let found = if hidden { vec![] } else { vec![seen] };
            let step = tracker.step(&found, true, n * FRAME, &params);
            assert!(step.ended.is_empty());
            assert!(step.tracked.iter().all(|t| t.id == 1));
        }
    }
}

#[test]
fn fifty_faces_keep_their_ids_for_a_thousand_frames() {
    let params = Params::default();
    for algorithm in ALL {
        let (mut tracker, mut rng) = (create(algorithm, 1), Rng(1));
        for n in 0..1000u64 {
            let faces: Vec<Detection> = (0..50)
                .map(|i| {
                    let turn = (n as f64 / 30.0 + f64::from(i)).sin();
                    let (x, y) = (f64::from(i % 10) * 190.0, f64::from(i / 10) * 210.0);
                    at(
                        x + 40.0 * turn + rng.range(-2.0, 2.0),
                        y + rng.range(-2.0, 2.0),
                    )
                })
                .collect();
            let step = tracker.step(&faces, true, n * FRAME, &params);
            assert!((1..=50).eq(step.tracked.iter().map(|t| t.id)));
        }
        assert_eq!(tracker.next_id(), 51);
    }
}
