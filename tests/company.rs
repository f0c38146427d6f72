//! Every stage alone, and in unusual combinations.

use std::collections::HashSet;

use face_meta::Face;
use face_tests::feed::{Feed, add_region, at, enroll, whole};
use face_tests::{Frame, Picture, Running, best, run_picture};
use gst::prelude::*;
use gst_video::VideoRegionOfInterestMeta;
use tempfile::TempDir;

const PEOPLE: [&str; 6] = ["ada", "ben", "cleo", "dan", "eve", "fay"];

/// A group of six people, and a gallery of all of them.
struct Group {
    picture: Picture,
    folder: TempDir,
    /// The detected faces, from left to right.
    faces: Vec<Face>,
}

impl Group {
    fn new() -> Self {
        let picture = Picture::open("t1.jpg");
        let folder = tempfile::tempdir().expect("a temporary folder");
        enroll(&folder.path().join("g.safetensors"), &picture, &PEOPLE).expect("six faces");
        let mut faces = run_picture(&picture, "facedetector").expect("runs").faces;
        faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
        Self {
            picture,
            folder,
            faces,
        }
    }

    fn recognizer(&self) -> String {
        format!(
            "facerecognizer gallery=\"{}\"",
            self.folder.path().join("g.safetensors").display()
        )
    }

    /// The picture with regions that a foreign detector put on the faces: without our metadata, and
    /// all with the id 0.
    fn strange(&self, index: u64) -> gst::Buffer {
        let mut buffer = self.picture.buffer(at(index));
        for face in &self.faces {
            add_region(&mut buffer, "face", whole(&face.rect), 0);
        }
        buffer
    }
}

fn names(faces: &[Face]) -> Vec<String> {
    let mut faces: Vec<&Face> = faces.iter().collect();
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    let name = |face: &&Face| face.recognition.clone().map_or("?".into(), |r| r.name);
    faces.iter().map(name).collect()
}

fn tracks(faces: &[Face]) -> Vec<u64> {
    faces.iter().filter_map(|f| Some(f.track?.id)).collect()
}

fn check_ids(frame: &Frame) {
    let ids: HashSet<i32> = frame.faces.iter().map(|f| f.id).collect();
    assert_eq!(ids.len(), frame.faces.len(), "ids are unique: {ids:?}");
    assert!(ids.iter().all(|id| *id > 0), "ids are positive: {ids:?}");
}

/// Checks that no face occurs twice.
fn check_apart(faces: &[Face]) {
    for (i, face) in faces.iter().enumerate() {
        for other in &faces[i + 1..] {
            let iou = face.rect.iou(&other.rect);
            assert!(iou < 0.3, "one face twice: {face:?} {other:?}");
        }
    }
}

/// Type, id and rectangle of a region.
type Region = (String, i32, (u32, u32, u32, u32));

fn regions(frame: &Frame) -> Vec<Region> {
    let buffer = frame.sample.buffer().expect("a buffer");
    buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .map(|r| (r.roi_type().to_owned(), r.id(), r.rect()))
        .collect()
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let buffer = frame.sample.buffer().expect("a buffer");
    buffer.map_readable().expect("readable").to_vec()
}

#[test]
fn without_faces_there_is_nothing_to_do() {
    let picture = Picture::open("t1.jpg");
    for elements in [
        "facetracker",
        "facetracker ! facetracker algorithm=iou",
        "facerecognizer attach-embedding=true",
        "faceagegender",
        "facetracker ! facerecognizer attach-embedding=true ! faceagegender",
    ] {
        let feed = Feed::new(elements, &picture.caps()).expect("starts");
        for index in 0..3 {
            let frame = feed.show(&picture, index).expect("passes");
            let buffer = frame.sample.buffer().expect("a buffer");
            assert!(regions(&frame).is_empty(), "{elements}");
            assert!(
                gst::meta::CustomMeta::from_buffer(buffer, face_meta::META_NAME).is_err(),
                "{elements}"
            );
            assert_eq!(bytes(&frame), picture.data, "{elements}");
        }
        assert!(feed.eos());
        assert!(feed.ended().is_empty());
    }
}

#[test]
fn a_stage_in_front_of_the_detector_says_so_once() {
    for (line, expected) in [
        ("faceagegender ! facedetector", 1),
        ("facedetector inference-size=320 ! faceagegender", 0),
    ] {
        let source = "videotestsrc num-buffers=120 ! video/x-raw,width=320,height=240";
        let running = Running::new(&format!("{source} ! {line} ! fakesink")).expect("plays");
        running.play().expect("starts");
        let bus = running.0.bus().expect("a pipeline has a bus");
        let mut warnings = 0;
        loop {
            let message = bus.timed_pop(face_tests::TIMEOUT).expect("it ends");
            match message.view() {
                gst::MessageView::Eos(_) => break,
                gst::MessageView::Error(error) => panic!("{error:?}"),
                gst::MessageView::Warning(warning) => {
                    let text = warning.error().message().to_owned();
                    warnings += u32::from(text.contains("put facedetector in front"));
                }
                _ => {}
            }
        }
        assert_eq!(warnings, expected, "{line}");
    }
}

