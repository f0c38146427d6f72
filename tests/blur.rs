//! `facemetablur` hides every face that OpenCV finds, in every format, and nothing else.

use face_meta::geometry::Rect;
use face_meta::{Face, Recognition, Track};
use face_tests::feed::{Feed, add_region, at, enroll};
use face_tests::{Frame, Picture, Running, cosine, media, root, run_picture};
use gst_video::prelude::*;
use serde_json::Value;

mod behind;
mod formats;

const MAGENTA: [u8; 3] = [255, 0, 255];
const FILL: &str = "facemetablur mode=fill color=0xffff00ff";

/// The frame's pixels as packed RGB.
fn pixels(frame: &Frame) -> Vec<[u8; 3]> {
    let caps = Picture::black(frame.width, frame.height).caps();
    let sample = gst_video::convert_sample(&frame.sample, &caps, Some(face_tests::TIMEOUT))
        .expect("videoconvert can");
    let info = gst_video::VideoInfo::from_caps(&caps).expect("video");
    let frame =
        gst_video::VideoFrameRef::from_buffer_ref_readable(sample.buffer().expect("one"), &info)
            .expect("maps");
    let stride = frame.plane_stride()[0] as usize;
    let rows = frame.plane_data(0).expect("a plane").chunks(stride);
    rows.flat_map(|row| row.as_chunks::<3>().0[..info.width() as usize].to_vec())
        .collect()
}

/// The share of a box, within the frame, that has the colour of `FILL`.
fn hidden(pixels: &[[u8; 3]], (width, height): (u32, u32), rect: &Rect) -> f64 {
    let side = |v: f64, limit: u32| v.round().clamp(0.0, limit.into()) as usize;
    let columns = side(rect.x, width)..side(rect.right(), width);
    let rows = side(rect.y, height)..side(rect.bottom(), height);
    let area = (columns.len() * rows.len()).max(1);
    let row = |y: usize| &pixels[y * width as usize..][columns.clone()];
    let filled = rows.map(|y| row(y).iter().filter(|p| **p == MAGENTA).count());
    filled.sum::<usize>() as f64 / area as f64
}

/// A stream of the reference: its pipeline, and the faces that OpenCV finds on each frame.
struct Reference {
    name: String,
    pipeline: String,
    frames: Vec<Vec<Rect>>,
}

fn references() -> Vec<Reference> {
    let path = root().join("tests/reference/visible.json");
    let text = std::fs::read_to_string(path).expect("committed");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let folder = media("t1.jpg");
    let folder = folder.parent().and_then(|f| f.to_str()).expect("UTF-8");
    let rect = |value: &Value| {
        let [x, y, w, h] = [0, 1, 2, 3].map(|i| value[i].as_f64().expect("a number"));
        Rect::new(x, y, w, h)
    };
    let rects = |value: &Value| value.as_array().expect("faces").iter().map(rect).collect();
    let streams = json["streams"].as_object().expect("streams");
    streams
        .iter()
        .map(|(name, stream)| Reference {
            name: name.clone(),
            pipeline: stream["pipeline"]
                .as_str()
                .expect("a pipeline")
                .replace("{media}", folder),
            frames: stream["frames"]
                .as_array()
                .expect("frames")
                .iter()
                .map(rects)
                .collect(),
        })
        .collect()
}

/// The number of the reference's faces, and the number of those less than 95 % hidden.
fn exposed(reference: &Reference, stages: &str) -> (usize, usize) {
    let (faces, visible, _) = exposed_at(reference, stages, |rect, _| *rect);
    (faces, visible)
}

