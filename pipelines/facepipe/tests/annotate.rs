//! `facepipe annotate`, on real videos.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::Value;

use crate::common::{
    FRAMES, assert_code, enroll, facepipe, media, names, people, produce, run, signal, stderr,
    stdout,
};

/// The result of decoding a file: frames, size, and seconds of sound if there is any.
struct Decoded {
    frames: usize,
    size: (u32, u32),
    sound: Option<f64>,
}

fn decode(path: &Path) -> Decoded {
    gst::init().expect("GStreamer starts");
    let stream = |branch: &str| -> Vec<gst::Sample> {
        let description = format!(
            "filesrc location={} ! decodebin name=d {branch} ! appsink name=s sync=false",
            path.display()
        );
        let pipeline = gst::parse::launch(&description)
            .expect("a valid pipeline")
            .downcast::<gst::Pipeline>()
            .expect("several elements");
        let sink = pipeline
            .by_name("s")
            .and_downcast::<gst_app::AppSink>()
            .expect("the sink");
        pipeline.set_state(gst::State::Playing).expect("starts");
        let samples = std::iter::from_fn(|| sink.pull_sample().ok()).collect();
        let bus = pipeline.bus().expect("has a bus");
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        assert!(error.is_none(), "{}: {error:?}", path.display());
        pipeline.set_state(gst::State::Null).expect("stops");
        samples
    };
    let pictures = stream("d. ! video/x-raw ! identity");
    let caps = pictures
        .first()
        .and_then(|s| s.caps())
        .expect("at least one frame");
    let info = gst_video::VideoInfo::from_caps(caps).expect("raw video");
    let has_sound = {
        let discoverer =
            gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(20)).expect("can be created");
        let uri = glib::filename_to_uri(path, None).expect("absolute");
        let info = discoverer.discover_uri(&uri).expect("a playable file");
        !info.audio_streams().is_empty()
    };
    let sound = has_sound.then(|| {
        let samples = stream("d. ! audioconvert ! audio/x-raw,format=S16LE,channels=1");
        let bytes: usize = samples
            .iter()
            .filter_map(|s| s.buffer())
            .map(|b| b.size())
            .sum();
        let rate: i32 = samples
            .first()
            .and_then(|s| s.caps()?.structure(0)?.get("rate").ok())
            .expect("raw sound");
        bytes as f64 / 2.0 / f64::from(rate)
    });
    Decoded {
        frames: pictures.len(),
        size: (info.width(), info.height()),
        sound,
    }
}

/// The lines of a JSON file by their types. All must be valid.
fn json_lines(text: &str) -> (Vec<Value>, Vec<Value>) {
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .partition(|value| value["type"] == "frame")
}

