//! Tests that apply to every command.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::{assert_code, enroll, facepipe, media, people, run, stderr, stdout};

#[test]
fn wrong_usage_is_2_and_wrong_models_are_named() {
    assert_code(&run(&mut facepipe()), 2);
    assert_code(&run(facepipe().args(["annotate", "a.mp4"])), 2);
    assert_code(
        &run(facepipe().args(["annotate", "a.mp4", "-o", "a.avi"])),
        2,
    );
    assert_code(
        &run(facepipe().args(["annotate", "a.mp4", "-o", "b.mp4", "--interval", "0"])),
        2,
    );
    let folder = people(&[("Ann", "single_face.jpg")]);
    let output = run(enroll(folder.path()).args(["--detector", "nonesuch"]));
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(error.contains("--detector: no model `nonesuch`"), "{error}");
    assert!(error.contains("`yunet`"), "{error}");
}

#[test]
fn no_command_repeats_the_secrets_of_an_address() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("results");
    let address = "rtsp://me:pw1x@127.0.0.1:1/user=a_password=pw2x?token=pw3x&channel=1";
    let json = folder.path().join("out.jsonl");
    let mut annotate = facepipe();
    annotate.arg("annotate").arg("--json").arg(&json);
    let mut analyze = facepipe();
    analyze.arg("analyze").arg("--json").arg("-o").arg(&results);
    let mut bench = facepipe();
    bench.arg("bench").arg("--json");
    for command in [&mut annotate, &mut analyze, &mut bench] {
        let output = run(command.arg(address));
        assert_code(&output, 1);
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("token=***&channel=1"), "{said}");
        for secret in ["pw1x", "pw2x", "pw3x"] {
            assert!(!said.contains(secret), "{secret}: {said}");
        }
    }
    // Without a scheme.
    let output = run(facepipe().args(["annotate", "cam/1?password=pw4x", "--json", "-"]));
    assert_code(&output, 1);
    assert!(stderr(&output).contains("cam/1?password=*** does not exist"));
}

/// Runs a command with so little memory that it dies if it reads without a limit.
fn run_small(arguments: &[&str], input: &[u8]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -v 6000000; exec timeout 120 \"$0\" \"$@\""])
        .arg(facepipe().get_program())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("sh is installed");
    let mut stdin = child.stdin.take().expect("piped");
    // Fails if nobody reads it.
    let _ = std::io::Write::write_all(&mut stdin, input);
    drop(stdin);
    let output = child.wait_with_output().expect("a child");
    (output.status.code(), stderr(&output))
}

#[test]
fn what_has_no_end_is_read_up_to_a_limit() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let link = |name: &str| {
        let link = folder.path().join(name);
        fs::create_dir_all(link.parent().expect("in a folder")).expect("writable");
        std::os::unix::fs::symlink("/dev/zero", &link).expect("writable");
        link.display().to_string()
    };
    let zero = "/dev/zero";
    let empty = path("empty.jsonl");
    fs::write(&empty, "").expect("writable");
    let truth = path("truth.txt");
    fs::write(&truth, "1,1,0,0,10,10,1,-1,-1,-1\n").expect("writable");
    link("endless/Ann/photo.jpg");
    let clip = media("single_face.mp4").display().to_string();
    let out = path("out.jsonl");
    let commands: &[(&[&str], &str)] = &[
        (&["live", "--check", zero], zero),
        (&["top", "--once", "--config", zero], zero),
        (&["run", zero], zero),
        (&["evaluate", zero, &truth], zero),
        (&["evaluate", &empty, zero], zero),
        (&["evaluate", &empty, &truth, "--names", zero], zero),
        (
            &["enroll", &path("endless"), "-o", &path("g.safetensors")],
            "photo.jpg",
        ),
        (&["gallery", "info", zero], zero),
        (
            &["annotate", &clip, "--gallery", zero, "--json", &out],
            zero,
        ),
        (
            &[
                "annotate",
                &clip,
                "--detector",
                &link("m.onnx"),
                "--json",
                &out,
            ],
            "m.onnx",
        ),
        (&["forget", "Ann", zero], zero),
        (&["forget", "Ann", &link("lines.jsonl")], "lines.jsonl"),
    ];
    for (arguments, named) in commands {
        let (code, said) = run_small(arguments, b"");
        assert!(
            matches!(code, Some(1..=3)),
            "{arguments:?}: {code:?} {said}"
        );
        assert!(said.contains(named), "{arguments:?}: {said}");
    }

    // Finite input may also come from a pipe.
    let config = format!(
        "state = \"{}\"\n[server]\ndisabled = true\n[[camera]]\nname = \"door\"\nuri = \"{clip}\"\n",
        path("state")
    );
    let (code, said) = run_small(&["live", "--check", "/dev/stdin"], config.as_bytes());
    assert_eq!(code, Some(0), "{said}");
    let endless = "#".repeat((4 << 20) + 1);
    let (code, said) = run_small(&["live", "--check", "/dev/stdin"], endless.as_bytes());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("longer than 4194304 bytes"), "{said}");
}

