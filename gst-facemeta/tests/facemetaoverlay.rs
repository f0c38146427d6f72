//! Tests `facemetaoverlay` in a harness: which pixels change, and where the metadata goes.

mod composition;

use face_meta::geometry::{Point, Rect};
use face_meta::{Face, Gender, Recognition, Track};
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoFrame, VideoFrameExt, VideoInfo, VideoOverlayCompositionMeta};

fn init() {
    static INIT: std::sync::Once = std::sync::Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstfacemeta::plugin_register_static().expect("the plugin registers");
    });
}

fn info(format: VideoFormat, width: u32, height: u32) -> VideoInfo {
    init();
    VideoInfo::builder(format, width, height)
        .fps(gst::Fraction::new(25, 1))
        .build()
        .expect("is a format")
}

fn harness(info: &VideoInfo) -> Harness {
    let mut harness = Harness::new("facemetaoverlay");
    harness.set_src_caps(info.to_caps().expect("has caps"));
    harness
}

/// A grey frame, with values that the format can represent.
fn frame(info: &VideoInfo, faces: &[Face]) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
    let writable = buffer.get_mut().expect("a new buffer is writable");
    writable
        .map_writable()
        .expect("maps")
        .as_mut_slice()
        .fill(match info.format() {
            VideoFormat::I42010le => 0x01,
            VideoFormat::P01010le => 0x40,
            _ => 0x60,
        });
    writable.set_pts(gst::ClockTime::ZERO);
    for face in faces {
        face_meta::add(writable, (info.width(), info.height()), face);
    }
    buffer
}

fn face(rect: Rect) -> Face {
    Face {
        rect,
        confidence: Some(0.9),
        ..Default::default()
    }
}

fn penny(rect: Rect) -> Face {
    Face {
        landmarks: Some(
            [0.3, 0.7, 0.5, 0.35, 0.65]
                .map(|v| Point::new(rect.x + v * rect.w, rect.y + (0.2 + v * 0.8) * rect.h)),
        ),
        track: Some(Track {
            id: 1,
            first_seen: 0,
            predicted: false,
        }),
        recognition: Some(Recognition {
            name: "penny".into(),
            confidence: 0.83,
            distance: 0.4,
        }),
        age: Some(27.0),
        gender: Some(Gender {
            label: "female".into(),
            confidence: 1.0,
        }),
        ..face(rect)
    }
}

/// The coordinates, in samples of the first plane, of pixels that differ.
fn changed(info: &VideoInfo, before: &gst::Buffer, after: &gst::Buffer) -> Vec<(u32, u32)> {
    let map = |buffer: &gst::Buffer| {
        VideoFrame::from_buffer_readable(buffer.clone(), info).expect("maps")
    };
    let (before, after) = (map(before), map(after));
    let stride = before.plane_stride()[0] as usize;
    let step = info.comp_pstride(0) as usize;
    let (a, b) = (
        before.plane_data(0).expect("has a plane"),
        after.plane_data(0).expect("has a plane"),
    );
    let mut found = Vec::new();
    for y in 0..info.height() {
        for x in 0..info.width() {
            let at = y as usize * stride + x as usize * step;
            if a[at..at + step] != b[at..at + step] {
                found.push((x, y));
            }
        }
    }
    found
}

fn run(info: &VideoInfo, faces: &[Face]) -> Vec<(u32, u32)> {
    let mut harness = harness(info);
    let buffer = frame(info, faces);
    harness.push(buffer.clone()).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(out.meta::<VideoOverlayCompositionMeta>().is_none());
    changed(info, &buffer, &out)
}

#[test]
fn only_the_outline_changes() {
    for format in [
        VideoFormat::I420,
        VideoFormat::Nv12,
        VideoFormat::Rgb,
        VideoFormat::Bgr,
        VideoFormat::Rgba,
        VideoFormat::Bgra,
        VideoFormat::Rgbx,
        VideoFormat::Gray8,
        VideoFormat::I42010le,
        VideoFormat::P01010le,
        VideoFormat::Y42b,
        VideoFormat::Argb64,
    ] {
        for (width, height) in [(320, 240), (321, 241)] {
            let info = info(format, width, height);
            let mut harness = harness(&info);
            let element = harness.element().expect("there is an element");
            element.set_property("show-confidence", false);
            let buffer = frame(&info, &[face(Rect::new(101.0, 81.0, 60.0, 70.0))]);
            harness.push(buffer.clone()).expect("is taken");
            let out = harness.pull().expect("a frame came");
            let changed = changed(&info, &buffer, &out);
            for (x, y) in [(130, 81), (130, 151), (101, 110), (161, 110)] {
                assert!(
                    changed.contains(&(x, y)),
                    "{format:?}: {x}, {y} is on the box"
                );
            }
            for (x, y) in changed {
                let outer = (98..=165).contains(&x) && (78..=155).contains(&y);
                let inner = (110..=153).contains(&x) && (90..=143).contains(&y);
                assert!(outer && !inner, "{format:?}: {x}, {y} is not on the box");
            }
        }
    }
}

#[test]
fn all_raw_formats_can_be_blended_into() {
    init();
    for &format in gst_video::VIDEO_FORMATS_ALL.iter() {
        let info = info(format, 160, 120);
        let mut harness = harness(&info);
        let buffer = frame(&info, &[penny(Rect::new(40.0, 50.0, 40.0, 50.0))]);
        harness.push(buffer.clone()).expect("is taken");
        let out = harness.pull().expect("a frame came");
        let (a, b) = (
            buffer.map_readable().expect("maps"),
            out.map_readable().expect("maps"),
        );
        assert!(a.as_slice() != b.as_slice(), "{format:?} shows nothing");
    }
}

