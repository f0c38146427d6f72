//! `facepipe bench`.

use serde_json::Value;

use crate::common::{
    FRAMES, assert_code, enroll, facepipe, media, people, produce, run, stderr, stdout,
};

/// The output of `bench --json`.
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
    // 29.97 frames per second.
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
