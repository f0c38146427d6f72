use face_core::model::Strangers as Alike;
use proptest::prelude::*;

use super::*;

fn limits() -> Limits {
    Limits {
        most: 100,
        forget_after: Duration::from_secs(7 * 86_400),
        visit_gap: Duration::from_secs(60),
    }
}

fn model() -> Model {
    Model {
        id: ModelId {
            name: "sface".into(),
            sha256: "00".into(),
        },
        dimensions: 128,
        rule: Rule {
            false_name_rate: 0.001,
            distance_threshold: None,
            strangers: Some(Alike {
                mean: 0.088,
                deviation: 0.088,
            }),
            fallback: 0.637,
        },
    }
}

/// A time, in seconds.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
}

/// Faces of somebody: all numbers are 0 but the person's own; `noise` turns it towards a direction of
/// the look.
fn faces(person: usize, look: usize, noise: f32, weights: &[f64]) -> Vec<Embedded> {
    let mut embedding = vec![0.0; 128];
    embedding[person] = 1.0;
    embedding[64 + look % 64] = noise;
    weights
        .iter()
        .map(|&weight| Embedded {
            embedding: face_gallery::normalised(&embedding)
                .expect("a direction")
                .into(),
            weight,
        })
        .collect()
}

const GOOD: &[f64] = &[0.7, 0.6];

struct World {
    all: Strangers,
    model: Model,
    tracks: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self {
            all: Strangers::new(limits),
            model: model(),
            tracks: 0,
        }
    }

    fn see(
        &mut self,
        camera: &str,
        [first, last]: [i64; 2],
        embeddings: &[Embedded],
    ) -> Option<(u64, Who)> {
        self.tracks += 1;
        self.all.see(&Look {
            sighting: sighting(camera, self.tracks, [first, last]),
            model: &self.model,
            embeddings,
        })
    }
}

fn sighting(camera: &str, track: u64, [first, last]: [i64; 2]) -> Sighting<'_> {
    Sighting {
        camera,
        track,
        first: at(first),
        last: at(last),
    }
}

fn told(seen: Option<(u64, Who)>) -> (String, u64) {
    let (_, who) = seen.expect("told");
    (who.person, who.seen)
}

#[test]
fn who_returns_is_known_by_any_camera_and_visits_are_counted() {
    let mut world = World::new(limits());
    let mut see = |camera: &str, span, person, look| {
        told(world.see(camera, span, &faces(person, look, 0.4, GOOD)))
    };
    let stranger = |number: u64, seen: u64| (format!("stranger-{number}"), seen);
    assert_eq!(see("door", [0, 2], 0, 0), stranger(1, 1));
    assert_eq!(see("door", [5, 7], 1, 1), stranger(2, 1));
    // The same visit: another track, then another camera.
    assert_eq!(see("door", [20, 22], 0, 2), stranger(1, 1));
    assert_eq!(see("hall", [60, 62], 0, 3), stranger(1, 1));
    // Later.
    assert_eq!(see("hall", [4000, 4002], 0, 4), stranger(1, 2));
    assert_eq!(see("door", [90_000, 90_002], 0, 5), stranger(1, 3));
    let listed = world.all.list();
    assert_eq!(
        (listed[0].person.as_str(), listed[0].seen),
        ("stranger-1", 3)
    );
    assert_eq!(listed[0].cameras, ["door", "hall"]);
    assert_eq!((listed[0].since, listed[0].last_seen), (at(0), at(90_002)));
}

#[test]
fn two_on_one_screen_are_two_people_and_a_reflection_elsewhere_is_not() {
    let mut world = World::new(limits());
    let twins = faces(0, 0, 0.2, GOOD);
    assert_eq!(told(world.see("door", [0, 2], &twins)).0, "stranger-1");
    assert_eq!(told(world.see("door", [1, 3], &twins)).0, "stranger-2");
    // Another camera sees the same place.
    let (number, who) = world.see("hall", [1, 3], &twins).expect("told");
    assert!(number <= 2, "{who:?}");
    // A track that goes on counts until now.
    let first = sighting("door", 1, [0, 50]);
    world.all.again(1, &first);
    assert_ne!(told(world.see("door", [40, 60], &twins)).0, "stranger-1");
    // A track that begins when the other has ended may be the same person.
    world.all.again(2, &sighting("door", 2, [1, 60]));
    let (number, who) = world.see("door", [61, 63], &twins).expect("told");
    assert!(number <= 2, "{who:?}");
    // Both come into the picture with one frame.
    let mut world = World::new(limits());
    assert_eq!(told(world.see("door", [0, 2], &twins)).0, "stranger-1");
    assert_eq!(told(world.see("door", [0, 2], &twins)).0, "stranger-2");
}