#[test]
fn annotate_names_the_faces_in_a_video() {
    let folder = people(&[("Ann", "single_face.jpg"), ("Tom", "Tom_Hanks_54745.png")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let (video, json) = (
        folder.path().join("out.mp4"),
        folder.path().join("out.jsonl"),
    );
    let output = run(facepipe()
        .arg("annotate")
        .arg(media("single_face.mp4"))
        .arg("-o")
        .arg(&video)
        .arg("--json")
        .arg(&json)
        .arg("--gallery")
        .arg(folder.path().join("g.safetensors")));
    assert_code(&output, 0);
    assert!(
        stderr(&output).contains("72 frames in "),
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("× realtime"));
    assert_eq!(
        names(folder.path()),
        ["g.safetensors", "out.jsonl", "out.mp4", "people"]
    );

    let decoded = decode(&video);
    assert_eq!((decoded.frames, decoded.size), (FRAMES, (640, 360)));
    assert!(
        decoded.sound.is_some_and(|s| (2.2..2.6).contains(&s)),
        "{:?}",
        decoded.sound
    );

    let (frames, tracks) = json_lines(&fs::read_to_string(&json).expect("written"));
    assert_eq!(frames.len(), FRAMES);
    assert!(frames.iter().all(|f| f["faces"][0]["gender"].is_string()));
    // The photo and the video show the same man.
    assert_eq!(tracks.len(), 1);
    assert_eq!(tracks[0]["name"], "Ann");
}

#[test]
fn annotate_writes_json_alone_to_standard_output() {
    let output = run(facepipe()
        .arg("annotate")
        .arg(media("single_face.mp4"))
        .args([
            "--json",
            "-",
            "--no-age-gender",
            "--interval",
            "3",
            "--algorithm",
            "bytetrack",
        ]));
    assert_code(&output, 0);
    let (frames, tracks) = json_lines(&stdout(&output));
    assert_eq!((frames.len(), tracks.len()), (FRAMES, 1));
    let face = &frames[30]["faces"][0];
    assert!(
        face["age"].is_null() && face["name"].is_null() && face["track"].is_u64(),
        "{face}"
    );
}

#[test]
fn annotate_keeps_the_sound_and_copes_with_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let input = folder.path().join("in.mkv");
    let output = folder.path().join("out.mkv");
    let annotate = || {
        let result = run(facepipe()
            .arg("annotate")
            .arg(&input)
            .arg("-o")
            .arg(&output));
        assert_code(&result, 0);
        decode(&output)
    };
    // Includes odd sizes, which H.264 as players know it does not support.
    let video = "videotestsrc num-buffers=50 ! video/x-raw,width=321,height=241,framerate=25/1 \
                 ! avenc_ffv1 ! queue ! m.";
    let mux = format!("matroskamux name=m ! filesink location={}", input.display());
    produce(&format!(
        "{mux} {video} audiotestsrc num-buffers=80 samplesperbuffer=1200 \
         ! audio/x-raw,rate=48000,channels=2 ! vorbisenc ! queue ! m."
    ));
    let with_sound = annotate();
    assert_eq!((with_sound.frames, with_sound.size), (50, (320, 240)));
    assert!(
        with_sound.sound.is_some_and(|s| (s - 2.0).abs() < 0.1),
        "{:?}",
        with_sound.sound
    );

    produce(&format!("{mux} {video}"));
    let silent = annotate();
    assert_eq!((silent.frames, silent.sound), (50, None));
}

#[test]
fn annotate_keeps_every_frame_where_the_rate_varies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let input = folder.path().join("in.mkv");
    produce(&format!(
        "filesrc location={} ! decodebin ! videoconvert \
         ! capssetter caps=\"video/x-raw,framerate=(fraction)0/1\" ! vp8enc deadline=1 \
         ! matroskamux ! filesink location={}",
        media("single_face.mp4").display(),
        input.display()
    ));
    for name in ["out.mp4", "out.mkv"] {
        let output = folder.path().join(name);
        assert_code(
            &run(facepipe()
                .arg("annotate")
                .arg(&input)
                .arg("-o")
                .arg(&output)),
            0,
        );
        assert_eq!(decode(&output).frames, FRAMES, "{name}");
    }
}

#[test]
fn annotate_shows_a_picture_where_the_rate_cannot_be_true() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Some H.264 streams over RTSP have this rate, and x264enc makes grey frames of it.
    let size = |rate: &str| {
        let input = folder.path().join("in.mkv");
        produce(&format!(
            "filesrc location={} ! decodebin ! videoconvert \
             ! capssetter caps=\"video/x-raw,framerate=(fraction){rate}\" ! jpegenc \
             ! matroskamux ! filesink location={}",
            media("single_face.mp4").display(),
            input.display()
        ));
        let output = folder.path().join("out.mp4");
        assert_code(
            &run(facepipe()
                .arg("annotate")
                .arg(&input)
                .arg("-o")
                .arg(&output)),
            0,
        );
        fs::metadata(&output).expect("written").len()
    };
    let (usual, odd) = (size("30/1"), size("24000/1"));
    assert!(5 * odd > 4 * usual, "{odd} bytes instead of {usual}");
}

#[test]
fn annotate_turns_rotated_videos_upright() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (input, output) = (folder.path().join("in.mp4"), folder.path().join("out.mp4"));
    let json = folder.path().join("out.jsonl");
    produce(&format!(
        "filesrc location={} ! decodebin ! videoflip video-direction=90l ! x264enc ! mp4mux \
         ! filesink location={}",
        media("single_face.mp4").display(),
        input.display()
    ));
    // The matrix in the track header means: turn by 90° clockwise to view.
    let mut mp4 = fs::read(&input).expect("just written");
    let header = mp4
        .windows(4)
        .position(|w| w == b"tkhd")
        .expect("an mp4 has one");
    let turned: [i32; 9] = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x4000_0000];
    for (i, number) in turned.into_iter().enumerate() {
        let at = header + 44 + 4 * i;
        mp4[at..at + 4].copy_from_slice(&number.to_be_bytes());
    }
    fs::write(&input, mp4).expect("writable");

    let result = run(facepipe()
        .arg("annotate")
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .arg("--json")
        .arg(&json));
    assert_code(&result, 0);
    let decoded = decode(&output);
    assert_eq!((decoded.frames, decoded.size), (FRAMES, (640, 360)));
    let (frames, _) = json_lines(&fs::read_to_string(&json).expect("written"));
    assert_eq!(
        (&frames[9]["width"], &frames[9]["height"]),
        (&640.into(), &360.into())
    );
    let eyes = &frames[9]["faces"][0]["landmarks"];
    let level = eyes[0][1]
        .as_f64()
        .zip(eyes[1][1].as_f64())
        .expect("two eyes");
    assert!(
        (level.0 - level.1).abs() < 20.0,
        "an upright face has level eyes: {eyes}"
    );
}

