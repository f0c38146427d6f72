//! Libraries that are no ONNX Runtime. A process loads it once, so each case is a process of its
//! own: this test binary, running the test `in_a_process`.

use std::path::Path;
use std::process::Command;

use face_tests::refusal::refuses;
use face_tests::{Running, process};

const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Without the variable the runtime of the set-up is found; with it there must be an error, after
/// which the same process can load the right one, if the wrong one let itself be unloaded.
#[test]
#[ignore = "is run by the others, in processes of their own"]
fn in_a_process() {
    if let Ok(path) = std::env::var(VARIABLE) {
        let says = [path.as_str(), VARIABLE, "make setup"];
        for element in ["facedetector", "facerecognizer", "faceagegender"] {
            let text = error_of(element);
            for part in says {
                assert!(text.contains(part), "no {part:?} in: {text}");
            }
            println!("says: {text}");
        }
        // SAFETY: no other thread of this process runs: the pipelines are gone.
        unsafe { std::env::remove_var(VARIABLE) };
    }
    assert_eq!(pipeline("facedetector").outcome(), Ok(()));
    refuses(
        "facedetector",
        &[("model", "nope")],
        &["nope"],
        &[("model", "yunet")],
    );
}

fn pipeline(element: &str) -> Running {
    Running::new(&format!(
        "videotestsrc num-buffers=2 ! {element} ! fakesink"
    ))
    .expect("valid")
}

fn error_of(element: &str) -> String {
    let running = pipeline(element);
    let (text, _) = running.outcome().expect_err("there is no runtime");
    running.stop();
    text
}

/// Runs `in_a_process` with the variable set; its output.
fn child(library: Option<&Path>) -> String {
    let text = process::child("in_a_process", |command| {
        match library {
            Some(path) => command.env(VARIABLE, path),
            None => command.env_remove(VARIABLE),
        };
    });
    let says = text.lines().find(|line| line.starts_with("says"));
    println!("{library:?}: {}", says.unwrap_or("runs"));
    text
}

/// The runtime that the set-up fetched.
fn real() -> std::path::PathBuf {
    let folder = face_tests::root().join("runtime");
    std::fs::read_dir(folder)
        .expect("run `make setup`")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
        .expect("run `make setup`")
}

#[test]
fn the_one_of_the_set_up() {
    child(None);
}

#[test]
fn files_that_are_none() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("writable");
        path
    };
    let whole = std::fs::read(real()).expect("readable");
    let libraries = [
        Path::new("/nonexistent/libonnxruntime.so").to_owned(),
        folder.path().to_owned(),
        put("empty.so", &[]),
        put("text.so", b"This is a text.\n"),
        put("header.so", &whole[..64]),
        put("page.so", &whole[..4096]),
        put("half.so", &whole[..whole.len() / 2]),
        put("short.so", &whole[..whole.len() - 100_000]),
    ];
    for library in libraries {
        let text = child(Some(&library));
        assert!(!text.contains("panicked"), "{text}");
    }
}

/// Shared objects that load, and are something else or of another age.
#[test]
fn libraries_of_something_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let compiled = |name: &str, source: &str| {
        let (code, library) = (folder.path().join("x.c"), folder.path().join(name));
        std::fs::write(&code, source).expect("writable");
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &code])
            .status()
            .expect("cc, which Rust links with");
        assert!(status.success());
        library
    };
    let age = |version: &str| {
        format!(
            "static const void *api(unsigned v) {{ return 0; }}\n\
             static const char *version(void) {{ return \"{version}\"; }}\n\
             static const void *base[2] = {{ (void *)api, (void *)version }};\n\
             const void *OrtGetApiBase(void) {{ return base; }}\n"
        )
    };
    for (library, says) in [
        ("libc.so.6".into(), "OrtGetApiBase"),
        (
            compiled("other.so", "int answer(void) { return 42; }"),
            "OrtGetApiBase",
        ),
        (compiled("old.so", &age("1.14.1")), "1.14.1"),
        (compiled("odd.so", &age("x")), "got 'x'"),
    ] {
        let text = child(Some(&library));
        assert!(text.contains(says), "no {says:?} in: {text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
