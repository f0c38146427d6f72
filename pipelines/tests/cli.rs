//! The program as its users run it, on real photos and videos.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use gst::prelude::*;
use serde_json::Value;

use common::{assert_code, enroll, facepipe, media, names, people, run, stderr, stdout};

/// Frames of `single_face.mp4`.
const FRAMES: usize = 72;

/// What decoding a file gives: frames, size, and seconds of sound if there is any.
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
            gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(20)).expect("can be made");
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

/// Runs a pipeline to its end, to make an input.
fn produce(description: &str) {
    gst::init().expect("GStreamer starts");
    let pipeline = gst::parse::launch(description).expect("a valid pipeline");
    pipeline.set_state(gst::State::Playing).expect("starts");
    let message = pipeline
        .bus()
        .expect("has a bus")
        .timed_pop_filtered(
            gst::ClockTime::from_seconds(60),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        )
        .expect("ends in time");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    pipeline.set_state(gst::State::Null).expect("stops");
}

/// The lines of a JSON file, all of them valid, by their type.
fn json_lines(text: &str) -> (Vec<Value>, Vec<Value>) {
    assert!(text.ends_with('\n'), "the last line is whole");
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .partition(|value| value["type"] == "frame")
}

// ---- enroll

#[test]
fn enroll_takes_good_photos_and_says_why_it_leaves_others_out() {
    let folder = people(&[
        ("Ann", "single_face.jpg"),
        ("Tom Hanks", "Tom_Hanks_54745.png"),
        ("band", "multi_face.jpg"),
        ("nobody", "free-mountain-vector-01.jpg"),
    ]);
    let text = folder.path().join("people/nobody/text.jpg");
    fs::write(text, "no image at all").expect("writable");
    fs::write(folder.path().join("people/Ann/.DS_Store"), "hidden").expect("writable");

    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 3);
    let table = stdout(&output);
    for line in [
        "person     images  faces used  left out",
        "Ann             1           1         0",
        "Tom Hanks       1           1         0",
        "band            1           0         1",
        "4 people        5           2         3",
        "  band/multi_face.jpg: 5 faces; --largest takes the largest",
        "  nobody/free-mountain-vector-01.jpg: no face found",
        "  nobody/text.jpg: no readable image",
    ] {
        assert!(table.contains(line), "{line:?} is not in\n{table}");
    }
    assert_eq!(names(folder.path()), ["g.safetensors", "people"]);

    let gallery = gstfacerecog::gallery::Gallery::read(&folder.path().join("g.safetensors"))
        .expect("a gallery");
    assert_eq!(gallery.people(), ["Ann", "Tom Hanks"]);
    assert_eq!(gallery.rows()[1].source, "Tom Hanks/Tom_Hanks_54745.png");
    assert_eq!(
        (gallery.model.name.as_str(), gallery.dimensions()),
        ("sface", 128)
    );
}

#[test]
fn enroll_takes_the_largest_face_if_asked() {
    let folder = people(&[("band", "multi_face.jpg")]);
    assert_code(&run(&mut enroll(folder.path())), 1);
    assert_eq!(
        names(folder.path()),
        ["people"],
        "no usable face, no gallery"
    );

    let output = run(enroll(folder.path()).args(["--largest", "--json"]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON and nothing else");
    assert_eq!(report["used"], 1);
    assert_eq!(report["people"][0]["person"], "band");
    assert_eq!(report["left_out"], serde_json::json!([]));
}

#[test]
fn enroll_turns_photos_as_their_exif_data_says() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let upright = image::open(media("single_face.jpg")).expect("a photo");
    // Stored lying on its side, with the EXIF orientation 6: turn by 90° clockwise to view.
    let path = folder.path().join("people/Ann/phone.jpg");
    upright
        .rotate270()
        .into_rgb8()
        .save(&path)
        .expect("writable");
    let jpeg = fs::read(&path).expect("just written");
    let exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let mut turned = jpeg[..2].to_vec();
    turned.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
    turned.extend(exif);
    turned.extend(&jpeg[2..]);
    fs::write(&path, turned).expect("writable");

    assert_code(&run(&mut enroll(folder.path())), 0);
    let gallery = gstfacerecog::gallery::Gallery::read(&folder.path().join("g.safetensors"))
        .expect("a gallery");
    let distance = gallery.nearest(&gallery.embedding(0), 2)[1].distance;
    assert!(distance < 0.05, "the same face, upright: {distance}");
}

#[test]
fn enroll_explains_the_layout_it_expects() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = folder.path().join("people");
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("does not exist"));
    fs::create_dir(&to).expect("writable");
    fs::copy(media("single_face.jpg"), to.join("ann.jpg")).expect("writable");
    let output = run(&mut enroll(folder.path()));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("PEOPLE_DIR/Ann/photo.jpg"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn wrong_usage_is_2_and_wrong_models_are_named() {
    assert_code(&run(&mut facepipe()), 2);
    assert_code(&run(facepipe().args(["annotate", "a.mp4"])), 2);
    assert_code(
        &run(facepipe().args(["annotate", "a.mp4", "-o", "a.avi"])),
        2,
    );
    assert_code(
        &run(facepipe().args(["annotate", "a.mp4", "-o", "b.mp4", "--interval", "0"])),
        2,
    );
    let folder = people(&[("Ann", "single_face.jpg")]);
    let output = run(enroll(folder.path()).args(["--detector", "nonesuch"]));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("nonesuch.json"),
        "{}",
        stderr(&output)
    );
}

