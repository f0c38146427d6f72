//! Tests of what trackers make of what they see, and of the rule that no two boxes sit on one face.

use face_meta::geometry::Rect;

use super::painted::{Painted, Person};
use super::tests::{FRAME, at};
use super::*;

const ALL: [Algorithm; 3] = [Algorithm::OcSort, Algorithm::ByteTrack, Algorithm::Iou];
const SEEING: [Algorithm; 2] = [Algorithm::OcSort, Algorithm::ByteTrack];
const ANN: Person = Person(1);
const BOB: Person = Person(2);
const CAT: Person = Person(3);

/// A tracker and the frame that comes next.
struct Film {
    tracker: Box<dyn Tracker>,
    params: Params,
    frame: u64,
}

impl Film {
    fn new(algorithm: Algorithm, appearance: Appearance) -> Self {
        let params = Params {
            appearance,
            ..Default::default()
        };
        Self {
            tracker: create(algorithm, 1),
            params,
            frame: 0,
        }
    }

    /// A frame on which `found` of the painted faces are detected.
    fn show(&mut self, painted: &[(Detection, Person)], found: usize) -> Step {
        let faces = painted.iter().map(|(face, person)| (face.rect, *person));
        let mut eyes = Painted(faces.collect());
        let detections: Vec<Detection> = painted.iter().rev().map(|(face, _)| *face).collect();
        let scene = Scene {
            detections: &detections[..found],
            examined: true,
            time: self.frame * FRAME,
            size: Some((2000.0, 1000.0)),
        };
        self.frame += 1;
        self.tracker.follow(&scene, &self.params, &mut eyes)
    }

    fn show_all(&mut self, painted: &[(Detection, Person)]) -> Step {
        self.show(painted, painted.len())
    }
}

fn ids(step: &Step) -> Vec<u64> {
    step.tracked.iter().map(|t| t.id).collect()
}

#[test]
fn a_face_that_comes_back_elsewhere_keeps_its_id_if_it_is_seen() {
    for algorithm in SEEING {
        for (appearance, expected) in [
            (Appearance::Auto, 1),
            (Appearance::Always, 1),
            (Appearance::None, 2),
        ] {
            let mut film = Film::new(algorithm, appearance);
            for _ in 0..15 {
                assert_eq!(ids(&film.show_all(&[(at(100.0, 0.0), ANN)])), [1]);
            }
            for _ in 0..45 {
                film.show_all(&[]);
            }
            let step = film.show_all(&[(at(500.0, 0.0), ANN)]);
            assert_eq!(ids(&step), [expected], "{algorithm:?} {appearance:?}");
        }
    }
}

#[test]
fn another_face_at_the_same_place_is_another_track() {
    for algorithm in SEEING {
        for (appearance, expected) in [(Appearance::Auto, 2), (Appearance::None, 1)] {
            let mut film = Film::new(algorithm, appearance);
            for _ in 0..15 {
                film.show_all(&[(at(100.0, 0.0), ANN)]);
            }
            for _ in 0..10 {
                film.show_all(&[]);
            }
            let step = film.show_all(&[(at(105.0, 0.0), BOB)]);
            assert_eq!(ids(&step), [expected], "{algorithm:?} {appearance:?}");
        }
    }
}

#[test]
fn a_place_alone_is_remembered_for_a_second() {
    for algorithm in SEEING {
        for (frames, expected) in [(25, 1), (40, 2)] {
            let mut film = Film::new(algorithm, Appearance::None);
            for _ in 0..5 {
                film.show_all(&[(at(100.0, 0.0), ANN)]);
            }
            for _ in 0..frames {
                film.show_all(&[]);
            }
            assert_eq!(ids(&film.show_all(&[(at(100.0, 0.0), ANN)])), [expected]);
        }
    }
}

#[test]
fn a_face_that_comes_out_from_behind_another_keeps_its_id() {
    for algorithm in SEEING {
        let mut film = Film::new(algorithm, Appearance::Auto);
        // Ann stands. Bob passes before her, stops, and turns back.
        for n in 0..60 {
            let way = if n < 30 { n } else { 60 - n };
            let bob = at(300.0 - 10.0 * f64::from(way), 10.0);
            let ann = at(80.0, 0.0);
            let hidden = (bob.rect.x - ann.rect.x).abs() < 60.0;
            let step = film.show(&[(ann, ANN), (bob, BOB)], if hidden { 1 } else { 2 });
            for t in step.tracked {
                let expected = if t.detection == Some(0) { 1 } else { 2 };
                assert!(
                    t.detection.is_none() || t.id == expected,
                    "{algorithm:?} {n}"
                );
            }
        }
    }
}