/// The same when `stages` change the frames. `place` maps a face's box to its place on a frame of
/// the given size. Also returns the warnings.
fn exposed_at(
    reference: &Reference,
    stages: &str,
    place: impl Fn(&Rect, (u32, u32)) -> Rect,
) -> (usize, usize, Vec<String>) {
    let running = Running::new(&format!(
        "{} ! videoconvert ! video/x-raw,format=RGB ! {stages} ! appsink name=out sync=false \
         max-buffers=4",
        reference.pipeline
    ))
    .expect("a valid pipeline");
    running.play().expect("it starts");
    let (mut faces, mut visible) = (0, 0);
    let mut frames = reference.frames.iter();
    while let Some(frame) = running.next().expect("it runs to its end") {
        let expected = frames.next().expect("as many frames as in the reference");
        let pixels = pixels(&frame);
        for rect in expected {
            faces += 1;
            let size = (frame.width, frame.height);
            let share = hidden(&pixels, size, &place(rect, size));
            if share < 0.95 {
                visible += 1;
                println!("{}: {:?} {share:.2}", reference.name, frame.pts);
            }
        }
    }
    assert_eq!(frames.count(), 0, "{}: frames are missing", reference.name);
    (faces, visible, running.warnings())
}

/// Exposed faces and all faces, over all streams.
fn exposure(stages: &str) -> (usize, usize) {
    references().iter().fold((0, 0), |sum, reference| {
        let (faces, visible) = exposed(reference, stages);
        println!("{stages}: {}: {visible} of {faces} visible", reference.name);
        (sum.0 + faces, sum.1 + visible)
    })
}

#[test]
fn no_face_is_left_visible() {
    let every = exposure(&format!("facedetector ! facetracker ! {FILL}"));
    assert!(every.0 > 1000 && every.1 == 0, "{every:?}");
    // A face is detected up to four frames after it appeared. Frames wait that long.
    let detector = "facedetector interval=5 ! facetracker";
    let fifth = exposure(&format!("{detector} ! {FILL} look-back=200"));
    assert!(fifth.0 > 1000 && fifth.1 == 0, "{fifth:?}");
    // Shows that this measurement can fail.
    let references = references();
    let appearing = references.iter().find(|r| r.name == "appearing");
    let late = exposed(
        appearing.expect("is there"),
        &format!("{detector} ! {FILL}"),
    );
    assert_eq!(late, (72, 4));
}

/// Uses the true positions of the landmarks, as an attacker may know them.
#[test]
fn hidden_faces_are_not_recognised() {
    let embed = "facerecognizer attach-embedding=true";
    let picture = format!(
        "mode=picture picture=\"{}\"",
        media("mask_blue.jpg").display()
    );
    for name in ["t1.jpg", "multi_face.jpg", "single_face.jpg"] {
        let subject = Picture::open(name);
        let known = run_picture(&subject, &format!("facedetector ! {embed}")).expect("runs");
        for mode in ["mode=blur", "mode=pixelate", "mode=fill", &picture] {
            let blur = format!("facemetablur {mode}");
            let after =
                run_picture(&subject, &format!("facedetector ! {blur} ! {embed}")).expect("runs");
            let values = |face: &Face| face.embedding.clone().expect("attached").values;
            let likeness = after.faces.iter().map(|face| {
                let (same, iou) = face_tests::best(&face.rect, &known.faces).expect("a face");
                assert!(iou > 0.99, "the metadata stay");
                cosine(&values(face), &values(same))
            });
            let likeness: Vec<f64> = likeness.collect();
            let most = likeness.iter().copied().fold(-1.0, f64::max);
            // The blurred picture, without the metadata.
            let data = pixels(&after).into_flattened();
            let blank = Picture {
                data,
                ..subject.clone()
            };
            let found = run_picture(&blank, "facedetector").expect("runs").faces;
            println!(
                "{name} {mode}: similarity {most:.3}, {} faces found",
                found.len()
            );
            assert!(!likeness.is_empty() && most < 0.363, "{name} {mode}");
        }
    }
}

fn adjust(picture: &Picture, rect: Rect) -> gst::Buffer {
    let mut buffer = picture.buffer(gst::ClockTime::ZERO);
    let face = Face {
        rect,
        ..Default::default()
    };
    face_meta::add(buffer.make_mut(), (picture.width, picture.height), &face);
    buffer
}

fn fill(name: &str) -> Feed {
    let caps = Picture::black(100, 100).caps();
    Feed::new(&format!("{FILL} margin=0 hold=0 name={name}"), &caps).expect("starts")
}

