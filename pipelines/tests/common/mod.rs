//! What the tests of the program share.

#![allow(dead_code, reason = "every test file uses some of it")]

use std::ffi::CString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

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

/// Sends a signal to a process.
pub fn signal(process: &Child, signal: i32) {
    // SAFETY: a signal to the process that was just started.
    assert_eq!(unsafe { libc::kill(process.id() as i32, signal) }, 0);
}

/// Waits until a process says something on standard error.
pub fn wait_for(process: &mut Child, text: &str) {
    let mut errors = BufReader::new(process.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(
            errors.read_line(&mut line).expect("readable") > 0,
            "it ended"
        );
    }
    process.stderr = Some(errors.into_inner());
}

/// Ends a process that waits: it ends by one signal, and before its deadline of ten seconds.
#[track_caller]
pub fn ends_at_once(mut process: Child) {
    let begun = Instant::now();
    signal(&process, libc::SIGTERM);
    assert_eq!(process.wait().expect("ends").code(), Some(130));
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
}

/// Makes a pipe or, if that is allowed, a device.
pub fn make_node(path: &Path, mode: u32, device: libc::dev_t) -> bool {
    let path = CString::new(path.to_str().expect("UTF-8")).expect("no zero");
    // SAFETY: the path is a string that ends in zero.
    unsafe { libc::mknod(path.as_ptr(), mode | 0o600, device) == 0 }
}
