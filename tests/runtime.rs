//! Libraries that are not ONNX Runtime. A process loads the library once, so each case is a
//! separate process: this test binary, running the test `in_a_process`.

use std::path::Path;
use std::process::Command;

use face_tests::refusal::refuses;
use face_tests::{Running, process};

const VARIABLE: &str = "ORT_DYLIB_PATH";

/// Without the variable, the runtime of `make setup` is found. With it, there must be an error. The
/// same process can then load the right library if the wrong one could be unloaded.
#[test]
#[ignore = "is run by the others, in separate processes"]
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
        // SAFETY: no other thread of this process runs, since the pipelines are gone.
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

/// Runs `in_a_process` with the variable set. Returns its output.
fn child(library: Option<&Path>) -> String {
    let text = process::child("runtime::in_a_process", |command| {
        match library {
            Some(path) => command.env(VARIABLE, path),
            None => command.env_remove(VARIABLE),
        };
    });
    let says = text.lines().find(|line| line.starts_with("says"));
    println!("{library:?}: {}", says.unwrap_or("runs"));
    text
}

/// The runtime that `make setup` fetched.
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

/// An installed plugin loads neither code nor models from where it was built.
#[test]
fn a_plugin_elsewhere_knows_no_checkout() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let put = |from: std::path::PathBuf| {
        let name = from.file_name().expect("a file").to_owned();
        std::fs::copy(from, folder.path().join(name)).expect("copied");
    };
    put(face_tests::plugins().join("libgstfacedetect.so"));
    // Whether the line succeeded, and what it and the loader printed.
    let run = || {
        let output = Command::new("timeout")
            .args(["240", "gst-launch-1.0", "videotestsrc", "num-buffers=2"])
            .args(["!", "facedetector", "!", "fakesink"])
            .current_dir(folder.path())
            .env("GST_PLUGIN_PATH", folder.path())
            .env("GST_REGISTRY", folder.path().join("registry.bin"))
            .env("XDG_DATA_HOME", folder.path())
            .env("GST_FACE_MODEL_PATH", folder.path())
            .env("LD_DEBUG", "files")
            .env_remove(VARIABLE)
            .env_remove("GST_FACE_CHECKOUT")
            .output()
            .expect("gst-launch-1.0 runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("libgstfacedetect.so"), "the loader is silent");
        for place in ["models", "runtime"] {
            let place = face_tests::root().join(place).display().to_string();
            assert!(!text.contains(&place), "{place} in: {text}");
        }
        (output.status.success(), text)
    };
    let installed = ["/usr", "/usr/local"]
        .map(|prefix| Path::new(prefix).join("share/gst-face/models/yunet.onnx"))
        .iter()
        .any(|path| path.exists());
    let (success, text) = run();
    assert!(installed || !success && text.contains("no model"), "{text}");
    for file in ["yunet.json", "yunet.onnx"] {
        put(face_tests::root().join("models").join(file));
    }
    run();
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

/// Shared objects that load, but are another library or another version.
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
