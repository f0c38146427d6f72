//! The launch line that a new user copies, run by `gst-launch-1.0` with the built plugins.

use std::path::{Path, PathBuf};
use std::process::Command;

use face_tests::{media, run_file};
use gstfacerecog::gallery::{Gallery, ModelId, Row};
use serde_json::Value;

const LINE: &str = "gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
    facerecognizer gallery=friends.safetensors ! faceagegender ! facemetajson ! filesink \
    location=faces.jsonl";

/// The folder of the built plugins: the one above the test's own.
fn plugins() -> PathBuf {
    let program = std::env::current_exe().expect("a running test");
    let folder = program
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    assert!(
        folder.join("libgstfacedetect.so").is_file(),
        "no plugins in {}: build the workspace first (`make test` does)",
        folder.display()
    );
    folder.to_owned()
}

/// A gallery with one frame of the clip.
fn enroll(path: &Path) {
    let elements = "facedetector ! facerecognizer attach-embedding=true interval=0";
    let frames = run_file("single_face.mp4", elements).expect("the clip plays");
    let embedding = frames[30].faces[0]
        .embedding
        .clone()
        .expect("attach-embedding is set");
    let model = face_core::model::Model::find("sface").expect("set up");
    let id = ModelId {
        name: "sface".into(),
        sha256: model.read_weights().expect("set up").1,
    };
    let mut gallery = Gallery::new(id, embedding.values.len());
    let row = Row {
        person: "selfie".into(),
        source: "frame 30".into(),
    };
    assert!(gallery.push(row, &embedding.values));
    gallery.write(path).expect("writable");
}

#[test]
fn the_launch_line_works_as_printed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::copy(media("single_face.mp4"), folder.path().join("clip.mp4")).expect("copied");
    enroll(&folder.path().join("friends.safetensors"));
    let output = Command::new("sh")
        .args(["-c", LINE])
        .current_dir(folder.path())
        .env("GST_PLUGIN_PATH", plugins())
        // A registry of its own, so that the user's stays as it is.
        .env("GST_REGISTRY", folder.path().join("registry.bin"))
        .output()
        .expect("sh runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(
        !printed.contains("WARN") && !printed.contains("CRITICAL"),
        "{printed}"
    );
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