#[test]
fn who_is_told_late_has_not_come_again() {
    let mut world = World::new(limits());
    let mut see = |camera: &str, span| told(world.see(camera, span, &faces(0, 0, 0.2, GOOD))).1;
    assert_eq!(see("door", [0, 200]), 1);
    // Another camera has seen them all the time, and can tell only now.
    assert_eq!(see("hall", [10, 200]), 1);
    assert_eq!(see("hall", [300, 302]), 2);
    // The clock was put back.
    assert_eq!(see("door", [-500, -498]), 3);
}

#[test]
fn poor_faces_found_nobody_but_are_known_again() {
    let mut world = World::new(limits());
    for (weights, what) in [
        (&[0.05; 16][..], "nothing to see"),
        (&[0.24; 16], "many blurred ones"),
        (&[0.7], "a single look"),
        (&[], "none"),
    ] {
        let found = world.see("door", [0, 2], &faces(0, 0, 0.3, weights));
        assert_eq!(found, None, "{what}");
    }
    assert!(world.all.is_empty());
    let number = told(world.see("door", [10, 12], &faces(0, 0, 0.3, GOOD)));
    assert_eq!(number, ("stranger-1".into(), 1));
    let again = world.see("door", [200, 202], &faces(0, 1, 0.3, &[0.35]));
    assert_eq!(told(again), ("stranger-1".into(), 2));
    // Another model's embeddings cannot be compared.
    world.model.id.sha256 = "ff".into();
    let other = world.see("door", [900, 902], &faces(0, 1, 0.3, GOOD));
    assert_eq!(told(other).0, "stranger-2");
}

#[test]
fn the_oldest_are_forgotten_and_no_number_is_given_twice() {
    let mut world = World::new(Limits {
        most: 2,
        ..limits()
    });
    for (person, seconds) in [(0, 0), (1, 10), (0, 20), (2, 30), (1, 40)] {
        world.see("door", [seconds, seconds + 2], &faces(person, 0, 0.1, GOOD));
    }
    let ids = |world: &World| {
        let listed = world.all.list().into_iter();
        listed.map(|l| l.person).collect::<Vec<_>>()
    };
    // 1 was forgotten for 2, and then 0 for 1.
    assert_eq!(ids(&world), ["stranger-4", "stranger-3"]);
    assert!(world.all.forget_old(at(7 * 86_400 + 33)));
    assert_eq!(ids(&world), ["stranger-4"]);
    // A clock that goes back forgets nobody.
    assert!(!world.all.forget_old(at(-1_000_000)));
    assert!(world.all.forget_old(at(8 * 86_400)));
    assert!(world.all.is_empty());
    let next = world.see(
        "door",
        [8 * 86_400, 8 * 86_400 + 2],
        &faces(0, 0, 0.1, GOOD),
    );
    assert_eq!(told(next).0, "stranger-5");
}

#[test]
fn a_name_is_for_the_past_and_the_future_and_can_be_forgotten() {
    let mut world = World::new(limits());
    world.see("door", [0, 2], &faces(0, 0, 0.2, GOOD));
    world.see("hall", [900, 902], &faces(0, 1, 0.2, GOOD));
    world.see("hall", [1800, 1802], &faces(1, 1, 0.2, GOOD));
    let known = world.all.embeddings("stranger-1").expect("known");
    assert_eq!((known.rows.len(), known.camera.as_str()), (2, "hall"));
    assert_eq!(known.sources, ["door track 1", "hall track 2"]);
    let past = world.all.name("stranger-1", "Anna").expect("known");
    assert_eq!(past.keys().collect::<Vec<_>>(), ["door", "hall"]);
    assert_eq!((past["hall"][0].visit, past["hall"][0].track), (2, 2));
    assert!(world.all.name("stranger-9", "Anna").is_none());
    let later = world.see("door", [9000, 9002], &faces(0, 2, 0.2, GOOD));
    assert_eq!(told(later), ("Anna".into(), 3));
    // The gallery knows her now, on that same track.
    world
        .all
        .withdraw(1, &sighting("door", 4, [9000, 9003]), "Anna");
    assert_eq!(world.all.list()[0].seen, 3);
    assert_eq!(world.all.forget("Anna", &[]), ["stranger-1"]);
    assert_eq!(world.all.forget("Anna", &[]), Vec::<String>::new());
    assert_eq!(world.all.forget("stranger-2", &[]), ["stranger-2"]);
}

#[test]
fn whom_a_gallery_knows_is_forgotten_by_their_face() {
    let mut world = World::new(limits());
    world.see("door", [0, 2], &faces(0, 0, 0.2, GOOD));
    world.see("door", [10, 12], &faces(1, 0, 0.2, GOOD));
    let mut gallery = Gallery::new(model().id, 128);
    for (person, index) in [("Anna", 0), ("Bob", 2)] {
        let row = Row {
            person: person.into(),
            source: String::new(),
        };
        assert!(gallery.push(row, &faces(index, 5, 0.2, GOOD)[0].embedding));
    }
    let galleries = [(gallery, model().rule)];
    assert_eq!(world.all.forget("Bob", &galleries), Vec::<String>::new());
    assert_eq!(world.all.forget("Anna", &galleries), ["stranger-1"]);
    assert_eq!(world.all.len(), 1);
}

