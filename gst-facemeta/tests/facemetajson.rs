//! Tests the output lines of `facemetajson` in a harness.

use face_meta::geometry::{Point, Rect};
use face_meta::track::TrackEnded;
use face_meta::{Face, Gender, Recognition, Track};
use gst::prelude::*;
use gst_check::Harness;

const CAPS: &str = "video/x-raw, format=GRAY8, width=64, height=48, framerate=25/1";

fn init() {
    static INIT: std::sync::Once = std::sync::Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstfacemeta::plugin_register_static().expect("the plugin registers");
    });
}

fn harness() -> Harness {
    init();
    let mut harness = Harness::new("facemetajson");
    harness.set_src_caps(CAPS.parse().expect("is caps"));
    harness
}

fn frame(n: u64, faces: &[Face]) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(64 * 48).expect("memory");
    let writable = buffer.get_mut().expect("a new buffer is writable");
    writable.set_pts(gst::ClockTime::from_mseconds(40 * n));
    writable.set_duration(gst::ClockTime::from_mseconds(40));
    for face in faces {
        face_meta::add(writable, (64, 48), face).expect("is inside of the frame");
    }
    buffer
}

fn face(track: Option<u64>, predicted: bool) -> Face {
    Face {
        rect: Rect::new(8.0, 4.0, 16.0, 32.0),
        track: track.map(|id| Track {
            id,
            first_seen: 0,
            predicted,
        }),
        ..Default::default()
    }
}

fn text(buffer: &gst::BufferRef) -> String {
    let map = buffer.map_readable().expect("maps");
    String::from_utf8(map.to_vec()).expect("is UTF-8")
}

fn pull(harness: &mut Harness) -> String {
    text(&harness.pull().expect("a line came"))
}

/// All waiting lines.
fn rest(harness: &mut Harness) -> Vec<String> {
    std::iter::from_fn(|| harness.try_pull().map(|b| text(&b))).collect()
}

fn track_ended(id: u64) -> gst::Event {
    let ended = TrackEnded {
        id,
        first_seen: 0,
        last_seen: 0,
    };
    gst::event::CustomDownstream::new(ended.to_structure())
}

#[test]
fn a_frame_is_a_line() {
    let mut harness = harness();
    let full = Face {
        rect: Rect::new(-2.0, 10.0, 16.0, 20.5),
        landmarks: Some([1.0, 2.0, 3.0, 4.0, 5.0].map(|v| Point::new(v, 12.0 + v))),
        confidence: Some(0.93),
        model: Some("yunet".into()),
        recognition: Some(Recognition {
            name: "penny \"p\"".into(),
            confidence: 0.83,
            distance: 0.41,
        }),
        age: Some(27.4),
        gender: Some(Gender {
            label: "female".into(),
            confidence: 0.99,
        }),
        ..face(Some(3), false)
    };
    let mut buffer = frame(12, &[full, face(None, false)]);
    buffer
        .get_mut()
        .expect("writable")
        .set_flags(gst::BufferFlags::DISCONT | gst::BufferFlags::MARKER);
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a line came");
    assert_eq!(
        text(&out),
        concat!(
            r#"{"type":"frame","frame":0,"pts":480000000,"stream_time":480000000,"width":64,"height":48,"faces":["#,
            r#"{"box":[-2.0,10.0,16.0,20.5],"confidence":0.93,"#,
            r#""landmarks":[[1.0,13.0],[2.0,14.0],[3.0,15.0],[4.0,16.0],[5.0,17.0]],"#,
            r#""track":3,"name":"penny \"p\"","name_confidence":0.83,"distance":0.41,"#,
            r#""age":27.4,"gender":"female","gender_confidence":0.99},"#,
            r#"{"box":[8.0,4.0,16.0,32.0]}]}"#,
            "\n"
        )
    );
    assert_eq!(out.pts(), Some(gst::ClockTime::from_mseconds(480)));
    assert_eq!(out.dts(), None);
    assert_eq!(out.duration(), Some(gst::ClockTime::from_mseconds(40)));
    assert_eq!(out.flags(), gst::BufferFlags::DISCONT);

    let mut buffer = frame(0, &[face(Some(3), true)]);
    buffer
        .get_mut()
        .expect("writable")
        .set_pts(gst::ClockTime::NONE);
    harness.push(buffer).expect("is taken");
    assert_eq!(
        pull(&mut harness),
        concat!(
            r#"{"type":"frame","frame":1,"pts":null,"width":64,"height":48,"faces":["#,
            r#"{"box":[8.0,4.0,16.0,32.0],"track":3,"predicted":true}]}"#,
            "\n"
        )
    );
    let caps = harness.sinkpad().and_then(|p| p.current_caps());
    assert_eq!(caps.expect("caps came").to_string(), "application/x-json");
}

