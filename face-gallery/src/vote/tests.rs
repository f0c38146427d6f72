use proptest::prelude::*;

use super::*;
use crate::evidence::{Embedded, Mean};
use crate::{ModelId, Row};

fn unit(degrees: f64) -> [f32; 2] {
    let (y, x) = degrees.to_radians().sin_cos();
    [x as f32, y as f32]
}

/// The angle at this cosine distance.
fn angle(distance: f64) -> f64 {
    (1.0 - distance).acos().to_degrees()
}

fn gallery(rows: &[(&str, &str, f64)]) -> Gallery {
    let model = ModelId {
        name: "m".into(),
        sha256: String::new(),
    };
    let mut gallery = Gallery::new(model, 2);
    for &(person, source, degrees) in rows {
        let row = Row {
            person: person.into(),
            source: source.into(),
        };
        assert!(gallery.push(row, &unit(degrees)));
    }
    gallery
}

/// With a fixed limit for the score.
fn within(limit: f64) -> Rule {
    Rule {
        false_name_rate: FALSE_NAME_RATE,
        distance_threshold: None,
        strangers: None,
        fallback: limit,
    }
}

const SFACE: Rule = Rule {
    false_name_rate: FALSE_NAME_RATE,
    distance_threshold: None,
    strangers: Some(Strangers {
        mean: 0.088,
        deviation: 0.088,
    }),
    fallback: DISTANCE_THRESHOLD,
};

fn name(gallery: &Gallery, degrees: f64, limit: f64) -> Option<String> {
    who(gallery, &unit(degrees), &within(limit)).person
}

/// The score of the first person.
fn score(distances: &[f64]) -> f64 {
    let rows: Vec<(&str, &str, f64)> = distances.iter().map(|d| ("ann", "", angle(*d))).collect();
    let gallery = gallery(&rows);
    candidates(&gallery, &gallery.nearest_images(&unit(0.0), IMAGES))[0].score
}

#[test]
fn the_score_of_one_image_is_its_distance() {
    assert!((score(&[0.4]) - 0.4).abs() < 1e-6);
    // Five equal ones: τ (1 − γ) ln 5 nearer.
    assert!((score(&[0.4; 5]) - (0.4 - 0.025 * 5f64.ln())).abs() < 1e-6);
    // One near and four far ones: γ τ ln 5 farther.
    let lone = score(&[0.3, 1.4, 1.4, 1.4, 1.4]);
    assert!((lone - (0.3 + 0.075 * 5f64.ln())).abs() < 1e-4, "{lone}");
}

#[test]
fn the_person_with_the_lowest_score_is_named() {
    let gallery = gallery(&[
        ("ann", "1", 0.0),
        ("ann", "2", 4.0),
        ("bob", "1", 90.0),
        ("eve", "1", 180.0),
    ]);
    assert_eq!(name(&gallery, 2.0, 0.3).as_deref(), Some("ann"));
    assert_eq!(
        name(&gallery, 80.0, 0.3).as_deref(),
        Some("bob"),
        "one photo is enough"
    );
    let nobody = who(&gallery, &unit(-60.0), &within(0.2));
    assert_eq!(nobody.person, None);
    assert!((nobody.distance - 0.5).abs() < 1e-6);
    let ann = who(&gallery, &unit(5.0), &within(0.2));
    assert!((ann.distance - (1.0 - 1f64.to_radians().cos())).abs() < 1e-6);
}

#[test]
fn an_empty_gallery_knows_nobody() {
    assert_eq!(who(&gallery(&[]), &unit(0.0), &SFACE), Verdict::nobody());
}

#[test]
fn variations_of_a_photo_count_once() {
    let photos = [("ann", "1.jpg", 0.0), ("ann", "2.jpg", 40.0)];
    let mut rows = photos.to_vec();
    let sources: Vec<String> = (1..9).map(|i| format!("1.jpg#{i}")).collect();
    rows.extend(sources.iter().map(|s| ("ann", s.as_str(), 3.0)));
    let (plain, varied) = (gallery(&photos), gallery(&rows));
    for degrees in [-50.0, -20.0, 0.0] {
        let [plain, varied] = [&plain, &varied].map(|gallery| {
            let near = gallery.nearest_images(&unit(degrees), IMAGES);
            candidates(gallery, &near)[0]
        });
        assert_eq!(plain.score, varied.score, "at {degrees}");
    }
    // Where a variation is the nearest, it stands for its photo.
    let nearer = who(&varied, &unit(3.0), &within(0.5));
    assert!(nearer.distance < 1e-6);
}