#[test]
fn a_track_that_was_somebody_known_leaves_nothing() {
    let mut world = World::new(limits());
    let (first, _) = world
        .see("door", [0, 2], &faces(0, 0, 0.2, GOOD))
        .expect("told");
    let (again, _) = world
        .see("door", [900, 902], &faces(0, 0, 0.2, GOOD))
        .expect("told");
    assert_eq!(first, again);
    world
        .all
        .withdraw(again, &sighting("door", 2, [900, 905]), "Bob");
    assert_eq!(world.all.list()[0].seen, 1);
    world
        .all
        .withdraw(first, &sighting("door", 1, [0, 3]), "Bob");
    assert!(world.all.is_empty());
    // What is gone is left alone.
    world
        .all
        .withdraw(first, &sighting("door", 1, [0, 3]), "Bob");
    world.all.again(first, &sighting("door", 1, [0, 4]));
    assert!(world.all.is_empty());
}

#[test]
fn a_file_keeps_everything_and_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("strangers.json");
    let mut world = World::new(limits());
    assert!(
        Strangers::read(&path, limits())
            .expect("no file")
            .is_empty()
    );
    for person in 0..3 {
        let time = i64::try_from(person).expect("small") * 10;
        world.see("door", [time, time + 2], &faces(person, person, 0.3, GOOD));
    }
    world.all.forget("stranger-3", &[]);
    world.all.name("stranger-2", "Anna");
    world.all.snapshot().write(&path).expect("written");
    let bytes = std::fs::read(&path).expect("there");
    assert!(file::is_one(&path) && !bytes.is_empty());
    let mode = std::fs::metadata(&path)
        .expect("there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = world.all.list();
    world.all = Strangers::read(&path, limits()).expect("readable");
    assert_eq!(world.all.list(), before);
    let again = world.see("hall", [500, 502], &faces(0, 7, 0.3, GOOD));
    assert_eq!(told(again), ("stranger-1".into(), 2));
    let new = world.see("hall", [600, 602], &faces(9, 7, 0.3, GOOD));
    assert_eq!(told(new).0, "stranger-4", "3 was given before");

    world.all.snapshot().write(&path).expect("written");
    let forget = |trial| file::forget(&path, "Anna", &[], trial).expect("readable");
    assert_eq!((forget(true), forget(false), forget(false)), (1, 1, 0));
    for broken in ["", "{}", "{\"format\":\"facepipe-strangers\",\"version\":1"] {
        std::fs::write(&path, broken).expect("writable");
        let error = Strangers::read(&path, limits()).expect_err("broken");
        assert!(format!("{error:#}").contains("strangers.json"), "{error:#}");
    }
}

#[test]
fn memory_is_bounded() {
    let mut world = World::new(limits());
    for i in 0..1000 {
        world.see(
            "door",
            [i * 100, i * 100 + 2],
            &faces(0, i as usize, 0.3, GOOD),
        );
    }
    let stranger = &world.all.known[&1];
    assert_eq!((stranger.seen, world.all.len()), (1000, 1));
    assert_eq!(stranger.rows.len(), MOST_ROWS);
    assert_eq!(stranger.visits.len(), MOST_VISITS);
}

proptest! {
    /// Whatever is seen in whatever order: nobody is on one screen twice, numbers only grow, and the
    /// limits hold.
    #[test]
    fn invariants_hold(
        looks in prop::collection::vec(
            (0usize..3, 0usize..6, 0i64..40, 0i64..8, 0.0f32..1.2, 0.0f64..0.9),
            1..60,
        ),
    ) {
        let mut world = World::new(Limits { most: 4, ..limits() });
        let mut largest = 0;
        for (i, (camera, person, first, length, noise, weight)) in looks.into_iter().enumerate() {
            let camera = ["door", "hall", "gate"][camera];
            let first = first * 10;
            let seen = world.see(camera, [first, first + length], &faces(person, i, noise, &[weight; 3]));
            if let Some((number, who)) = seen {
                prop_assert!(who.seen >= 1);
                largest = largest.max(number);
            }
            prop_assert!(world.all.len() <= 4 && world.all.next == largest + 1);
            for stranger in world.all.known.values() {
                prop_assert!(!stranger.rows.is_empty() && stranger.rows.len() <= MOST_ROWS);
                for (n, a) in stranger.visits.iter().enumerate() {
                    for b in stranger.visits.iter().skip(n + 1) {
                        let apart = a.camera != b.camera || a.last < b.first || b.last < a.first;
                        prop_assert!(apart, "{a:?} {b:?}");
                    }
                }
            }
        }
    }
}
