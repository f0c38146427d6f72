//! A person is named once per picture. On `multi_face.jpg`, two women are near enough to be taken
//! for each other.

use std::path::Path;

use face_gallery::{Gallery, ModelId, Row, edit, normalised};
use face_meta::Face;
use face_tests::feed::Feed;
use face_tests::{Frame, Picture, cosine, run_picture};

const PICTURE: &str = "multi_face.jpg";

fn embedding(face: &Face) -> &[f32] {
    let embedding = face.embedding.as_ref();
    &embedding.expect("attach-embedding is set").values
}

/// The embeddings of the faces, from left to right.
fn embeddings() -> Vec<Vec<f32>> {
    let elements = "facedetector ! facerecognizer attach-embedding=true";
    let frame = run_picture(&Picture::open(PICTURE), elements).expect("the picture is read");
    let mut faces = frame.faces;
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    faces.iter().map(|face| embedding(face).to_vec()).collect()
}

fn gallery(people: &[(&str, &[f32])]) -> Gallery {
    let (model, dimensions) = ModelId::of("sface").expect("set up");
    let mut gallery = Gallery::new(model, dimensions);
    for (person, embedding) in people {
        let row = Row {
            person: (*person).into(),
            source: "1.jpg".into(),
        };
        assert!(gallery.push(row, embedding));
    }
    gallery
}

/// The names on a frame, from left to right.
fn names<'a>(frame: &'a Frame) -> Vec<&'a str> {
    let mut faces: Vec<&'a Face> = frame.faces.iter().collect();
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    let name = |face: &'a Face| match face.recognition.as_ref() {
        Some(recognition) if recognition.name == "Unknown" => "?",
        Some(recognition) => recognition.name.as_str(),
        None => "-",
    };
    faces.into_iter().map(name).collect()
}

fn count(frame: &Frame, name: &str) -> usize {
    names(frame).iter().filter(|n| **n == name).count()
}

/// The picture four times, with these elements behind the detector.
fn show(elements: &str, gallery: &Path) -> Vec<Frame> {
    let picture = Picture::open(PICTURE);
    let elements = format!(
        "facedetector ! {elements} gallery=\"{}\"",
        gallery.display()
    );
    let feed = Feed::new(&elements, &picture.caps()).expect("starts");
    let frame = |index| feed.show(&picture, index).expect("the stream goes on");
    (0..4).map(frame).collect()
}

/// A direction at the cosine distance `distance` from `from`, and far from everything else.
fn near(from: &[f32], distance: f64) -> Vec<f32> {
    let noise: Vec<f32> = (0..from.len())
        .map(|i| ((i * 7919 + 13) % 101) as f32 - 50.0)
        .collect();
    let along = cosine(from, &noise);
    let length = noise.iter().map(|v| v * v).sum::<f32>().sqrt();
    let across: Vec<f32> = noise
        .iter()
        .zip(from)
        .map(|(n, f)| n / length - along as f32 * f)
        .collect();
    let across = normalised(&across).expect("another direction");
    let (x, y) = (1.0 - distance, (1.0 - (1.0 - distance).powi(2)).sqrt());
    let parts = from.iter().zip(&across);
    parts.map(|(f, a)| x as f32 * f + y as f32 * a).collect()
}

#[test]
fn of_two_faces_that_could_be_one_person_the_nearer_one_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g.safetensors");
    let all = embeddings();
    let (ann, others) = all.split_last().expect("faces");
    gallery(&[("Ann", ann)]).write(&path).expect("writable");
    let distances: Vec<f64> = others.iter().map(|o| edit::distance(o, ann)).collect();
    let nearest = distances.iter().copied().fold(2.0, f64::min);
    assert!(
        nearest < 0.637,
        "nobody could be taken for Ann: {distances:?}"
    );
    for elements in [
        "facerecognizer",
        "facetracker ! facerecognizer",
        "facetracker ! facerecognizer vote=false interval=0",
    ] {
        let frames = show(elements, &path);
        for frame in &frames {
            assert_eq!(count(frame, "Ann"), 1, "{elements}: {:?}", names(frame));
            assert_eq!(names(frame).last(), Some(&"Ann"));
        }
        for frame in show(&format!("{elements} repeated-names=true"), &path) {
            assert!(count(&frame, "Ann") > 1, "{elements}: {:?}", names(&frame));
        }
    }
}