#[test]
fn a_recogniser_needs_no_tracker() {
    let group = Group::new();
    let feed = Feed::new(
        &format!("facedetector ! {}", group.recognizer()),
        &group.picture.caps(),
    )
    .expect("starts");
    // The interval applies per track. Without tracks every frame is due.
    for index in 0..3 {
        let frame = feed.show(&group.picture, index).expect("passes");
        assert_eq!(names(&frame.faces), PEOPLE);
        assert!(frame.faces.iter().all(|f| f.track.is_none()));
    }
}

#[test]
fn two_detectors_find_no_face_twice() {
    for (name, count) in [("t1.jpg", 6), ("multi_face.jpg", 5)] {
        let picture = Picture::open(name);
        for elements in [
            "facedetector ! facedetector",
            "facedetector ! facedetector inference-size=0",
            "facedetector ! facedetector model=centerface",
            "facedetector model=centerface ! facedetector",
            "facedetector ! facetracker ! facedetector model=centerface ! facedetector",
        ] {
            let frame = run_picture(&picture, elements).expect("runs");
            assert_eq!(frame.faces.len(), count, "{name}: {elements}");
            check_apart(&frame.faces);
            check_ids(&frame);
            let first = match elements.starts_with("facedetector model=centerface") {
                true => "centerface",
                false => "yunet",
            };
            for face in &frame.faces {
                assert_eq!(face.model.as_deref(), Some(first), "the first one stays");
            }
        }
    }
}

#[test]
fn two_trackers_follow_the_same_faces() {
    let group = Group::new();
    let feed = Feed::new(
        "facedetector interval=2 ! facetracker ! facetracker algorithm=bytetrack",
        &group.picture.caps(),
    )
    .expect("starts");
    let first = feed.show(&group.picture, 0).expect("passes");
    for index in 1..8 {
        let frame = feed.show(&group.picture, index).expect("passes");
        assert_eq!(frame.faces.len(), 6, "frame {index}");
        check_apart(&frame.faces);
        check_ids(&frame);
        for face in &first.faces {
            let (now, iou) = best(&face.rect, &frame.faces).expect("six");
            assert!(iou > 0.9, "nobody moves");
            let (now, before) = (now.track.expect("tracked"), face.track.expect("tracked"));
            assert_eq!((now.id, now.first_seen), (before.id, before.first_seen));
            assert_eq!(now.predicted, index % 2 == 1, "frame {index}");
        }
    }
    assert!(feed.eos());
    // Both trackers announce six ends.
    assert_eq!(feed.ended().len(), 12);
}

#[test]
fn regions_of_another_type_are_left_alone() {
    let group = Group::new();
    let feed = Feed::new(
        &format!(
            "facedetector ! facetracker ! {} ! faceagegender",
            group.recognizer()
        ),
        &group.picture.caps(),
    )
    .expect("starts");
    let mut buffer = group.picture.buffer(at(0));
    // A car exactly where a face is, two regions with one id, and one beyond the frame.
    let place = whole(&group.faces[2].rect);
    for (rect, id) in [(place, 1), ((5, 6, 7, 8), 1), ((1270, 880, 99, 99), -3)] {
        add_region(&mut buffer, "car", rect, id);
    }
    let writable = buffer.get_mut().expect("only one owner");
    for mut region in writable.iter_meta_mut::<VideoRegionOfInterestMeta>() {
        let colour = gst::Structure::builder("detection").field("colour", "red");
        region.add_param(colour.build());
        region.set_parent_id(42);
    }
    let frame = feed.pass(buffer).expect("passes");
    let cars: Vec<_> = regions(&frame)
        .into_iter()
        .filter(|(kind, ..)| kind == "car")
        .map(|(_, id, rect)| (rect, id))
        .collect();
    assert_eq!(
        cars,
        [(place, 1), ((5, 6, 7, 8), 1), ((1270, 880, 99, 99), -3)]
    );
    let out = frame.sample.buffer().expect("a buffer");
    for car in out.iter_meta::<VideoRegionOfInterestMeta>() {
        if car.roi_type() != "car" {
            continue;
        }
        let colour = car.param("detection").expect("its parameter");
        assert_eq!(colour.get::<&str>("colour"), Ok("red"));
        assert_eq!(car.params().count(), 1);
        assert_eq!(car.parent_id(), 42);
    }
    assert_eq!(names(&frame.faces), PEOPLE);
    check_ids(&frame);
    assert!(frame.faces.iter().all(|f| f.id != 1), "a car has this id");
}

