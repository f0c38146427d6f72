//! facemetablur hides every face that OpenCV finds, in every format, and nothing else.

use std::sync::{Arc, Mutex};

use face_core::geometry::Rect;
use face_core::meta::{self, Face, Recognition, Track};
use face_tests::feed::{Feed, add_region, at};
use face_tests::{Frame, Picture, Running, cosine, media, root, run_picture};
use gst_video::prelude::*;
use serde_json::Value;

#[path = "blur/behind.rs"]
mod behind;

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

/// The share of a box, as far as it is inside of the frame, that has the colour of `FILL`.
fn hidden(pixels: &[[u8; 3]], (width, height): (u32, u32), rect: &Rect) -> f64 {
    let side = |v: f64, limit: u32| v.round().clamp(0.0, limit.into()) as usize;
    let columns = side(rect.x, width)..side(rect.right(), width);
    let rows = side(rect.y, height)..side(rect.bottom(), height);
    let area = (columns.len() * rows.len()).max(1);
    let row = |y: usize| &pixels[y * width as usize..][columns.clone()];
    let filled = rows.map(|y| row(y).iter().filter(|p| **p == MAGENTA).count());
    filled.sum::<usize>() as f64 / area as f64
}

/// A stream of the reference: how it is made, and the faces that OpenCV sees on each frame.
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

/// How many of the reference's faces there are, and on how many less than 95 % is hidden.
fn exposed(reference: &Reference, stages: &str) -> (usize, usize) {
    let (faces, visible, _) = exposed_at(reference, stages, |rect, _| *rect);
    (faces, visible)
}

/// The same where `stages` change the frames: `place` takes a face's box to where it is on a frame of
/// that size. With the warnings.
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
    let said = warnings(&running);
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
    let said = said.lock().expect("nobody panics").clone();
    (faces, visible, said)
}

/// The texts of the warnings to come. (Who waits for an error takes all other messages off the bus.)
fn warnings(running: &Running) -> Arc<Mutex<Vec<String>>> {
    let said = Arc::new(Mutex::new(Vec::new()));
    let known = said.clone();
    let bus = running.0.bus().expect("a pipeline has one");
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            let mut known = known.lock().expect("nobody panics");
            known.push(warning.error().to_string());
        }
        gst::BusSyncReply::Pass
    });
    said
}

/// Exposed of all faces, over all streams.
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
    // A face is detected up to four frames after it appeared: frames wait as long.
    let detector = "facedetector interval=5 ! facetracker";
    let fifth = exposure(&format!("{detector} ! {FILL} look-back=200"));
    assert!(fifth.0 > 1000 && fifth.1 == 0, "{fifth:?}");
    // This measurement can fail.
    let references = references();
    let appearing = references.iter().find(|r| r.name == "appearing");
    let late = exposed(
        appearing.expect("is there"),
        &format!("{detector} ! {FILL}"),
    );
    assert_eq!(late, (72, 4));
}

/// With the true places of the landmarks, as an attacker may have them.
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
            // The hidden picture, without the metadata.
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

/// The formats of the element's pads.
fn formats() -> Vec<String> {
    face_tests::init();
    let factory = gst::ElementFactory::find("facemetablur").expect("registered");
    let templates = factory.static_pad_templates();
    let caps = templates.iter().next().expect("a pad").caps();
    let formats = caps.structure(0).expect("one").get::<gst::List>("format");
    let names = formats.expect("formats");
    names.iter().map(|name| name.get().expect("text")).collect()
}

fn adjust(picture: &Picture, rect: Rect) -> gst::Buffer {
    let mut buffer = picture.buffer(gst::ClockTime::ZERO);
    let face = Face {
        rect,
        ..Default::default()
    };
    meta::add(buffer.make_mut(), (picture.width, picture.height), &face);
    buffer
}

