//! The property `late`: under overload, work is skipped and video is not.
//!
//! All stages of a process share the turns to infer. So tests that count who got one run in
//! separate processes.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use face_meta::Face;
use face_tests::feed::{Feed, at};
use face_tests::overload::{Camera, Line, Outcome, detector};
use face_tests::{Frame, Picture, Running, TIMEOUT, enroll, init, process};
use gst::prelude::*;
use gst_check::TestClock;

const CLIP: &str = "WolfgangLanger_Pexels.mp4";

/// How far the last frames are above the start, in ms.
fn above(outcome: &Outcome, frames: usize) -> f64 {
    let lags = outcome.passed.iter().rev().take(frames).map(|p| p.lag);
    (lags.max().expect("frames") - outcome.start()) as f64 / 1e6
}

#[test]
fn an_overloaded_stream_keeps_its_latency_and_its_frames() {
    process::alone(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let gallery = folder.path().join("people.safetensors");
        enroll(&gallery);
        let camera = Camera::new(CLIP, 3).expect("it serves");
        let stages = format!(
            "{} name=d ! facetracker name=t ! facerecognizer name=r gallery=\"{}\" ! \
             faceagegender name=a",
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
        // The limit for a machine that also does other things: the time of eight detections, as
        // long as they take on it, and at least a second.
        let bound = (8.0 * 3.0 * camera.frame.as_secs_f64() * 1e3).max(1000.0);
        wait(&|outcome| outcome.passed.len() >= 150 && line.stat("d", "work-dropped") >= 60);
        line.look(|outcome| {
            let most = above(outcome, outcome.passed.len());
            assert!(most < bound, "{most:.0} ms above the start");
            assert!(outcome.examined() >= 10, "{}", outcome.examined());
        });

        // The same stream with waiting backs up until waiting is turned off.
        set("wait");
        wait(&|outcome| above(outcome, 1) > 1.5 * bound);
        let dropped = line.stat("d", "work-dropped");
        set("auto");
        wait(&|outcome| above(outcome, 5) < bound);
        assert!(line.stat("d", "work-dropped") > dropped);

        let (tracks, next) = (
            line.stat("t", "tracks-total"),
            line.stat("t", "next-track-id"),
        );
        let embedded = line.stat("r", "inferences");
        let outcome = line.stop();
        assert_eq!(outcome.lost(), 0, "every frame passes, in order");
        // One man, seen on every frame, even those that were skipped. If a busy machine pauses for
        // longer than a track lives, there is another track.
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
        // Only for as long as predictions are shown.
        let faces = faces.filter(|(since, _)| **since < 250_000_000);
        let faces: Vec<bool> = faces.map(|(_, p)| p.faces > 0).collect();
        let shown = faces.iter().filter(|shown| **shown).count();
        assert!(
            shown * 100 >= faces.len() * 95,
            "his face is on {shown} of {} frames",
            faces.len()
        );
        assert!(embedded > 0 && !outcome.names.is_empty(), "he has a name");
    });
}

/// Pushes frames `range` of the picture at once.
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
    face_meta::examined(buffer).expect("the detector says so")
}

/// A clock that stands still until it is set.
fn still() -> TestClock {
    init();
    TestClock::new()
}

/// This long after the start, frames of the first half second are late.
const LATER: gst::ClockTime = gst::ClockTime::from_mseconds(450);

#[test]
fn work_is_left_out_in_live_pipelines_unless_told_otherwise() {
    process::alone(|| {
        let picture = Picture::open("t1.jpg").resized(640, 443);
        let examined = |live: bool, late: &str| {
            let running = Running::new(&format!(
                "appsrc name=in format=time is-live={live} ! facedetector late={late} ! \
                 appsink name=out sync=false"
            ))
            .expect("a pipeline");
            let clock = still();
            running.0.use_clock(Some(&clock));
            running.source().set_caps(Some(&picture.caps()));
            running.play().expect("plays");
            let mut frames = burst(&running, &picture, 0..3);
            // The clock exists only from here on.
            running.0.state(TIMEOUT).0.expect("it plays");
            clock.set_time(LATER);
            // Nine, since a late frame is examined all the same after a while.
            frames.extend(burst(&running, &picture, 3..12));
            assert_eq!(frames.len(), 12, "every frame passes");
            frames.iter().filter(|f| is_examined(f)).count()
        };
        assert!(examined(true, "auto") < 12);
        assert!(examined(false, "drop-work") < 12);
        assert_eq!(examined(false, "auto"), 12);
        assert_eq!(examined(true, "wait"), 12);
    });
}

