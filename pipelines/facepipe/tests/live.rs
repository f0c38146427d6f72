//! `facepipe live` as its users run it, with cameras that come and go. (Most cameras here are files,
//! played at the speed of a camera; `tests/faults` covers RTSP servers that fail.)

use std::collections::BTreeSet;

use crate::common::live::{Live, json_lines};
use crate::common::{END, assert_code, enroll, facepipe, media, people, run, stderr, stdout};
use face_rtsp_server::child::{Options, Server};
use serde_json::Value;

fn camera(name: &str, uri: &str) -> String {
    format!(
        "[[camera]]\nname = \"{name}\"\nuri = \"{uri}\"\njsonl = {{ path = \"{name}.jsonl\" }}\n"
    )
}

fn clip(name: &str) -> String {
    camera(
        name,
        media("WolfgangLanger_Pexels.mp4").to_str().expect("UTF-8"),
    )
}

/// RTSP cameras that offer one transport each. The clip is encoded first.
#[test]
fn a_camera_that_takes_only_one_transport_is_understood() {
    let options = Options::new(&[
        "udp=single_face.mp4,size=320x240,rate=10,transport=udp",
        "tcp=single_face.mp4,size=320x240,rate=10,transport=tcp",
    ]);
    let mut server = Server::start(options).expect("the server starts");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixed = |name: &str, of: &str, transport: &str| {
        camera(name, &server.url(of)) + &format!("transport = \"{transport}\"\n")
    };
    let config = camera("udp", &server.url("udp"))
        + &camera("tcp", &server.url("tcp"))
        + &fixed("wrong", "udp", "tcp")
        + &fixed("asked", "udp", "udp");
    let live = Live::start(folder.path(), &config);
    for name in ["udp", "tcp", "asked"] {
        let path = folder.path().join(format!("{name}.jsonl"));
        live.wait("lines", || !json_lines(&path).is_empty());
    }
    live.wait_for_log(&["wrong", "over TCP; leave out `transport`"], 1);
    let fell_back = &[" udp: ", "does not send over TCP; trying UDP"];
    let taken = |name: &str, transport: &str| {
        let name = format!(" {name}: ");
        live.said(&[
            &name,
            "the stream has started",
            &format!("transport={transport}"),
        ])
    };
    assert_eq!(live.said(fell_back), 1, "{}", live.log().join("\n"));
    let starts = [
        taken("udp", "UDP"),
        taken("tcp", "TCP"),
        taken("asked", "UDP"),
    ];
    // A busy machine may stall, and connect again.
    assert!(
        starts.iter().all(|count| *count > 0),
        "{}",
        live.log().join("\n")
    );

    // What the camera takes is remembered.
    server.command("disconnect").expect("it answers");
    live.wait("the stream again", || taken("udp", "UDP") > 1);
    assert_eq!(live.said(fell_back), 1, "{}", live.log().join("\n"));
    assert_eq!(live.said(&["plugin"]), 0, "{}", live.log().join("\n"));
}

/// Nobody listens there.
const NOWHERE: &str = "rtsp://127.0.0.1:1/none";

#[test]
fn cameras_fail_come_and_go_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = clip("door") + &camera("dead", NOWHERE);
    let mut live = Live::start(folder.path(), &config);
    live.wait_for_log(&["dead", "trying again"], 3);
    let door = folder.path().join("door.jsonl");
    let lines = || json_lines(&door).len();
    live.wait("a line of the door", || lines() > 0);

    // Another camera instead of the dead one, and an invalid configuration.
    live.reconfigure(&(clip("door") + &clip("hall")));
    let hall = folder.path().join("hall.jsonl");
    live.wait("a line of the hall", || !json_lines(&hall).is_empty());
    let failures = live.said(&["dead", "trying again"]);
    live.reconfigure("colour = 3\n");
    live.wait_for_log(&["colour", "the current configuration stays in use"], 1);
    let before = lines();
    live.wait("more of the door", || lines() > before + 5);
    assert!(live.said(&["dead", "trying again"]) <= failures);

    let (code, took) = live.terminate();
    assert_eq!(code, Some(0), "{}", live.log().join("\n"));
    assert!(took < END, "{took:?}");
    // The other changes did not restart the door: its frames are numbered without a gap.
    let frames: Vec<u64> = json_lines(&door)
        .iter()
        .filter_map(|line| line["frame"].as_u64())
        .collect();
    let ends = live.said(&["door", "the stream ended"]);
    let restarts = frames.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert!(restarts <= ends, "{restarts} starts, {ends} ends");
    // Tracks that lived until the end are included.
    let text = std::fs::read_to_string(&door).expect("written");
    assert!(text.ends_with('\n'));
    assert!(json_lines(&door).iter().any(|line| line["type"] == "track"));
}

