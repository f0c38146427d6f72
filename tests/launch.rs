//! The launch line that a new user copies, run by `gst-launch-1.0` with the built plugins.

use std::path::Path;
use std::process::Command;

use face_tests::{enroll, media, plugins, root};
use serde_json::Value;

const LINE: &str = "gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
    facerecognizer gallery=friends.safetensors ! faceagegender ! facemetajson ! filesink \
    location=faces.jsonl";

/// Runs a shell line in `folder` with the built plugins, and gives what it printed.
fn run(line: &str, folder: &Path) -> String {
    let output = Command::new("timeout")
        .args(["60", "sh", "-c", line])
        .current_dir(folder)
        .env("GST_PLUGIN_PATH", plugins())
        // A registry of its own, so that the user's stays as it is.
        .env("GST_REGISTRY", folder.join("registry.bin"))
        .output()
        .expect("sh runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{line}: {} {errors}",
        output.status
    );
    assert!(!errors.contains("CRITICAL"), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with the files that the README's lines name.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (from, to) in [("single_face.mp4", "clip.mp4"), ("t1.jpg", "group.jpg")] {
        std::fs::copy(media(from), folder.path().join(to)).expect("copied");
    }
    enroll(&folder.path().join("friends.safetensors"));
    folder
}

/// The README's ten pipelines, each as one shell line.
fn readme_lines() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("committed");
    let (_, rest) = text
        .split_once("## Ten pipelines")
        .expect("the section is there");
    let (section, _) = rest.split_once("\n## ").expect("another section follows");
    section
        .split("```sh")
        .skip(1)
        .filter_map(|block| Some(block.split_once("```")?.0.to_owned()))
        .collect()
}

#[test]
fn the_pipelines_of_the_readme_work() {
    let folder = workplace();
    let lines = readme_lines();
    assert_eq!(lines.len(), 10);
    for line in &lines {
        // Nobody has a camera or a screen here: a file stands in for the one, fakesink for the other.
        let line = line
            .replace(
                "rtspsrc location=rtsp://camera/stream latency=200",
                "filesrc location=clip.mp4",
            )
            .replace(
                "rtspsrc location=rtsp://camera/stream",
                "filesrc location=clip.mp4",
            )
            .replace("v4l2src device=/dev/video0", "filesrc location=clip.mp4")
            .replace("v4l2src device=/dev/video1", "filesrc location=clip.mp4")
            .replace("v4l2src", "filesrc location=clip.mp4")
            .replace("autovideosink", "fakesink");
        let printed = run(&line, folder.path());
        if line.contains("fdsink") {
            assert!(
                printed.contains("\"box\":["),
                "{line}: no face in {printed}"
            );
        }
    }
    for name in ["faces.png", "faces.jsonl", "faces.mp4"] {
        let size = std::fs::metadata(folder.path().join(name))
            .expect("written")
            .len();
        assert!(size > 1000, "{name}: {size} bytes");
    }
}

#[test]
fn the_launch_line_works_as_printed() {
    let folder = workplace();
    run(LINE, folder.path());
    let text = std::fs::read_to_string(folder.path().join("faces.jsonl")).expect("written");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("valid JSON"))
        .collect();
    let (frames, tracks): (Vec<_>, Vec<_>) = lines.iter().partition(|l| l["type"] == "frame");
    assert_eq!((frames.len(), tracks.len()), (72, 1));
    for (i, frame) in frames.iter().enumerate() {
        assert_eq!(frame["frame"], i);
        let face = &frame["faces"][0];
        assert_eq!(
            (&face["name"], &face["track"]),
            (&"selfie".into(), &tracks[0]["track"])
        );
        assert_eq!(face["gender"], "male");
        assert!(
            face["age"]
                .as_f64()
                .is_some_and(|age| (15.0..60.0).contains(&age))
        );
    }
    assert_eq!(
        (&tracks[0]["name"], &tracks[0]["frames"]),
        (&"selfie".into(), &72.into())
    );
}
