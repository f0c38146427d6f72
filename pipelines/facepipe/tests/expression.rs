//! Expressions through all commands: analyze, report, annotate, evaluate.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::common::{
    analyze, assert_code, copy, facepipe, frame_lines, lines, run, stderr, stdout,
};

const MODEL: &str = "faceapi-expression";

fn models() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"))
}

/// Whether the optional model is installed. If not, says so.
fn has_model() -> bool {
    let found = models().join(format!("{MODEL}.onnx")).is_file();
    if !found {
        eprintln!(
            "SKIPPED: the model {MODEL} is missing; fetch it with `make models NAMES={MODEL}`"
        );
    }
    found
}

#[test]
fn analyze_and_report_show_when_somebody_is_happy() {
    if !has_model() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let film = copy("single_face.mp4", &folder.path().join("ann.mp4"));
    let results = folder.path().join("results");
    assert_code(&run(analyze(&[&film], &results).arg("--expression")), 0);

    let (frames, _) = lines(&results, "ann");
    let faces: Vec<&Value> = frames
        .iter()
        .flat_map(|f| f["faces"].as_array().into_iter().flatten())
        .collect();
    let told: Vec<&str> = faces
        .iter()
        .filter_map(|face| face["expression"].as_str())
        .collect();
    assert!(told.len() > 30, "{} of {}", told.len(), faces.len());
    let summary = fs::read_to_string(results.join("ann/summary.json")).expect("written");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let spans = summary["tracks"][0]["expressions"].as_array();
    let spans = spans.expect("spans");
    assert!(
        spans
            .iter()
            .all(|span| told.contains(&span["expression"].as_str().expect("a word")))
    );

    let page = folder.path().join("page.html");
    let report = run(facepipe().arg("report").arg(&results).arg("-o").arg(&page));
    assert_code(&report, 0);
    let page = fs::read_to_string(page).expect("written");
    assert!(page.contains(">Expressions</th>"));
    assert!(page.contains(r#""expressions":[""#) && page.contains(r#""moods":[["#));
}

#[test]
fn annotate_writes_expressions_that_evaluate_compares() {
    if !has_model() {
        return;
    }
    let output = run(facepipe()
        .args(["annotate", "--no-age-gender", "--expression", "--json", "-"])
        .arg(crate::common::media("single_face.mp4")));
    assert_code(&output, 0);
    let text = stdout(&output);
    let frames = frame_lines(&text);
    let told: Vec<(u64, &Value)> = frames
        .iter()
        .filter(|f| f["faces"][0]["expression"].is_string())
        .map(|f| (f["frame"].as_u64().expect("a number"), &f["faces"][0]))
        .collect();
    assert!(told.len() > 30);
    // Labels: the results themselves, except for one frame.
    let boxes: String = told
        .iter()
        .map(|(frame, face)| {
            let side = |i: usize| face["box"][i].as_f64().expect("a number");
            let word = match frame == &told[0].0 {
                true => "disgusted",
                false => face["expression"].as_str().expect("a word"),
            };
            format!(
                r#"<box frame="{frame}" outside="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}">
                   <attribute name="expression">{word}</attribute></box>"#,
                side(0),
                side(1),
                side(0) + side(2),
                side(1) + side(3)
            )
        })
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let (result, truth) = (folder.path().join("r.jsonl"), folder.path().join("t.xml"));
    fs::write(&result, &text).expect("writable");
    let labels = format!(
        "<annotations><version>1.1</version><track id=\"0\" label=\"ann\">{boxes}</track></annotations>"
    );
    fs::write(&truth, labels).expect("writable");
    let output = run(facepipe()
        .arg("evaluate")
        .args([&result, &truth])
        .arg("--json"));
    assert_code(&output, 0);
    let found: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let faces = told.len() as f64;
    assert_eq!(found["expression"]["faces"], told.len());
    let accuracy = found["expression"]["accuracy"].as_f64().expect("a share");
    assert!(
        (accuracy - (faces - 1.0) / faces).abs() < 1e-9,
        "{accuracy}"
    );
    let output = run(facepipe().arg("evaluate").args([&result, &truth]));
    assert!(
        stdout(&output).contains("expression"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn a_missing_model_says_how_to_fetch_it() {
    // A folder with the descriptor alone, which is searched first.
    let folder = tempfile::tempdir().expect("a folder");
    let descriptor = format!("{MODEL}.json");
    let text = fs::read_to_string(models().join(&descriptor)).expect("committed");
    // Not found anywhere else, even where the real one is installed.
    fs::write(
        folder.path().join("absent.json"),
        text.replace(MODEL, "absent"),
    )
    .expect("writable");
    let output = run(facepipe()
        .args(["annotate", "--age-gender-model", "absent", "--json", "-"])
        .arg(crate::common::media("single_face.mp4"))
        .env("GST_FACE_MODEL_PATH", folder.path()));
    assert_code(&output, 1);
    let said = stderr(&output);
    assert!(
        said.contains("--age-gender-model") && said.contains("`make models NAMES=absent`"),
        "{said}"
    );
}
