//! `facepipe run` and all ready pipelines.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{
    assert_code, cmyk_tiff, enroll, facepipe, jpeg_with_orientation, media, names, people, run,
    stderr, stdout, stored,
};

/// A folder with a clip, a picture and a gallery of the person in the clip.
fn workplace() -> TempDir {
    let folder = people(&[("selfie", "single_face.jpg")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    fs::copy(media("single_face.mp4"), folder.path().join("my clip.mp4")).expect("copied");
    fs::copy(media("t1.jpg"), folder.path().join("group.jpg")).expect("copied");
    folder
}

fn facepipe_run(folder: &Path, args: &[&str]) -> Output {
    run(facepipe().arg("run").args(args).current_dir(folder))
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn read_lines(path: PathBuf) -> Vec<Value> {
    lines(&fs::read_to_string(path).expect("written"))
}

/// The number of frames in a file, according to GStreamer's own tool.
fn frames(path: &Path) -> usize {
    let line = "gst-launch-1.0 -v filesrc location=\"$0\" ! decodebin ! identity silent=false ! \
                fakesink | grep -c 'chain   \\*\\*\\*'";
    let output = Command::new("sh").args(["-c", line]).arg(path).output();
    let count = stdout(&output.expect("sh runs"));
    count.trim().parse().expect("a number")
}

#[test]
fn files_to_json_names_and_video() {
    let folder = workplace();
    let input = "input=my clip.mp4";
    let gallery = "gallery=g.safetensors";

    assert_code(
        &facepipe_run(folder.path(), &["file-to-json", input, gallery]),
        0,
    );
    let json = read_lines(folder.path().join("faces.jsonl"));
    assert_eq!(json.len(), 73);
    assert!(
        json.iter()
            .take(72)
            .all(|l| l["faces"][0]["name"] == "selfie")
    );
    assert!(json[72]["age"].is_number());

    assert_code(
        &facepipe_run(folder.path(), &["file-to-names", input, gallery]),
        0,
    );
    let named = read_lines(folder.path().join("names.jsonl"));
    assert_eq!(named.len(), 1, "a line per track");
    assert_eq!(named[0]["name"], "selfie");
    assert_eq!(named[0]["frames"], 15, "faces were looked for on a fifth");

    assert_code(&facepipe_run(folder.path(), &["file-to-video", input]), 0);
    assert_eq!(frames(&folder.path().join("faces.mp4")), 72);

    let picture = facepipe_run(folder.path(), &["picture-to-json", "input=group.jpg"]);
    assert_code(&picture, 0);
    let picture = lines(&stdout(&picture));
    assert_eq!(picture[0]["faces"].as_array().map(Vec::len), Some(6));
    let left = [
        "faces.jsonl",
        "faces.mp4",
        "g.safetensors",
        "group.jpg",
        "my clip.mp4",
        "names.jsonl",
        "people",
    ];
    assert_eq!(names(folder.path()), left);
}

/// Pipelines that read a camera, which the clip replaces here.
#[test]
fn cameras_to_screen_rtsp_and_hls() {
    let folder = workplace();
    let sources = [
        ("v4l2src device=${device}", "filesrc location=${device}"),
        (
            "rtspsrc location=${input} latency=${latency} ! application/x-rtp,media=video",
            "filesrc location=${input} blocksize=${latency}",
        ),
        (
            "rtspclientsink location=${output} protocols=tcp",
            "matroskamux ! filesink location=${output}",
        ),
    ];
    fs::create_dir(folder.path().join("hls")).expect("writable");
    for (name, values) in [
        (
            "webcam-to-screen",
            &["device=my clip.mp4", "sink=fakesink"][..],
        ),
        (
            "rtsp-to-screen",
            &["input=my clip.mp4", "latency=4096", "sink=fakesink"],
        ),
        (
            "rtsp-to-rtsp",
            &["input=my clip.mp4", "latency=4096", "output=sent.mkv"],
        ),
        (
            "rtsp-to-hls",
            &["input=my clip.mp4", "latency=4096", "folder=hls"],
        ),
    ] {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../ready")
            .join(format!("{name}.gst"));
        let mut text = fs::read_to_string(file).expect("committed");
        for (from, to) in sources {
            text = text.replace(from, to);
        }
        assert!(text.contains("filesrc"), "{name}");
        // A file is faster than a camera, and none of it may be dropped.
        text = text.replace("leaky=downstream", "leaky=no");
        fs::write(folder.path().join("here.gst"), text).expect("writable");
        let mut args = vec!["here.gst", "gallery=g.safetensors"];
        args.extend(values);
        let output = facepipe_run(folder.path(), &args);
        assert_code(&output, 0);
        assert!(
            stderr(&output).contains("72 frames"),
            "{name}: {}",
            stderr(&output)
        );
    }
    // At 25 frames per second.
    let sent = frames(&folder.path().join("sent.mkv"));
    assert!((59..=62).contains(&sent), "{sent} frames");
    let list = fs::read_to_string(folder.path().join("hls/faces.m3u8")).expect("written");
    assert!(list.contains("faces-00000.ts"), "{list}");
    assert!(frames(&folder.path().join("hls/faces-00000.ts")) > 10);

    let mosaic = [
        "cameras-to-mosaic",
        "camera1=my clip.mp4",
        "camera2=my clip.mp4",
        "camera3=my clip.mp4",
        "camera4=my clip.mp4",
        "sink=fakesink",
    ];
    assert_code(&facepipe_run(folder.path(), &mosaic), 0);
}

#[test]
fn a_recording_is_anonymous() {
    let folder = workplace();
    let args = ["anonymized-recording", "input=my clip.mp4"];
    assert_code(&facepipe_run(folder.path(), &args), 0);
    let input = ["file-to-json", "input=anonymous.mp4"];
    assert_code(&facepipe_run(folder.path(), &input), 0);
    let json = read_lines(folder.path().join("faces.jsonl"));
    let frames: Vec<_> = json.iter().filter(|l| l["type"] == "frame").collect();
    assert!(frames.len() > 50);
    assert!(
        frames
            .iter()
            .all(|l| l["faces"].as_array().is_some_and(Vec::is_empty))
    );
}

#[test]
fn the_printed_line_does_the_same() {
    let folder = workplace();
    let clip = "it's \"my\" clip!  $HOME; (1) \\ .mp4";
    fs::rename(folder.path().join("my clip.mp4"), folder.path().join(clip)).expect("renamed");
    let input = format!("input={clip}");
    let args = ["file-to-json", &input, "output=a b.jsonl"];
    assert_code(&facepipe_run(folder.path(), &args), 0);
    let ours = read_lines(folder.path().join("a b.jsonl"));

    let printed = facepipe_run(folder.path(), &[&args[..], &["--print"]].concat());
    assert_code(&printed, 0);
    let plugins = Path::new(env!("CARGO_BIN_EXE_facepipe"))
        .parent()
        .expect("target");
    let shell = Command::new("sh")
        .args(["-c", &stdout(&printed)])
        .current_dir(folder.path())
        .env("GST_PLUGIN_PATH", plugins)
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        .output()
        .expect("sh runs");
    assert_code(&shell, 0);
    assert_eq!(read_lines(folder.path().join("a b.jsonl")), ours);
}

/// Runs a script with `$facepipe` and the plugins for `gst-launch-1.0`.
fn shell(folder: &Path, script: &str) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_facepipe"));
    Command::new("sh")
        .args(["-ec", script])
        .current_dir(folder)
        .env("facepipe", program)
        .env("GST_PLUGIN_PATH", program.parent().expect("target"))
        .env("GST_REGISTRY", folder.join("registry.bin"))
        .output()
        .expect("sh runs")
}

#[test]
fn a_standard_output_that_is_a_file_is_appended_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::copy(media("t1.jpg"), folder.path().join("group.jpg")).expect("copied");
    let long = "n".repeat(255);
    let script = format!(
        "one() {{ \"$facepipe\" run picture-to-json input=group.jpg inference-size=320 \"$@\"; }}
        printf '%s\\n' '{{}}' > all.jsonl
        one >> all.jsonl; one output=/dev/stdout >> all.jsonl
        {{ printf '%s\\n' '{{}}'; one output=-; one output=/dev/fd/1; printf '%s\\n' '{{}}'; }} > braces.jsonl
        one --print > line; sh line >> all.jsonl
        one | cat > piped.jsonl
        one output={long}"
    );
    assert_code(&shell(folder.path(), &script), 0);
    for (name, lines) in [
        ("all.jsonl", "{}fff"),
        ("braces.jsonl", "{}ff{}"),
        ("piped.jsonl", "f"),
        (&long, "f"),
    ] {
        let kinds = read_lines(folder.path().join(name)).into_iter();
        let kinds: String = kinds
            .map(|line| match line["type"] == "frame" {
                true => "f".to_owned(),
                false => line.to_string(),
            })
            .collect();
        assert_eq!(kinds, lines, "{name}");
    }
    assert!(!folder.path().join("-").exists());
    let args = [
        "picture-to-json",
        "input=group.jpg",
        &format!("output=n{long}"),
    ];
    let output = facepipe_run(folder.path(), &args);
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("File name too long"),
        "{}",
        stderr(&output)
    );

    // Its writer seeks back.
    fs::copy(media("single_face.mp4"), folder.path().join("clip.mp4")).expect("copied");
    let output = facepipe_run(
        folder.path(),
        &["file-to-video", "input=clip.mp4", "output=-"],
    );
    assert_code(&output, 1);
    assert!(output.stdout.is_empty() && stderr(&output).contains("cannot take MP4"));
}

