//! faceexpression and faceres on real media. These models are optional; without them, the tests say
//! that they are skipped.

use face_tests::feed::Feed;
use face_tests::{Picture, has_optional, run_file, run_picture};

const MODEL: &str = "faceapi-expression";

fn label(face: &face_meta::Face) -> Option<&str> {
    face.expression.as_ref().map(|e| e.label.as_str())
}

#[test]
fn smiles_are_happy() {
    if !has_optional(MODEL) {
        return;
    }
    let smiling = Picture::open("multi_face.jpg");
    let frame = run_picture(&smiling, "facedetector ! faceexpression").expect("it runs");
    assert_eq!(frame.faces.len(), 5);
    for face in &frame.faces {
        let expression = face.expression.as_ref().expect("an expression");
        assert_eq!(expression.label, "happy");
        assert!((0.5..=1.0).contains(&expression.confidence));
    }
    // What nobody trusts, nobody is told.
    for silent in ["min-face-size=1000", "min-sharpness=50", "min-frontality=1"] {
        let elements = format!("facedetector ! faceexpression {silent}");
        let frame = run_picture(&smiling, &elements).expect("it runs");
        assert_eq!(frame.faces.len(), 5);
        assert!(
            frame.faces.iter().all(|f| f.expression.is_none()),
            "{silent}"
        );
    }
}

#[test]
fn every_frame_of_a_track_has_the_mean_of_a_second() {
    if !has_optional(MODEL) {
        return;
    }
    let elements =
        "facedetector ! facetracker ! faceexpression interval=0 min-confidence=0 smooth=";
    let alone = run_file("single_face.mp4", &format!("{elements}false")).expect("it runs");
    let mean = run_file("single_face.mp4", &format!("{elements}true")).expect("it runs");
    assert_eq!(alone.len(), mean.len());
    let labels = |frames: &[face_tests::Frame]| -> Vec<String> {
        let faces = frames.iter().filter_map(|frame| frame.faces.first());
        faces.filter_map(label).map(String::from).collect()
    };
    let (alone, mean) = (labels(&alone), labels(&mean));
    assert!(mean.len() > 50, "{} of {}", mean.len(), alone.len());
    assert_eq!(mean[0], alone[0], "the first frame is its own mean");
    let changes = |labels: &[String]| labels.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes(&mean) <= changes(&alone), "{mean:?}\n{alone:?}");
}

#[test]
fn an_expression_ends_with_its_second_and_with_its_track() {
    if !has_optional(MODEL) {
        return;
    }
    let smiling = Picture::open("single_face.jpg");
    let feed = Feed::new(
        "facedetector ! facetracker ! faceexpression name=e interval=500",
        &smiling.caps(),
    )
    .expect("starts");
    let first = feed.show(&smiling, 0).expect("passes");
    assert_eq!(label(&first.faces[0]), Some("happy"));
    // From now on no face is large enough.
    feed.set("e", "min-face-size", "5000");
    let time = |frame: &face_tests::Frame| frame.pts.expect("a time");
    for index in 1.. {
        let frame = feed.show(&smiling, index).expect("passes");
        let age = time(&frame) - time(&first);
        let expected = (age < 1_000_000_000).then_some("happy");
        assert_eq!(label(&frame.faces[0]), expected, "after {age} ns");
        if age > 1_500_000_000 {
            break;
        }
    }
}

#[test]
fn faceres_knows_the_women_and_men_of_a_group() {
    if !has_optional("faceres") {
        return;
    }
    let group = Picture::open("t1.jpg");
    for model in [
        "faceres",
        "faceres,dlib-gender",
        "faceres,dlib-age,dlib-gender",
    ] {
        let elements = format!("facedetector ! faceagegender model={model}");
        let frame = run_picture(&group, &elements).expect("it runs");
        let mut genders: Vec<(i64, &str)> = frame
            .faces
            .iter()
            .filter_map(|f| Some((f.rect.x as i64, f.gender.as_ref()?.label.as_str())))
            .collect();
        genders.sort_unstable();
        // Three women and three men, from left to right.
        let genders: Vec<&str> = genders.into_iter().map(|(_, gender)| gender).collect();
        let (woman, man) = ("female", "male");
        assert_eq!(genders, [woman, woman, man, man, man, woman], "{model}");
        for age in frame.faces.iter().filter_map(|f| f.age) {
            assert!((15.0..60.0).contains(&age), "{model}: {age}");
        }
    }
}
