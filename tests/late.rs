//! The property `late`: under overload the work is thinned and not the video.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use face_core::meta;
use face_tests::feed::{Feed, at};
use face_tests::overload::{Camera, Line, Outcome, detector};
use face_tests::{Frame, Picture, Running, TIMEOUT, enroll};
use gst::prelude::*;

const CLIP: &str = "WolfgangLanger_Pexels.mp4";

/// How far the last frames are above the start, in ms.
fn above(outcome: &Outcome, frames: usize) -> f64 {
    let lags = outcome.passed.iter().rev().take(frames).map(|p| p.lag);
    (lags.max().expect("frames") - outcome.start()) as f64 / 1e6
}

/// What a test measures depends on what else runs.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn an_overloaded_stream_keeps_its_latency_and_its_frames() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let gallery = folder.path().join("people.safetensors");
    enroll(&gallery);
    let camera = Camera::new(CLIP, 3).expect("it serves");
    let stages = format!(
        "{} name=d ! facetracker name=t ! \
         facerecognizer name=r gallery=\"{}\" ! faceagegender name=a",
        detector(),
        gallery.display()
    );
    let line = Line::new(&camera, &stages).expect("it plays");
    let wait = |until: &dyn Fn(&Outcome) -> bool| {
        let begin = Instant::now();
        while !line.look(until) {
            line.running.check().expect("no error");
            assert!(begin.elapsed().as_secs() < TIMEOUT.seconds(), "it hangs");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let set = |late: &str| {
        for element in ["d", "r", "a"] {
            line.running
                .element(element)
                .set_property_from_str("late", late);
        }
    };
    // As much as is let through a machine that does other things besides.
    const BOUND: f64 = 1000.0;
    wait(&|outcome| outcome.passed.len() >= 150);
    line.look(|outcome| {
        let most = above(outcome, 150);
        assert!(most < BOUND, "{most:.0} ms above the start");
        let examined = outcome.examined();
        assert!((10..90).contains(&examined), "{examined} of 150");
    });
    assert!(line.stat("d", "work-dropped") >= 60);

    // The same stream, if it waits, backs up until it is told not to.
    set("wait");
    wait(&|outcome| above(outcome, 1) > 1.5 * BOUND);
    let dropped = line.stat("d", "work-dropped");
    set("auto");
    wait(&|outcome| above(outcome, 5) < BOUND);
    assert!(line.stat("d", "work-dropped") > dropped);

    let (tracks, next) = (
        line.stat("t", "tracks-total"),
        line.stat("t", "next-track-id"),
    );
    let embedded = line.stat("r", "inferences");
    let outcome = line.stop();
    assert_eq!(outcome.lost(), 0, "every frame passes, in order");
    // One man, seen on every frame: on those that were passed over, too. Where a machine that does other
    // things stops for so long that he has moved on, there is another one.
    let since = outcome.since_examined();
    let pauses = since.windows(2).filter(|w| w[1] == 0).map(|w| w[0]);
    let stops = pauses.clone().filter(|p| *p > 300_000_000).count() as u64;
    let longest = pauses.max().unwrap_or(0) / 1_000_000;
    assert!(
        (1..=1 + stops).contains(&tracks),
        "{tracks} tracks, {stops} stops, the longest of {longest} ms"
    );
    assert_eq!((next, outcome.tracks.len() as u64), (tracks + 1, tracks));
    let faces = since.iter().zip(&outcome.passed);
    // For as long as predictions are shown.
    let faces = faces.filter(|(since, _)| **since < 250_000_000);
    let faces: Vec<bool> = faces.map(|(_, p)| p.faces > 0).collect();
    let shown = faces.iter().filter(|shown| **shown).count();
    assert!(
        shown * 100 >= faces.len() * 95,
        "his face is on {shown} of {} frames",
        faces.len()
    );
    assert!(embedded > 0 && !outcome.names.is_empty(), "he has a name");
}

/// Frames `range` of the picture, pushed at once.
fn burst(running: &Running, picture: &Picture, range: std::ops::Range<u64>) -> Vec<Frame> {
    let source = running.source();
    range
        .map(|index| {
            source
                .push_buffer(picture.buffer(at(index)))
                .expect("flows");
            running.next().expect("runs").expect("no end")
        })
        .collect()
}

fn is_examined(frame: &Frame) -> bool {
    let buffer = frame.sample.buffer().expect("a frame");
    meta::examined(buffer).expect("the detector says so")
}

#[test]
fn work_is_left_out_in_live_pipelines_unless_told_otherwise() {
    let _alone = alone();
    let picture = Picture::open("t1.jpg").resized(640, 443);
    let examined = |live: bool, late: &str| {
        let running = Running::new(&format!(
            "appsrc name=in format=time is-live={live} ! facedetector late={late} ! appsink name=out sync=false"
        ))
        .expect("a pipeline");
        running.source().set_caps(Some(&picture.caps()));
        running.play().expect("plays");
        let mut frames = burst(&running, &picture, 0..3);
        // Now the next ones wait. Nine, since after a while a late frame is examined all the same.
        std::thread::sleep(Duration::from_millis(450));
        frames.extend(burst(&running, &picture, 3..12));
        assert_eq!(frames.len(), 12, "every frame passes");
        frames.iter().filter(|f| is_examined(f)).count()
    };
    assert!(examined(true, "auto") < 12);
    assert!(examined(false, "drop-work") < 12);
    assert_eq!(examined(false, "auto"), 12);
    assert_eq!(examined(true, "wait"), 12);
}

#[test]
fn downstream_is_heard_and_no_decoder_told() {
    let _alone = alone();
    let picture = Picture::open("t1.jpg").resized(640, 443);
    for (late, told) in [("drop-work", 0), ("wait", 1)] {
        let feed = Feed::new(&format!("facedetector name=d late={late}"), &picture.caps());
        let feed = feed.expect("plays");
        let heard = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = heard.clone();
        let source = feed.running.element("in").static_pad("src").expect("a pad");
        source.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
            if let Some(gst::PadProbeData::Event(event)) = &info.data
                && event.type_() == gst::EventType::Qos
            {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
        // Pushed faster than they are apart, so that none is late by itself.
        let show = |n: u64| is_examined(&feed.show(&picture, 5 * n).expect("passes"));
        assert!(show(0));
        let sink = feed
            .running
            .element("out")
            .static_pad("sink")
            .expect("a pad");
        sink.push_event(gst::event::Qos::new(
            gst::QOSType::Underflow,
            2.0,
            450_000_000,
            gst::ClockTime::ZERO,
        ));
        // Those before 450 ms are too late, were they ready at once.
        let wait = late == "wait";
        assert_eq!([1, 2, 3, 4].map(show), [wait, wait, true, true], "{late}");
        assert_eq!(
            heard.load(std::sync::atomic::Ordering::Relaxed),
            told,
            "{late}"
        );
    }
}

#[test]
fn faces_share_what_time_there_is() {
    let _alone = alone();
    let picture = Picture::open("t1.jpg").resized(640, 443);
    let feed = Feed::new(
        "facedetector late=wait ! facetracker ! \
         facerecognizer name=r late=drop-work interval=0 attach-embedding=true",
        &picture.caps(),
    )
    .expect("plays");
    // As a camera would: a frame is there at its time and not before.
    let begin = Instant::now();
    let mut embedded = std::collections::HashMap::<u64, u32>::new();
    for index in 0..75 {
        let time = Duration::from(at(index));
        std::thread::sleep(time.saturating_sub(begin.elapsed()));
        for face in feed.show(&picture, index).expect("passes").faces {
            let track = face.track.expect("tracked").id;
            let count = embedded.entry(track).or_default();
            *count += u32::from(face.embedding.is_some());
        }
    }
    let counts: Vec<u32> = embedded.values().copied().collect();
    let (least, most) = (counts.iter().min(), counts.iter().max());
    let (least, most) = (*least.expect("faces"), *most.expect("faces"));
    assert_eq!(counts.len(), 6, "{counts:?}");
    assert!(least > 0 && most - least <= 1, "each in turn: {counts:?}");
    let stats: gst::Structure = feed.running.element("r").property("stats");
    let number = |field: &str| stats.get::<u64>(field).expect("a field");
    assert_eq!(number("work-dropped") + number("inferences"), 6 * 75);
    assert!(
        number("work-dropped") > 0,
        "embedding six faces takes longer than a frame"
    );
}

#[test]
fn frames_in_flight_leave_work_out_in_order() {
    let _alone = alone();
    let picture = Picture::open("t1.jpg").resized(640, 443);
    let running = Running::new(
        "appsrc name=in format=time is-live=true ! facedetector frames-in-flight=3 ! \
         appsink name=out sync=false",
    )
    .expect("a pipeline");
    let source = running.source();
    source.set_caps(Some(&picture.caps()));
    running.play().expect("plays");
    let push = |range: std::ops::Range<u64>| {
        for index in range {
            source
                .push_buffer(picture.buffer(at(index)))
                .expect("flows");
        }
    };
    push(0..3);
    std::thread::sleep(Duration::from_millis(450));
    push(3..40);
    source.end_of_stream().expect("ends");
    let frames = running.collect().expect("plays");
    let times: Vec<_> = frames.iter().map(|f| f.pts).collect();
    let expected: Vec<_> = (0..40).map(|n| Some(at(n).nseconds())).collect();
    assert_eq!(times, expected);
    assert!(frames.iter().any(|f| !is_examined(f)));
    assert!(is_examined(&frames[0]));
}

#[test]
fn tracks_are_counted_from_where_the_program_says() {
    let _alone = alone();
    let picture = Picture::open("t1.jpg").resized(640, 443);
    let feed = Feed::bare("facedetector ! facetracker name=t first-track-id=100").expect("plays");
    feed.begin();
    assert!(feed.caps(&picture.caps()));
    feed.segment();
    let tracker = feed.running.element("t");
    let number = |field: &str| {
        let stats: gst::Structure = tracker.property("stats");
        stats.get::<u64>(field).expect("a field")
    };
    assert_eq!((number("next-track-id"), number("tracks-total")), (100, 0));
    let faces = feed.show(&picture, 0).expect("passes").faces;
    let mut ids: Vec<u64> = faces.iter().filter_map(|f| Some(f.track?.id)).collect();
    ids.sort_unstable();
    assert_eq!(ids, [100, 101, 102, 103, 104, 105]);
    assert_eq!((number("next-track-id"), number("tracks-total")), (106, 6));
}
