//! The whole pipeline, from file to JSON (decode, detect, track, recognise, age, gender), compared
//! with a Python loop over OpenCV with the same models (`peers/opencv_loop.py`): frames per second,
//! in alternating runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use face_gallery::{Gallery, ModelId, Row};
use face_tests::{Running, media, root, run_file};
use gst::prelude::*;
use serde_json::Value;

const ROUNDS: usize = 3;

/// Frames of the 1080p clip, and for the loop, which is several times slower.
const GROUP_FRAMES: usize = 240;
const PEER_FRAMES: usize = 100;

fn target() -> PathBuf {
    root().join("target/bench")
}

/// Room for a few frames while one with many new faces takes longer. The queue's default of 10 MB
/// holds three frames of 1080p.
const QUEUE: &str = "queue max-size-bytes=100000000";

/// A group photo of six people as a 1080p H.264 clip that moves slowly.
fn group_clip() -> PathBuf {
    let path = target().join("group-1080p.mp4");
    if !path.is_file() {
        std::fs::create_dir_all(target()).expect("target/ is writable");
        let pipeline = Running::new(&format!(
            "filesrc location=\"{}\" ! jpegdec ! videoconvert ! videoscale ! \
             video/x-raw,width=2048,height=1418 ! imagefreeze num-buffers={GROUP_FRAMES} ! \
             video/x-raw,framerate=25/1 ! videocrop name=crop top=100 bottom=238 left=0 right=128 ! \
             x264enc speed-preset=fast ! h264parse ! mp4mux ! filesink location=\"{}.part\"",
            media("t1.jpg").display(),
            path.display()
        ))
        .expect("a valid pipeline");
        let crop = pipeline.element("crop");
        let pad = crop.static_pad("sink").expect("every filter has one");
        let (crop, frames) = (crop.downgrade(), AtomicI32::new(0));
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let left = frames.fetch_add(1, Ordering::Relaxed) / 2 % 128;
            if let Some(crop) = crop.upgrade() {
                crop.set_property("left", left);
                crop.set_property("right", 128 - left);
            }
            gst::PadProbeReturn::Ok
        });
        pipeline.play().expect("it starts");
        pipeline.wait().expect("it runs");
        std::fs::rename(path.with_extension("mp4.part"), &path).expect("renamed");
    }
    path
}

/// A gallery with the faces of one frame of the clip.
fn gallery(clip: &Path) -> tempfile::NamedTempFile {
    let frames = run_file(
        clip.to_str().expect("UTF-8"),
        "facedetector ! facerecognizer attach-embedding=true interval=0",
    )
    .expect("the clip plays");
    let (id, _) = ModelId::of("sface").expect("set up");
    let mut gallery = Gallery::new(id, 128);
    for frame in frames.iter().step_by(frames.len() / 8) {
        let mut faces: Vec<_> = frame.faces.iter().collect();
        faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
        for (i, face) in faces.iter().enumerate() {
            let embedding = face.embedding.as_ref().expect("attach-embedding is set");
            let row = Row {
                person: format!("person {i}"),
                source: String::new(),
            };
            gallery.push(row, &embedding.values);
        }
    }
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    gallery.write(file.path()).expect("writable");
    file
}

/// Name and gender of a track.
type Who = (String, String);

/// Frames per second, and the people seen.
fn ours(clip: &Path, gallery: &Path, detector: &str, interval: u32) -> (f64, Vec<Who>) {
    let pipeline = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! {QUEUE} ! facedetector {detector} ! {QUEUE} ! facetracker ! \
         facerecognizer gallery=\"{}\" interval={interval} ! faceagegender interval={interval} ! \
         facemetajson ! appsink name=out sync=false",
        clip.display(),
        gallery.display()
    ))
    .expect("a valid pipeline");
    pipeline.play().expect("it starts");
    let sink = pipeline.sink();
    let (mut frames, mut start, mut tracks) = (0, None, BTreeMap::new());
    while let Ok(sample) = sink.pull_sample() {
        // The first frame includes start-up, as in the loop.
        start.get_or_insert_with(Instant::now);
        let map = sample
            .buffer()
            .expect("a buffer")
            .map_readable()
            .expect("readable");
        let line: Value = serde_json::from_slice(&map).expect("valid JSON");
        if line["type"] == "frame" {
            frames += 1;
        } else {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            tracks.insert(line["track"].as_u64(), (text("name"), text("gender")));
        }
    }
    let seconds = start.expect("a frame").elapsed().as_secs_f64();
    let mut people: Vec<Who> = tracks.into_values().collect();
    people.sort();
    (f64::from(frames - 1) / seconds, people)
}

fn peer(clip: &Path) -> Option<f64> {
    let python = std::env::var_os("FACE_BENCH_PYTHON").unwrap_or("python3".into());
    let output = Command::new(python)
        .arg(root().join("benches/peers/opencv_loop.py"))
        .arg(clip)
        .arg("--models")
        .arg(root().join("models"))
        .args(["--frames", &PEER_FRAMES.to_string()])
        .output()
        .ok()?;
    serde_json::from_slice::<Value>(&output.stdout).ok()?["fps"].as_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() {
    face_tests::init();
    println!("file to JSON, frames a second, medians of {ROUNDS} runs in turn");
    println!(
        "{:>24} {:>32} {:>8} {:>8} {:>6}",
        "clip", "detector", "OpenCV", "ours", "ratio"
    );
    for (name, clip) in [
        ("six faces, 1080p", group_clip()),
        ("one face, 640x360", media("WolfgangLanger_Pexels.mp4")),
    ] {
        let gallery = gallery(&clip);
        let (_, expected) = ours(&clip, gallery.path(), "", 0);
        for detector in ["frames-in-flight=4", "interval=4 frames-in-flight=4"] {
            let (mut theirs, mut mine) = (Vec::new(), Vec::new());
            for _ in 0..ROUNDS {
                theirs.extend(peer(&clip));
                let (fps, people) = ours(&clip, gallery.path(), detector, 500);
                mine.push(fps);
                if people != expected {
                    println!("  {people:?} instead of {expected:?}");
                }
            }
            let (theirs, mine) = (median(theirs), median(mine));
            println!(
                "{name:>24} {detector:>32} {theirs:>8.1} {mine:>8.1} {:>6.1}",
                mine / theirs
            );
        }
    }
}