// ---- annotate

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
    // Odd sizes, too, which H.264 as players know it does not have.
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
    // As some H.264 streams behind RTSP have it; x264enc makes grey frames.
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
    // The track header's matrix says: turn by 90° clockwise to view.
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
fn no_command_repeats_the_secrets_of_an_address() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("results");
    let address = "rtsp://me:pw1x@127.0.0.1:1/user=a_password=pw2x?token=pw3x&channel=1";
    let json = folder.path().join("out.jsonl");
    let mut annotate = facepipe();
    annotate.arg("annotate").arg("--json").arg(&json);
    let mut analyze = facepipe();
    analyze.arg("analyze").arg("--json").arg("-o").arg(&results);
    let mut bench = facepipe();
    bench.arg("bench").arg("--json");
    for command in [&mut annotate, &mut analyze, &mut bench] {
        let output = run(command.arg(address));
        assert_code(&output, 1);
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("token=***&channel=1"), "{said}");
        for secret in ["pw1x", "pw2x", "pw3x"] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
    // The scheme was left out.
    let output = run(facepipe().args(["annotate", "cam/1?password=pw4x", "--json", "-"]));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("cam/1?password=*** does not exist"));
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
        // The same file by another name.
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

/// Starts on an endless input, and returns when the first frames are done.
fn start_endless(folder: &Path) -> (std::process::Child, impl BufRead + use<>) {
    let input = folder.join("long.mkv");
    // Large and many enough to take minutes.
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

fn interrupt(child: &std::process::Child) {
    // SAFETY: sends a signal to a child that is still ours, as it was not waited for.
    let sent = unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    assert_eq!(sent, 0);
}

#[test]
fn ctrl_c_leaves_whole_files() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut child, _lines) = start_endless(folder.path());
    interrupt(&child);
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

// ---- bench

/// What `bench --json` prints.
fn bench(arguments: &[&str]) -> Value {
    let output = run(facepipe()
        .arg("bench")
        .arg(media("single_face.mp4"))
        .arg("--json")
        .args(arguments));
    assert_code(&output, 0);
    serde_json::from_str(&stdout(&output)).expect("one JSON object")
}

#[test]
fn bench_tells_where_the_time_goes() {
    let folder = people(&[("Ann", "single_face.jpg"), ("Tom", "Tom_Hanks_54745.png")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    let gallery = folder.path().join("g.safetensors");
    let report = bench(&["--gallery", gallery.to_str().expect("UTF-8")]);
    assert_eq!(report["frames"], FRAMES);
    assert!(report["fps"].as_f64().is_some_and(|fps| fps > 0.0));
    assert!(report["peak_memory_bytes"].as_u64().is_some_and(|b| b > 0));
    let stages = report["stages"].as_array().expect("several");
    let elements: Vec<_> = stages.iter().map(|s| &s["element"]).collect();
    assert_eq!(
        elements,
        [
            "facedetector",
            "facetracker",
            "facerecognizer",
            "faceagegender"
        ]
    );
    for stage in stages {
        assert_eq!(stage["frames"], FRAMES, "{stage}");
        assert_eq!(stage["faces"], FRAMES, "{stage}");
        assert!(stage["ms_per_frame"].as_f64().is_some_and(|ms| ms > 0.0));
    }
    assert_eq!(stages[0]["inferences"], FRAMES);
    assert!(stages[1]["inferences"].is_null());
}

#[test]
fn bench_runs_copies_and_stops_early() {
    let report = bench(&[
        "--streams",
        "3",
        "--seconds",
        "1",
        "--no-age-gender",
        "--interval",
        "2",
    ]);
    // 29.97 frames a second.
    assert_eq!(report["frames"], 3 * 30);
    assert_eq!(report["stages"][0]["inferences"], 3 * 15);
    assert_eq!(report["stages"].as_array().map(Vec::len), Some(2));
}

#[test]
fn bench_prints_a_table_and_says_what_it_cannot_read() {
    let output = run(facepipe().arg("bench").arg(media("single_face.jpg")));
    assert_code(&output, 0);
    let text = stdout(&output);
    for part in ["1 frame in ", "first result after ", "faceagegender"] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let sound = folder.path().join("sound.wav");
    produce(&format!(
        "audiotestsrc num-buffers=4 ! wavenc ! filesink location={}",
        sound.display()
    ));
    let output = run(facepipe().arg("bench").arg(&sound));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("sound.wav has no video"),
        "{}",
        stderr(&output)
    );
}

/// Runs a command with so little memory that it dies where it reads without end.
fn run_small(arguments: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -v 6000000; exec timeout 120 \"$0\" \"$@\""])
        .arg(facepipe().get_program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("sh is installed");
    let mut stdin = child.stdin.take().expect("piped");
    // Fails where it is not read.
    let _ = std::io::Write::write_all(&mut stdin, input);
    drop(stdin);
    let output = child.wait_with_output().expect("a child");
    (output.status.code(), stderr(&output))
}