#[test]
fn tracks_end_with_their_event_and_with_the_stream() {
    let mut harness = harness();
    for n in 0..3 {
        let faces = [
            face(Some(9), n == 2),
            face(Some(2), false),
            face(Some(5), false),
        ];
        harness.push(frame(n, &faces)).expect("is taken");
        assert!(pull(&mut harness).contains("\"frame\""));
    }
    assert!(harness.push_event(track_ended(5)));
    assert_eq!(
        rest(&mut harness),
        [
            "{\"type\":\"track\",\"track\":5,\"first_pts\":0,\"last_pts\":80000000,\"first_stream_time\":0,\"last_stream_time\":80000000,\"frames\":3}\n"
        ]
    );
    assert!(harness.push_event(track_ended(5)), "twice is once");
    assert!(harness.push_event(gst::event::Eos::new()));
    assert_eq!(
        rest(&mut harness),
        [
            "{\"type\":\"track\",\"track\":2,\"first_pts\":0,\"last_pts\":80000000,\"first_stream_time\":0,\"last_stream_time\":80000000,\"frames\":3}\n",
            "{\"type\":\"track\",\"track\":9,\"first_pts\":0,\"last_pts\":40000000,\"first_stream_time\":0,\"last_stream_time\":40000000,\"frames\":2}\n",
        ]
    );
    let events = std::iter::from_fn(|| harness.try_pull_event());
    let types: Vec<_> = events.map(|e| e.type_()).collect();
    let custom = |t: &&gst::EventType| **t == gst::EventType::CustomDownstream;
    assert_eq!(types.iter().filter(custom).count(), 2, "the event goes on");
    assert_eq!(types.last(), Some(&gst::EventType::Eos));
}

#[test]
fn a_new_stream_ends_the_tracks() {
    let mut harness = harness();
    harness
        .push(frame(0, &[face(Some(1), false)]))
        .expect("is taken");
    assert!(harness.push_event(gst::event::StreamStart::new("another")));
    let lines = rest(&mut harness);
    assert_eq!(lines.len(), 2);
    assert!(
        lines[1].starts_with("{\"type\":\"track\",\"track\":1,"),
        "{lines:?}"
    );
}