#[test]
fn downstream_is_heard_and_no_decoder_told() {
    process::alone(|| {
        let picture = Picture::open("t1.jpg").resized(640, 443);
        for (late, told) in [("drop-work", 0), ("wait", 1)] {
            // Its clock stands still, so no frame is late on its own.
            let elements = format!("facedetector name=d late={late}");
            let feed = Feed::timed(&elements, &picture.caps(), &still()).expect("plays");
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
            // Frames before 450 ms are too late even if they are ready at once.
            let wait = late == "wait";
            assert_eq!([1, 2, 3, 4].map(show), [wait, wait, true, true], "{late}");
            assert_eq!(
                heard.load(std::sync::atomic::Ordering::Relaxed),
                told,
                "{late}"
            );
        }
    });
}

#[test]
fn faces_share_what_time_there_is() {
    process::alone(|| {
        let picture = Picture::open("t1.jpg").resized(640, 443);
        let clock = still();
        let feed = Feed::timed(
            "facedetector late=wait ! facetracker ! \
             facerecognizer name=r late=drop-work interval=0 attach-embedding=true",
            &picture.caps(),
            &clock,
        )
        .expect("plays");
        // For each track, the tracks embedded since its own last embedding.
        let mut since = HashMap::<u64, HashSet<u64>>::new();
        let mut seen = HashSet::new();
        for index in 0..75 {
            // None is late, but they follow so fast that no machine can embed six faces on each.
            let time = gst::ClockTime::from_mseconds(5 * index);
            clock.set_time(time);
            let faces = feed.pass(picture.buffer(time)).expect("passes").faces;
            let track = |face: &Face| face.track.expect("tracked").id;
            let (now, rest): (Vec<_>, Vec<_>) =
                faces.iter().partition(|face| face.embedding.is_some());
            let now: Vec<u64> = now.into_iter().map(track).collect();
            for waits in rest.into_iter().map(track) {
                let others = since.entry(waits).or_default();
                for other in &now {
                    assert!(
                        others.insert(*other),
                        "{other} had two turns before {waits}"
                    );
                }
            }
            for track in now {
                since.insert(track, HashSet::new());
                seen.insert(track);
            }
        }
        assert_eq!(seen.len(), 6, "nobody waits for ever");
        let stats: gst::Structure = feed.running.element("r").property("stats");
        let number = |field: &str| stats.get::<u64>(field).expect("a field");
        assert_eq!(number("work-dropped") + number("inferences"), 6 * 75);
        assert!(number("work-dropped") > 0);
    });
}

#[test]
fn frames_in_flight_leave_work_out_in_order() {
    process::alone(|| {
        let picture = Picture::open("t1.jpg").resized(640, 443);
        let clock = still();
        let feed = Feed::timed(
            "facedetector frames-in-flight=3 late=drop-work",
            &picture.caps(),
            &clock,
        )
        .expect("plays");
        feed.set("out", "wait-on-eos", "false");
        for index in 0..40 {
            if index == 3 {
                clock.set_time(LATER);
            }
            feed.push(picture.buffer(at(index))).expect("flows");
        }
        assert!(feed.eos());
        let frames = feed.running.collect().expect("plays");
        let times: Vec<_> = frames.iter().map(|f| f.pts).collect();
        let expected: Vec<_> = (0..40).map(|n| Some(at(n).nseconds())).collect();
        assert_eq!(times, expected);
        assert!(frames.iter().any(|f| !is_examined(f)));
        assert!(is_examined(&frames[0]));
    });
}

#[test]
fn tracks_are_counted_from_where_the_program_says() {
    let picture = Picture::open("t1.jpg").resized(640, 443);
    let feed = Feed::new(
        "facedetector ! facetracker name=t first-track-id=100",
        &picture.caps(),
    )
    .expect("plays");
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