#[test]
fn wrong_use_is_explained() {
    let folder = workplace();
    let failure = |args: &[&str], code| {
        let output = facepipe_run(folder.path(), args);
        assert_code(&output, code);
        stderr(&output)
    };
    let text = failure(&["file-to-json", "inptu=x"], 2);
    assert!(
        text.contains("no variable inptu") && text.contains("input is missing"),
        "{text}"
    );
    assert!(text.contains("output=faces.jsonl"), "{text}");
    assert!(failure(&["file-to-json", "clip.mp4"], 2).contains("VARIABLE=VALUE"));
    assert!(failure(&["file-to-json", "input=a", "input=b"], 2).contains("twice"));
    assert!(failure(&["flie-to-json"], 1).contains("file-to-json, file-to-video"));
    assert!(failure(&["file-to-json", "input=none.mp4"], 1).contains("none.mp4"));
    let text = failure(
        &["file-to-json", "input=my clip.mp4", "output=my clip.mp4"],
        1,
    );
    assert!(text.contains("would be replaced"), "{text}");
    fs::write(
        folder.path().join("x.gst"),
        "videotestsrc ! nosuchelement ! fakesink",
    )
    .expect("ok");
    assert!(failure(&["x.gst"], 1).contains("`nosuchelement`"));
    // An element that is there, with a value that it does not take.
    let mode = ["anonymized-recording", "input=my clip.mp4", "mode=nosuch"];
    let text = failure(&mode, 1);
    assert!(
        text.contains("\"nosuch\"") && !text.contains("missing"),
        "{text}"
    );
    assert!(
        !names(folder.path())
            .iter()
            .any(|name| name.contains("faces"))
    );
}

