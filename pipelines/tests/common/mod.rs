//! What the tests of the program share.

#![allow(dead_code, reason = "every test file uses some of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

pub fn media(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../media")
        .join(name);
    assert!(
        path.is_file(),
        "{} is missing; run `make setup`",
        path.display()
    );
    path
}

pub fn facepipe() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_facepipe"));
    // The elements are linked in.
    command.env_remove("GST_PLUGIN_PATH").stdin(Stdio::null());
    command
}

pub fn run(command: &mut Command) -> Output {
    command.output().expect("facepipe starts")
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
pub fn assert_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}\n{}",
        stdout(output),
        stderr(output)
    );
}

/// The names in a folder, also hidden ones.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .expect("readable")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// A folder with `people`: person and photo each.
pub fn people(photos: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (person, photo) in photos {
        let to = folder.path().join("people").join(person);
        fs::create_dir_all(&to).expect("writable");
        fs::copy(media(photo), to.join(photo)).expect("writable");
    }
    folder
}

pub fn enroll(folder: &Path) -> Command {
    let mut command = facepipe();
    command
        .arg("enroll")
        .arg(folder.join("people"))
        .arg("-o")
        .arg(folder.join("g.safetensors"));
    command
}

/// `facepipe analyze INPUTS -o RESULTS`.
pub fn analyze(inputs: &[&Path], results: &Path) -> Command {
    let mut command = facepipe();
    command.arg("analyze").args(inputs).arg("-o").arg(results);
    command
}

/// The frames and the tracks of `faces.jsonl`.
pub fn lines(results: &Path, name: &str) -> (Vec<Value>, Vec<Value>) {
    fs::read_to_string(results.join(name).join("faces.jsonl"))
        .expect("written")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect(line))
        .partition(|line| line["type"] == "frame")
}

/// Copies a file of the media.
pub fn copy(from: &str, to: &Path) -> PathBuf {
    fs::create_dir_all(to.parent().expect("in a folder")).expect("writable");
    fs::copy(media(from), to).expect("writable");
    to.to_owned()
}
