//! Properties of every tracker, for any input.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use face_meta::geometry::Rect;
use proptest::prelude::*;

use super::place::{counted, same_face};
use super::{Algorithm, Detection, MOST_DETECTIONS, MOST_TRACKS, Params, create, is_usable};
use crate::kalman::{AreaFilter, HeightFilter, Motion, limited};
use face_meta::assignment::assign;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::OcSort, Algorithm::ByteTrack, Algorithm::Iou];

fn number() -> impl Strategy<Value = f64> {
    let special = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MAX,
        f64::MIN,
        5e-324,
        1e-300,
        1e150,
        -1e18,
        0.0,
    ];
    prop_oneof![
        8 => 0.0..100.0,
        2 => proptest::sample::select(special.to_vec()),
        1 => proptest::num::f64::ANY,
    ]
}

prop_compose! {
    fn rect()(x in number(), y in number(), w in number(), h in number()) -> Rect {
        Rect::new(x, y, w, h)
    }
}

/// Mostly detections that stay, so that tracks live on, and some of any kind.
fn detections() -> impl Strategy<Value = Vec<Detection>> {
    let still = (0..4u8).prop_map(|i| Rect::new(40.0 * f64::from(i), 10.0, 30.0, 40.0));
    let one = (prop_oneof![2 => still, 1 => rect()], number())
        .prop_map(|(rect, confidence)| Detection { rect, confidence });
    proptest::collection::vec(one, 0..8)
}

#[derive(Debug, Clone)]
struct Frame {
    detections: Vec<Detection>,
    examined: bool,
    time: u64,
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let time = prop_oneof![
        6 => (0..40u64).prop_map(|n| 40_000_000 * n),
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ];
    let frame =
        (detections(), any::<bool>(), time).prop_map(|(detections, examined, time)| Frame {
            detections,
            examined,
            time,
        });
    proptest::collection::vec(frame, 0..40)
}

prop_compose! {
    fn params()(
        iou_threshold in number(),
        max_lost in prop_oneof![Just(0), Just(1_000_000_000), any::<u64>()],
        max_predicted in prop_oneof![Just(0), Just(250_000_000), any::<u64>()],
    ) -> Params {
        Params { iou_threshold, max_lost, max_predicted, ..Params::default() }
    }
}

/// `count` boxes in one pile, or `apart` from each other.
fn crowd(count: usize, frame: usize, apart: f64) -> Vec<Detection> {
    let rect = |i: usize| Rect::new(i as f64 * apart + 0.01 * frame as f64, 0.0, 500.0, 500.0);
    (0..count)
        .map(|i| Detection {
            rect: rect(i),
            confidence: 0.9,
        })
        .collect()
}

#[test]
fn a_crowd_is_tracked_up_to_the_limits() {
    for algorithm in ALGORITHMS {
        let mut tracker = create(algorithm, 1);
        let params = Params {
            max_lost: u64::MAX,
            ..Default::default()
        };
        // Each crowd is confirmed, then lost while another one is detected elsewhere.
        for n in 0..16 {
            let mut crowd = crowd(MOST_DETECTIONS + 50, n, 600.0);
            for face in &mut crowd {
                face.rect.y = 1000.0 * (n / 4) as f64;
            }
            let step = tracker.step(&crowd, true, n as u64, &params);
            let detected = step.tracked.iter().filter(|t| t.detection.is_some());
            assert_eq!(detected.count(), MOST_DETECTIONS, "{algorithm:?}");
            assert!(tracker.live() <= MOST_TRACKS);
        }
        let lived = tracker.next_id() - 1;
        assert_eq!(lived, 4 * MOST_DETECTIONS as u64, "{algorithm:?}");
    }
}