#[test]
fn annotate_says_what_it_cannot_read_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = folder.path().join("text.mp4");
    fs::write(&text, "This is no video.\n".repeat(99)).expect("writable");
    let sound = folder.path().join("sound.mkv");
    produce(&format!(
        "audiotestsrc num-buffers=20 ! vorbisenc ! matroskamux ! filesink location={}",
        sound.display()
    ));
    let video = media("single_face.mp4");
    let missing = folder.path().join("missing.mp4");
    let nothing = folder.path().join("nothing.safetensors");
    let cases: [(&Path, Option<&Path>, &str); 5] = [
        (&missing, None, "missing.mp4 does not exist"),
        (&text, None, "text.mp4: "),
        (&sound, None, "sound.mkv has no video"),
        (folder.path(), None, "is a folder"),
        (&video, Some(&nothing), "nothing.safetensors"),
    ];
    for (input, gallery, expected) in cases {
        let mut command = facepipe();
        command
            .arg("annotate")
            .arg(input)
            .arg("-o")
            .arg(folder.path().join("out.mp4"));
        command.arg("--json").arg(folder.path().join("out.jsonl"));
        command.args(
            gallery
                .map(|g| vec![Path::new("--gallery"), g])
                .unwrap_or_default(),
        );
        let output = run(&mut command);
        assert_code(&output, 1);
        assert!(
            stderr(&output).contains(expected),
            "{expected}: {}",
            stderr(&output)
        );
    }
    let output = run(facepipe().arg("annotate").arg(&sound).arg("-o").arg(
        // The same file under another name.
        folder
            .path()
            .join("../")
            .join(folder.path().file_name().expect("named"))
            .join("sound.mkv"),
    ));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("would be replaced"),
        "{}",
        stderr(&output)
    );
    let mut command = facepipe();
    command
        .arg("annotate")
        .arg(&video)
        .args(["--json", "/dev/full"]);
    command.args(["--interval", "30", "--inference-size", "160"]);
    let output = run(&mut command);
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("the output cannot be written"),
        "{}",
        stderr(&output)
    );
    assert_eq!(names(folder.path()), ["sound.mkv", "text.mp4"]);
}

/// Starts on an endless input. Returns when the first frames are done.
fn start_endless(folder: &Path) -> (std::process::Child, impl BufRead + use<>) {
    let input = folder.join("long.mkv");
    // Large and numerous enough to take minutes.
    produce(&format!(
        "videotestsrc num-buffers=3000 pattern=snow ! video/x-raw,width=64,height=64 \
         ! avenc_ffv1 ! matroskamux ! filesink location={}",
        input.display()
    ));
    let mut child = facepipe()
        .arg("annotate")
        .arg(&input)
        .arg("-o")
        .arg(folder.join("out.mp4"))
        .arg("--json")
        .arg(folder.join("out.jsonl"))
        .args(["--inference-size", "1280"])
        .stderr(Stdio::piped())
        .spawn()
        .expect("facepipe starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("fps") {
        line.clear();
        assert!(
            lines.read_line(&mut line).expect("text") > 0,
            "ended without progress"
        );
    }
    (child, lines)
}

#[test]
fn ctrl_c_leaves_whole_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut child, _lines) = start_endless(folder.path());
    signal(&child, libc::SIGINT);
    let since = Instant::now();
    let status = child.wait().expect("ends");
    assert_eq!(status.code(), Some(130));
    assert!(since.elapsed() < Duration::from_secs(20));
    assert_eq!(names(folder.path()), ["long.mkv", "out.jsonl", "out.mp4"]);

    let decoded = decode(&folder.path().join("out.mp4"));
    let text = fs::read_to_string(folder.path().join("out.jsonl")).expect("written");
    let (frames, _) = json_lines(&text);
    assert!((1..3000).contains(&decoded.frames), "{}", decoded.frames);
    assert_eq!(frames.len(), decoded.frames);
}