#[test]
fn the_list_is_complete() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = stdout(&facepipe_run(folder.path(), &["--list"]));
    let json = stdout(&facepipe_run(folder.path(), &["--list", "--json"]));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let entries = json.as_array().expect("a list");
    assert_eq!(entries.len(), 10);
    for entry in entries {
        let title = entry["title"].as_str().expect("a title");
        assert!(text.contains(title), "{title}");
    }
    assert_eq!(entries[0]["variables"][0]["default"], Value::Null);
    assert_eq!(entries[0]["variables"][1]["default"], "faces.jsonl");
}

#[test]
fn ctrl_c_leaves_a_whole_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Live, so that it is still running whenever the signal comes.
    let text = "# Endless\nvideotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 \
        ! facedetector ! x264enc speed-preset=ultrafast ! mp4mux ! filesink location=out.mp4";
    fs::write(folder.path().join("endless.gst"), text).expect("writable");
    let mut process = facepipe()
        .args(["run", "endless.gst"])
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut errors = BufReader::new(process.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("readable");
    assert!(line.contains("frame"), "{line}");
    // SAFETY: sends a signal to the process that was just started.
    unsafe { libc::kill(process.id() as i32, libc::SIGINT) };
    assert!(process.wait().expect("ends").success());
    assert_eq!(names(folder.path()), ["endless.gst", "out.mp4"]);
    assert!(frames(&folder.path().join("out.mp4")) > 0);
}

/// Writes a clip of six frames without faces.
fn clip(folder: &Path, name: &str, caps: &str) {
    let line = format!(
        "gst-launch-1.0 -q videotestsrc num-buffers=6 ! video/x-raw,format=I420,{caps} ! matroskamux ! \
         filesink location={name}"
    );
    assert_code(&shell(folder, &line), 0);
}