/// The share of each box that is hidden on a frame.
fn shares(frame: &Frame, rects: &[Rect]) -> Vec<f64> {
    let pixels = pixels(frame);
    let share = |rect| hidden(&pixels, (frame.width, frame.height), rect);
    rects.iter().map(share).collect()
}

#[test]
fn frames_without_faces_are_not_copied_and_shared_ones_are() {
    let feed = fill("b");
    let black = Picture::black(100, 100);
    let place = |buffer: &gst::BufferRef| buffer.map_readable().expect("maps").as_ptr();
    let buffer = black.buffer(at(0));
    let shared = buffer.clone();
    let frame = feed.pass(buffer).expect("passes");
    assert_eq!(place(frame.sample.buffer().expect("one")), place(&shared));
    let rect = Rect::new(10.0, 10.0, 20.0, 20.0);
    // With no other owner, the memory is changed in place.
    let buffer = adjust(&black, rect);
    let before = place(&buffer);
    let frame = feed.pass(buffer).expect("passes");
    assert_eq!(place(frame.sample.buffer().expect("one")), before);
    assert_eq!((shares(&frame, &[rect]), frame.faces.len()), (vec![1.0], 1));
    // With another owner, the other's copy stays unchanged.
    let buffer = adjust(&black, rect);
    let kept = buffer.clone();
    let frame = feed.pass(buffer).expect("passes");
    assert_eq!(shares(&frame, &[rect]), [1.0]);
    assert!(kept.map_readable().expect("maps").iter().all(|v| *v == 0));
}

#[test]
fn regions_that_make_no_sense_do_no_harm() {
    let feed = fill("b");
    for mode in ["blur", "pixelate", "fill"] {
        for shape in ["rectangle", "ellipse"] {
            feed.set("b", "mode", mode);
            feed.set("b", "shape", shape);
            for rect in [
                (0, 0, 0, 0),
                (99, 99, 1, 1),
                (5000, 5000, 10, 10),
                (0, 0, u32::MAX, u32::MAX),
                (u32::MAX, 3, u32::MAX, 7),
                (50, 50, 1, u32::MAX),
            ] {
                let mut buffer = Picture::black(100, 100).buffer(at(0));
                add_region(&mut buffer, "face", rect, 1);
                feed.pass(buffer).expect("passes");
            }
        }
    }
}

#[test]
fn who_is_hidden_can_be_changed_while_playing() {
    let feed = fill("b");
    let names = [Some("penny"), Some("leonard"), Some("Unknown"), None];
    let rects = [0.0, 24.0, 48.0, 72.0].map(|x| Rect::new(x, 10.0, 20.0, 20.0));
    let show = |target: &str, list: &str| {
        feed.set("b", "target", target);
        feed.set("b", "names", list);
        let mut buffer = Picture::black(100, 100).buffer(at(0));
        for (name, rect) in names.iter().zip(rects) {
            let recognition = name.map(|name| Recognition {
                name: name.into(),
                confidence: 1.0,
                distance: 0.1,
            });
            let face = Face {
                rect,
                recognition,
                ..Default::default()
            };
            face_meta::add(buffer.make_mut(), (100, 100), &face).expect("inside");
        }
        let frame = feed.pass(buffer).expect("passes");
        shares(&frame, &rects)
            .iter()
            .map(|s| *s as u8)
            .collect::<Vec<_>>()
    };
    assert_eq!(show("all", ""), [1, 1, 1, 1]);
    assert_eq!(show("unknown", ""), [0, 0, 1, 1]);
    assert_eq!(show("all-but-named", "penny"), [0, 1, 1, 1]);
    assert_eq!(show("named", "penny"), [1, 0, 0, 1]);
    // A picture that cannot be read causes a warning, and the face is hidden nevertheless.
    feed.set("b", "picture", "/nonexistent/mask.png");
    feed.set("b", "mode", "picture");
    assert_eq!(show("all", ""), [1, 1, 1, 1]);
    let warnings = feed.messages(gst::MessageType::Warning);
    assert_eq!(warnings.len(), 1);
    let gst::MessageView::Warning(warning) = warnings[0].view() else {
        panic!("asked for warnings")
    };
    let text = warning.error().to_string();
    assert!(
        text.contains("/nonexistent/mask.png does not exist"),
        "{text}"
    );
}

