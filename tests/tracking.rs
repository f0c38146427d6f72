//! Tracks of people who cross and hide one another, and frames that the tracker cannot see.

use std::collections::BTreeSet;

use face_meta::Face;
use face_tests::crossing::{Manner, Scene, make, of_media};
use face_tests::feed::{Feed, add_region, at};
use face_tests::{Frame, Picture, Running};
use gst::prelude::*;

const SCENE: Scene = Scene {
    name: "crossing",
    width: 640,
    height: 360,
    rate: 12,
    seconds: 6,
    people: 4,
    faces: [44.0, 66.0],
    speed: [1.5, 3.0],
    manner: Manner::Stroll,
    pillars: 1,
    noise: 2.0,
    seed: 3,
};

fn tracks(faces: &[Face]) -> BTreeSet<u64> {
    faces.iter().filter_map(|f| f.track.map(|t| t.id)).collect()
}

/// The frames behind each of some trackers, which follow the same faces.
fn follow(video: &std::path::Path, trackers: &[&str]) -> Vec<Vec<Frame>> {
    let branches: String = (0..trackers.len())
        .map(|i| {
            format!(
                " t. ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0 ! facetracker {} ! \
                 appsink name=out{i} sync=false wait-on-eos=false",
                trackers[i]
            )
        })
        .collect();
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! facedetector inference-size=0 ! tee name=t {branches}",
        video.display()
    ))
    .expect("valid");
    running.play().expect("it plays");
    running.wait().expect("it ends");
    (0..trackers.len())
        .map(|i| {
            let sink = running.element(&format!("out{i}"));
            let sink = sink.downcast::<gst_app::AppSink>().expect("an appsink");
            std::iter::from_fn(|| sink.try_pull_sample(gst::ClockTime::ZERO))
                .map(|sample| Frame::new(sample).expect("a frame"))
                .collect()
        })
        .collect()
}

#[test]
fn people_who_hide_one_another_keep_their_tracks() {
    let folder = tempfile::tempdir().expect("a folder");
    let footage = make(&SCENE, of_media(), folder.path()).expect("made");
    let trackers = [
        "appearance=none",
        "appearance=auto",
        "appearance=always",
        "algorithm=bytetrack",
        "algorithm=iou",
    ];
    let frames = follow(&footage.video, &trackers);
    let counts: Vec<usize> = frames
        .iter()
        .map(|frames| {
            assert_eq!(frames.len(), footage.faces.len());
            let all: BTreeSet<u64> = frames.iter().flat_map(|f| tracks(&f.faces)).collect();
            all.len()
        })
        .collect();
    println!("tracks of {} people: {counts:?}", SCENE.people);
    assert!(
        counts[1] <= counts[0] && counts[2] <= counts[0],
        "{counts:?}"
    );
    for (frames, tracker) in frames.iter().zip(trackers) {
        for frame in frames {
            for (i, a) in frame.faces.iter().enumerate() {
                for b in &frame.faces[..i] {
                    assert!(a.rect.iou(&b.rect) < 0.5, "{tracker}: {a:?} and {b:?}");
                }
            }
        }
    }
}

#[test]
fn a_seek_forgets_what_faces_look_like() {
    let group = Picture::open("t1.jpg");
    let feed = Feed::new("facedetector ! facetracker name=t", &group.caps()).expect("starts");
    for appearance in ["always", "auto"] {
        feed.set("t", "appearance", appearance);
        let show = |index| tracks(&feed.show(&group, index).expect("passes").faces);
        let first = show(0);
        for index in 1..5 {
            assert_eq!(show(index), first);
        }
        feed.flush();
        assert!(show(5).is_disjoint(&first), "{appearance}");
    }
}

#[test]
fn frames_that_cannot_be_seen_are_followed_by_place() {
    for (caps, bytes) in [
        (
            "video/x-raw(memory:DMABuf),format=DMA_DRM,drm-format=NV12",
            64,
        ),
        ("video/x-raw(memory:GLMemory),format=RGBA", 64),
        // Too short for its caps.
        ("video/x-raw,format=I420", 64),
    ] {
        let caps = format!("{caps},width=640,height=360,framerate=25/1");
        let caps: gst::Caps = caps.parse().expect("caps");
        let feed = Feed::new("facetracker appearance=always", &caps).expect("starts");
        for index in 0..10 {
            let mut buffer = gst::Buffer::with_size(bytes).expect("memory");
            buffer.make_mut().set_pts(at(index));
            let x = 100 + 4 * index as u32;
            add_region(&mut buffer, "face", (x, 100, 60, 80), 1);
            let frame = feed.pass(buffer).expect("passes");
            assert_eq!(tracks(&frame.faces), BTreeSet::from([1]), "{caps}");
        }
        assert!(feed.running.warnings().is_empty());
    }
}
