//! How long users wait: from starting `gst-launch-1.0` with the whole pipeline to its first JSON
//! line, and for `gst-inspect-1.0` of each element. Uses the plugins next to this program (run
//! `make build` first) and a separate registry, with everything in the disk cache.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use face_benches::{median, time};
use face_gallery::{Gallery, ModelId, Row};
use face_tests::media;

const ROUNDS: usize = 10;
const ELEMENTS: [&str; 6] = [
    "facedetector",
    "facetracker",
    "facerecognizer",
    "faceagegender",
    "facemetajson",
    "facemetaoverlay",
];
const START_MS: f64 = 400.0;
const INSPECT_MS: f64 = 50.0;

/// The folder of this build's plugins. This program is in its subfolder `deps`.
fn plugins() -> PathBuf {
    let program = std::env::current_exe().expect("a program");
    let folder = program.parent().and_then(Path::parent);
    let folder = folder.expect("two folders up").to_owned();
    let plugin = folder.join("libgstfacedetect.so");
    assert!(plugin.is_file(), "no {}: `make build`", plugin.display());
    folder
}

/// A gallery of a hundred people who resemble nobody.
fn gallery(path: &Path) {
    let (id, _) = ModelId::of("sface").expect("set up");
    let mut gallery = Gallery::new(id, 128);
    for person in 0..100 {
        let mut embedding = [0.0; 128];
        embedding[person] = 1.0;
        let row = Row {
            person: format!("person {person}"),
            source: String::new(),
        };
        gallery.push(row, &embedding);
    }
    gallery.write(path).expect("writable");
}

/// Waits for the first JSON line.
fn first_line(command: &mut Command) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("gst-launch-1.0 starts");
    let mut line = String::new();
    if let Some(output) = child.stdout.take() {
        BufReader::new(output)
            .read_line(&mut line)
            .expect("readable");
    }
    assert!(line.starts_with('{'), "no JSON: {line:?}");
    // Not part of the measurement. The process may be gone already.
    let _ = child.kill();
    let _ = child.wait();
}

fn report(what: &str, mut durations: Vec<Duration>, wanted: f64) {
    let least = durations
        .iter()
        .min()
        .map_or(0.0, |d| d.as_secs_f64() * 1e3);
    let median = median(&mut durations);
    println!("{what:>28} {median:>9.0} {least:>9.0} {wanted:>9.0}");
}

fn main() {
    face_tests::init();
    let plugins = plugins();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let friends = folder.path().join("friends.safetensors");
    gallery(&friends);
    let program = |name: &str| {
        let mut command = Command::new(name);
        command
            .env("GST_PLUGIN_PATH", &plugins)
            .env("GST_REGISTRY", folder.path().join("registry.bin"));
        command
    };
    let line = format!(
        "filesrc location={} ! decodebin ! facedetector ! facetracker ! facerecognizer gallery={} ! \
         faceagegender ! facemetajson ! fdsink",
        media("single_face.mp4").display(),
        friends.display()
    );
    let launch = || first_line(program("gst-launch-1.0").arg("-q").args(line.split(' ')));
    // Fills the registry and the disk cache.
    launch();
    println!("milliseconds, of {ROUNDS} runs each");
    println!("{:>28} {:>9} {:>9} {:>9}", "", "median", "least", "wanted");
    let starts = (0..ROUNDS).map(|_| time(launch)).collect();
    report("to the first JSON line", starts, START_MS);
    for element in ELEMENTS {
        let inspect = || {
            let output = program("gst-inspect-1.0").arg(element).output();
            assert!(output.is_ok_and(|o| o.status.success()), "{element}");
        };
        let durations = (0..ROUNDS).map(|_| time(inspect)).collect();
        report(&format!("gst-inspect-1.0 {element}"), durations, INSPECT_MS);
    }
}
