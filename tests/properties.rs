//! Properties that change while playing take effect on the next frame.

use face_meta::Face;
use face_tests::Picture;
use face_tests::feed::{Feed, enroll};

fn tracks(faces: &[Face]) -> Vec<u64> {
    let mut ids: Vec<u64> = faces.iter().filter_map(|f| Some(f.track?.id)).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn of_the_detector() {
    let group = Picture::open("t1.jpg");
    let feed = Feed::new("facedetector name=d", &group.caps()).expect("starts");
    let smallest = |faces: &[Face]| {
        let side = |f: &Face| f.rect.w.min(f.rect.h);
        faces.iter().map(side).fold(f64::INFINITY, f64::min)
    };
    let mut index = 0;
    let mut faces = |property: &str, value: &str| {
        feed.set("d", property, value);
        index += 1;
        feed.show(&group, index).expect("passes").faces
    };
    assert_eq!(faces("confidence-threshold", "0.7").len(), 6);
    let sure = faces("confidence-threshold", "0.92");
    assert!((1..6).contains(&sure.len()), "{}", sure.len());
    assert!(sure.iter().all(|f| f.confidence.is_some_and(|c| c >= 0.92)));
    assert_eq!(faces("confidence-threshold", "1").len(), 0);
    assert_eq!(faces("confidence-threshold", "0.7").len(), 6);
    assert_eq!(faces("confidence-threshold", "-1").len(), 6, "the model's");
    assert_eq!(faces("max-faces", "2").len(), 2);
    assert_eq!(faces("max-faces", "0").len(), 6);
    let large = faces("min-face-size", "100");
    assert!((1..6).contains(&large.len()) && smallest(&large) >= 100.0);
    assert_eq!(faces("min-face-size", "0").len(), 6);
    assert_eq!(
        faces("inference-size", "32").len(),
        0,
        "faces of three pixels"
    );
    assert_eq!(faces("inference-size", "0").len(), 6);
    assert!(
        faces("nms-threshold", "1").len() > 12,
        "nothing is suppressed"
    );
    assert_eq!(faces("nms-threshold", "0.3").len(), 6);
    let counts: Vec<usize> = (0..6).map(|_| faces("interval", "3").len()).collect();
    assert_eq!(counts.iter().filter(|n| **n == 6).count(), 2, "{counts:?}");
    assert_eq!(faces("interval", "1").len(), 6);
}

#[test]
fn of_the_tracker() {
    let group = Picture::open("t1.jpg");
    let black = Picture::black(group.width, group.height);
    let feed = Feed::new("facedetector ! facetracker name=t", &group.caps()).expect("starts");
    let mut index = 0;
    let mut show = |picture: &Picture| {
        index += 1;
        feed.show(picture, index).expect("passes").faces
    };
    assert_eq!(tracks(&show(&group)), [1, 2, 3, 4, 5, 6]);
    // A change of the algorithm starts afresh, with new ids.
    let mut next = 7;
    for algorithm in ["bytetrack", "iou", "ocsort"] {
        feed.set("t", "algorithm", algorithm);
        let expected: Vec<u64> = (next..next + 6).collect();
        assert_eq!(tracks(&show(&group)), expected, "{algorithm}");
        assert_eq!(tracks(&show(&group)), expected, "{algorithm}");
        let before: Vec<u64> = (next - 6..next).collect();
        assert_eq!(feed.ended(), before, "{algorithm}");
        next += 6;
    }
    // No two boxes overlap by more than 100 %, but those that sit on one face are one track.
    feed.set("t", "algorithm", "iou");
    show(&group);
    feed.set("t", "iou-threshold", "1");
    let first = tracks(&show(&group));
    assert_eq!(tracks(&show(&group)), first);
    // Nobody is predicted where nobody is to be seen.
    feed.set("t", "algorithm", "ocsort");
    for _ in 0..4 {
        show(&group);
    }
    let first = tracks(&show(&group));
    assert_eq!(show(&black).len(), 0);
    assert_eq!(tracks(&show(&group)), first);
    // Predicted faces appear only as long as the property says.
    feed.set("t", "appearance", "none");
    show(&group);
    feed.set("t", "max-predicted", "100");
    feed.ended();
    let predicted: Vec<usize> = (0..4).map(|_| show(&black).len()).collect();
    assert_eq!(predicted, [6, 6, 0, 0]);
    assert!(feed.ended().is_empty(), "lost, not over");
    feed.set("t", "max-lost", "100");
    show(&black);
    assert_eq!(feed.ended().len(), 6);
}

#[test]
fn of_the_recogniser() {
    let group = Picture::open("t1.jpg");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let galleries = [
        ["a", "b", "c", "d", "e", "f"],
        ["u", "v", "w", "x", "y", "z"],
    ];
    let paths = ["1.safetensors", "2.safetensors"].map(|name| folder.path().join(name));
    // Enrolled from another picture, so that no distance is 0.
    let other = group.resized(group.width / 2, group.height / 2);
    for (path, names) in paths.iter().zip(&galleries) {
        enroll(path, &other, names).expect("six faces");
    }
    let path = |i: usize| paths[i].to_str().expect("UTF-8");
    let feed = Feed::new(
        "facedetector ! facetracker ! facerecognizer name=r interval=0",
        &group.caps(),
    )
    .expect("starts");
    let mut index = 0;
    let mut show = |changes: &[(&str, &str)]| {
        for (property, value) in changes {
            feed.set("r", property, value);
        }
        index += 1;
        let mut faces = feed.show(&group, index).expect("passes").faces;
        faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
        faces
    };
    let names = |faces: &[Face]| -> Vec<String> {
        let name = |f: &Face| f.recognition.clone().map_or("-".into(), |r| r.name);
        faces.iter().map(name).collect()
    };
    assert_eq!(names(&show(&[])), ["-"; 6]);
    assert_eq!(names(&show(&[("gallery", path(0))])), galleries[0]);
    assert_eq!(names(&show(&[("gallery", path(1))])), galleries[1]);
    // With the last embedding only, earlier ones do not count.
    let last = ("vote", "false");
    let none = [
        last,
        ("distance-threshold", "0"),
        ("unknown-label", "nobody"),
    ];
    assert_eq!(names(&show(&none)), ["nobody"; 6]);
    let all = [("distance-threshold", "0.637")];
    assert_eq!(names(&show(&all)), galleries[1]);
    let strict = [
        ("distance-threshold", "-1"),
        ("false-name-rate", "0.000001"),
    ];
    assert_eq!(names(&show(&strict)), galleries[1]);
    // All embeddings together, which are of one picture.
    let together = show(&[("vote", "true")]);
    assert_eq!(names(&together), galleries[1]);
    let sure = together[0].recognition.clone().expect("named").confidence;
    assert!(sure > 0.9, "{sure}");
    let voted = show(&[("mirror", "true")]);
    assert_eq!(names(&voted), galleries[1]);
    assert!(voted.iter().all(|f| f.embedding.is_none()));
    let attached = show(&[("attach-embedding", "true")]);
    assert!(attached.iter().all(|f| f.embedding.is_some()));
    let rare = show(&[("interval", "10000")]);
    assert!(rare.iter().all(|f| f.embedding.is_none()), "none is due");
    assert_eq!(names(&rare), galleries[1]);
    assert_eq!(names(&show(&[("gallery", "")])), ["-"; 6]);
}

#[test]
fn of_age_and_gender() {
    let group = Picture::open("t1.jpg");
    let blurred = group.resized(180, 125).resized(group.width, group.height);
    let feed = Feed::new(
        &format!(
            "facetracker ! faceagegender name=a interval=0 {}",
            face_tests::TELL_ALL
        ),
        &group.caps(),
    )
    .expect("starts");
    let places = face_tests::run_picture(&group, "facedetector")
        .expect("runs")
        .faces;
    let mut index = 0;
    let mut ages = |picture: &Picture| -> Vec<f64> {
        index += 1;
        let mut buffer = picture.buffer(face_tests::feed::at(index));
        for face in &places {
            face_meta::add(buffer.make_mut(), (group.width, group.height), face);
        }
        let faces = feed.pass(buffer).expect("passes").faces;
        faces.iter().map(|f| f.age.expect("an age")).collect()
    };
    let near = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let sharp = ages(&group);
    let mean = ages(&blurred);
    feed.set("a", "smooth", "false");
    let alone = ages(&blurred);
    assert!(!near(&sharp, &alone), "blur changes the age");
    // The mean is weighted, and nearer to the sharp frame.
    for ((mean, sharp), alone) in mean.iter().zip(&sharp).zip(&alone) {
        let share = (mean - sharp) / (alone - sharp);
        assert!(share > 0.0 && share < 0.5, "{mean} of {sharp} and {alone}");
    }
    feed.set("a", "interval", "10000");
    assert!(near(&ages(&group), &alone), "none is due");
    feed.set("a", "interval", "0");
    assert!(near(&ages(&group), &sharp));
}