#[test]
fn a_new_track_that_turns_out_to_be_an_old_one_becomes_it() {
    for algorithm in SEEING {
        let mut film = Film::new(algorithm, Appearance::Auto);
        for _ in 0..15 {
            film.show_all(&[(at(100.0, 0.0), ANN), (at(900.0, 0.0), CAT)]);
        }
        for _ in 0..45 {
            film.show_all(&[(at(900.0, 0.0), CAT)]);
        }
        // What is to be seen first of Ann is not enough: something that is no face lies over her.
        let cover = at(490.0, 0.0);
        let ann = at(500.0, 0.0);
        let cat = (at(900.0, 0.0), CAT);
        let covered = [(cover, BOB), cat];
        let mut ended = film.show_all(&covered).ended;
        for _ in 0..10 {
            ended.extend(film.show_all(&[(ann, ANN), cat]).ended);
        }
        let step = film.show_all(&[(ann, ANN), cat]);
        let mut now = ids(&step);
        now.sort_unstable();
        assert_eq!(now, [1, 2], "{algorithm:?}");
        assert_eq!(ended.iter().map(|e| e.id).collect::<Vec<_>>(), [3]);
        assert_eq!(film.tracker.live(), 2);
        // It began when Ann was first seen.
        assert!(step.tracked.iter().all(|t| t.first_seen == 0));
    }
}

#[test]
fn two_detections_of_one_face_are_one_track() {
    for algorithm in ALL {
        let mut tracker = create(algorithm, 1);
        for n in 0..10 {
            let mut poor = at(15.0, 10.0);
            poor.rect.h = 120.0;
            poor.confidence = 0.8;
            let found = [poor, at(0.0, 0.0)];
            let step = tracker.step(&found, true, n * FRAME, &Params::default());
            assert_eq!(ids(&step), [1], "{algorithm:?}");
            assert_eq!(step.tracked[0].detection, Some(1), "the more confident one");
        }
    }
}

#[test]
fn a_poor_box_of_a_face_begins_no_track() {
    for algorithm in ALL {
        let mut tracker = create(algorithm, 1);
        for n in 0..20 {
            let mut face = at(0.0, 0.0);
            if n % 2 == 1 {
                // Less than a third of both boxes is common to them.
                face.rect = Rect::new(15.0, 15.0, 55.0, 55.0);
                assert!(face.rect.iou(&at(0.0, 0.0).rect) < 0.31);
            }
            let step = tracker.step(&[face], true, n * FRAME, &Params::default());
            assert_eq!(ids(&step), [1], "{algorithm:?} {n}");
        }
    }
}

#[test]
fn predicted_boxes_end_at_the_border_and_before_other_faces() {
    for algorithm in SEEING {
        let mut film = Film::new(algorithm, Appearance::None);
        for n in 0..15 {
            let leaving = at(1700.0 + 20.0 * f64::from(n), 0.0);
            film.show_all(&[(leaving, ANN), (at(100.0, 0.0), BOB)]);
        }
        // The last box is from 1980 to 2080; the frame ends at 2000.
        let step = film.show_all(&[(at(100.0, 0.0), BOB)]);
        assert_eq!(ids(&step), [1], "{algorithm:?}: Bob");

        let mut film = Film::new(algorithm, Appearance::None);
        for n in 0..15 {
            let walker = at(100.0 + 20.0 * f64::from(n), 0.0);
            film.show_all(&[(walker, ANN), (at(450.0, 0.0), BOB)]);
        }
        for _ in 0..7 {
            let step = film.show_all(&[(at(450.0, 0.0), BOB)]);
            let bob = at(450.0, 0.0).rect;
            for t in step.tracked.iter().filter(|t| t.detection.is_none()) {
                let common = t.rect.intersection(&bob).area();
                assert!(common <= t.rect.area() / 2.0, "{algorithm:?}");
            }
        }
    }
}

#[test]
fn predicted_boxes_end_where_something_else_is_seen() {
    for algorithm in SEEING {
        for (appearance, shown) in [(Appearance::Auto, 0), (Appearance::None, 1)] {
            let mut film = Film::new(algorithm, appearance);
            for _ in 0..15 {
                film.show_all(&[(at(100.0, 0.0), ANN)]);
            }
            // The wall behind her.
            let step = film.show_all(&[]);
            assert_eq!(step.tracked.len(), shown, "{algorithm:?} {appearance:?}");
        }
        // A face that is there, and that the detector missed.
        let mut film = Film::new(algorithm, Appearance::Auto);
        for _ in 0..15 {
            film.show_all(&[(at(100.0, 0.0), ANN)]);
        }
        let step = film.show(&[(at(100.0, 0.0), ANN)], 0);
        assert_eq!(ids(&step), [1], "{algorithm:?}");
    }
}

#[test]
fn what_is_kept_of_looks_is_bounded() {
    let mut looks = crate::sight::Looks::default();
    let mut eyes = Painted(vec![(at(0.0, 0.0).rect, ANN)]);
    for n in 0..1000 {
        let descriptor = eyes.look(&at(0.0, 0.0).rect).expect("a face");
        looks.add(descriptor, n * FRAME);
    }
    assert!(looks.len() < 10);
}
