//! Observes `facepipe live` from outside: metrics, health, log, `facepipe top`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::live::Live;
use crate::common::{END, assert_code, facepipe, media, run, signal, stderr, stdout};
use serde_json::Value;

/// Nobody listens there.
const NOWHERE: &str = "rtsp://127.0.0.1:1/none";

/// A free port.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// A camera that runs and one that does not.
fn config(port: u16) -> String {
    let clip = media("WolfgangLanger_Pexels.mp4");
    format!(
        "[server]\nlisten = \"127.0.0.1:{port}\"\n\
         [[camera]]\nname = \"door\"\nuri = \"{}\"\n\
         [[camera]]\nname = \"dead\"\nuri = \"{NOWHERE}\"\n",
        clip.display()
    )
}

/// The status and the body.
fn fetch(port: u16, path: &str) -> (u16, String) {
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(10)))
        .http_status_as_error(false)
        .build()
        .new_agent();
    let url = format!("http://127.0.0.1:{port}{path}");
    let mut answer = agent.get(&url).call().expect("answers");
    let body = answer.body_mut().read_to_string().expect("text");
    (answer.status().as_u16(), body)
}

/// The value of `series`, as written in the text.
fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[test]
fn metrics_health_and_top_tell_of_the_cameras() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let mut live = Live::start(folder.path(), &config(port));
    live.wait_for_log(&["door", "the stream has started"], 1);
    let metrics = || fetch(port, "/metrics").1;
    let of_door = |name: &str| format!("{name}{{camera=\"door\"}} ");
    let inferences =
        |stage: &str| format!("facepipe_inferences_total{{camera=\"door\",stage=\"{stage}\"}} ");
    const STAGES: [&str; 3] = ["facedetector", "facerecognizer", "faceagegender"];
    // The statistics of the stages are read periodically, so a track may be counted before its frame.
    let mut wanted = vec![
        of_door("facepipe_tracks_live"),
        of_door("facepipe_frames_processed_total"),
    ];
    wanted.extend(STAGES.map(inferences));
    live.wait("a track, a frame and inferences in the metrics", || {
        let text = metrics();
        wanted
            .iter()
            .all(|series| value(&text, series) >= Some(1.0))
    });

    let (code, health) = fetch(port, "/healthz");
    let health: Value = serde_json::from_str(&health).expect("JSON");
    assert_eq!((code, health["status"].as_str()), (503, Some("degraded")));
    let states: Vec<_> = health["cameras"]
        .as_array()
        .expect("cameras")
        .iter()
        .collect();
    assert_eq!(states[1]["state"], "running", "{health}");
    let silence = states[1]["seconds_since_frame"].as_f64();
    assert!(silence.is_some_and(|seconds| seconds < 5.0), "{health}");
    assert!(states[0]["seconds_since_frame"].is_null());
    assert_eq!(fetch(port, "/livez").0, 200);
    assert_eq!(fetch(port, "/metrics/").0, 404);

    let text = metrics();
    let of = |series: &str| value(&text, &format!("{series} ")).expect(series);
    let processed = of("facepipe_frames_processed_total{camera=\"door\"}");
    assert!(processed > 0.0);
    let under_way = of("facepipe_frames_in_total{camera=\"door\"}")
        - processed
        - of("facepipe_frames_dropped_total{camera=\"door\"}");
    assert!(
        (0.0..=64.0).contains(&under_way),
        "{under_way} frames are under way"
    );
    assert_eq!(
        of("facepipe_latency_seconds_count{camera=\"door\"}"),
        processed
    );
    for stage in STAGES {
        let labels = format!("{{camera=\"door\",stage=\"{stage}\"}}");
        let inferences = of(&format!("facepipe_inferences_total{labels}"));
        assert!(inferences > 0.0, "{stage}");
        let timed = of(&format!(
            "facepipe_inference_duration_seconds_count{labels}"
        ));
        assert_eq!(timed, inferences, "{stage}");
    }
    assert!(of("process_resident_memory_bytes") > 1e7);
    check_dashboard(&text);

    let top = run(facepipe().args(["top", "--json", &format!("127.0.0.1:{port}")]));
    assert_code(&top, 0);
    let top: Value = serde_json::from_str(&stdout(&top)).expect("JSON");
    assert_eq!(top["cameras"][1]["camera"], "door");
    assert_eq!(top["cameras"][1]["state"], "running");
    assert_eq!(top["cameras"][0]["fps_in"], 0.0);
    assert!(top["cameras"][1]["latency"].is_number(), "{top}");
    let config = folder.path().join("live.toml");
    let table = run(facepipe().args(["top", "--once", "--config"]).arg(config));
    assert_code(&table, 0);
    let table = stdout(&table);
    assert!(
        table.contains("door") && table.contains("2 cameras"),
        "{table}"
    );

    // The end of the clip ends the pipeline, but its counts continue.
    live.wait_for_log(&["door", "the stream has started"], 2);
    live.wait("the counts of both pipelines", || {
        value(
            &metrics(),
            "facepipe_frames_processed_total{camera=\"door\"} ",
        ) > Some(processed)
    });
    let (code, _) = live.terminate();
    assert_eq!(code, Some(0), "{}", live.log().join("\n"));
    let top = run(facepipe().args(["top", "--once", &format!("127.0.0.1:{port}")]));
    assert_code(&top, 1);
    assert!(
        stderr(&top).contains("is `facepipe live` running there?"),
        "{}",
        stderr(&top)
    );
}

