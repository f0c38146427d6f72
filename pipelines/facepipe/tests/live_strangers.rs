//! Strangers who return to the cameras of `facepipe live`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use face_rtsp_server::child::{Options, Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::live::{Live, json_lines};
use crate::common::{assert_code, enroll, facepipe, media, people, run, stderr, stdout};

/// A folder with a gallery that knows only Tom.
fn gallery() -> TempDir {
    let folder = people(&[("tom", "Tom_Hanks_54745.png")]);
    assert_code(&run(&mut enroll(folder.path())), 0);
    folder
}

fn config(uri: &str, strangers: &str) -> String {
    format!(
        "[strangers]\nvisit-gap = \"1s\"\n{strangers}\n\
         [[camera]]\nname = \"door\"\nuri = \"{uri}\"\ngallery = \"g.safetensors\"\n\
         events = {{ path = \"events.jsonl\", stranger-after = \"500ms\", left-after = \"1s\" }}\n"
    )
}

/// The events of a kind.
fn events(root: &Path, kind: &str) -> Vec<Value> {
    let mut all = json_lines(&root.join("events.jsonl"));
    all.retain(|event| event["type"] == kind);
    all
}

/// Those that say which stranger it is.
fn told(root: &Path) -> Vec<Value> {
    let mut told = events(root, "stranger");
    told.extend(events(root, "stranger-identified"));
    told.retain(|event| event["person"].is_string());
    told
}

fn ask(root: &Path, arguments: &[&str]) -> Output {
    let mut command = facepipe();
    run(command
        .args(arguments)
        .arg("--config")
        .arg(root.join("live.toml")))
}

fn listed(root: &Path) -> Vec<Value> {
    let output = ask(root, &["strangers", "--json"]);
    assert_code(&output, 0);
    serde_json::from_str(&stdout(&output)).expect("JSON")
}

/// One person leaves and comes again, over a restart, is given a name, and is forgotten.
#[test]
fn a_stranger_who_returns_is_known_named_and_forgotten() {
    let options = Options::new(&["door=face_noface.mov,size=640x360,rate=10"]);
    let server = Server::start(options).expect("the server starts");
    let folder = gallery();
    let root = folder.path();
    let config = config(&server.url("door"), "remember = \"kept/strangers.json\"");
    let file = root.join("kept/strangers.json");

    let mut live = Live::start(root, &config);
    live.wait("a second visit", || {
        told(root).iter().any(|event| event["seen"] == 2)
    });
    for event in told(root) {
        assert_eq!(event["person"], "stranger-1", "{event}");
        assert!(event["since"].as_str() <= event["time"].as_str(), "{event}");
    }
    let stranger = &listed(root)[0];
    assert_eq!(stranger["person"], "stranger-1");
    assert_eq!(stranger["cameras"][0], "door");
    let table = stdout(&ask(root, &["strangers"]));
    assert!(
        table.contains("stranger-1") && table.contains("door"),
        "{table}"
    );
    let seen = stranger["seen"].as_u64().expect("a number");
    assert_eq!(live.terminate().0, Some(0));
    let mode = fs::metadata(&file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let before = told(root).len();
    let mut live = Live::start(root, &config);
    live.wait("another visit", || told(root).len() > before);
    let event = &told(root)[before];
    assert_eq!(event["person"], "stranger-1", "{event}");
    assert!(event["seen"].as_u64() >= Some(seen), "{event}");

    let output = ask(root, &["enroll", "--from-live", "stranger-7=Anna"]);
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(error.contains("the latest are stranger-1"), "{error}");
    let output = ask(root, &["enroll", "--from-live", "stranger-1=Anna"]);
    assert_code(&output, 0);
    assert!(stderr(&output).contains("stranger-1 is Anna"));
    live.wait("the past has her name", || {
        !events(root, "stranger-named").is_empty()
    });
    let named = &events(root, "stranger-named")[0];
    assert_eq!(
        (&named["person"], &named["name"]),
        (&"stranger-1".into(), &"Anna".into())
    );
    let visits = named["visits"].as_array().expect("a list");
    // Those before the restart, too.
    assert!(visits.len() > before, "{named}");
    live.wait("her name", || {
        events(root, "appeared").iter().any(|e| e["name"] == "Anna")
    });

    let mut forget = facepipe();
    let output = run(forget.args(["forget", "Anna", "--json"]).args([
        &root.join("g.safetensors"),
        &root.join("events.jsonl"),
        &root.join("kept"),
    ]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(
        report["running"][0]["strangers"][0], "stranger-1",
        "{report}"
    );
    let text = fs::read_to_string(&file).expect("there");
    assert!(
        !text.contains("Anna") && !text.contains("\"number\":1,"),
        "{text}"
    );
    assert!(events(root, "stranger-named").is_empty());
    let all = listed(root);
    assert!(all.iter().all(|listed| listed["person"] != "stranger-1"));
    assert_eq!(live.terminate().0, Some(0));
}

/// Without a file, strangers are only in memory; and nothing is known of them if that is not wanted.
#[test]
fn nothing_is_written_unless_it_is_wanted() {
    let folder = gallery();
    let root = folder.path();
    let clip = media("single_face.mp4");
    let clip = clip.to_str().expect("UTF-8");
    let written = || {
        let mut files: Vec<String> = fs::read_dir(root)
            .expect("a folder")
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into()
            })
            .collect();
        files.sort();
        files
    };
    for run in 0..2 {
        let mut live = Live::start(root, &config(clip, ""));
        live.wait("a stranger", || !told(root).is_empty());
        let first = &told(root)[0];
        let who = (&first["person"], &first["seen"]);
        assert_eq!(who, (&"stranger-1".into(), &1.into()), "run {run}");
        assert_eq!(live.terminate().0, Some(0));
        let expected = [
            "events.jsonl",
            "g.safetensors",
            "live.toml",
            "people",
            "state",
        ];
        assert_eq!(written(), expected);
        fs::remove_file(root.join("events.jsonl")).expect("there");
    }
    let mut live = Live::start(
        root,
        &config(clip, "enabled = false\nremember = \"s.json\""),
    );
    live.wait("a stranger", || !events(root, "stranger").is_empty());
    assert!(told(root).is_empty() && listed(root).is_empty());
    assert_eq!(live.terminate().0, Some(0));
    assert!(!root.join("s.json").exists());
}