#[test]
fn what_is_written_is_said_to_be_where_its_summary_cannot_be_printed() {
    let folder = people(&[("Ann", "single_face.jpg")]);
    let gallery = folder.path().join("g.safetensors");
    let mut rename = facepipe();
    rename
        .args(["gallery", "rename"])
        .arg(&gallery)
        .args(["Ann", "Bea"]);
    let mut bytes = Vec::new();
    for mut command in [enroll(folder.path()), rename] {
        let full = fs::File::options().write(true).open("/dev/full");
        let output = run(command.stdout(full.expect("there")));
        assert_code(&output, 1);
        let text = stderr(&output);
        assert!(
            text.contains("all is written") && text.contains("No space left"),
            "{text}"
        );
        let now = fs::read(&gallery).expect("written");
        assert_ne!(now, bytes);
        bytes = now;
    }
}

#[test]
fn nobody_has_to_take_what_it_says() {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let gallery = folder.path().join("g.safetensors");

    // A full disk, and a reader that is gone: the exit code is still right.
    let full = fs::File::options().write(true).open("/dev/full");
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    drop(theirs);
    for stderr in [
        Stdio::from(full.expect("there")),
        Stdio::from(std::os::fd::OwnedFd::from(ours)),
    ] {
        let mut command = facepipe();
        command
            .args(["gallery", "info"])
            .arg(&gallery)
            .stderr(stderr);
        assert_eq!(command.status().expect("starts").code(), Some(1));
    }

    // A file that may not grow is an ordinary error.
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "ulimit -f 0; exec \"$0\" run --list > \"$1\""])
        .arg(facepipe().get_program())
        .arg(folder.path().join("list"));
    let output = run(&mut command);
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("File too large"),
        "{}",
        stderr(&output)
    );

    // A reader that does not read: a signal ends the program.
    let (mut ours, _theirs) = UnixStream::pair().expect("a pair");
    ours.set_nonblocking(true).expect("a socket");
    while matches!(ours.write(b"x"), Ok(1)) {}
    ours.set_nonblocking(false).expect("a socket");
    let lock = fs::File::create(folder.path().join(".g.safetensors.lock")).expect("writable");
    lock.lock().expect("free");
    let mut command = facepipe();
    command.args(["gallery", "remove"]).arg(&gallery).arg("Ann");
    command.stderr(Stdio::from(std::os::fd::OwnedFd::from(ours)));
    let waits = command.spawn().expect("starts");
    // It handles signals, and the lock keeps it from ending.
    let takes_over = || {
        let status = fs::read_to_string(format!("/proc/{}/status", waits.id())).expect("it runs");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = u64::from_str_radix(caught.expect("a line").trim(), 16).expect("a mask");
        caught & (1 << (libc::SIGTERM - 1)) != 0
    };
    let begun = Instant::now();
    while !takes_over() {
        assert!(begun.elapsed() < Duration::from_secs(50), "no handler");
        std::thread::sleep(Duration::from_millis(5));
    }
    crate::common::ends_at_once(waits);
}

#[test]
fn models_are_listed_and_an_unknown_one_names_its_option() {
    let output = run(facepipe().args(["models", "--time", "--json"]));
    assert_code(&output, 0);
    let listed: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    let listed = listed.as_array().expect("a list");
    for (name, task) in [
        ("yunet", "detection"),
        ("sface", "recognition"),
        ("dlib-age", "age"),
    ] {
        let model = listed.iter().find(|model| model["name"] == name);
        let model = model.unwrap_or_else(|| panic!("no {name} in {listed:?}"));
        assert_eq!(model["task"], task);
        assert!(model["milliseconds"].as_f64().is_some_and(|ms| ms > 0.0));
        assert!(model["licence"].as_str().is_some_and(|l| !l.is_empty()));
    }
    let text = stdout(&run(facepipe().arg("models")));
    assert!(text.contains("yunet") && text.contains("MIT"), "{text}");
    let clip = media("single_face.mp4");
    let error = stderr(&run(facepipe()
        .args(["bench", "--detector", "nope"])
        .arg(&clip)));
    assert!(
        error.contains("--detector") && error.contains("`yunet`"),
        "{error}"
    );
}