/// Every metric in the dashboard's expressions is part of a scrape.
fn check_dashboard(metrics: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/grafana.json");
    let text = fs::read_to_string(path).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let known: BTreeSet<&str> = metrics
        .lines()
        .filter_map(|line| line.split(['{', ' ']).next())
        .filter(|name| *name != "#")
        .collect();
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let expressions: Vec<&str> = targets
        .filter_map(|target| target["expr"].as_str())
        .collect();
    assert!(expressions.len() > 30, "{}", expressions.len());
    let mut unknown = BTreeSet::new();
    for expression in expressions {
        let names = expression
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("facepipe_") || word.starts_with("process_"));
        for name in names {
            // Without a gallery, the recogniser reports none.
            if !known.contains(name) && !name.starts_with("facepipe_gallery_") {
                unknown.insert(name);
            }
        }
    }
    assert!(unknown.is_empty(), "{unknown:?} are not among {known:?}");
}

#[test]
fn a_port_that_is_taken_stops_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let file = folder.path().join("live.toml");
    fs::write(&file, format!("state = \"state\"\n{}", config(port))).expect("writable");
    let output = run(facepipe().arg("live").arg(&file));
    assert_code(&output, 1);
    let error = stderr(&output);
    assert!(error.contains("[server]: listen = \"127.0.0.1:"), "{error}");
}

#[test]
fn the_log_is_json_with_gstreamers_messages_and_without_secrets() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("live.toml");
    let text = "state = \"state\"\n[server]\ndisabled = true\n\
         [[camera]]\nname = \"dead\"\nuri = \"rtsp://127.0.0.1:1/none?user=me&password=b7q&token=z9y\"\n\
         username = \"admin\"\n\
         password-env = \"CAMERA_PASSWORD\"\n";
    fs::write(&file, text).expect("writable");
    let mut child = facepipe()
        .args(["live", "--log-format", "json", "--log", "debug"])
        .arg(&file)
        .env("CAMERA_PASSWORD", "correct horse")
        // Logs the password as a property of the source.
        .env("GST_DEBUG", "2,rtspsrc:5,GST_PROPERTIES:5,uridecodebin:5")
        .stderr(Stdio::piped())
        .spawn()
        .expect("facepipe starts");
    // Until the camera was tried twice.
    let mut errors = BufReader::new(child.stderr.take().expect("piped"));
    let mut log = String::new();
    while log.matches("trying again").count() < 2 {
        assert!(errors.read_line(&mut log).expect("text") > 0, "{log}");
    }
    signal(&child, libc::SIGTERM);
    errors.read_to_string(&mut log).expect("text");
    child.wait().expect("a child");
    for secret in ["correct horse", "b7q", "z9y"] {
        assert!(!log.contains(secret), "{log}");
    }
    assert!(log.contains("password=***"), "{log}");
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let from = |target: &str, level: &str| {
        lines.iter().any(|line| {
            line["target"]
                .as_str()
                .is_some_and(|t| t.starts_with(target))
                && line["level"] == level
                && line["camera"] == "dead"
        })
    };
    assert!(from("face_live", "info"), "{log}");
    // The camera's thread reports its problem once.
    assert!(from("face_live", "warn"), "{log}");
    assert!(lines.iter().all(|line| line["level"] != "error"), "{log}");
    assert!(from("gstreamer::rtspsrc", "debug"), "{log}");
    for line in &lines {
        let time = line["time"].as_str().expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
        assert!(line["message"].is_string());
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let port = free_port();
    let file = folder.path().join("live.toml");
    fs::write(&file, format!("state = \"state\"\n{}", config(port))).expect("writable");
    let mut child = facepipe()
        .args(["live", "--log", "trace"])
        .arg(&file)
        // Excludes what GStreamer prints itself before the log starts.
        .env(
            "GST_DEBUG",
            "basetransform:6,queue_dataflow:6,videodecoder:6",
        )
        // Fills up at once, and is never drained.
        .stderr(Stdio::piped())
        .spawn()
        .expect("facepipe starts");
    let begun = Instant::now();
    let done = || {
        let answer = ureq::get(format!("http://127.0.0.1:{port}/metrics")).call();
        let text = answer.and_then(|mut answer| answer.body_mut().read_to_string());
        text.is_ok_and(|text| {
            value(&text, "facepipe_frames_processed_total{camera=\"door\"} ") > Some(20.0)
                && value(&text, "facepipe_log_lines_dropped_total ") > Some(0.0)
        })
    };
    while !done() {
        assert!(begun.elapsed() < crate::common::live::PATIENCE, "no frames");
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal(&child, libc::SIGTERM);
    let begun = Instant::now();
    let code = child.wait().expect("a child").code();
    assert!(begun.elapsed() < END, "{:?}", begun.elapsed());
    assert!(matches!(code, Some(0 | 130)), "{code:?}");
}
