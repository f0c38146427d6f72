//! `facepipe evaluate`, against motmetrics on results of real videos.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::common::{assert_code, facepipe, names, run, stderr, stdout};

fn reference(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference")
        .join(name)
}

fn evaluate(result: &Path, truth: &Path, options: &[&str]) -> Output {
    let mut command = facepipe();
    run(command.arg("evaluate").args([result, truth]).args(options))
}

fn json(output: &Output) -> Value {
    assert_code(output, 0);
    serde_json::from_str(&stdout(output)).expect("JSON")
}

#[test]
fn measures_are_those_of_motmetrics() {
    let expected = fs::read_to_string(reference("expected.json")).expect("readable");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    for (name, truth) in [("mosaic", "mosaic.xml"), ("pan", "pan.txt")] {
        for option in [None, Some("--no-predicted")] {
            let key = [Some(name), option]
                .map(Option::unwrap_or_default)
                .join(" ");
            let expected = &expected[key.trim()];
            let result = reference(&format!("{name}.jsonl"));
            let options: Vec<&str> = ["--json"].into_iter().chain(option).collect();
            let found = json(&evaluate(&result, &reference(truth), &options));
            for (measure, pointer) in [
                ("num_objects", "/detection/labelled"),
                ("num_predictions", "/detection/faces"),
                ("recall", "/detection/recall"),
                ("precision", "/detection/precision"),
                ("idf1", "/tracking/idf1"),
                ("mota", "/tracking/mota"),
                ("num_switches", "/tracking/switches"),
                ("name_precision", "/recognition/precision"),
                ("name_recall", "/recognition/recall"),
                ("age_error", "/age/mean_absolute_error"),
                ("gender", "/gender/accuracy"),
            ] {
                let value = found.pointer(pointer).and_then(Value::as_f64);
                let Some(value) = value else {
                    // The pan was analysed without a gallery, and labelled without ages.
                    assert!(
                        name == "pan" && !pointer.starts_with("/detection"),
                        "{key}: no {measure}"
                    );
                    continue;
                };
                let expected = expected[measure].as_f64().expect("a number");
                assert!(
                    (value - expected).abs() < 1e-5,
                    "{key}, {measure}: {value}, motmetrics {expected}"
                );
            }
        }
    }
}

#[test]
fn hota_is_that_of_trackeval() {
    let expected = fs::read_to_string(reference("hota.json")).expect("readable");
    let expected: Value = serde_json::from_str(&expected).expect("JSON");
    for (name, truth) in [("mosaic", "mosaic.xml"), ("pan", "pan.txt")] {
        for option in [None, Some("--no-predicted")] {
            let key = option.map_or(name.to_owned(), |option| format!("{name} {option}"));
            let result = reference(&format!("{name}.jsonl"));
            // Its thresholds are its own.
            let options: Vec<&str> = ["--json", "--iou", "0.7"]
                .into_iter()
                .chain(option)
                .collect();
            let found = json(&evaluate(&result, &reference(truth), &options));
            for (measure, pointer) in [
                ("HOTA", "/tracking/hota"),
                ("DetA", "/tracking/det_a"),
                ("AssA", "/tracking/ass_a"),
                ("LocA", "/tracking/loc_a"),
            ] {
                let value = found.pointer(pointer).and_then(Value::as_f64);
                let value = value.expect("a number");
                let expected = expected[&key][measure].as_f64().expect("a number");
                assert!(
                    (value - expected).abs() < 1e-5,
                    "{key}, {measure}: {value}, TrackEval {expected}"
                );
            }
            let person = &found["people"][0]["tracking"];
            assert!(person["ass_a"].is_number() && person.get("hota").is_none());
        }
    }
}

#[test]
fn people_add_up_and_the_table_says_the_same() {
    let (result, truth) = (reference("mosaic.jsonl"), reference("mosaic.xml"));
    let found = json(&evaluate(&result, &truth, &["--json"]));
    let people = found["people"].as_array().expect("people");
    let sum = |pointer: &str| -> u64 {
        people
            .iter()
            .filter_map(|p| p.pointer(pointer)?.as_u64())
            .sum()
    };
    for pointer in [
        "/detection/labelled",
        "/detection/found",
        "/recognition/right",
        "/recognition/named",
        "/tracking/switches",
    ] {
        assert_eq!(
            Some(sum(pointer)),
            found.pointer(pointer).and_then(Value::as_u64),
            "{pointer}"
        );
    }
    assert_eq!(found["frames"], 220);
    assert_eq!(found["frames_left_out"], 20);

    let output = evaluate(&result, &truth, &[]);
    assert_code(&output, 0);
    let table = stdout(&output);
    let last = table.lines().last().expect("a row of all");
    let recall = format!(
        "{:.3}",
        found["detection"]["recall"].as_f64().expect("there")
    );
    assert!(last.starts_with("all") && last.contains(&recall), "{table}");
    assert!(
        table.contains("selfie") && table.contains("Unknown"),
        "{table}"
    );
    assert!(stderr(&output).contains("20 frames of the result left out"));

    // Without names and ages there are no columns for them.
    let table = stdout(&evaluate(
        &reference("pan.jsonl"),
        &reference("pan.txt"),
        &[],
    ));
    assert!(table.contains("MOTA") && !table.contains("name") && !table.contains("age"));
}