/// Measures the slowest frames that the limits allow.
#[test]
#[ignore = "a measurement: prints the time of the worst frames"]
fn worst_frames() {
    for algorithm in ALGORITHMS {
        for apart in [0.01, 600.0] {
            let mut tracker = create(algorithm, 1);
            let mut worst = Duration::ZERO;
            for n in 0..8 {
                let crowd = crowd(MOST_DETECTIONS, n, apart);
                let started = Instant::now();
                tracker.step(&crowd, true, n as u64, &Params::default());
                worst = worst.max(started.elapsed());
            }
            println!("{algorithm:?}, boxes {apart} apart: {worst:?}");
        }
    }
}

proptest! {
    // Does not save failures to a file: each one becomes a regular test.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn any_detections_are_tracked(frames in frames(), params in params()) {
        for algorithm in ALGORITHMS {
            let mut tracker = create(algorithm, 1);
            let mut ended = HashSet::new();
            for frame in &frames {
                let before = tracker.next_id();
                let step = tracker.step(&frame.detections, frame.examined, frame.time, &params);
                let mut seen = HashSet::new();
                for tracked in &step.tracked {
                    prop_assert!(seen.insert(tracked.id), "one id, two faces: {step:?}");
                    prop_assert!(!ended.contains(&tracked.id), "an id came back: {step:?}");
                    prop_assert!((1..tracker.next_id()).contains(&tracked.id));
                    prop_assert!(is_usable(&tracked.rect), "{tracked:?}");
                    let given = tracked.detection.map(|i| frame.detections[i].rect);
                    prop_assert!(given.is_none_or(|rect| rect == tracked.rect));
                }
                let detected: HashSet<usize> =
                    step.tracked.iter().filter_map(|t| t.detection).collect();
                let counted = counted(&frame.detections).len();
                prop_assert!(detected.len() <= counted);
                if algorithm != Algorithm::ByteTrack {
                    prop_assert_eq!(detected.len(), counted);
                }
                let rects: Vec<Rect> = step.tracked.iter().map(|t| limited(&t.rect)).collect();
                for (i, a) in rects.iter().enumerate() {
                    for b in &rects[..i] {
                        prop_assert!(!same_face(a, b), "two boxes on one face: {step:?}");
                    }
                }
                for over in &step.ended {
                    prop_assert!(over.first_seen <= over.last_seen);
                    prop_assert!(ended.insert(over.id), "ended twice: {over:?}");
                }
                prop_assert!(tracker.next_id() - before <= counted as u64);
            }
            let live = tracker.live();
            let rest = tracker.finish();
            prop_assert_eq!(rest.len(), live);
            prop_assert!(rest.iter().all(|over| ended.insert(over.id)));
            prop_assert_eq!(tracker.live(), 0);
        }
    }

    #[test]
    fn filters_stay_numbers(boxes in proptest::collection::vec((rect(), 0..5u8), 1..40)) {
        let usable: Vec<_> = boxes.iter().filter(|(rect, _)| is_usable(rect)).collect();
        let Some((first, _)) = usable.first() else { return Ok(()) };
        let mut area = AreaFilter::new(&limited(first));
        let mut height = HeightFilter::new(&limited(first));
        for (rect, skipped) in usable {
            for n in 0..=*skipped {
                area.predict(n > 0);
                height.predict(n > 0);
            }
            area.update(&limited(rect));
            height.update(&limited(rect));
            for rect in [area.rect(), height.rect()] {
                let center = rect.center();
                prop_assert!(
                    !rect.is_finite() || center.x.abs().max(center.y.abs()) < 1e12,
                    "{rect:?}"
                );
            }
        }
    }

    #[test]
    fn assignments_are_one_to_one(
        rows in 0..12usize,
        columns in 0..12usize,
        limit in number(),
        costs in proptest::collection::vec(number(), 144),
    ) {
        let pairs = assign(rows, columns, limit, |i, j| costs[12 * i + j]);
        let (mut of_row, mut of_column) = (HashSet::new(), HashSet::new());
        for (i, j) in pairs {
            prop_assert!(i < rows && j < columns && costs[12 * i + j] < limit);
            prop_assert!(of_row.insert(i) && of_column.insert(j));
        }
    }
}