#[test]
fn a_face_that_loses_a_name_gets_its_next_candidate() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g.safetensors");
    let all = embeddings();
    let (ann, others) = all.split_last().expect("faces");
    let by_distance =
        |a: &&Vec<f32>, b: &&Vec<f32>| edit::distance(a, ann).total_cmp(&edit::distance(b, ann));
    let neighbour = others.iter().min_by(by_distance).expect("others");
    let distance = edit::distance(neighbour, ann);
    // Bea is further from the neighbour than Ann. With seven photos of Ann, Bea is not among the
    // nearest six.
    let bea = near(neighbour, distance + 0.02);
    let anns: Vec<Vec<f32>> = (0..7).map(|i| near(ann, 0.0001 * f64::from(i))).collect();
    let mut people: Vec<(&str, &[f32])> = anns.iter().map(|a| ("Ann", a.as_slice())).collect();
    people.push(("Bea", &bea));
    gallery(&people).write(&path).expect("writable");
    for elements in ["facerecognizer", "facetracker ! facerecognizer"] {
        for frame in show(elements, &path) {
            assert_eq!(count(&frame, "Ann"), 1, "{:?}", names(&frame));
            assert_eq!(count(&frame, "Bea"), 1, "{:?}", names(&frame));
        }
        let frames = show(&format!("{elements} repeated-names=true"), &path);
        assert_eq!(count(&frames[0], "Bea"), 0);
    }
}

/// A tracker that does not see the pictures goes on predicting the face of the first shot for a while.
#[test]
fn after_a_cut_the_name_is_where_the_face_appears() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g.safetensors");
    let face = Picture::open("single_face.jpg").resized(320, 180);
    let elements = "facedetector ! facerecognizer attach-embedding=true";
    let found = run_picture(&face, elements).expect("the picture is read");
    gallery(&[("Ann", embedding(&found.faces[0]))])
        .write(&path)
        .expect("writable");
    let shot = |x| {
        let mut shot = Picture::black(960, 180);
        shot.paste(&face, x, 0);
        shot
    };
    // The face of the first shot is nearer to the gallery.
    let shots = [shot(640), shot(0)];
    let elements = format!(
        "facedetector ! facetracker appearance=none ! facerecognizer gallery=\"{}\"",
        path.display()
    );
    let feed = Feed::new(&elements, &shots[0].caps()).expect("starts");
    let mut predicted = 0;
    for index in 0..12 {
        let shot = &shots[usize::from(index >= 6)];
        let frame = feed.show(shot, index).expect("the stream goes on");
        predicted += frame.faces.iter().filter(|f| f.is_predicted()).count();
        let detected = frame.faces.iter().filter(|f| !f.is_predicted());
        let named = detected.map(|f| f.recognition.as_ref().map(|r| r.name.as_str()));
        assert_eq!(named.collect::<Vec<_>>(), [Some("Ann")], "frame {index}");
    }
    assert!(predicted > 0, "nothing was predicted");
}

/// Made embeddings of this many others, and one photo of somebody who is there.
#[test]
fn among_five_thousand_people_the_right_one_is_named() {
    const OTHERS: usize = 5000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("g.safetensors");
    let all = embeddings();
    let ann = all.last().expect("faces");
    let mut made = gallery(&[]);
    // A linear congruential generator (Knuth's MMIX).
    let mut state = 1u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The sum of several is almost normally distributed.
        (0..8)
            .map(|i| (state >> (8 * i)) as u8)
            .map(f32::from)
            .sum::<f32>()
            - 8.0 * 127.5
    };
    for number in 0..OTHERS {
        let values: Vec<f32> = (0..ann.len()).map(|_| random()).collect();
        let person = format!("Person {number}");
        for (photo, values) in [
            values.clone(),
            near(&normalised(&values).expect("a direction"), 0.2),
        ]
        .iter()
        .enumerate()
        {
            let source = format!("{person}/{photo}.jpg");
            assert!(made.push(
                Row {
                    person: person.clone(),
                    source
                },
                values
            ));
        }
        if number == OTHERS / 2 {
            let row = Row {
                person: "Ann".into(),
                source: "Ann/1.jpg".into(),
            };
            assert!(made.push(row, ann));
        }
    }
    made.write(&path).expect("writable");
    let read = Gallery::read(&path).expect("just written");
    assert_eq!(
        (read.people().len(), read.len()),
        (OTHERS + 1, 2 * OTHERS + 1)
    );
    for frame in show("facetracker ! facerecognizer", &path) {
        assert_eq!(names(&frame).last(), Some(&"Ann"), "{:?}", names(&frame));
        assert_eq!(count(&frame, "Ann"), 1, "{:?}", names(&frame));
    }
}
