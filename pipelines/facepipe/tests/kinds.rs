//! Kinds of video that cameras, editors and archives write. All are made of `single_face.mp4`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common::{
    FRAMES, analyze, assert_code, facepipe, frame_lines, lines, media, produce, run, stderr, stdout,
};

/// Writes the clip by way of `elements`.
fn clip(folder: &Path, name: &str, elements: &str) -> PathBuf {
    let path = folder.join(name);
    produce(&format!(
        "filesrc location={} ! decodebin ! videoconvert ! {elements} ! filesink location={}",
        media("single_face.mp4").display(),
        path.display()
    ));
    path
}

/// The frames of a video that `annotate` sees, with a video written, too.
fn frames(input: &Path) -> Vec<Value> {
    let output = run(facepipe()
        .arg("annotate")
        .arg(input)
        .args(["--json", "-", "--no-age-gender", "-o"])
        .arg(input.with_extension("out.mp4")));
    assert_code(&output, 0);
    frame_lines(&stdout(&output))
}

/// How many frames have the face where it is in the clip.
fn with_the_face(frames: &[Value]) -> usize {
    let is_there = |frame: &&Value| {
        let number = |name: &str| frame[name].as_f64().expect("a size");
        let faces = frame["faces"].as_array().expect("a list");
        let in_place = |face: &Value| {
            let cell = |i: usize| face["box"][i].as_f64().expect("a number");
            let x = (cell(0) + cell(2) / 2.0) / number("width");
            let y = (cell(1) + cell(3) / 2.0) / number("height");
            (x - 0.455).abs() < 0.1 && (y - 0.52).abs() < 0.15
        };
        faces.len() == 1 && in_place(&faces[0])
    };
    frames.iter().filter(is_there).count()
}

#[test]
fn rare_kinds_of_video_show_their_faces() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kinds = [
        // A camcorder.
        (
            "interlaced.mts",
            "video/x-raw,format=I420 ! capssetter caps=\"video/x-raw,interlace-mode=(string)interleaved,\
             field-order=(string)top-field-first\" ! x264enc interlaced=true ! h264parse ! mpegtsmux",
        ),
        // HDR of a phone: 10 bits, perceptual quantizer.
        (
            "hdr.mkv",
            "video/x-raw,format=I420_10LE ! capssetter caps=\"video/x-raw,colorimetry=(string)bt2100-pq\" \
             ! avenc_ffv1 ! matroskamux",
        ),
        // An editor's clip with a transparent background.
        (
            "prores.mov",
            "video/x-raw,format=A444_10LE ! avenc_prores_ks ! qtmux",
        ),
        // A stream without any container, and so without times.
        (
            "bare.h264",
            "x264enc key-int-max=30 ! video/x-h264,stream-format=byte-stream",
        ),
        ("motion.avi", "jpegenc ! avimux"),
        ("raw.avi", "video/x-raw,format=BGR ! avimux"),
        ("web.webm", "vp8enc deadline=1 ! webmmux"),
        (
            "fragments.mp4",
            "x264enc key-int-max=30 ! h264parse ! mp4mux fragment-duration=500",
        ),
    ];
    for (name, elements) in kinds {
        let frames = frames(&clip(folder.path(), name, elements));
        assert_eq!(frames.len(), FRAMES, "{name}");
        let found = with_the_face(&frames);
        assert!(found > FRAMES * 9 / 10, "{name}: {found} frames");
        let times: Vec<u64> = frames
            .iter()
            .filter_map(|f| f["stream_time"].as_u64())
            .collect();
        assert_eq!(times.len(), FRAMES, "{name}: each frame has a time");
        assert!(times.is_sorted_by(|a, b| a < b), "{name}: {times:?}");
    }
}

#[test]
fn a_transport_stream_that_begins_between_key_frames_is_played() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let elements = "x264enc key-int-max=12 ! h264parse ! mpegtsmux";
    let input = clip(folder.path(), "whole.ts", elements);
    let bytes = fs::read(&input).expect("written");
    let cut = folder.path().join("cut.ts");
    // Somewhere in a packet.
    fs::write(&cut, &bytes[bytes.len() / 3 + 7..]).expect("writable");
    let frames = frames(&cut);
    assert!((20..FRAMES).contains(&frames.len()), "{}", frames.len());
    assert!(with_the_face(&frames) > frames.len() / 2);
}

#[test]
fn sound_alone_is_said_to_have_no_video() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sound = folder.path().join("sound.mp4");
    produce(&format!(
        "audiotestsrc num-buffers=100 ! avenc_aac ! aacparse ! mp4mux ! filesink location={}",
        sound.display()
    ));
    let output = run(facepipe().arg("annotate").arg(&sound).args(["--json", "-"]));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("sound.mp4 has no video"),
        "{}",
        stderr(&output)
    );
    let output = run(&mut analyze(&[&sound], &folder.path().join("results")));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("sound.mp4 has no video"),
        "{}",
        stderr(&output)
    );
    let json = folder.path().join("faces.jsonl");
    let output = run(facepipe().args(["run", "file-to-json"]).args([
        format!("input={}", sound.display()),
        format!("output={}", json.display()),
    ]));
    assert_code(&output, 1);
    assert!(!json.exists());
}

/// Two grey frames of 16 x 16 pixels and 10 bits, as archives scan them: FFV1 in Matroska. GStreamer
/// 1.22 has no encoder that writes this.
const GREY10: &[u8] = include_bytes!("kinds/grey10.mkv");

#[test]
fn a_format_that_gstreamer_lacks_stops_only_its_own_input() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let good = folder.path().join("good.mp4");
    fs::copy(media("single_face.mp4"), &good).expect("copied");
    let grey = folder.path().join("grey.mkv");
    fs::write(&grey, GREY10).expect("writable");
    let results = folder.path().join("results");
    let output = run(&mut analyze(&[&grey, &good], &results));
    // Later versions of GStreamer may know the format.
    match results.join("grey").exists() {
        true => assert_code(&output, 0),
        false => assert_code(&output, 3),
    }
    assert_eq!(lines(&results, "good").0.len(), FRAMES);
}

#[test]
fn names_that_pipelines_cannot_take_are_refused_with_a_reason() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&[u8], i32, &str); 2] = [
        (b"input=new\nline.mp4", 1, "no multi-line values"),
        (b"input=\xff\xfe.mp4", 2, "not UTF-8"),
    ];
    for (value, code, expected) in cases {
        let output = run(facepipe()
            .current_dir(folder.path())
            .args(["run", "file-to-json"])
            .arg(std::ffi::OsStr::from_bytes(value)));
        assert_code(&output, code);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    // Other commands take any name.
    let odd = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"\xff\n.mp4"));
    fs::copy(media("single_face.mp4"), &odd).expect("copied");
    assert_eq!(frames(&odd).len(), FRAMES);
}
