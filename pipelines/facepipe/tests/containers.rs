//! What containers say about their streams: trims, turns, the default stream, and how long the file
//! should be. The media are made here.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Output;

use gst::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::{assert_code, facepipe, frame_lines, media, produce, run, stderr};

/// Frames per second of the media.
const RATE: u64 = 25;

/// Samples of sound per second.
const SAMPLES: u64 = 48_000;

/// Writes `seconds` of grey video and silence through `mux`. Once a second, a white frame comes with
/// a beep.
fn flashes(path: &Path, seconds: u64, mux: &str) {
    gst::init().expect("GStreamer starts");
    let line = format!(
        "{mux} name=m ! filesink location={} \
         appsrc name=v format=time caps=video/x-raw,format=GRAY8,width=64,height=64,framerate={RATE}/1 \
         ! videoconvert ! x264enc key-int-max=25 ! h264parse ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! m. \
         appsrc name=a format=time caps=audio/x-raw,format=S16LE,layout=interleaved,rate={SAMPLES},channels=1 \
         ! audioconvert ! avenc_aac ! aacparse ! queue max-size-time=0 max-size-bytes=0 max-size-buffers=0 ! m.",
        path.display()
    );
    let pipeline = gst::parse::launch(&line).expect("a valid line");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    let source = |name: &str| {
        let source = pipeline.by_name(name).expect("named above");
        source.downcast::<gst_app::AppSrc>().expect("an appsrc")
    };
    let (video, audio) = (source("v"), source("a"));
    pipeline.set_state(gst::State::Playing).expect("starts");
    let duration = gst::ClockTime::SECOND / RATE;
    for frame in 0..seconds * RATE {
        let is_flash = frame % RATE == 0;
        let push = |source: &gst_app::AppSrc, bytes: Vec<u8>| {
            let mut buffer = gst::Buffer::from_mut_slice(bytes);
            let writable = buffer.get_mut().expect("new");
            writable.set_pts(duration * frame);
            writable.set_duration(duration);
            source.push_buffer(buffer).expect("is taken");
        };
        push(&video, vec![if is_flash { 235 } else { 40 }; 64 * 64]);
        let samples = (0..SAMPLES / RATE).flat_map(|sample| {
            let loud = if sample / 24 % 2 == 0 {
                20_000i16
            } else {
                -20_000
            };
            (if is_flash { loud } else { 0 }).to_le_bytes()
        });
        push(&audio, samples.collect());
    }
    for source in [video, audio] {
        source.end_of_stream().expect("is taken");
    }
    let bus = pipeline.bus().expect("has a bus");
    let ends = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &ends);
    pipeline.set_state(gst::State::Null).expect("stops");
    let message = message.expect("ends in time");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

/// The samples of a stream of a file, as `caps`, with their times as players show them.
fn decode(path: &Path, caps: &str) -> Vec<(f64, Vec<u8>)> {
    gst::init().expect("GStreamer starts");
    let convert = match caps.starts_with("video") {
        true => "videoconvert",
        false => "audioconvert",
    };
    let line = format!(
        "filesrc location={} ! decodebin ! {convert} ! {caps} ! appsink name=s sync=false",
        path.display()
    );
    let pipeline = gst::parse::launch(&line).expect("a valid line");
    let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
    let sink = pipeline.by_name("s").and_downcast::<gst_app::AppSink>();
    let sink = sink.expect("named above");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let read = |sample: gst::Sample| {
        let buffer = sample.buffer().expect("a buffer");
        let segment = sample.segment().expect("a segment");
        let segment = segment.downcast_ref::<gst::ClockTime>().expect("of time");
        let time = segment
            .to_stream_time(buffer.pts())
            .expect("in the segment");
        let bytes = buffer.map_readable().expect("readable");
        (time.nseconds() as f64 / 1e9, bytes.to_vec())
    };
    let samples = std::iter::from_fn(|| sink.pull_sample().ok()).map(read);
    let samples = samples.collect();
    pipeline.set_state(gst::State::Null).expect("stops");
    samples
}

/// The times at which the frames of a video become white, and how many frames there are.
fn seen(path: &Path) -> (Vec<f64>, usize) {
    let frames = decode(path, "video/x-raw,format=GRAY8");
    let white = |frame: &[u8]| frame[frame.len() / 2] > 150;
    let flashes = frames.iter().filter(|(_, frame)| white(frame));
    (flashes.map(|(time, _)| *time).collect(), frames.len())
}