#[test]
fn labels_are_drawn_and_switched_off() {
    let info = info(VideoFormat::I420, 640, 360);
    let rect = Rect::new(300.0, 150.0, 80.0, 100.0);
    let changed = run(&info, &[penny(rect)]);
    assert!(
        changed.iter().any(|&(_, y)| y < 140),
        "a label stands above"
    );
    assert!(changed.len() > 2000);

    let mut harness = harness(&info);
    let element = harness.element().expect("there is an element");
    for name in ["box", "name", "confidence", "age", "gender", "landmarks"] {
        let name = format!("show-{name}");
        assert!(element.property::<bool>(&name));
        element.set_property(&name, false);
    }
    let buffer = frame(&info, &[penny(rect)]);
    let memory = buffer.as_ptr();
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert_eq!(out.as_ptr(), memory, "nothing to draw, nothing touched");
}

#[test]
fn predicted_faces_can_be_left_out() {
    let info = info(VideoFormat::Rgb, 320, 240);
    let mut predicted = penny(Rect::new(100.0, 100.0, 60.0, 70.0));
    predicted.track = Some(Track {
        id: 1,
        first_seen: 0,
        predicted: true,
    });
    assert!(!run(&info, &[predicted.clone()]).is_empty());
    let mut harness = harness(&info);
    let element = harness.element().expect("there is an element");
    element.set_property("show-predicted", false);
    let buffer = frame(&info, &[predicted]);
    harness.push(buffer.clone()).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(changed(&info, &buffer, &out).is_empty());
}

#[test]
fn a_frame_without_faces_is_not_touched() {
    let info = info(VideoFormat::I420, 320, 240);
    let mut harness = harness(&info);
    let buffer = frame(&info, &[]);
    // A second owner: a writer must copy.
    let kept = buffer.clone();
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert_eq!(out.as_ptr(), kept.as_ptr());
}

#[test]
fn a_shared_frame_is_copied_before_it_is_drawn_on() {
    let info = info(VideoFormat::I420, 320, 240);
    let mut harness = harness(&info);
    let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
    let kept = buffer.clone();
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(!changed(&info, &kept, &out).is_empty());
    let map = kept.map_readable().expect("maps");
    assert!(map.iter().all(|v| *v == 0x60));
}

#[test]
fn small_and_odd_frames() {
    for format in [VideoFormat::I420, VideoFormat::Nv12, VideoFormat::Rgb] {
        for (width, height) in [(1, 1), (2, 1), (1, 3), (7, 5), (33, 17)] {
            let info = info(format, width, height);
            run(&info, &[penny(Rect::new(-3.0, -3.0, 9.0, 9.0))]);
        }
    }
}

#[test]
fn strides_are_respected() {
    let info = info(VideoFormat::Gray8, 100, 80);
    let stride = 128;
    let mut buffer = gst::Buffer::from_mut_slice(vec![0x60_u8; stride * 80]);
    {
        let writable = buffer.get_mut().expect("a new buffer is writable");
        gst_video::VideoMeta::add_full(
            writable,
            gst_video::VideoFrameFlags::empty(),
            VideoFormat::Gray8,
            100,
            80,
            &[0],
            &[stride as i32],
        )
        .expect("is a frame");
        face_meta::add(
            writable,
            (100, 80),
            &penny(Rect::new(30.0, 30.0, 40.0, 40.0)),
        );
    }
    let mut harness = harness(&info);
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a frame came");
    let map = out.map_readable().expect("maps");
    let row = |y: usize| &map[y * stride..(y + 1) * stride];
    assert_ne!(row(30)[50], 0x60);
    for y in 0..80 {
        assert!(
            row(y)[100..].iter().all(|v| *v == 0x60),
            "padding of row {y}"
        );
    }
}

#[test]
fn caps_may_change() {
    let first = info(VideoFormat::I420, 320, 240);
    let second = info(VideoFormat::Rgb, 101, 77);
    let mut harness = harness(&first);
    for info in [&first, &second, &first] {
        let caps = info.to_caps().expect("has caps");
        assert!(harness.push_event(gst::event::Caps::new(&caps)));
        let buffer = frame(info, &[penny(Rect::new(30.0, 30.0, 30.0, 40.0))]);
        harness.push(buffer.clone()).expect("is taken");
        let out = harness.pull().expect("a frame came");
        assert!(!changed(info, &buffer, &out).is_empty());
        let now = harness.sinkpad().and_then(|p| p.current_caps());
        assert_eq!(now, Some(caps));
    }
}

#[test]
fn properties_have_their_ranges() {
    init();
    let element = gst::ElementFactory::make("facemetaoverlay")
        .property("font", "Serif Italic 99")
        .property("scale", 4.0)
        .property("show-track", true)
        .build()
        .expect("is registered");
    assert_eq!(element.property::<f64>("scale"), 4.0);
    assert_eq!(element.property::<String>("font"), "Serif Italic 99");
    element.set_property("font", None::<String>);
    assert_eq!(element.property::<String>("font"), "Sans");
    for pspec in element.list_properties() {
        if pspec.owner_type() == element.type_() {
            assert!(
                pspec.blurb().is_some_and(|b| !b.is_empty()),
                "{}",
                pspec.name()
            );
        }
    }
}