#[test]
fn tracks_are_counted_on_over_restarts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let short = media("single_face.mp4");
    let config = camera("door", short.to_str().expect("UTF-8"));
    let live = Live::start(folder.path(), &config);
    live.wait_for_log(&["door", "the stream ended"], 3);
    let tracks = |lines: Vec<Value>| -> Vec<u64> {
        let ended = lines.iter().filter(|line| line["type"] == "track");
        ended.filter_map(|line| line["track"].as_u64()).collect()
    };
    let path = folder.path().join("door.jsonl");
    live.wait("three tracks", || tracks(json_lines(&path)).len() >= 3);
    let ids = tracks(json_lines(&path));
    let different: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(different.len(), ids.len(), "{ids:?}");
}

#[test]
fn somebody_on_camera_is_enrolled_and_named() {
    let folder = people(&[("Tom", "Tom_Hanks_54745.png")]);
    let gallery = folder.path().join("g.safetensors");
    assert_code(&run(&mut enroll(folder.path())), 0);
    let config = "[defaults]\ngallery = \"g.safetensors\"\n".to_owned() + &clip("door");
    let live = Live::start(folder.path(), &config);
    let door = folder.path().join("door.jsonl");
    let face = |key: &str| {
        let lines = json_lines(&door);
        lines
            .iter()
            .rev()
            .find_map(|line| Some(line["faces"][0][key].clone()).filter(|v| !v.is_null()))
    };
    live.wait("a face without a name", || {
        face("name") == Some("Unknown".into())
    });

    let ask = |camera: &str, track: u64| {
        let mut command = facepipe();
        command.args([
            "enroll", "--person", "Wolfgang", "--camera", camera, "--config",
        ]);
        command.arg(folder.path().join("live.toml"));
        run(command.arg("--track").arg(track.to_string()))
    };
    let wrong = ask("dor", 1);
    assert_code(&wrong, 1);
    assert!(stderr(&wrong).contains("door"), "{}", stderr(&wrong));
    let wrong = ask("door", 12345);
    assert_code(&wrong, 1);
    assert!(stderr(&wrong).contains("(Unknown, "), "{}", stderr(&wrong));

    let track = face("track").and_then(|t| t.as_u64()).expect("a track");
    let done = ask("door", track);
    assert_code(&done, 0);
    assert!(stdout(&done).contains("Wolfgang"));
    live.wait("the name", || face("name") == Some("Wolfgang".into()));
    assert!(gallery.is_file());

    // It was somebody else.
    let track = face("track").and_then(|t| t.as_u64()).expect("a track");
    let mut command = facepipe();
    command.args(["gallery", "add"]).arg(&gallery);
    command.args(["--stranger", "--camera", "door", "--track"]);
    command.arg(track.to_string());
    let done = run(command.arg("--config").arg(folder.path().join("live.toml")));
    assert_code(&done, 0);
    assert!(stdout(&done).contains("strangers"), "{}", stdout(&done));
    let list = run(facepipe().args(["gallery", "list"]).arg(&gallery));
    let source = format!("\n  door track {track}\n");
    assert!(stdout(&list).ends_with(&source), "{}", stdout(&list));
}

#[test]
fn what_is_wrong_is_said_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("live.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).expect("writable");
        run(facepipe().args(["live", "--check"]).arg(&path))
    };
    assert_code(&check(&clip("door")), 0);
    for (text, needle) in [
        (
            clip("door") + "gallery = \"none.safetensors\"\n",
            "none.safetensors",
        ),
        (clip("door") + "restrem = true\n", "restrem"),
        (
            "[[camera]]\nname = \"a\"\nuri = \"no/such/file.mp4\"\n".into(),
            "no/such/file.mp4",
        ),
        (String::new(), "camera"),
        ("[[[".into(), "live.toml"),
    ] {
        let output = check(&text);
        assert_code(&output, 1);
        assert!(stderr(&output).contains(needle), "{}", stderr(&output));
    }
    let output = run(facepipe().args(["live", "--check", "/no/such.toml"]));
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("/no/such.toml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn motion_jpeg_over_http_is_a_camera() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let door = crate::common::mjpeg::Camera::start(usize::MAX);
    let fast = "stages = { interval = 3, age-gender = false, inference-size = 320 }\n";
    let config = camera("door", &door.uri) + "stall-timeout = \"2s\"\n" + fast;
    let mut live = Live::start(folder.path(), &config);
    let lines = || {
        let lines = json_lines(&folder.path().join("door.jsonl"));
        let frames = lines.into_iter().filter(|line| line["type"] == "frame");
        frames.collect::<Vec<_>>()
    };
    live.wait("some frames", || lines().len() > 60);
    // Its pictures carry no time, so they get that of their arrival.
    let times: Vec<u64> = lines().iter().filter_map(|l| l["pts"].as_u64()).collect();
    assert!(
        times.len() > 60 && times.is_sorted_by(|a, b| a < b),
        "{times:?}"
    );
    // Four seconds, except for pictures that waited at the start.
    assert!(times[60] - times[0] > 500_000_000, "{times:?}");
    assert!(
        lines()
            .iter()
            .any(|line| !line["faces"][0]["track"].is_null())
    );

    // Silence is noticed, and so is the end of the stream.
    door.set_silent(true);
    live.wait_for_log(&["door", "no frame arrived"], 1);
    door.set_silent(false);
    live.wait_for_log(&["door", "the stream has started"], 2);
    door.set_closing(true);
    live.wait_for_log(&["door", "the stream ended"], 1);
    door.set_closing(false);
    live.wait_for_log(&["door", "the stream has started"], 3);
    assert_eq!(live.terminate().0, Some(0));
    // Counts only our own: GStreamer 1.22 may complain about itself when a stream is cut.
    let ours = live.said(&["ERROR"]) - live.said(&["ERROR", "glib::GStreamer"]);
    assert_eq!(ours, 0, "{}", live.log().join("\n"));
}