/// The times at which the sound of a file becomes loud, and how long it is.
fn heard(path: &Path) -> (Vec<f64>, f64) {
    let blocks = decode(path, "audio/x-raw,format=S16LE,channels=1");
    let mut beeps: Vec<f64> = Vec::new();
    let mut end = 0.0;
    for (time, block) in &blocks {
        for (index, sample) in block.chunks_exact(2).enumerate() {
            let at = time + index as f64 / SAMPLES as f64;
            let loud = i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 6000;
            if loud && beeps.last().is_none_or(|last| at - last > 0.5) {
                beeps.push(at);
            }
            end = at;
        }
    }
    (beeps, end - blocks.first().expect("sound").0)
}

/// The boxes of an MP4 at the top of `bytes`: kind, where each begins, and where its content does.
fn boxes(bytes: &[u8]) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + 8 <= bytes.len() {
        let size = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let end = at + size as usize;
        found.push((
            String::from_utf8_lossy(&bytes[at + 4..at + 8]).into_owned(),
            at..end,
        ));
        at = end;
    }
    found
}

/// A box with this content.
fn a_box(kind: &str, content: &[u8]) -> Vec<u8> {
    let size = (8 + content.len() as u32).to_be_bytes();
    [&size[..], kind.as_bytes(), content].concat()
}

/// Writes the index of an MP4 again, with `change` applied to the content of each box by its kind.
fn rewrite(path: &Path, change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) {
    fn edit(bytes: &[u8], change: &dyn Fn(&str, Vec<u8>) -> Vec<u8>) -> Vec<u8> {
        let edit_one = |(kind, range): (String, Range<usize>)| {
            let content = &bytes[range.start + 8..range.end];
            let content = match kind.as_str() {
                "moov" | "trak" | "mdia" => edit(content, change),
                _ => content.to_vec(),
            };
            a_box(&kind, &change(&kind, content))
        };
        boxes(bytes).into_iter().flat_map(edit_one).collect()
    }
    let bytes = fs::read(path).expect("written");
    // The index comes behind the frames, so its length does not matter.
    let kinds = boxes(&bytes);
    let place = |kind: &str| kinds.iter().position(|(k, _)| k == kind);
    let index = place("moov").expect("an index");
    assert!(Some(index) > place("mdat"), "{kinds:?}");
    let index = &kinds[index].1;
    let edited = edit(&bytes[index.clone()], change);
    let parts = [&bytes[..index.start], &edited, &bytes[index.end..]];
    fs::write(path, parts.concat()).expect("writable");
}

fn put(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
}

