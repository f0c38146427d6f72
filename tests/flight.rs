//! `facedetector` with several frames in flight: the same frames with the same faces, in order,
//! whatever comes between them.

use face_tests::feed::{Feed, at};
use face_tests::{Frame, Picture, run_file};
use gst::prelude::*;

const ELEMENTS: &str = "facedetector name=d frames-in-flight=3";

/// Times and faces.
fn content(frames: &[Frame]) -> Vec<(Option<u64>, Vec<face_meta::Face>)> {
    frames.iter().map(|f| (f.pts, f.faces.clone())).collect()
}

#[test]
fn a_clip_has_the_same_faces() {
    for interval in [1, 3, 7] {
        let run = |in_flight: u32| {
            let elements = format!(
                "facedetector interval={interval} frames-in-flight={in_flight} ! facetracker"
            );
            content(&run_file("single_face.mp4", &elements).expect("the clip plays"))
        };
        let expected = run(1);
        assert_eq!(expected.len(), 72);
        assert!(
            expected
                .iter()
                .filter(|(_, faces)| !faces.is_empty())
                .count()
                > 60
        );
        for in_flight in [2, 5] {
            assert_eq!(run(in_flight), expected, "{in_flight} at a time");
        }
    }
}

/// Pushes `count` frames from number `first` on.
fn push(feed: &Feed, picture: &Picture, first: u64, count: u64) {
    for index in first..first + count {
        feed.push(picture.buffer(at(index))).expect("flows");
    }
}

/// The times of the next `count` frames, all with faces.
fn pull(feed: &Feed, count: usize) -> Vec<Option<u64>> {
    let next = || feed.running.next().expect("runs").expect("no end");
    let frames: Vec<Frame> = (0..count).map(|_| next()).collect();
    assert!(frames.iter().all(|f| !f.faces.is_empty()));
    frames.iter().map(|f| f.pts).collect()
}

fn times(range: std::ops::Range<u64>) -> Vec<Option<u64>> {
    range.map(|i| Some(at(i).nseconds())).collect()
}

#[test]
fn nothing_overtakes_the_frames() {
    let large = Picture::open("t1.jpg");
    let small = large.resized(640, 443);
    let feed = Feed::new(ELEMENTS, &large.caps()).expect("plays");
    push(&feed, &large, 0, 4);
    assert_eq!(pull(&feed, 2), times(0..2), "two are in flight");
    assert!(feed.caps(&small.caps()), "new caps come after the frames");
    assert_eq!(pull(&feed, 2), times(2..4));
    push(&feed, &small, 4, 2);
    feed.set("out", "wait-on-eos", "false");
    assert!(feed.eos());
    assert_eq!(pull(&feed, 2), times(4..6));
    assert!(feed.running.next().expect("runs").is_none());
}

#[test]
fn a_flush_drops_what_is_in_flight() {
    let picture = Picture::open("t1.jpg");
    let feed = Feed::new(ELEMENTS, &picture.caps()).expect("plays");
    push(&feed, &picture, 0, 2);
    feed.flush();
    push(&feed, &picture, 10, 3);
    assert_eq!(pull(&feed, 1), times(10..11));
}

#[test]
fn fewer_in_flight_while_playing_lose_no_frame() {
    let picture = Picture::open("t1.jpg");
    let feed = Feed::new(ELEMENTS, &picture.caps()).expect("plays");
    push(&feed, &picture, 0, 2);
    let upstream = feed.running.element("in").static_pad("src").expect("one");
    assert!(!upstream.needs_reconfigure());
    feed.set("d", "frames-in-flight", "1");
    assert!(upstream.needs_reconfigure(), "fewer buffers are held");
    assert_eq!(feed.buffers_asked_for(&picture.caps()), 0);
    push(&feed, &picture, 2, 1);
    assert_eq!(pull(&feed, 3), times(0..3));
    push(&feed, &picture, 3, 1);
    assert_eq!(pull(&feed, 1), times(3..4));
}

#[test]
fn a_source_with_as_many_buffers_as_asked_for_never_runs_dry() {
    let picture = Picture::open("t1.jpg");
    let caps = picture.caps();
    for (elements, asked) in [
        ("facedetector", 0),
        ("facedetector frames-in-flight=3", 2),
        ("facedetector frames-in-flight=3 interval=2", 4),
        ("facemetablur look-back=100", 3),
        (
            "facedetector frames-in-flight=3 ! facemetablur look-back=80",
            2 + 2,
        ),
    ] {
        let feed = Feed::new(elements, &caps).expect("plays");
        let held = feed.buffers_asked_for(&caps);
        assert_eq!(held, asked, "{elements}");

        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        let one = picture.buffer(at(0));
        // The source fills one, the sink keeps the last.
        config.set_params(Some(&caps), one.size() as u32, held + 2, held + 2);
        pool.set_config(config).expect("a valid configuration");
        pool.set_active(true).expect("it allocates");
        let now = gst::BufferPoolAcquireParams::with_flags(gst::BufferPoolAcquireFlags::DONTWAIT);
        for index in 0..8 {
            let mut buffer = pool.acquire_buffer(Some(&now)).expect("not dry");
            let frame = buffer.get_mut().expect("nobody else has it");
            frame.set_pts(at(index));
            let pixels = one.map_readable().expect("memory");
            frame.copy_from_slice(0, &pixels).expect("of the same size");
            feed.push(buffer).expect("flows");
            if index >= u64::from(held) {
                feed.running.next().expect("runs").expect("no end");
            }
        }
        feed.flush();
        pool.set_active(false).expect("all came back");
    }
}

#[test]
fn what_goes_wrong_in_flight_is_an_error_on_the_bus() {
    let picture = Picture::open("t1.jpg");
    let feed = Feed::new(ELEMENTS, &picture.caps()).expect("plays");
    push(&feed, &picture, 0, 1);
    let mut short = gst::Buffer::with_size(100).expect("allocated");
    short.get_mut().expect("new").set_pts(at(1));
    let flow = feed
        .push(short)
        .and_then(|_| feed.push(picture.buffer(at(2))))
        .and_then(|_| feed.push(picture.buffer(at(3))));
    assert_eq!(flow, Err(gst::FlowError::Error));
    let error = feed.running.check().expect_err("on the bus").to_string();
    assert!(error.contains("100 bytes"), "{error}");
}

#[test]
fn frames_leave_later_and_say_so() {
    let latency = |in_flight: u32, interval: u32| {
        let mut harness = gst_check::Harness::new_parse(&format!(
            "facedetector frames-in-flight={in_flight} interval={interval}"
        ));
        harness.set_src_caps(
            gst_video::VideoCapsBuilder::new()
                .format(gst_video::VideoFormat::I420)
                .width(320)
                .height(240)
                .framerate((25, 1).into())
                .build(),
        );
        harness.set_upstream_latency(gst::ClockTime::from_mseconds(7));
        harness.query_latency().expect("known").mseconds()
    };
    face_tests::init();
    assert_eq!(latency(1, 1), 7);
    assert_eq!(latency(1, 100), 7);
    assert_eq!(latency(3, 1), 7 + 2 * 40);
    assert_eq!(latency(3, 3), 7 + 2 * 3 * 40);
    assert_eq!(
        latency(3, 100),
        7 + 2 * 4 * 40,
        "not all skipped frames wait"
    );
}