#[test]
fn without_some_people_the_rest_of_the_gallery_decides() {
    let gallery = gallery(&[("ann", "", 0.0), ("bob", "", 90.0), ("eve", "", 180.0)]);
    let without = |names: &[&str]| {
        let names = names.iter().map(|n| n.to_string()).collect();
        let verdict = who_else(&gallery, &unit(0.0), &within(1.5), &names);
        (verdict.person, (verdict.distance * 100.0).round())
    };
    assert_eq!(without(&[]), (Some("ann".into()), 0.0));
    assert_eq!(without(&["nobody"]), (Some("ann".into()), 0.0));
    assert_eq!(without(&["ann"]), (Some("bob".into()), 100.0));
    assert_eq!(without(&["ann", "bob"]), (None, 200.0));
    assert_eq!(without(&["ann", "bob", "eve"]), (None, 200.0));
}

#[test]
fn a_threshold_is_about_the_nearest_image() {
    // Five unlike photos: the score is farther than the nearest of them.
    let rows = [(40.0), (70.0), (80.0), (90.0), (100.0)].map(|degrees| ("ann", "", degrees));
    let gallery = gallery(&rows);
    let nearest = 1.0 - 40f64.to_radians().cos();
    assert!(score(&[nearest, 0.66, 0.83, 1.0, 1.17]) > nearest + 1e-3);
    let name = |threshold| {
        let rule = Rule {
            distance_threshold: Some(threshold),
            ..SFACE
        };
        who(&gallery, &unit(0.0), &rule).person
    };
    assert_eq!(name(nearest + 1e-6).as_deref(), Some("ann"));
    assert_eq!(name(nearest - 1e-6), None);
}

#[test]
fn the_stated_rate_does_not_change_how_likely_a_name_is() {
    let gallery = gallery(&[("ann", "", 0.0), ("bob", "", 120.0)]);
    let right = |false_name_rate| {
        let rule = Rule {
            false_name_rate,
            ..SFACE
        };
        let (person, signs) = signs(&gallery, &unit(50.0), &rule).expect("two people");
        assert_eq!(person, "ann");
        confidence::right(signs)
    };
    assert_eq!(right(1e-6), right(0.1));
}

#[test]
fn the_limit_keeps_the_rate() {
    // What a table of the normal distribution says: 1 − 0.088 (1 + 3.0902).
    assert!((SFACE.limit(1) - 0.640_06).abs() < 1e-4);
    assert_eq!(SFACE.limit(0), SFACE.limit(1));
    let loose = Rule {
        false_name_rate: 0.01,
        ..SFACE
    };
    // Ten people at 1 % are one at 0.1 %.
    assert!((loose.limit(10) - SFACE.limit(1)).abs() < 1e-9);
    assert_eq!(within(0.5).limit(10_000), 0.5);
    let unknown = Rule {
        strangers: None,
        ..SFACE
    };
    assert_eq!(unknown.limit(10_000), DISTANCE_THRESHOLD);
}

/// Each frame alone is too far from Ann. Their mean is not.
#[test]
fn evidence_adds_up() {
    let model = ModelId {
        name: "m".into(),
        sha256: String::new(),
    };
    let mut gallery = Gallery::new(model, 11);
    let axis = |number: usize| -> Vec<f32> { (0..11).map(|i| f32::from(i == number)).collect() };
    let row = Row {
        person: "ann".into(),
        source: String::new(),
    };
    assert!(gallery.push(row, &axis(0)));
    // At 0.6 from Ann, each with a different rest.
    let frames: Vec<Embedded> = (1..11)
        .map(|i| {
            let mut frame = axis(i);
            frame[0] = 0.4;
            frame[i] = (1.0f32 - 0.16).sqrt();
            Embedded {
                embedding: frame.into(),
                weight: 0.5,
            }
        })
        .collect();
    let limit = within(0.55);
    for frame in &frames {
        assert_eq!(who(&gallery, &frame.embedding, &limit).person, None);
    }
    let all = Mean::of(&frames).unit().expect("ten frames");
    let ann = who(&gallery, &all, &limit);
    assert_eq!(ann.person.as_deref(), Some("ann"));
    // Ten equal frames say no more than one.
    let same = Mean::of(vec![&frames[0]; 10]).unit().expect("ten frames");
    assert_eq!(who(&gallery, &same, &limit).person, None);
}