fn get(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Makes an MP4 begin at `start` milliseconds, as `ffmpeg -ss … -c copy` does: with an edit list.
fn trim(path: &Path, start: u32) {
    let bytes = fs::read(path).expect("written");
    let at = |kind: &[u8]| bytes.windows(4).position(|w| w == kind).expect("there") + 4;
    let (scale, whole) = (get(&bytes, at(b"mvhd") + 12), get(&bytes, at(b"mvhd") + 16));
    let left = whole - start * scale / 1000;
    rewrite(path, &move |kind, mut content| {
        match kind {
            "mvhd" => put(&mut content, 16, left),
            "tkhd" => put(&mut content, 20, left),
            "trak" => {
                let found = boxes(&content);
                let part = |kind: &str| found.iter().find(|(k, _)| k == kind);
                let media = part("mdia").expect("there").1.clone();
                let inner = &content[media.start + 8..media.end];
                let head = boxes(inner).into_iter().find(|(kind, _)| kind == "mdhd");
                let head = &inner[head.expect("there").1];
                let skipped = (u64::from(get(head, 20)) * u64::from(start) / 1000) as u32;
                let words = [0, 1, left, skipped, 1 << 16];
                let list: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
                let edits = a_box("edts", &a_box("elst", &list));
                // In place of the muxer's own one.
                let old = part("edts").map_or(media.start..media.start, |(_, old)| old.clone());
                content.splice(old, edits);
            }
            _ => {}
        }
        content
    });
}

fn annotate(input: &Path, output: &Path) -> Output {
    let json = output.with_extension("jsonl");
    run(facepipe()
        .arg("annotate")
        .arg(input)
        .arg("-o")
        .arg(output)
        .arg("--json")
        .arg(json))
}

/// The lines about frames in a file.
fn frames(path: &Path) -> Vec<Value> {
    frame_lines(&fs::read_to_string(path).expect("written"))
}

fn workplace() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn a_trimmed_file_keeps_every_frame_and_sample() {
    let folder = workplace();
    let (input, output) = (folder.path().join("in.mp4"), folder.path().join("out.mp4"));
    flashes(&input, 6, "mp4mux");
    trim(&input, 1400);

    assert_code(&annotate(&input, &output), 0);
    let (flashes, count) = seen(&output);
    let (beeps, length) = heard(&output);
    assert!((114..=116).contains(&count), "{count} frames of 4.6 s");
    assert!((length - 4.6).abs() < 0.06, "{length} s of 4.6 s of sound");
    assert_eq!(
        (flashes.len(), beeps.len()),
        (4, 4),
        "{flashes:?} {beeps:?}"
    );
    for (flash, beep) in flashes.iter().zip(&beeps) {
        assert!((flash - beep).abs() < 0.04, "{flashes:?} {beeps:?}");
    }
    // The first of them is at 2 s of the whole file, whose B-frames begin two frames later.
    assert!((flashes[0] - 0.68).abs() < 0.041, "{flashes:?}");

    let lines = frames(&output.with_extension("jsonl"));
    assert_eq!(lines.len(), count);
    assert_eq!(lines[0]["stream_time"], 0);
    assert!(lines[0]["pts"].as_u64() > Some(1_000_000_000));

    let json = folder.path().join("run.jsonl");
    let result = run(facepipe().args(["run", "file-to-json"]).args([
        format!("input={}", input.display()),
        format!("output={}", json.display()),
    ]));
    assert_code(&result, 0);
    assert_eq!(frames(&json), lines);
}

/// The first frame of `single_face.mp4` in each of the eight orientations of the Exif standard, as a
/// video whose header says how to turn it.
fn turned(folder: &Path) -> Vec<(u32, PathBuf)> {
    // Matrix and what undoes it.
    let orientations = [
        ([1, 0, 0, 1], "identity"),
        ([-1, 0, 0, 1], "horiz"),
        ([-1, 0, 0, -1], "180"),
        ([1, 0, 0, -1], "vert"),
        ([0, 1, 1, 0], "ul-lr"),
        ([0, 1, -1, 0], "90l"),
        ([0, -1, -1, 0], "ur-ll"),
        ([0, -1, 1, 0], "90r"),
    ];
    let make = |(number, (matrix, direction)): (u32, ([i32; 4], &str))| {
        let path = folder.join(format!("{number}.mp4"));
        produce(&format!(
            "filesrc location={} ! decodebin ! identity eos-after=4 ! videoconvert \
             ! videoflip video-direction={direction} ! x264enc ! mp4mux ! filesink location={}",
            media("single_face.mp4").display(),
            path.display()
        ));
        let [a, b, c, d] = matrix.map(|cell| cell << 16);
        rewrite(&path, &move |kind, mut content| {
            if kind == "tkhd" {
                for (place, cell) in [(0, a), (1, b), (3, c), (4, d)] {
                    put(&mut content, 40 + 4 * place, cell as u32);
                }
            }
            content
        });
        (number, path)
    };
    (1..).zip(orientations).map(make).collect()
}

/// The landmarks of the only face on the first frame.
fn landmarks(lines: &[Value]) -> Vec<f64> {
    let points = lines[0]["faces"][0]["landmarks"].as_array();
    let points = points.unwrap_or_else(|| panic!("no face: {}", lines[0]));
    let numbers = points.iter().flat_map(|p| p.as_array().expect("a point"));
    numbers.map(|n| n.as_f64().expect("a number")).collect()
}

#[test]
fn all_eight_orientations_are_shown_upright() {
    let folder = workplace();
    let mut upright: Option<Vec<f64>> = None;
    for (number, input) in turned(folder.path()) {
        let annotated = folder.path().join(format!("annotated-{number}.mp4"));
        assert_code(&annotate(&input, &annotated), 0);
        let played = folder.path().join(format!("played-{number}.jsonl"));
        let result = run(facepipe().args(["run", "file-to-json"]).args([
            format!("input={}", input.display()),
            format!("output={}", played.display()),
        ]));
        assert_code(&result, 0);
        for json in [annotated.with_extension("jsonl"), played] {
            let lines = frames(&json);
            let found = landmarks(&lines);
            let size = (&lines[0]["width"], &lines[0]["height"]);
            assert_eq!(size, (&640.into(), &360.into()), "{}", json.display());
            let expected = upright.get_or_insert_with(|| found.clone());
            let far = found
                .iter()
                .zip(expected.iter())
                .map(|(a, b)| (a - b).abs());
            let far = far.fold(0.0, f64::max);
            assert!(far < 4.0, "{}: {far} pixels", json.display());
        }
    }
}

/// The content of the first element with this id among those in `parent`, of a Matroska file.
fn element(bytes: &[u8], parent: &Range<usize>, id: &[u8]) -> Range<usize> {
    let mut at = parent.start;
    while at < parent.end {
        let id_length = bytes[at].leading_zeros() as usize + 1;
        let length = bytes[at + id_length].leading_zeros() as usize + 1;
        let start = at + id_length + length;
        let size = bytes[at + id_length..start].iter();
        let size = size.fold(0, |n, b| n << 8 | u64::from(*b)) & ((1 << (7 * length)) - 1);
        let end = parent.end.min(start.saturating_add(size as usize));
        if bytes[at..at + id_length] == *id {
            return start..end;
        }
        at = end;
    }
    panic!("no element {id:x?}");
}

/// Inserts `added` into a Matroska file, at the beginning of the last of these elements, each inside
/// the one before.
fn insert(path: &Path, ids: &[&[u8]], added: &[u8]) {
    let mut bytes = fs::read(path).expect("written");
    let mut range = 0..bytes.len();
    let mut grown = Vec::new();
    for id in ids {
        range = element(&bytes, &range, id);
        grown.push(range.start);
    }
    // A segment that is written to a stream has no size.
    for start in &grown[1..] {
        let mut carry = added.len();
        for at in (0..*start).rev() {
            carry += usize::from(bytes[at]);
            bytes[at] = (carry & 0xff) as u8;
            carry >>= 8;
            if carry == 0 {
                break;
            }
        }
    }
    bytes.splice(range.start..range.start, added.iter().copied());
    fs::write(path, bytes).expect("writable");
}

const SEGMENT: &[u8] = &[0x18, 0x53, 0x80, 0x67];
const TRACKS: &[u8] = &[0x16, 0x54, 0xAE, 0x6B];
const TRACK_ENTRY: &[u8] = &[0xAE];
const VIDEO: &[u8] = &[0xE0];

#[test]
fn a_turned_matroska_video_is_shown_upright() {
    let folder = workplace();
    let (input, output) = (folder.path().join("in.mkv"), folder.path().join("out.mkv"));
    produce(&format!(
        "filesrc location={} ! decodebin ! identity eos-after=4 ! videoconvert \
         ! videoflip video-direction=90l ! x264enc ! matroskamux streamable=true \
         ! filesink location={}",
        media("single_face.mp4").display(),
        input.display()
    ));
    // A projection that turns by 90° clockwise.
    let roll = (-90f32).to_be_bytes();
    let projection = [&[0x76, 0x70, 0x87, 0x76, 0x75, 0x84][..], &roll].concat();
    insert(&input, &[SEGMENT, TRACKS, TRACK_ENTRY, VIDEO], &projection);

    assert_code(&annotate(&input, &output), 0);
    let lines = frames(&output.with_extension("jsonl"));
    let size = (&lines[0]["width"], &lines[0]["height"]);
    assert_eq!(size, (&640.into(), &360.into()));
    let found = landmarks(&lines);
    let level = (found[1] - found[3]).abs();
    assert!(level < 20.0, "an upright face has level eyes: {found:?}");
}

#[test]
fn the_default_video_is_taken() {
    let folder = workplace();
    for (mux, suffix) in [("mp4mux", "mp4"), ("matroskamux streamable=true", "mkv")] {
        let input = folder.path().join(format!("two.{suffix}"));
        let video = |width: u32| {
            format!(
                "videotestsrc num-buffers=10 ! video/x-raw,width={width},height=64 ! x264enc \
                 ! h264parse ! queue ! m."
            )
        };
        produce(&format!(
            "{mux} name=m ! filesink location={} {} {}",
            input.display(),
            video(96),
            video(160)
        ));
        let width = |name: &str| {
            let output = folder.path().join(name);
            assert_code(&annotate(&input, &output), 0);
            let lines = frames(&output.with_extension("jsonl"));
            assert_eq!(lines.len(), 10);
            let played = folder.path().join("played.jsonl");
            let result = run(facepipe().args(["run", "file-to-json"]).args([
                format!("input={}", input.display()),
                format!("output={}", played.display()),
            ]));
            assert_code(&result, 0);
            assert_eq!(frames(&played)[0]["width"], lines[0]["width"]);
            lines[0]["width"].as_u64().expect("a number")
        };
        let first = width("first.mkv");
        if suffix == "mp4" {
            // The flags of the first track: it is not enabled.
            let mut bytes = fs::read(&input).expect("written");
            let header = bytes.windows(4).position(|w| w == b"tkhd").expect("there");
            bytes[header + 7] &= !1;
            fs::write(&input, bytes).expect("writable");
        } else {
            // The first track is not the default one.
            insert(&input, &[SEGMENT, TRACKS, TRACK_ENTRY], &[0x88, 0x81, 0x00]);
        }
        assert_eq!(width("second.mkv"), 96 + 160 - first, "{suffix}");
    }
}

#[test]
fn a_file_that_ends_early_is_said() {
    let folder = workplace();
    let whole = folder.path().join("whole.mp4");
    produce(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! x264enc key-int-max=15 \
         ! mp4mux faststart=true ! filesink location={}",
        media("single_face.mp4").display(),
        whole.display()
    ));
    let bytes = fs::read(&whole).expect("written");
    let kinds: Vec<String> = boxes(&bytes).into_iter().map(|(kind, _)| kind).collect();
    let index = kinds.iter().position(|kind| kind == "moov");
    assert!(
        index < kinds.iter().position(|kind| kind == "mdat"),
        "{kinds:?}"
    );
    let cut = folder.path().join("cut.mp4");
    let length = bytes.len() * 6 / 10;
    fs::write(&cut, &bytes[..length]).expect("writable");
    let said = format!(
        "cut.mp4: the file ends early: {length} of {} bytes are there",
        bytes.len()
    );

    let output = annotate(&cut, &folder.path().join("out.mp4"));
    assert_code(&output, 3);
    assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    let count = frames(&folder.path().join("out.jsonl")).len();
    assert!((10..70).contains(&count), "{count} frames");

    let results = folder.path().join("results");
    for _ in 0..2 {
        let output = run(&mut crate::common::analyze(&[&cut], &results));
        assert_code(&output, 3);
        assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    }
    let output = run(facepipe().args(["run", "file-to-json"]).args([
        format!("input={}", cut.display()),
        format!("output={}", folder.path().join("run.jsonl").display()),
    ]));
    assert_code(&output, 3);
    assert!(stderr(&output).contains(&said), "{}", stderr(&output));
    // The whole file is fine.
    assert_code(&annotate(&whole, &folder.path().join("out.mp4")), 0);
}

#[test]
fn a_recording_without_an_index_is_said_to_be_that() {
    let folder = workplace();
    let bytes = fs::read(media("single_face.mp4")).expect("readable");
    let kinds = boxes(&bytes);
    let (kind, index) = kinds.last().expect("has boxes");
    assert_eq!(kind, "moov", "{kinds:?}");
    let input = folder.path().join("unfinished.mp4");
    fs::write(&input, &bytes[..index.start]).expect("writable");
    let said = "unfinished.mp4: it has no index: the recording was not finished";
    let output = annotate(&input, &folder.path().join("out.mp4"));
    assert_code(&output, 1);
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
    let results = folder.path().join("results");
    let output = run(&mut crate::common::analyze(&[&input], &results));
    assert_code(&output, 1);
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
    let output = run(facepipe().args(["run", "file-to-json"]).args([
        format!("input={}", input.display()),
        format!("output={}", folder.path().join("run.jsonl").display()),
    ]));
    assert_code(&output, 1);
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}