#[test]
fn what_has_no_end_is_read_up_to_a_limit() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let link = |name: &str| {
        let link = folder.path().join(name);
        fs::create_dir_all(link.parent().expect("in a folder")).expect("writable");
        std::os::unix::fs::symlink("/dev/zero", &link).expect("writable");
        link.display().to_string()
    };
    let zero = "/dev/zero";
    let empty = path("empty.jsonl");
    fs::write(&empty, "").expect("writable");
    let truth = path("truth.txt");
    fs::write(&truth, "1,1,0,0,10,10,1,-1,-1,-1\n").expect("writable");
    link("endless/Ann/photo.jpg");
    let clip = media("single_face.mp4").display().to_string();
    let out = path("out.jsonl");
    let commands: &[(&[&str], &str)] = &[
        (&["live", "--check", zero], zero),
        (&["top", "--once", "--config", zero], zero),
        (&["run", zero], zero),
        (&["evaluate", zero, &truth], zero),
        (&["evaluate", &empty, zero], zero),
        (&["evaluate", &empty, &truth, "--names", zero], zero),
        (
            &["enroll", &path("endless"), "-o", &path("g.safetensors")],
            "photo.jpg",
        ),
        (&["gallery", "info", zero], zero),
        (
            &["annotate", &clip, "--gallery", zero, "--json", &out],
            zero,
        ),
        (
            &[
                "annotate",
                &clip,
                "--detector",
                &link("m.onnx"),
                "--json",
                &out,
            ],
            "m.onnx",
        ),
        (&["forget", "Ann", zero], zero),
        (&["forget", "Ann", &link("lines.jsonl")], "lines.jsonl"),
    ];
    for (arguments, named) in commands {
        let (code, said) = run_small(arguments, b"");
        assert!(
            matches!(code, Some(1..=3)),
            "{arguments:?}: {code:?} {said}"
        );
        assert!(said.contains(named), "{arguments:?}: {said}");
    }

    // What has an end is read from a pipe, too.
    let config = format!(
        "state = \"{}\"\n[server]\ndisabled = true\n[[camera]]\nname = \"door\"\nuri = \"{clip}\"\n",
        path("state")
    );
    let (code, said) = run_small(&["live", "--check", "/dev/stdin"], config.as_bytes());
    assert_eq!(code, Some(0), "{said}");
    let endless = "#".repeat((4 << 20) + 1);
    let (code, said) = run_small(&["live", "--check", "/dev/stdin"], endless.as_bytes());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("longer than 4194304 bytes"), "{said}");
}

#[test]
fn nobody_has_to_take_what_it_says() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gallery = folder.path().join("g.safetensors");

    // A full disk, and a reader that is gone: the exit code still tells.
    let full = fs::File::options().write(true).open("/dev/full");
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(theirs);
    for stderr in [
        Stdio::from(full.expect("there")),
        Stdio::from(std::os::fd::OwnedFd::from(ours)),
    ] {
        let mut command = facepipe();
        command
            .args(["gallery", "info"])
            .arg(&gallery)
            .stderr(stderr);
        assert_eq!(command.status().expect("starts").code(), Some(1));
    }

    // A file that may not grow is an error as any other.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -f 0; exec \"$0\" run --list > \"$1\""])
        .arg(facepipe().get_program())
        .arg(folder.path().join("list"));
    let output = run(&mut command);
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("File too large"),
        "{}",
        stderr(&output)
    );

    // A reader that does not read: a signal ends the program.
    let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    while matches!(ours.write(b"x"), Ok(1)) {}
    ours.set_nonblocking(false).expect("a socket");
    let lock = fs::File::create(folder.path().join(".g.safetensors.lock")).expect("writable");
    lock.lock().expect("free");
    let mut command = facepipe();
    command.args(["gallery", "remove"]).arg(&gallery).arg("Ann");
    command.stderr(Stdio::from(std::os::fd::OwnedFd::from(ours)));
    let waits = command.spawn().expect("starts");
    // It takes signals over, and the lock keeps it from its end.
    let takes_over = || {
        let status = fs::read_to_string(format!("/proc/{}/status", waits.id())).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.expect("a line").trim(), 16).expect("a mask");
        caught & (1 << (libc::SIGTERM - 1)) != 0
    };
    let begun = Instant::now();
    while !takes_over() {
        assert!(begun.elapsed() < Duration::from_secs(50), "no handler");
        std::thread::sleep(Duration::from_millis(5));
    }
    common::ends_at_once(waits);
}