proptest! {
    #[test]
    fn limits_grow_stricter_with_people_and_with_the_rate(
        few in 1usize..10_000,
        more in 1usize..1_000_000,
        rate in 1e-5..0.1f64,
    ) {
        let at = |rate, people| Rule { false_name_rate: rate, ..SFACE }.limit(people);
        prop_assert!(at(rate, few + more) < at(rate, few));
        prop_assert!(at(rate / 2.0, few) < at(rate, few));
        prop_assert!((0.0..=2.0).contains(&at(rate, few)));
    }

    /// A nearer image, or a further one that is at least as near as all others, never raises a score.
    #[test]
    fn more_evidence_never_hurts(
        mut distances in prop::collection::vec(0.01..1.0f64, 1..40),
        which in any::<prop::sample::Index>(),
        nearer in 0.0..1.0f64,
        further in 0.0..1.0f64,
    ) {
        let before = score(&distances);
        let nearest = distances.iter().copied().fold(f64::MAX, f64::min);
        let mut more = distances.clone();
        more.push(nearest * further);
        prop_assert!(score(&more) <= before + 1e-6);
        let place = which.index(distances.len());
        distances[place] *= nearer;
        prop_assert!(score(&distances) <= before + 1e-6);
    }

    /// The mean of frames that name somebody with one photo names them, too.
    #[test]
    fn frames_that_agree_name_together(
        degrees in prop::collection::vec((-60.0..60.0f64, 0.02..1.0f64), 1..20),
    ) {
        let gallery = gallery(&[("ann", "", 0.0)]);
        let frames: Vec<Embedded> = degrees
            .iter()
            .map(|&(degrees, weight)| Embedded { embedding: unit(degrees).into(), weight })
            .collect();
        let all = Mean::of(&frames).unit().expect("within one half");
        let ann = who(&gallery, &all, &within(0.5 + 1e-6));
        prop_assert_eq!(ann.person.as_deref(), Some("ann"));
    }

    /// A face that is not to be named silences whoever is farther, and only them.
    #[test]
    fn a_nearer_stranger_silences(
        person in 0.0..60.0f64,
        stranger in 0.0..180.0f64,
        rows in 1usize..5,
    ) {
        prop_assume!((person - stranger).abs() > 0.1);
        let mut gallery = gallery(&vec![("ann", "", person); rows]);
        let near = gallery.nearest_images(&unit(0.0), IMAGES);
        let score = candidates(&gallery, &near)[0].score;
        let limit = within(score + 1e-3);
        let before = who(&gallery, &unit(0.0), &limit);
        prop_assert_eq!(before.person.as_deref(), Some("ann"));
        prop_assert!(gallery.push_stranger("", &unit(stranger)));
        let after = who(&gallery, &unit(0.0), &limit);
        prop_assert_eq!(after.person.is_none(), stranger < person);
        // The answer is less sure than it was.
        if after.person.is_some() {
            prop_assert!(after.confidence <= before.confidence);
        }
    }

    #[test]
    fn confidences_are_probabilities(
        rows in prop::collection::vec((0usize..5, 0.0..360.0f64), 1..30),
        degrees in 0.0..360.0f64,
    ) {
        let people = ["a", "b", "c", "d", "e"];
        let rows: Vec<_> = rows.iter().map(|&(p, d)| (people[p], "", d)).collect();
        let verdict = who(&gallery(&rows), &unit(degrees), &SFACE);
        prop_assert!((0.0..=1.0).contains(&verdict.confidence));
        prop_assert!((0.0..=2.0).contains(&verdict.distance));
    }
}
