//! `facepipe run` and all ready pipelines.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use common::{assert_code, enroll, facepipe, media, names, people, run, stderr, stdout};

/// A folder with a clip, a picture and a gallery of the clip's person.
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

/// The frames that a file has, by GStreamer's own tool.
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
    assert_eq!(named.len(), 73);
    let predicted = |l: &&Value| l["faces"][0]["predicted"] == true;
    assert_eq!(
        named.iter().filter(predicted).count(),
        57,
        "four of five frames"
    );
    assert_eq!(named[72]["name"], "selfie");

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

/// The pipelines that read a camera, with the clip in its place.
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
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{name}.gst"));
        let mut text = fs::read_to_string(file).expect("committed");
        for (from, to) in sources {
            text = text.replace(from, to);
        }
        assert!(text.contains("filesrc"), "{name}");
        // A file comes faster than a camera, and none of it shall be left out.
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
    // At 25 frames a second.
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

    // Whose writer goes back in it.
    fs::copy(media("single_face.mp4"), folder.path().join("clip.mp4")).expect("copied");
    let output = facepipe_run(
        folder.path(),
        &["file-to-video", "input=clip.mp4", "output=-"],
    );
    assert_code(&output, 1);
    assert!(output.stdout.is_empty() && stderr(&output).contains("takes no MP4"));
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
    // Live, so that it is in the middle whenever the signal comes.
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
    // SAFETY: a signal to the process that was just started.
    unsafe { libc::kill(process.id() as i32, libc::SIGINT) };
    assert!(process.wait().expect("ends").success());
    assert_eq!(names(folder.path()), ["endless.gst", "out.mp4"]);
    assert!(frames(&folder.path().join("out.mp4")) > 0);
}