/// The output about a configuration, and the exit code.
fn check(folder: &std::path::Path, config: &str) -> (Option<i32>, String) {
    let path = folder.join("live.toml");
    std::fs::write(&path, config).expect("writable");
    let output = run(facepipe().args(["live", "--check"]).arg(path));
    (output.status.code(), stderr(&output))
}

#[test]
fn what_cannot_run_is_not_called_good() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clip = media("single_face.mp4");
    let clip = clip.display();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("bound");
    let long = "x".repeat(120);
    // Each camera has a different error, on the line after its name.
    let cameras = [
        ("scheme", "uri = \"gopher://192.0.2.1/\"", "rtsp"),
        (
            "gone",
            "uri = \"file:///no/such.mp4\"",
            "/no/such.mp4 does not exist",
        ),
        (
            "model",
            &format!("stages = {{ detector = \"none-such\" }}\nuri = \"{clip}\""),
            "`none-such`",
        ),
        (
            "recognition",
            &format!("stages = {{ model = \"yunet\" }}\nuri = \"{clip}\""),
            "detection",
        ),
        (
            "provider",
            &format!("stages = {{ execution-provider = \"cuda\" }}\nuri = \"{clip}\""),
            "cuda",
        ),
        (
            "gallery",
            &format!("gallery = \"none.safetensors\"\nuri = \"{clip}\""),
            "does not exist",
        ),
        (
            "lines",
            &format!("jsonl = {{ path = \"/proc/none/x.jsonl\" }}\nuri = \"{clip}\""),
            "/proc/none cannot be created",
        ),
        (
            "segments",
            &format!("segments = {{ folder = \"live.toml\" }}\nuri = \"{clip}\""),
            "is not a folder",
        ),
    ];
    let mut config = format!("state = \"{long}\"\n[server]\nlisten = \"{taken}\"\n");
    let mut places = Vec::new();
    for (name, keys, needle) in cameras {
        config += &format!("[[camera]]\nname = \"{name}\"\n{keys}\n");
        let line = config.lines().count() - (keys.lines().count() - 1);
        places.push((line, format!("camera `{name}`"), needle));
    }
    places.push((1, "state".into(), "107"));
    places.push((3, "server.listen".into(), "in use"));
    let (code, said) = check(folder.path(), &config);
    assert_eq!(code, Some(1), "{said}");
    for (line, name, needle) in &places {
        let start = format!("live.toml:{line}:");
        let found = said
            .lines()
            .any(|text| text.contains(&start) && text.contains(name) && text.contains(needle));
        assert!(found, "{start} {name} {needle}: {said}");
    }
    assert_eq!(said.lines().count(), places.len(), "{said}");

    let (code, said) = check(
        folder.path(),
        &format!(
            "state = \"/proc/none\"\n[server]\ndisabled = true\n{}",
            clip_camera(&clip)
        ),
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("live.toml:1:1: state: ") && said.contains("/proc/none"),
        "{said}"
    );
    let good = format!(
        "state = \"state\"\n[server]\ndisabled = true\n{}[[camera]]\nname = \"Tür\"\nuri = \
         \"rtsp://192.0.2.1/1\"\n",
        clip_camera(&clip)
    );
    let (code, said) = check(folder.path(), &good);
    assert_eq!(
        (code, said.contains("is valid: 2 cameras")),
        (Some(0), true),
        "{said}"
    );
    assert!(
        !folder.path().join("state").exists(),
        "checking makes nothing"
    );
}

fn clip_camera(clip: &impl std::fmt::Display) -> String {
    camera("door", &clip.to_string())
}
