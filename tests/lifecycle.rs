//! Starts and stops pipelines again and again, and runs many instances at once.
//!
//! Memory, threads and files belong to the whole process, so each test runs in its own.

mod stops;

use face_tests::{Picture, Running, media, process};
use gst::prelude::*;

const STAGES: &str = "facedetector ! facetracker ! facerecognizer attach-embedding=true ! \
    faceagegender";

/// The resources that the process holds.
#[derive(Debug, Clone, Copy)]
struct Usage {
    /// Resident memory in MiB.
    memory: f64,
    threads: usize,
    files: usize,
}

fn usage() -> Usage {
    // Memory that the allocator keeps free is no growth.
    // SAFETY: it has no preconditions.
    unsafe { libc::malloc_trim(0) };
    let entries = |path| std::fs::read_dir(path).expect("Linux").count();
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = statm
        .split(' ')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    Usage {
        memory: pages * 4096.0 / f64::from(1 << 20),
        threads: entries("/proc/self/task"),
        files: entries("/proc/self/fd"),
    }
}

/// Runs a test below and prints its output.
fn child(name: &str) {
    let text = process::child(&format!("lifecycle::{name}"), |command| {
        // With one arena per thread, as glibc starts, fluctuation would hide growth.
        command.env("MALLOC_ARENA_MAX", "1");
    });
    println!("{text}");
}

fn within_half_a_minute(done: impl Fn() -> bool) -> bool {
    (0..300).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        done()
    })
}

#[test]
fn fifty_times_from_null_to_playing() {
    child("fifty_cycles");
}

#[test]
fn many_instances_share_their_models() {
    child("sixteen_pipelines");
}

#[test]
#[ignore = "is run by the tests above, in a separate process"]
fn fifty_cycles() {
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin name=decoder \
         queue name=head ! {STAGES} ! facemetaoverlay ! queue ! \
         appsink name=out sync=false max-buffers=2",
        media("single_face.mp4").display()
    ))
    .expect("a valid pipeline");
    // A parsed `decodebin ! …` is linked only once, and the decoder loses its pads in NULL.
    let head = running.element("head").static_pad("sink").expect("a pad");
    let link = move |_: &gst::Element, pad: &gst::Pad| {
        let caps = pad.current_caps().or_else(|| Some(pad.query_caps(None)));
        if caps.is_some_and(|c| c.to_string().starts_with("video/")) {
            pad.link(&head).expect("video fits");
        }
    };
    running.element("decoder").connect_pad_added(link);
    let mut after = Vec::new();
    for _ in 0..50 {
        running.play().expect("starts");
        for _ in 0..2 {
            let frame = running.next().expect("no error").expect("a frame");
            assert!(frame.faces.iter().all(|f| f.age.is_some()));
        }
        running.0.set_state(gst::State::Null).expect("stops");
        after.push(usage());
    }
    let (early, late) = (after[9], after[49]);
    println!("after 10: {early:?}, after 50: {late:?}");
    assert!(late.memory - early.memory < 5.0, "{after:?}");
    assert_eq!(late.files, early.files);
    // The last ones may still be ending.
    let ended = within_half_a_minute(|| usage().threads <= early.threads);
    assert!(ended, "{after:?}");
}

#[test]
#[ignore = "is run by the tests above, in a separate process"]
fn sixteen_pipelines() {
    let picture = Picture::open("single_face.jpg");
    let start = || {
        let running = Running::new(&format!(
            "appsrc name=in format=time ! queue ! {STAGES} ! appsink name=out sync=false"
        ))
        .expect("a valid pipeline");
        running.source().set_caps(Some(&picture.caps()));
        running.play().expect("starts");
        let buffer = picture.buffer(gst::ClockTime::ZERO);
        running.source().push_buffer(buffer).expect("accepted");
        running
    };
    let check = |running: &Running| {
        let frame = running.next().expect("no error").expect("a frame");
        assert_eq!(frame.faces.len(), 1);
        frame.faces[0].embedding.clone().expect("an embedding")
    };
    let bare = usage();
    let first = start();
    let expected = check(&first);
    let one = usage();
    let others: Vec<Running> = (0..15).map(|_| start()).collect();
    for running in &others {
        assert_eq!(check(running), expected, "parallel runs do not mix");
    }
    let all = usage();
    let (single, rest) = (one.memory - bare.memory, all.memory - one.memory);
    println!("the first pipeline {single:.1} MiB, fifteen more {rest:.1} MiB");
    let models = ["yunet", "sface", "dlib-age", "dlib-gender"].map(|name| {
        let path = face_tests::root().join(format!("models/{name}.onnx"));
        std::fs::metadata(path).expect("set up").len() as f64 / f64::from(1 << 20)
    });
    let models: f64 = models.iter().sum();
    assert!(
        rest < 4.0 * models,
        "{rest:.1} MiB for models of {models:.1} MiB"
    );
    drop((first, others));
    // GLib keeps idle threads in its pool for a while.
    let idle = 8;
    let ended = within_half_a_minute(|| usage().threads <= bare.threads + idle);
    assert!(ended, "{bare:?} {:?}", usage());
}