/// Width, height and frame rate of a video, as its decoder says.
fn video(path: &Path) -> (i32, i32, gst::Fraction) {
    let uri = glib::filename_to_uri(path, None).expect("absolute");
    let discoverer = gst_pbutils::Discoverer::new(gst::ClockTime::from_seconds(60));
    let info = discoverer.expect("GStreamer").discover_uri(&uri);
    let info = info.expect("a video");
    let videos = info.video_streams();
    let video = videos.first().expect("a video stream");
    let size = (video.width() as i32, video.height() as i32);
    (size.0, size.1, video.framerate())
}

#[test]
fn any_size_is_encoded() {
    gst::init().expect("GStreamer");
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (width, height, coded) in [
        (1, 1, (16, 16)),
        (15, 17, (16, 16)),
        (641, 361, (640, 360)),
        (642, 362, (642, 362)),
    ] {
        clip(
            folder.path(),
            "in.mkv",
            &format!("width={width},height={height}"),
        );
        for (name, output) in [
            ("anonymized-recording", "anonymous.mp4"),
            ("file-to-video", "faces.mp4"),
        ] {
            assert_code(&facepipe_run(folder.path(), &[name, "input=in.mkv"]), 0);
            let path = folder.path().join(output);
            let (w, h, _) = video(&path);
            println!("{name} {width}x{height}: {w}x{h}");
            assert!(
                w.abs_diff(coded.0) <= 2 && h.abs_diff(coded.1) <= 2,
                "{w}x{h}"
            );
            assert_eq!(frames(&path), 6, "{name} {width}x{height}");
        }
        let annotated = folder.path().join("annotated.mp4");
        let mut annotate = facepipe();
        annotate.args(["annotate", "in.mkv", "-o", "annotated.mp4"]);
        assert_code(&run(annotate.current_dir(folder.path())), 0);
        assert_eq!(frames(&annotated), 6, "annotate {width}x{height}");
    }
}

#[test]
fn a_recording_keeps_its_frame_rate() {
    gst::init().expect("GStreamer");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("anonymous.mp4");
    for (numer, denom) in [(10, 1), (24000, 1001), (50, 1)] {
        let caps = format!("width=64,height=48,framerate={numer}/{denom}");
        clip(folder.path(), "in.mkv", &caps);
        assert_code(
            &facepipe_run(folder.path(), &["anonymized-recording", "input=in.mkv"]),
            0,
        );
        let (_, _, rate) = video(&path);
        let fps = f64::from(rate.numer()) / f64::from(rate.denom());
        let wanted = f64::from(numer) / f64::from(denom);
        assert!((fps / wanted - 1.0).abs() < 0.01, "{fps} of {wanted}");
    }
    let args = ["anonymized-recording", "input=in.mkv", "framerate=25"];
    assert_code(&facepipe_run(folder.path(), &args), 0);
    assert_eq!(video(&path).2, gst::Fraction::new(25, 1));
}

/// `multifilesink` renames a new file over what is there.
#[test]
fn no_sink_takes_the_place_of_a_pipe() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pipe = folder.path().join("pipe");
    assert_code(&shell(folder.path(), "mkfifo pipe"), 0);
    fs::write(
        folder.path().join("own.gst"),
        "# Own\nvideotestsrc num-buffers=1 ! jpegenc ! multifilesink location=pipe",
    )
    .expect("writable");
    let output = facepipe_run(folder.path(), &["./own.gst"]);
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("multifilesink would replace pipe"),
        "{}",
        stderr(&output)
    );
    use std::os::unix::fs::FileTypeExt;
    let kind = fs::metadata(&pipe).expect("there").file_type();
    assert!(kind.is_fifo(), "still the pipe");
}

/// The box of the only face of a picture.
fn only_box(folder: &Path, picture: &str) -> Vec<f64> {
    let input = format!("input={picture}");
    let output = facepipe_run(folder, &["picture-to-json", &input]);
    assert_code(&output, 0);
    let line = &lines(&stdout(&output))[0];
    let faces = line["faces"].as_array().expect("a list");
    assert_eq!(faces.len(), 1, "{picture}");
    let numbers = faces[0]["box"].as_array().expect("four numbers");
    numbers.iter().filter_map(Value::as_f64).collect()
}