#[test]
fn the_segment_gives_the_time_that_players_show() {
    let mut harness = harness();
    // A video that begins 2 s after its sound, at a key frame 80 ms before the trim.
    let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
    segment.set_start(gst::ClockTime::from_mseconds(80));
    segment.set_time(gst::ClockTime::from_seconds(2));
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    for n in 1..4 {
        let faces = [face(Some(1), false)];
        harness.push(frame(n, &faces)).expect("is taken");
    }
    let lines = rest(&mut harness);
    // Not shown, but its place is known.
    assert!(
        lines[0].contains("\"pts\":40000000,\"stream_time\":1960000000,"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("\"pts\":80000000,\"stream_time\":2000000000,"),
        "{lines:?}"
    );
    assert!(harness.push_event(track_ended(1)));
    let track = pull(&mut harness);
    let times = "\"first_pts\":40000000,\"last_pts\":120000000,\
                 \"first_stream_time\":1960000000,\"last_stream_time\":2040000000,";
    assert!(track.contains(times), "{track}");
}

#[test]
fn a_flush_discards() {
    let mut harness = harness();
    harness
        .push(frame(5, &[face(Some(1), false)]))
        .expect("is taken");
    pull(&mut harness);
    assert!(harness.push_event(gst::event::FlushStart::new()));
    assert!(harness.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    harness.push(frame(0, &[])).expect("is taken");
    assert_eq!(
        pull(&mut harness),
        "{\"type\":\"frame\",\"frame\":0,\"pts\":0,\"stream_time\":0,\"width\":64,\"height\":48,\"faces\":[]}\n"
    );
    assert!(harness.push_event(gst::event::Eos::new()));
    assert!(rest(&mut harness).is_empty());
}

#[test]
fn stopping_resets() {
    let mut harness = harness();
    harness
        .push(frame(5, &[face(Some(1), false)]))
        .expect("is taken");
    let element = harness.element().expect("there is an element");
    element.set_state(gst::State::Ready).expect("stops");
    element.set_state(gst::State::Playing).expect("starts");
    rest(&mut harness);
    harness.push(frame(0, &[])).expect("is taken");
    assert!(pull(&mut harness).contains("\"frame\":0,"));
    assert!(harness.push_event(gst::event::Eos::new()));
    assert!(rest(&mut harness).is_empty(), "the track is gone");
}

#[test]
fn caps_may_change() {
    let mut harness = harness();
    harness.push(frame(0, &[])).expect("is taken");
    assert!(pull(&mut harness).contains("\"width\":64,\"height\":48"));
    let next = gst::Caps::builder("video/x-raw")
        .features(["memory:DMABuf", "meta:GstVideoOverlayComposition"])
        .field("format", "DMA_DRM")
        .field("width", 32)
        .field("height", 16)
        .build();
    assert!(harness.push_event(gst::event::Caps::new(&next)));
    harness.push(frame(1, &[])).expect("is taken");
    assert!(pull(&mut harness).contains(
        "\"frame\":1,\"pts\":40000000,\"stream_time\":40000000,\"width\":32,\"height\":16"
    ));
    let mut scaled = frame(2, &[]);
    gst_video::VideoMeta::add(
        scaled.get_mut().expect("writable"),
        gst_video::VideoFrameFlags::empty(),
        gst_video::VideoFormat::Gray8,
        30,
        10,
    )
    .expect("is a frame");
    harness.push(scaled).expect("is taken");
    assert!(pull(&mut harness).contains("\"width\":30,\"height\":10"));
    let none: gst::Caps = "video/x-raw, format=I420".parse().expect("is caps");
    harness.push_event(gst::event::Caps::new(&none));
    assert_eq!(
        harness.push(frame(3, &[])),
        Err(gst::FlowError::NotNegotiated)
    );
}

#[test]
fn properties_choose_the_lines() {
    let mut harness = harness();
    let element = harness.element().expect("there is an element");
    assert!(element.property::<bool>("tracks") && element.property::<bool>("empty-frames"));
    element.set_property("tracks", false);
    element.set_property("empty-frames", false);
    harness.push(frame(0, &[])).expect("is taken");
    harness
        .push(frame(1, &[face(Some(1), false)]))
        .expect("is taken");
    assert!(harness.push_event(gst::event::Eos::new()));
    let lines = rest(&mut harness);
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("{\"type\":\"frame\",\"frame\":1,"));
    let mut gaps = std::iter::from_fn(|| harness.try_pull_event())
        .filter(|e| e.type_() == gst::EventType::Gap);
    assert!(
        gaps.next().is_some(),
        "downstream learns of the empty frame"
    );
}

#[test]
fn upstream_learns_of_strides_errors_and_latency() {
    let mut harness = harness();
    let mut query = gst::query::Allocation::new(Some(&CAPS.parse().expect("is caps")), true);
    let srcpad = harness.srcpad().expect("there is a pad");
    assert!(srcpad.peer_query(&mut query));
    assert!(
        query
            .find_allocation_meta::<gst_video::VideoMeta>()
            .is_some()
    );

    let accepts = |caps: &str| {
        let caps: gst::Caps = caps.parse().expect("is caps");
        srcpad.peer_query_accept_caps(&caps)
    };
    assert!(accepts(
        "video/x-raw(memory:GLMemory), format=RGBA, width=4, height=4"
    ));
    assert!(!accepts("audio/x-raw"));
    harness.set_upstream_latency(gst::ClockTime::from_mseconds(70));
    assert_eq!(
        harness.query_latency(),
        Some(gst::ClockTime::from_mseconds(70))
    );
    assert!(harness.push_event(gst::event::Eos::new()));

    for (caps, error) in [
        (Some(CAPS), gst::FlowError::NotLinked),
        (None, gst::FlowError::NotNegotiated),
    ] {
        let element = gst::ElementFactory::make("facemetajson")
            .build()
            .expect("is registered");
        element.set_state(gst::State::Playing).expect("starts");
        let pad = element.static_pad("sink").expect("has a sink");
        pad.send_event(gst::event::StreamStart::new("test"));
        if let Some(caps) = caps {
            pad.send_event(gst::event::Caps::new(&caps.parse().expect("is caps")));
        }
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        pad.send_event(gst::event::Segment::new(&segment));
        assert_eq!(pad.chain(frame(0, &[])), Err(error));
        element.set_state(gst::State::Null).expect("stops");
    }
}

#[test]
fn a_whole_pipeline() {
    init();
    let pipeline = gst::parse::launch(
        "videotestsrc num-buffers=5 ! video/x-raw,format=I420,width=33,height=17 ! \
         facemetajson ! appsink name=out sync=false",
    )
    .expect("parses")
    .downcast::<gst::Pipeline>()
    .expect("is a pipeline");
    let sink = pipeline
        .by_name("out")
        .and_downcast::<gst_app::AppSink>()
        .expect("there is an appsink");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let mut lines = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        lines.push(text(sample.buffer().expect("a sample has a buffer")));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    assert_eq!(lines.len(), 5);
    assert!(lines[4].contains("\"frame\":4,") && lines[4].contains("\"width\":33,\"height\":17"));
}

#[test]
fn tracks_alone_are_printed_where_frames_are_not_wanted() {
    let mut harness = harness();
    let element = harness.element().expect("facemetajson");
    element.set_property("frames", false);
    let face = face(Some(3), false);
    harness.push(frame(0, &[face])).expect("passes");
    assert!(harness.push_event(track_ended(3)));
    let lines = rest(&mut harness);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("{\"type\":\"track\",\"track\":3,"),
        "{lines:?}"
    );
}