/// A mistyped name in `names` hides or shows nobody.
#[test]
fn names_that_no_gallery_has_are_told_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = Picture::open("t1.jpg");
    let gallery = |file: &str, names: &[&str]| {
        let path = folder.path().join(file);
        enroll(&path, &picture, names).expect("six faces");
        path.display().to_string()
    };
    let first = gallery("first", &["Ann", "Ben", "Carl", "Dora", "Emil", "Fritz"]);
    let second = gallery("second", &["Ann", "Ken", "Carl", "Dora", "Emil", "Fritz"]);
    let other = gallery("other", &["Zoe", "Paul", "Carl", "Dora", "Emil", "Fritz"]);
    let elements = format!(
        "facedetector ! facerecognizer gallery={other} ! queue ! facerecognizer name=r gallery={first} ! \
         videoconvert ! facemetablur name=b target=named names=Anne,Ben,Zoe"
    );
    let feed = Feed::new(&elements, &picture.caps()).expect("starts");
    let mut index = 0;
    let mut warned = || {
        index += 1;
        feed.show(&picture, index).expect("the stream goes on");
        let messages = feed.messages(gst::MessageType::Warning);
        let text = |message: &gst::Message| match message.view() {
            gst::MessageView::Warning(warning) => Some(warning.error().to_string()),
            _ => None,
        };
        messages.iter().filter_map(text).collect::<Vec<_>>()
    };
    let warnings = warned();
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}");
    };
    println!("{warning}");
    assert!(
        warning.contains("is called \"Anne\" (similar: \"Ann\")"),
        "{warning}"
    );
    assert!(warned().is_empty(), "it was told");
    feed.set("b", "names", "Ben");
    assert!(warned().is_empty(), "everybody is known");
    feed.set("r", "gallery", &second);
    let warnings = warned();
    assert!(
        warnings.len() == 1 && warnings[0].contains("called \"Ben\""),
        "{warnings:?}"
    );
}