#[test]
fn pictures_are_upright_in_pipelines_whatever_their_orientation() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let upright = image::open(media("single_face.jpg")).expect("a photo");
    let upright = image::DynamicImage::from(upright.into_rgb8());
    for (name, picture) in [
        ("plain.png", upright.clone()),
        ("deep.tif", upright.to_rgb16().into()),
        ("grey.png", upright.to_luma8().into()),
        ("alpha.webp", upright.to_rgba8().into()),
    ] {
        picture.save(folder.path().join(name)).expect("writable");
    }
    let expected = only_box(folder.path(), "plain.png");
    let is_near = |found: &[f64]| {
        found
            .iter()
            .zip(&expected)
            .all(|(a, b)| (a - b).abs() < 8.0)
    };
    fs::write(folder.path().join("print.tif"), cmyk_tiff(&upright)).expect("writable");
    for name in ["deep.tif", "grey.png", "alpha.webp", "print.tif"] {
        let found = only_box(folder.path(), name);
        assert!(is_near(&found), "{name}: {found:?}, not {expected:?}");
    }
    for orientation in 1..=8 {
        let name = format!("{orientation}.jpg");
        let jpeg = jpeg_with_orientation(&stored(&upright, orientation), orientation);
        fs::write(folder.path().join(&name), jpeg).expect("writable");
        let found = only_box(folder.path(), &name);
        assert!(is_near(&found), "{name}: {found:?}, not {expected:?}");
    }
}

#[test]
fn half_a_picture_is_an_error_with_its_cause() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let jpeg = fs::read(media("single_face.jpg")).expect("a photo");
    fs::write(folder.path().join("half.jpg"), &jpeg[..jpeg.len() / 2]).expect("writable");
    fs::write(folder.path().join("none.jpg"), "").expect("writable");
    for (name, cause) in [
        ("half.jpg", "the JPEG is cut short"),
        ("none.jpg", "the file is empty"),
    ] {
        for pipeline in ["picture-to-json", "file-to-json"] {
            let input = format!("input={name}");
            let output = facepipe_run(folder.path(), &[pipeline, &input]);
            assert_code(&output, 1);
            let said = stderr(&output);
            let decoded = cause.contains("JPEG") || pipeline == "picture-to-json";
            assert!(
                !decoded || said.contains(&format!("{name}: {cause}")),
                "{said}"
            );
        }
    }
}

/// A GIF of `count` frames that repeats for ever.
fn gif(path: &Path, count: u32) {
    let photo = image::open(media("single_face.jpg")).expect("a photo");
    let file = fs::File::create(path).expect("writable");
    let mut encoder = image::codecs::gif::GifEncoder::new_with_speed(file, 30);
    let repeat = encoder.set_repeat(image::codecs::gif::Repeat::Infinite);
    repeat.expect("writable");
    for _ in 0..count {
        let delay = image::Delay::from_numer_denom_ms(200, 1);
        let frame = image::Frame::from_parts(photo.to_rgba8(), 0, 0, delay);
        encoder.encode_frame(frame).expect("writable");
    }
}

#[test]
fn animated_pictures_end() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    gif(&folder.path().join("anim.gif"), 4);
    let input = "input=anim.gif";
    assert_code(&facepipe_run(folder.path(), &["file-to-json", input]), 0);
    let json = read_lines(folder.path().join("faces.jsonl"));
    let times: Vec<_> = json
        .iter()
        .filter_map(|line| line["pts"].as_u64())
        .collect();
    assert_eq!(times, [0, 200_000_000, 400_000_000, 600_000_000]);
    assert_code(&facepipe_run(folder.path(), &["file-to-video", input]), 0);
    assert_eq!(frames(&folder.path().join("faces.mp4")), 4);
    assert_code(
        &facepipe_run(folder.path(), &["anonymized-recording", input]),
        0,
    );
    assert!(frames(&folder.path().join("anonymous.mp4")) >= 4);

    let annotate = |video: &str| {
        let mut command = facepipe();
        command.args(["annotate", "anim.gif", "-o", video, "--json", "a.jsonl"]);
        run(command.current_dir(folder.path()))
    };
    assert_code(&annotate("a.mp4"), 0);
    assert_eq!(frames(&folder.path().join("a.mp4")), 4);
    let json = read_lines(folder.path().join("a.jsonl"));
    assert_eq!(
        json.iter().filter(|line| line["type"] == "frame").count(),
        4
    );
    let still = facepipe_run(folder.path(), &["picture-to-json", input]);
    assert_code(&still, 0);
    assert!(stderr(&still).contains("it moves; the first frame is used"));

    let results = folder.path().join("out");
    let mut analyze = facepipe();
    analyze.args(["analyze", "anim.gif", "-o", "out"]);
    assert_code(&run(analyze.current_dir(folder.path())), 0);
    let summary = fs::read_to_string(results.join("anim/summary.json")).expect("written");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    assert_eq!(summary["frames"], 4);
}
