//! Builds and runs the programs in C, Python and Rust as a user does. They print what
//! `facemetajson` writes, and docs/embedding.md shows them unchanged.

use std::path::{Path, PathBuf};
use std::process::Command;

use face_tests::{media, plugins, root};
use serde_json::Value;

/// Runs `command` with the built plugins and a registry in `folder`. Returns what it printed.
fn output(command: &mut Command, folder: &Path) -> String {
    let output = command
        .env("GST_PLUGIN_PATH", plugins())
        // A separate registry, so that the user's stays unchanged.
        .env("GST_REGISTRY", folder.join("registry.bin"))
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    assert!(!errors.contains("CRITICAL"), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The Python for which Debian's packages are installed. It need not be the first on the PATH.
fn python() -> &'static str {
    let system = "/usr/bin/python3";
    if Path::new(system).is_file() {
        system
    } else {
        "python3"
    }
}

/// Builds the C example in `folder`.
fn build_c(folder: &Path) -> PathBuf {
    let program = folder.join("faces");
    let line = "cc -Wall -Wextra -Wno-unused-parameter -Werror \"$0\" -o \"$1\" \
                $(pkg-config --cflags --libs gstreamer-video-1.0)";
    let mut shell = Command::new("sh");
    shell
        .args(["-ec", line])
        .arg(root().join("examples/c/faces.c"));
    output(shell.arg(&program), folder);
    program
}

/// The expected output, from the lines of `facemetajson`.
fn expected(json: &str) -> String {
    let lines = json.lines().map(|l| serde_json::from_str(l).expect("JSON"));
    let mut out = String::new();
    for line in lines.filter(|l: &Value| l["type"] == "frame") {
        for face in line["faces"].as_array().expect("a list") {
            let number = |value: &Value| format!("{:.1}", value.as_f64().expect("a number"));
            let sides: Vec<_> = (0..4).map(|i| number(&face["box"][i])).collect();
            out += &format!(
                "frame {} box {} track {} age {} name {}\n",
                line["frame"],
                sides.join(" "),
                face["track"],
                number(&face["age"]),
                face["name"].as_str().expect("a name")
            );
        }
    }
    out
}

#[test]
fn all_print_what_facemetajson_writes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let (clip, gallery) = (media("single_face.mp4"), folder.join("friends.safetensors"));
    face_tests::enroll(&gallery);
    let mut line = Command::new("sh");
    line.args([
        "-c",
        "gst-launch-1.0 -q filesrc location=\"$0\" ! decodebin ! facedetector ! facetracker \
         ! facerecognizer gallery=\"$1\" ! faceagegender ! facemetajson ! fdsink",
    ]);
    let expected = expected(&output(line.args([&clip, &gallery]), folder));
    assert_eq!(expected.lines().count(), 72);
    assert!(expected.lines().all(|l| l.ends_with("name selfie")));

    let mut script = Command::new(python());
    script.arg(root().join("examples/python/faces.py"));
    let programs = [
        Command::new(env!("CARGO_BIN_EXE_faces")),
        Command::new(build_c(folder)),
        script,
    ];
    for mut program in programs {
        let printed = output(program.args([&clip, &gallery]), folder);
        // The same numbers are rounded at different places, so they may differ by one in the last
        // decimal.
        same(&printed, &expected);
    }
}

/// Fails unless both have the same words. Numbers with decimals may differ by a tenth.
fn same(printed: &str, expected: &str) {
    assert_eq!(printed.lines().count(), expected.lines().count());
    for (line, wanted) in printed.lines().zip(expected.lines()) {
        let equal = |(a, b): (&str, &str)| match (a.parse::<f64>(), b.parse::<f64>()) {
            (Ok(x), Ok(y)) if a.contains('.') => (x - y).abs() < 0.11,
            _ => a == b,
        };
        let words = line.split(' ').count() == wanted.split(' ').count();
        assert!(
            words && line.split(' ').zip(wanted.split(' ')).all(equal),
            "{line}\n{wanted}"
        );
    }
}

#[test]
fn a_file_that_is_no_video_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = |name: &str| {
        let mut script = Command::new(python());
        script.arg(root().join("examples/python").join(name));
        script
    };
    let programs = [
        Command::new(env!("CARGO_BIN_EXE_faces")),
        Command::new(build_c(folder.path())),
        script("faces.py"),
        script("draw.py"),
    ];
    for mut program in programs {
        program.arg(root().join("README.md"));
        if format!("{program:?}").contains("draw.py") {
            program.arg(folder.path().join("drawn.mp4"));
        }
        let result = program
            .env("GST_PLUGIN_PATH", plugins())
            .env("GST_REGISTRY", folder.path().join("registry.bin"))
            .output()
            .expect("starts");
        assert!(!result.status.success(), "{program:?}");
        assert!(!result.stderr.is_empty(), "{program:?}");
    }
}

/// The number of pixels of a packed RGB picture that have the green of `draw.py`.
fn green_pixels(picture: &[u8]) -> usize {
    let pixels = picture.chunks_exact(3);
    pixels
        .filter(|p| p[1] > 180 && p[0] < 90 && p[2] < 90)
        .count()
}

#[test]
fn boxes_are_drawn_in_python() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let drawn = folder.path().join("drawn.mp4");
    let mut script = Command::new(python());
    script.arg(root().join("examples/python/draw.py"));
    output(
        script.args([&media("single_face.mp4"), &drawn]),
        folder.path(),
    );
    let raw = folder.path().join("raw");
    let mut line = Command::new("sh");
    line.args([
        "-c",
        "gst-launch-1.0 -q filesrc location=\"$0\" ! decodebin ! videoconvert \
         ! video/x-raw,format=RGB,width=640,height=360 ! filesink location=\"$1\"",
    ]);
    output(line.args([&drawn, &raw]), folder.path());
    let pictures = std::fs::read(raw).expect("written");
    let pictures: Vec<_> = pictures.chunks(640 * 360 * 3).collect();
    assert_eq!(pictures.len(), 72);
    for picture in pictures {
        // The perimeter of the face's box, three pixels wide: about 2000.
        assert!((1000..4000).contains(&green_pixels(picture)));
    }
}

#[test]
fn the_page_shows_the_examples_in_full() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).expect("committed");
    let page = read("docs/embedding.md");
    for (language, file) in [
        ("rust", "examples/rust/faces.rs"),
        ("python", "examples/python/faces.py"),
        ("python", "examples/python/draw.py"),
        ("c", "examples/c/faces.c"),
    ] {
        let block = format!("```{language}\n{}```", read(file));
        assert!(
            page.contains(&block),
            "docs/embedding.md does not show {file} as it is"
        );
    }
}
