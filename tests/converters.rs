//! A face's metadata survives converters, scalers, videorate and queues after the stages, and stays
//! at the face.

use face_meta::Face;
use face_meta::geometry::Rect;
use face_tests::{Frame, Picture, Running, run_picture};
use serde_json::Value;

const STAGES: &str = "facedetector ! facetracker ! facerecognizer attach-embedding=true ! \
    faceagegender min-gender-confidence=0 max-age-deviation=1000 min-frontality=0 min-sharpness=0";
const BEHIND: &str = "videoconvert ! video/x-raw,format=BGRA ! videoscale ! \
    video/x-raw,width=640,height=360 ! videorate ! video/x-raw,framerate=50/1 ! queue";

/// The upper part of a group photo, 1280x720.
fn group() -> Picture {
    let mut picture = Picture::open("t1.jpg");
    assert_eq!(picture.width, 1280);
    picture.data.truncate(1280 * 720 * 3);
    picture.height = 720;
    picture
}

fn halved(face: &Face) -> Rect {
    face.rect.scaled(0.5, 0.5)
}

fn assert_close(a: &Rect, b: &Rect) {
    let far = [
        a.x - b.x,
        a.y - b.y,
        a.right() - b.right(),
        a.bottom() - b.bottom(),
    ];
    assert!(far.iter().all(|d| d.abs() <= 0.5), "{a:?} is not {b:?}");
}

fn faces() -> (Frame, Frame) {
    let before = run_picture(&group(), STAGES).expect("the pipeline runs");
    let after = run_picture(&group(), &format!("{STAGES} ! {BEHIND}")).expect("the pipeline runs");
    assert_eq!((after.width, after.height), (640, 360));
    (before, after)
}

#[test]
fn nothing_of_a_face_is_lost() {
    let (before, after) = faces();
    assert_eq!((before.faces.len(), after.faces.len()), (6, 6));
    for (before, after) in before.faces.iter().zip(&after.faces) {
        assert_close(&halved(before), &after.rect);
        let points = before
            .landmarks
            .iter()
            .flatten()
            .zip(after.landmarks.iter().flatten());
        for (p, q) in points {
            assert!((p.x / 2.0 - q.x).abs() <= 0.5 && (p.y / 2.0 - q.y).abs() <= 0.5);
        }
        assert!(after.landmarks.is_some() && after.embedding.is_some() && after.age.is_some());
        let rest = |f: &Face| Face {
            rect: Rect::default(),
            landmarks: None,
            ..f.clone()
        };
        assert_eq!(rest(before), rest(after));
    }
}

#[test]
fn json_tells_where_the_face_is_on_the_scaled_frame() {
    let (before, _) = faces();
    let pipeline = Running::new(&format!(
        "appsrc name=in format=time ! {STAGES} ! {BEHIND} ! facemetajson ! \
         appsink name=out sync=false"
    ))
    .expect("a valid pipeline");
    let source = pipeline.source();
    source.set_caps(Some(&group().caps()));
    pipeline.play().expect("it starts");
    source
        .push_buffer(group().buffer(gst::ClockTime::ZERO))
        .expect("it flows");
    source.end_of_stream().expect("it flows");
    let sample = pipeline.sink().pull_sample().expect("a line");
    let map = sample
        .buffer()
        .expect("a buffer")
        .map_readable()
        .expect("readable");
    let line: Value = serde_json::from_slice(&map).expect("valid JSON");
    assert_eq!(
        (&line["width"], &line["height"]),
        (&640.into(), &360.into())
    );
    let faces = line["faces"].as_array().expect("faces");
    assert_eq!(faces.len(), 6);
    for (face, before) in faces.iter().zip(&before.faces) {
        let side = |i: usize| face["box"][i].as_f64().expect("a number");
        assert_close(
            &Rect::new(side(0), side(1), side(2), side(3)),
            &halved(before),
        );
        let nose = before.landmarks.expect("landmarks")[2];
        let at = |i: usize| face["landmarks"][2][i].as_f64().expect("a number");
        assert!((at(0) - nose.x / 2.0).abs() <= 0.5 && (at(1) - nose.y / 2.0).abs() <= 0.5);
        assert_eq!(
            face["gender"],
            before.gender.as_ref().expect("a gender").label.as_str()
        );
    }
}

/// The bytes of a BGRA frame.
fn pixels(frame: &Frame) -> Vec<u8> {
    let buffer = frame.sample.buffer().expect("a buffer");
    buffer.map_readable().expect("readable").to_vec()
}

#[test]
fn the_overlay_is_drawn_where_the_face_is_on_the_scaled_frame() {
    let (before, plain) = faces();
    let overlay = "facemetaoverlay show-name=false show-age=false show-gender=false \
        show-confidence=false show-landmarks=false";
    let drawn = run_picture(&group(), &format!("{STAGES} ! {BEHIND} ! {overlay}"))
        .expect("the pipeline runs");
    let (a, b) = (pixels(&plain), pixels(&drawn));
    assert_eq!(a.len(), 640 * 360 * 4);
    let changed = |x: usize, y: usize| a[(y * 640 + x) * 4..][..3] != b[(y * 640 + x) * 4..][..3];
    for face in &before.faces {
        let rect = halved(face);
        // The changed pixels near the middle of each side.
        let (cx, cy) = (rect.center().x as usize, rect.center().y as usize);
        let near = |at: f64| (at as usize).saturating_sub(4)..(at as usize + 5);
        let middle = |found: Vec<usize>| {
            assert!(!found.is_empty(), "no outline at {rect:?}");
            (found[0] + found[found.len() - 1] + 1) as f64 / 2.0
        };
        let column = |x: f64| middle(near(x).filter(|&x| changed(x, cy)).collect());
        let row = |y: f64| middle(near(y).filter(|&y| changed(cx, y)).collect());
        for (drawn, edge) in [
            (column(rect.x), rect.x),
            (column(rect.right()), rect.right()),
            (row(rect.y), rect.y),
            (row(rect.bottom()), rect.bottom()),
        ] {
            assert!(
                (drawn - edge).abs() <= 1.5,
                "an edge at {drawn} instead of {edge}"
            );
        }
    }
}