#[test]
fn every_format_is_hidden_in_place() {
    let formats = formats();
    for name in [
        "I420",
        "NV12",
        "YV12",
        "NV21",
        "YUY2",
        "UYVY",
        "RGB",
        "BGR",
        "RGBA",
        "BGRA",
        "RGBx",
        "BGRx",
        "GRAY8",
        "Y444",
        "I420_10LE",
        "P010_10LE",
    ] {
        assert!(formats.iter().any(|f| f == name), "{name}");
    }
    let picture = Picture::open("t1.jpg").crop(440, 220, 301, 203);
    let rect = Rect::new(81.3, 41.8, 90.0, 70.0);
    let (x, y, w, h) = (81..172, 41..112, 301, 203);
    for format in &formats {
        let sample = picture
            .converted(&format!("format={format}"))
            .expect("videoconvert can");
        let before = Frame::new(sample.clone()).expect("a frame");
        let feed = Feed::new(
            "facemetablur hold=0 name=b margin=0",
            &sample.caps_owned().expect("caps"),
        )
        .expect("the format is accepted");
        let show = |mode: &str| {
            feed.set("b", "mode", mode);
            feed.set("b", "color", "0xff20c040");
            let mut buffer = sample
                .buffer_owned()
                .expect("a buffer")
                .copy_deep()
                .expect("memory");
            let face = Face {
                rect,
                ..Default::default()
            };
            meta::add(buffer.make_mut(), (w, h), &face).expect("inside");
            buffer.make_mut().set_pts(gst::ClockTime::ZERO);
            pixels(&feed.pass(buffer).expect("passes"))
        };
        let (plain, filled, blurred) = (pixels(&before), show("fill"), show("blur"));
        let grey = format.starts_with("GRAY");
        for (i, pixel) in plain.iter().enumerate() {
            let (px, py) = (i as u32 % w, i as u32 / w);
            // Chroma samples of four pixels, and the converter's interpolation between them.
            let near = |v: u32, range: &std::ops::Range<u32>, by: u32| {
                v + by >= range.start && v < range.end + by
            };
            if near(px, &x, 0) && near(py, &y, 0) {
                let [r, g, b] = filled[i].map(i32::from);
                let right = (r - 0x20).abs() <= 6 && (g - 0xc0).abs() <= 6 && (b - 0x40).abs() <= 6;
                // Interpolated with the outside where a sample at the edge is.
                let inner =
                    px > x.start + 4 && px + 4 < x.end && py > y.start + 4 && py + 4 < y.end;
                let right = right || grey && (r - g).abs() < 3 && (90..150).contains(&r);
                assert!(right || !inner, "{format} at {px},{py}: {:?}", filled[i]);
            } else if !(near(px, &x, 8) && near(py, &y, 8)) {
                assert_eq!(
                    (filled[i], blurred[i]),
                    (*pixel, *pixel),
                    "{format} at {px},{py}"
                );
            }
        }
        let detail = |pixels: &[[u8; 3]]| -> i32 {
            let rows = (y.start + 8..y.end - 8).map(|y| y * w);
            let steps =
                rows.flat_map(|row| (x.start + 8..x.end - 8).map(move |x| (row + x) as usize));
            steps
                .map(|i| (i32::from(pixels[i][1]) - i32::from(pixels[i + 1][1])).abs())
                .sum()
        };
        assert!(detail(&blurred) * 2 < detail(&plain), "{format} is blurred");
    }
}

#[test]
fn alpha_and_padding_stay() {
    let picture = Picture::open("t1.jpg").crop(0, 0, 101, 75);
    for mode in ["blur", "pixelate", "fill"] {
        let sample = picture.converted("format=RGBA").expect("videoconvert can");
        let data: Vec<u8> = (0..100 * 90 * 8_usize)
            .map(|i| (i * 7 % 251) as u8)
            .collect();
        let mut buffer = gst::Buffer::from_mut_slice(data.clone());
        let (offset, stride) = (52, 101 * 4 + 60);
        gst_video::VideoMeta::add_full(
            buffer.make_mut(),
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::Rgba,
            101,
            75,
            &[offset],
            &[stride as i32],
        )
        .expect("a valid layout");
        add_region(&mut buffer, "face", (60, 50, 41, 25), 1);
        let feed = Feed::new(
            &format!("facemetablur margin=0 mode={mode}"),
            &sample.caps_owned().expect("caps"),
        )
        .expect("starts");
        let frame = feed.pass(buffer).expect("passes");
        let map = frame
            .sample
            .buffer()
            .expect("one")
            .map_readable()
            .expect("maps");
        let mut changed = 0;
        for (i, (a, b)) in data.iter().zip(map.iter()).enumerate() {
            let at = i.wrapping_sub(offset);
            let (row, column) = (at / stride, at % stride / 4);
            let inside = i >= offset && (50..75).contains(&row) && (60..101).contains(&column);
            if !inside || at % stride % 4 == 3 {
                assert_eq!(a, b, "{mode}: byte {i}");
            }
            changed += usize::from(a != b);
        }
        assert!(changed > 41 * 25 * 2, "{mode}: {changed}");
    }
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
    // Owned by nobody else: changed where it is.
    let buffer = adjust(&black, rect);
    let before = place(&buffer);
    let frame = feed.pass(buffer).expect("passes");
    assert_eq!(place(frame.sample.buffer().expect("one")), before);
    assert_eq!((shares(&frame, &[rect]), frame.faces.len()), (vec![1.0], 1));
    // Kept by somebody: that one stays as it was.
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
            meta::add(buffer.make_mut(), (100, 100), &face).expect("inside");
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
    // A picture that cannot be read: a warning, and the face is hidden nevertheless.
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

#[test]
fn a_picture_that_cannot_be_used_is_an_error_at_start() {
    let caps = Picture::black(100, 100).caps();
    for (properties, expected) in [
        ("", "set picture=FILE"),
        ("picture=/nonexistent/mask.png", "does not exist"),
        (
            concat!("picture=", env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
            "not a picture",
        ),
    ] {
        let error = Feed::new(&format!("facemetablur mode=picture {properties}"), &caps).err();
        let error = format!("{:#}", error.expect("cannot start"));
        assert!(error.contains(expected), "{error}");
    }
}

/// A face with a track.
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
    meta::add(buffer.make_mut(), (100, 100), &face).expect("inside");
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
    // A tag between the frames keeps its place; the end of the stream lets all frames go.
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