#[test]
fn labels_are_renamed_and_scaled() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("writable");
        path
    };
    let face = r#"{"box":[100.0,50.0,40.0,60.0],"track":3,"name":"ann","age":30.5}"#;
    let result = write(
        "r.jsonl",
        &format!(
            r#"{{"type":"frame","frame":0,"pts":0,"width":400,"height":200,"faces":[{face}]}}"#
        ),
    );
    // Labelled at half the size; pixels count from 1.
    let truth = write("gt.txt", "1,7,51,26,20,30,1,1,1\n");
    let names = write("names.txt", "# ids\n7 = ann\n");
    let names = names.to_str().expect("UTF-8");
    let options = ["--json", "--truth-size", "200x100", "--names", names];
    let found = json(&evaluate(&result, &truth, &options));
    assert_eq!(found["detection"]["f1"], 1.0);
    assert_eq!(found["recognition"]["precision"], 1.0);
    assert_eq!(found["people"][0]["name"], "ann");

    let output = evaluate(&result, &truth, &["--json"]);
    assert_eq!(json(&output)["detection"]["found"], 0, "not scaled");
    assert!(stderr(&output).contains("no name of the result is right"));
}

#[test]
fn the_confusion_matrix_is_a_picture() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let picture = folder.path().join("c.png");
    let path = picture.to_str().expect("UTF-8");
    let options = ["--confusion", path];
    let output = evaluate(
        &reference("mosaic.jsonl"),
        &reference("mosaic.xml"),
        &options,
    );
    assert_code(&output, 0);
    assert_eq!(names(folder.path()), ["c.png"]);
    let drawn = image::open(&picture).expect("a PNG").into_rgb8();
    assert!(drawn.width() >= 560 && drawn.height() > 200);
    let count = |like: fn(&[u8; 3]) -> bool| drawn.pixels().filter(|p| like(&p.0)).count();
    let cell = 64 * 40;
    assert!(count(|[r, _, b]| *b > r.saturating_add(60)) > cell, "blue");
    assert!(
        count(|[r, _, b]| *r > b.saturating_add(60)) > cell,
        "orange"
    );

    // A result without names gives no matrix, and an existing file stays.
    let output = evaluate(&reference("pan.jsonl"), &reference("pan.txt"), &options);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("--gallery"), "{}", stderr(&output));
    assert!(image::open(&picture).is_ok());
}

#[test]
fn what_is_wrong_is_said_with_file_and_line() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let broken = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("writable");
        path
    };
    let (result, truth) = (reference("pan.jsonl"), reference("pan.txt"));
    let frame = r#"{"type":"frame","frame":5,"pts":0,"width":4,"height":2,"faces":[]}"#;
    let whole = fs::read_to_string(reference("mosaic.xml")).expect("readable");
    for (result, truth, what) in [
        (
            &result,
            &broken("a.txt", "1,1,1,1,5,5\n1,2,oops,1,5,5\n"),
            "a.txt: line 2: \"oops\"",
        ),
        (
            &result,
            &broken("b.xml", &whole[..whole.len() / 2]),
            "b.xml: line ",
        ),
        (
            &result,
            &broken("c.zip", "PK\u{3}\u{4}"),
            "c.zip: it is a ZIP archive",
        ),
        (
            &result,
            &folder.path().join("none.xml"),
            "none.xml: it cannot be read",
        ),
        (
            &broken("d.jsonl", "{\"type\":\"frame\"}\n"),
            &truth,
            "d.jsonl, line 1: missing field",
        ),
        (&broken("e.jsonl", ""), &truth, "e.jsonl contains no frame"),
        (
            &broken("f.jsonl", &format!("{frame}\n{frame}\n")),
            &truth,
            "f.jsonl: frame 5 comes after frame 5",
        ),
    ] {
        let output = evaluate(result, truth, &[]);
        assert_code(&output, 1);
        assert!(
            stderr(&output).contains(what),
            "{what}: {}",
            stderr(&output)
        );
    }
    for options in [["--iou", "0"], ["--iou", "1.5"], ["--truth-size", "640"]] {
        assert_code(&evaluate(&result, &truth, &options), 2);
    }
}
