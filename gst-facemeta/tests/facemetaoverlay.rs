//! `facemetaoverlay` in a harness: which pixels change, and where the meta goes.

use face_core::geometry::{Point, Rect};
use face_core::meta::{self, Face, Gender, Recognition, Track};
use gst::prelude::*;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoFrame, VideoFrameExt, VideoInfo, VideoOverlayCompositionMeta};

const COMPOSITION: &str = "meta:GstVideoOverlayComposition";

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

/// A grey frame, of values that the format can hold.
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
        meta::add(writable, (info.width(), info.height()), face);
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

/// Downstream answers the allocation query with support for the meta.
fn want_meta(harness: &Harness) {
    let pad = harness.sinkpad().expect("there is a pad");
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        match info.query_mut().map(|q| q.view_mut()) {
            Some(gst::QueryViewMut::Allocation(query)) => {
                query.add_allocation_meta::<VideoOverlayCompositionMeta>(None);
                gst::PadProbeReturn::Handled
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });
}

/// The pixels of the first plane that differ: as rows of the plane's samples.
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
    // A second owner: whoever wants to write must copy.
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
        meta::add(
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
fn the_meta_goes_where_it_is_wanted() {
    let info = info(VideoFormat::I420, 320, 240);
    let mut harness = harness(&info);
    want_meta(&harness);
    let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
    harness.push(buffer.clone()).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(changed(&info, &buffer, &out).is_empty(), "pixels stay");
    let meta = out.meta::<VideoOverlayCompositionMeta>().expect("is there");
    assert_eq!(meta.overlay().n_rectangles(), 2, "a box and a label");
    for rectangle in meta.overlay().iter() {
        let (x, y, w, h) = rectangle.render_rectangle();
        assert!(x >= 0 && y >= 0 && x as u32 + w <= 320 && y as u32 + h <= 240);
    }
    let caps = harness.sinkpad().and_then(|p| p.current_caps());
    assert!(caps.expect("caps came").to_string().contains(COMPOSITION));
}

#[test]
fn plain_caps_where_the_meta_is_not_wanted() {
    let info = info(VideoFormat::I420, 320, 240);
    let mut harness = harness(&info);
    for n in 0..3 {
        let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
        harness.push(buffer.clone()).expect("is taken");
        let out = harness.pull().expect("a frame came");
        assert!(!changed(&info, &buffer, &out).is_empty());
        let caps = harness.sinkpad().and_then(|p| p.current_caps());
        assert_eq!(caps, info.to_caps().ok());
        if n == 1 {
            // Downstream asks again.
            harness.push_upstream_event(gst::event::Reconfigure::new());
        }
    }
    let events = std::iter::from_fn(|| harness.try_pull_event());
    let caps = events.filter(|e| e.type_() == gst::EventType::Caps).count();
    assert!(caps <= 4, "{caps} caps events");
}

#[test]
fn compositions_from_upstream_are_kept() {
    let info = info(VideoFormat::Rgba, 320, 240);
    let mut harness = Harness::new("facemetaoverlay");
    let mut caps = info.to_caps().expect("has caps");
    caps.make_mut()
        .set_features_simple(Some(gst::CapsFeatures::new([
            "memory:SystemMemory",
            COMPOSITION,
        ])));
    harness.set_src_caps(caps);
    let mut buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
    let mut pixels = gst::Buffer::with_size(16 * 4).expect("memory");
    gst_video::VideoMeta::add(
        pixels.get_mut().expect("writable"),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::Bgra,
        4,
        4,
    )
    .expect("is a frame");
    let other = gst_video::VideoOverlayRectangle::new_raw(
        &pixels,
        7,
        9,
        4,
        4,
        gst_video::VideoOverlayFormatFlags::empty(),
    );
    let composition = gst_video::VideoOverlayComposition::new([&other]).expect("composes");
    VideoOverlayCompositionMeta::add(buffer.get_mut().expect("writable"), &composition);
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert_eq!(out.iter_meta::<VideoOverlayCompositionMeta>().count(), 1);
    let meta = out.meta::<VideoOverlayCompositionMeta>().expect("is there");
    let places: Vec<_> = meta
        .overlay()
        .iter()
        .map(|r| r.render_rectangle())
        .collect();
    assert_eq!(places.len(), 3);
    assert_eq!(places[0], (7, 9, 4, 4));
}

/// Runs a pipeline with a face on each buffer at the pad `at` and returns the last sample.
fn pipeline(description: &str) -> Result<gst::Sample, String> {
    init();
    let pipeline = gst::parse::launch(description)
        .expect("parses")
        .downcast::<gst::Pipeline>()
        .expect("is a pipeline");
    let overlay = pipeline.by_name("overlay").expect("there is an overlay");
    let pad = overlay.static_pad("sink").expect("has a sink");
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let buffer = buffer.make_mut();
            meta::add(
                buffer,
                (320, 240),
                &penny(Rect::new(100.0, 100.0, 60.0, 70.0)),
            );
        }
        gst::PadProbeReturn::Ok
    });
    let sink = pipeline
        .by_name("out")
        .and_downcast::<gst_app::AppSink>()
        .expect("there is an appsink");
    let mut last = Err("no sample".to_owned());
    if pipeline.set_state(gst::State::Playing).is_ok() {
        while let Ok(sample) = sink.pull_sample() {
            last = Ok(sample);
        }
    }
    let bus = pipeline.bus().expect("a pipeline has a bus");
    if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        last = Err(format!("{message:?}"));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    last
}

fn has_meta(sample: &gst::Sample) -> bool {
    let buffer = sample.buffer().expect("a sample has a buffer");
    buffer.meta::<VideoOverlayCompositionMeta>().is_some()
}

#[test]
fn caps_may_insist_on_the_meta_or_refuse_it() {
    let src = "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=320,height=240 ! \
               facemetaoverlay name=overlay";
    let sink = "appsink name=out sync=false";
    let sample = pipeline(&format!(
        "{src} ! video/x-raw(memory:SystemMemory,{COMPOSITION}) ! {sink}"
    ));
    assert!(has_meta(&sample.expect("runs")));
    let sample = pipeline(&format!("{src} ! video/x-raw ! {sink}")).expect("runs");
    assert!(!has_meta(&sample));
    let sample = pipeline(&format!("{src} ! queue ! videoconvert ! {sink}")).expect("runs");
    assert!(!has_meta(&sample));
    assert!(
        !sample
            .caps()
            .expect("has caps")
            .to_string()
            .contains(COMPOSITION)
    );
    // A tee answers for all its branches.
    let sample = pipeline(&format!(
        "{src} ! tee name=t ! queue ! fakesink  t. ! queue ! {sink}"
    ));
    assert!(!has_meta(&sample.expect("runs")));
}

#[test]
fn other_memory_needs_the_meta() {
    let info = info(VideoFormat::Rgba, 320, 240);
    let mut caps = info.to_caps().expect("has caps");
    caps.make_mut()
        .set_features_simple(Some(gst::CapsFeatures::new(["memory:Foreign"])));
    let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);

    let mut harness = Harness::new("facemetaoverlay");
    harness.set_src_caps(caps.clone());
    harness.push(buffer.clone()).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(out.meta::<VideoOverlayCompositionMeta>().is_some());
    assert!(changed(&info, &buffer, &out).is_empty());

    let mut harness = Harness::new("facemetaoverlay");
    harness.set_caps(caps.clone(), caps);
    assert_eq!(harness.push(buffer), Err(gst::FlowError::NotNegotiated));
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