#[test]
fn a_strangers_regions_are_used() {
    let group = Group::new();
    let elements = format!(
        "facetracker ! {} ! faceagegender {}",
        group.recognizer(),
        face_tests::TELL_ALL
    );
    let feed = Feed::new(&elements, &group.picture.caps()).expect("starts");
    let first = feed.pass(group.strange(0)).expect("passes");
    let later = feed.pass(group.strange(1)).expect("passes");
    for frame in [&first, &later] {
        assert_eq!(frame.faces.len(), 6);
        check_ids(frame);
        // Without landmarks the alignment is a guess, but good enough for the right name.
        assert_eq!(names(&frame.faces), PEOPLE);
        for (face, known) in frame.faces.iter().zip(&group.faces) {
            assert_eq!(
                whole(&face.rect),
                whole(&known.rect),
                "the box is that of the foreign detector"
            );
            let age = face.age.expect("an age");
            assert!((1.0..90.0).contains(&age), "{age}");
            assert!(face.gender.is_some());
        }
    }
    assert_eq!(tracks(&first.faces), tracks(&later.faces));
    assert_eq!(tracks(&first.faces).len(), 6);
}

#[test]
fn a_detector_completes_a_strangers_region() {
    let group = Group::new();
    let feed = Feed::new("facedetector", &group.picture.caps()).expect("starts");
    let mut buffer = group.picture.buffer(at(0));
    // Only some of the faces, one with its own id.
    for (face, id) in group.faces.iter().take(3).zip([0, 77, 0]) {
        add_region(&mut buffer, "face", whole(&face.rect), id);
    }
    let frame = feed.pass(buffer).expect("passes");
    check_ids(&frame);
    check_apart(&frame.faces);
    assert_eq!(frame.faces.len(), 6);
    for (index, known) in group.faces.iter().enumerate() {
        let (face, _) = best(&known.rect, &frame.faces).expect("six");
        assert_eq!(
            (face.confidence, &face.model),
            (known.confidence, &known.model)
        );
        let marks = face.landmarks.expect("landmarks");
        for (p, q) in marks.iter().zip(known.landmarks.expect("landmarks")) {
            assert!(p.distance(q) < 1e-6, "{p:?} {q:?}");
        }
        if index < 3 {
            assert_eq!(whole(&face.rect), whole(&known.rect), "theirs stays");
        }
    }
    assert!(frame.faces.iter().any(|f| f.id == 77));
}

/// Whatever ids foreign elements use, each face has its own.
#[test]
fn ids_never_collide() {
    let group = Group::new();
    let feed = Feed::new(
        "facetracker ! facedetector ! facetracker",
        &group.picture.caps(),
    )
    .expect("starts");
    for (index, ids) in [
        [1, 1, 1],
        [-1, -1, i32::MIN],
        [i32::MAX, 0, i32::MAX],
        [i32::MAX - 1, i32::MAX, 0],
    ]
    .into_iter()
    .enumerate()
    {
        let mut buffer = group.picture.buffer(at(index as u64));
        for (face, id) in group.faces.iter().zip(ids) {
            add_region(&mut buffer, "face", whole(&face.rect), id);
        }
        let frame = feed.pass(buffer).expect("passes");
        assert_eq!(frame.faces.len(), 6, "{ids:?}");
        check_ids(&frame);
        assert_eq!(tracks(&frame.faces).len(), 6, "{ids:?}");
        assert!(
            frame.faces.iter().all(|f| f.confidence.is_some()),
            "{ids:?}"
        );
    }
}

#[test]
fn branches_of_a_tee_do_not_see_each_other() {
    let group = Group::new();
    let running = Running::new(&format!(
        "appsrc name=in format=time ! tee name=t \
         t. ! queue ! facedetector ! facetracker ! {} ! queue ! appsink name=out sync=false \
         t. ! queue ! facedetector max-faces=2 ! faceagegender ! appsink name=b sync=false \
         t. ! queue ! facetracker ! appsink name=c sync=false",
        group.recognizer()
    ))
    .expect("a valid pipeline");
    let source = running.source();
    source.set_caps(Some(&group.picture.caps()));
    running.play().expect("starts");
    let sinks = ["out", "b", "c"].map(|name| {
        let sink = running.element(name);
        sink.downcast::<gst_app::AppSink>().expect("an appsink")
    });
    for index in 0..4 {
        source
            .push_buffer(group.picture.buffer(at(index)))
            .expect("accepted");
        let [a, b, c] = sinks.each_ref().map(|sink| {
            let sample = sink.try_pull_sample(face_tests::TIMEOUT);
            Frame::new(sample.expect("a frame")).expect("video")
        });
        assert_eq!(names(&a.faces), PEOPLE);
        assert_eq!(tracks(&a.faces).len(), 6);
        assert!(a.faces.iter().all(|f| f.age.is_none()));
        assert_eq!(b.faces.len(), 2);
        assert!(b.faces.iter().all(|f| f.age.is_some() && f.track.is_none()));
        assert!(b.faces.iter().all(|f| f.recognition.is_none()));
        assert!(regions(&c).is_empty());
        let memory = |frame: &Frame| {
            assert_eq!(bytes(frame), group.picture.data, "nothing is drawn");
            let buffer = frame.sample.buffer().expect("a buffer");
            buffer
                .peek_memory(0)
                .map_readable()
                .expect("readable")
                .as_ptr()
        };
        let places = [&a, &b, &c].map(memory);
        assert_eq!(places[0], places[1], "the pixels are shared, not copied");
        assert_eq!(places[0], places[2], "the pixels are shared, not copied");
    }
    source.end_of_stream().expect("accepted");
    running.wait().expect("ends");
}