/// The arguments of `gst-launch-1.0`, behind the shell.
#[test]
fn names_with_commas_are_quoted_on_a_command_line() {
    face_tests::init();
    for (argument, names) in [
        ("names=Bob,Ann", "Bob,Ann"),
        ("names='Doe, Jane', Bob", r#""Doe, Jane",Bob"#),
        ("names=Bob, 'Doe, Jane'", r#"Bob,"Doe, Jane""#),
        ("names='Doe, Jane'", r#""Doe, Jane""#),
    ] {
        let blur = gst::parse::launchv(&["facemetablur", "target=named", argument]);
        let blur = blur.expect("a valid line");
        assert_eq!(blur.property::<String>("names"), names, "{argument}");
    }
    let caps = Picture::black(100, 100).caps();
    let error = Feed::new("facemetablur names=\"\\'Doe, Jane\\', \\\"Bob\"", &caps).err();
    let error = format!("{:#}", error.expect("cannot start"));
    assert!(error.contains("a quote is not closed"), "{error}");
}

#[test]
fn a_list_of_names_without_a_recogniser_is_told_once() {
    let picture = Picture::open("single_face.jpg");
    for (properties, count) in [
        ("target=named names=Ann", 1),
        ("target=all-but-named names=Ann", 1),
        ("target=named", 0),
        ("target=all names=Ann", 0),
    ] {
        let elements = format!("facedetector ! facemetablur {properties}");
        let feed = Feed::new(&elements, &picture.caps()).expect("starts");
        feed.show(&picture, 0).expect("the stream goes on");
        feed.show(&picture, 1).expect("the stream goes on");
        let messages = feed.messages(gst::MessageType::Warning);
        let told = messages.iter().filter(|message| match message.view() {
            gst::MessageView::Warning(warning) => warning
                .error()
                .to_string()
                .contains("nothing upstream names faces"),
            _ => false,
        });
        assert_eq!(told.count(), count, "{properties}");
    }
}

#[test]
fn a_picture_that_cannot_be_used_is_an_error_at_start() {
    let caps = Picture::black(100, 100).caps();
    for (properties, expected) in [
        ("", "set picture=FILE"),
        ("picture=/nonexistent/mask.png", "does not exist"),
        (
            concat!("picture=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "as a picture",
        ),
    ] {
        let error = Feed::new(&format!("facemetablur mode=picture {properties}"), &caps).err();
        let error = format!("{:#}", error.expect("cannot start"));
        assert!(error.contains(expected), "{error}");
    }
}

/// A frame with a face on a track.
fn tracked(rect: Rect, index: u64) -> gst::Buffer {
    let mut buffer = Picture::black(100, 100).buffer(at(index));
    let track = Some(Track {
        id: 7,
        first_seen: 0,
        predicted: false,
    });
    let face = Face {
        rect,
        track,
        ..Default::default()
    };
    face_meta::add(buffer.make_mut(), (100, 100), &face).expect("inside");
    buffer
}

#[test]
fn a_lost_face_is_held_until_a_flush_and_over_a_change_of_size() {
    let rect = Rect::new(20.0, 20.0, 20.0, 20.0);
    let black = Picture::black(100, 100);
    let feed = fill("b");
    feed.set("b", "hold", "100");
    let share = |buffer: gst::Buffer| shares(&feed.pass(buffer).expect("passes"), &[rect])[0];
    assert_eq!(share(tracked(rect, 0)), 1.0);
    let after: Vec<f64> = (1..5).map(|i| share(black.buffer(at(i)))).collect();
    assert_eq!(after, [1.0, 1.0, 0.0, 0.0]);
    assert_eq!(share(tracked(rect, 5)), 1.0);
    feed.flush();
    assert_eq!(share(black.buffer(at(6))), 0.0);
    assert_eq!(share(tracked(rect, 7)), 1.0);
    let large = Picture::black(200, 200);
    assert!(feed.caps(&large.caps()));
    let frame = feed.pass(large.buffer(at(8))).expect("passes");
    assert_eq!(shares(&frame, &[rect.scaled(2.0, 2.0)]), [1.0]);
}

#[test]
fn frames_wait_for_the_faces_that_appear_on_them() {
    let rect = Rect::new(20.0, 20.0, 20.0, 20.0);
    let black = Picture::black(100, 100);
    let feed = fill("b");
    feed.set("b", "look-back", "80");
    feed.set("out", "wait-on-eos", "false");
    for i in 0..3 {
        feed.push(black.buffer(at(i))).expect("passes");
    }
    // A tag keeps its place between the frames. The end of the stream releases all frames.
    feed.event(gst::event::Tag::new(gst::TagList::new()));
    feed.push(tracked(rect, 3)).expect("passes");
    feed.eos();
    let frames = feed.running.collect().expect("ends");
    let times: Vec<_> = frames.iter().map(|f| f.pts).collect();
    assert_eq!(times, [0, 1, 2, 3].map(|i| Some(at(i).nseconds())));
    let found: Vec<f64> = frames.iter().map(|f| shares(f, &[rect])[0]).collect();
    assert_eq!(found, [0.0, 1.0, 1.0, 1.0]);
}

#[test]
fn converters_stand_in_for_formats_that_are_not_taken() {
    let subject = Picture::open("single_face.jpg");
    let elements = format!(
        "videoconvert ! video/x-raw,format=v210 ! facedetector ! \
        videoconvert ! {FILL} ! videoscale ! video/x-raw,width=320,height=240 ! videoconvert"
    );
    let frame = run_picture(&subject, &elements).expect("negotiates");
    let center = frame.faces[0].rect.center();
    let [r, g, b] = pixels(&frame)[center.y as usize * 320 + center.x as usize];
    assert!(r > 200 && g < 60 && b > 200, "{r} {g} {b}");
}
