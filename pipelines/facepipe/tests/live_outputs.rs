//! Tests the outputs of `facepipe live` with the real program and real clips.

mod forgotten;
mod viewers;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::common::{END, assert_code, enroll, facepipe, media, names, people, run};

const CLIP: &str = "WolfgangLanger_Pexels.mp4";

/// The limit for any step here.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a gallery in which the woman of the clip is `anna`.
fn gallery() -> TempDir {
    let folder = people(&[("tom", "Tom_Hanks_54745.png")]);
    let anna = folder.path().join("people/anna");
    fs::create_dir_all(&anna).expect("writable");
    let frames = Command::new("timeout")
        .args(["240", "gst-launch-1.0", "-q", "filesrc"])
        .arg(format!("location={}", media(CLIP).display()))
        .args(
            "! decodebin ! videoconvert ! videorate ! video/x-raw,framerate=1/4 ! pngenc"
                .split(' '),
        )
        .args("! multifilesink".split(' '))
        .arg(format!("location={}/%02d.png", anna.display()))
        .stdin(Stdio::null())
        .status()
        .expect("gst-launch-1.0 is installed");
    assert!(frames.success());
    assert_code(&run(&mut enroll(folder.path())), 0);
    folder
}

/// A running `facepipe live`, killed when it is dropped.
struct Live {
    child: Child,
    folder: PathBuf,
}

impl Live {
    fn start(folder: &Path, config: &str) -> Self {
        let path = folder.join("live.toml");
        let head = "state = \"state\"\n[server]\ndisabled = true\n";
        fs::write(&path, format!("{head}{config}")).expect("writable");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("log"))
            .expect("writable");
        let child = facepipe()
            .arg("live")
            .arg(path)
            .env("HOOK_TOKEN", "a-token-nobody-may-see")
            .stderr(log)
            .spawn()
            .expect("facepipe starts");
        Self {
            child,
            folder: folder.to_owned(),
        }
    }

    /// Waits until `done`.
    #[track_caller]
    fn wait(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !done() {
            let ended = self.child.try_wait().expect("a child");
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "{what}: {ended:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status()
            .expect("kill is installed");
        assert!(sent.success());
    }

    /// Ends the program like a service manager does.
    #[track_caller]
    fn terminate(mut self) {
        self.signal("-TERM");
        let begun = Instant::now();
        let status = self.child.wait().expect("a child");
        let took = begun.elapsed();
        assert!(status.success(), "{status}\n{}", self.log());
        assert!(took < END, "{took:?}\n{}", self.log());
    }

    fn kill(mut self) {
        self.signal("-KILL");
        self.child.wait().expect("a child");
    }

    fn log(&self) -> String {
        live_log(&self.folder)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn live_log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// The table of one camera.
fn camera(outputs: &str) -> String {
    format!(
        "[[camera]]\nname = \"door\"\nuri = {:?}\ngallery = \"g.safetensors\"\n\
         stages = {{ interval = 3, age-gender = false, inference-size = 320 }}\n{outputs}",
        media(CLIP)
    )
}

/// The lines of a file. Each must be a JSON object.
#[track_caller]
fn objects(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "{path:?}: half a line"
    );
    text.lines()
        .map(|line| {
            let value: Value = serde_json::from_str(line).expect(line);
            assert!(value.is_object(), "{line}");
            value
        })
        .collect()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    if !folder.is_dir() {
        return Vec::new();
    }
    let suffix = format!(".{extension}");
    let found = names(folder).into_iter().filter(|n| n.ends_with(&suffix));
    found.map(|name| folder.join(name)).collect()
}

#[track_caller]
fn assert_private(path: &Path) {
    let mode = fs::metadata(path).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{path:?}: {mode:o}");
}

/// The number of frames that GStreamer decodes from a file.
fn decoded(path: &Path) -> usize {
    let output = Command::new("timeout")
        .args(["240", "gst-launch-1.0", "-v", "filesrc"])
        .arg(format!("location={}", path.display()))
        .args("! decodebin ! video/x-raw ! identity silent=false ! fakesink".split(' '))
        .stdin(Stdio::null())
        .output()
        .expect("gst-launch-1.0 is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{path:?}: {text}");
    text.matches("chain   ******* (identity0:sink)").count()
}

/// The number of frames in each complete fragment of an MP4 file.
fn fragments(path: &Path) -> Vec<usize> {
    let bytes = fs::read(path).expect("readable");
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(four) as usize)
    };
    let (mut at, mut samples, mut found) = (0, 0, Vec::new());
    while let Some(length) = number(at).filter(|&length| length >= 8 && at + length <= bytes.len())
    {
        let body = &bytes[at..at + length];
        match &body[4..8] {
            b"moof" => {
                let run = body.windows(4).position(|name| name == b"trun");
                // The version and flags follow the name.
                samples = run.and_then(|run| number(at + run + 8)).expect("a run");
            }
            b"mdat" => found.push(samples),
            _ => {}
        }
        at += length;
    }
    found
}

/// The duration of a file in seconds, as players would see it.
#[track_caller]
fn duration(path: &Path) -> f64 {
    let output = Command::new("timeout")
        .args(["240", "gst-discoverer-1.0"])
        .arg(path)
        .output()
        .expect("gst-discoverer-1.0 is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let found = text.lines().find_map(|line| {
        let (_, time) = line.split_once("Duration: ")?;
        let mut parts = time.split(':').map(|part| part.parse::<f64>().ok());
        Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
    });
    found.unwrap_or_else(|| panic!("{path:?}: {text}"))
}

/// A web server that answers 503 twice and then accepts everything. Returns the requests with their
/// headers.
fn webhook(port: u16) -> mpsc::Receiver<(u16, String, String)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("a port");
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for (i, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).expect("a header");
                let lower = line.to_ascii_lowercase();
                if let Some(number) = lower.strip_prefix("content-length:") {
                    length = number.trim().parse().expect("a number");
                }
                if line.trim().is_empty() {
                    break;
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).expect("a body");
            let status = if i < 2 { 503 } else { 200 };
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream
                .get_mut()
                .write_all(answer.as_bytes())
                .expect("answered");
            let body = String::from_utf8(body).expect("text");
            if sender.send((status, head, body)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

#[test]
fn lines_rotate_and_events_reach_file_and_webhook() {
    let folder = gallery();
    let out = folder.path().join("out");
    let port = free_port();
    let posts = webhook(port);
    let config = camera(&format!(
        "jsonl = {{ path = \"out/{{camera}}.jsonl\", max-size = \"20 kB\", keep = 2 }}\n\
         events = {{ path = \"out/events.jsonl\", webhooks = [{{ url = \"http://127.0.0.1:{port}/hook\", \
         token-env = \"HOOK_TOKEN\" }}] }}\n"
    ));
    let mut live = Live::start(folder.path(), &config);
    live.wait("two files were closed", || {
        files(&out, "jsonl")
            .iter()
            .filter(|p| p.to_string_lossy().contains("door."))
            .count()
            == 3
    });
    let mut taken = Vec::new();
    live.wait("the webhook takes an event", || {
        taken.extend(posts.try_iter());
        taken.iter().any(|(status, ..)| *status == 200)
    });
    let log = live.log();
    live.terminate();

    let events = objects(&out.join("events.jsonl"));
    let appeared: Vec<_> = events.iter().filter(|e| e["type"] == "appeared").collect();
    assert_eq!(appeared.len(), 1, "{events:?}");
    assert_eq!(
        (&appeared[0]["name"], &appeared[0]["camera"]),
        (&"anna".into(), &"door".into())
    );
    // After two refusals, the same event is sent again with the same key.
    let id = appeared[0]["id"].as_str().expect("an id");
    for (status, head, body) in &taken[..3] {
        assert!(
            head.to_ascii_lowercase()
                .contains(&format!("idempotency-key: {id}")),
            "{status} {head}"
        );
        assert!(head.contains("Bearer a-token-nobody-may-see"), "{head}");
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(&body, appeared[0]);
    }
    assert!(!log.contains("a-token-nobody-may-see"), "{log}");

    let closed = files(&out, "jsonl");
    let mut frames = Vec::new();
    for path in closed
        .iter()
        .filter(|p| p.to_string_lossy().contains("door."))
    {
        assert!(
            fs::metadata(path).expect("there").len() <= 20_000,
            "{path:?}"
        );
        assert_private(path);
        frames.extend(
            objects(path)
                .into_iter()
                .filter(|line| line["type"] == "frame"),
        );
    }
    assert_private(&out.join("events.jsonl"));
    assert_eq!(frames[0]["camera"], "door");
    // No frame is missing between two files: there are 24 per second.
    frames.sort_by_key(|frame| frame["frame"].as_u64());
    let times: Vec<jiff::Timestamp> = frames
        .iter()
        .map(|frame| {
            frame["time"]
                .as_str()
                .expect("a time")
                .parse()
                .expect("RFC 3339")
        })
        .collect();
    assert!(times.is_sorted());
}

#[test]
fn a_port_that_is_taken_is_said_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let config = format!(
        "state = \"state\"\n[server]\ndisabled = true\n[restream]\nlisten = \"{address}\"\n\
         [[camera]]\nname = \"door\"\nuri = \"rtsp://127.0.0.1:1/\"\nrestream = true\n"
    );
    let path = folder.path().join("live.toml");
    fs::write(&path, config).expect("writable");
    let output = run(facepipe().arg("live").arg(path));
    assert_code(&output, 1);
    let error = crate::common::stderr(&output);
    assert!(
        error.contains(&address) && error.contains("in use"),
        "{error}"
    );
}

#[test]
fn a_killed_program_leaves_files_that_can_be_read() {
    let folder = gallery();
    let (out, seg) = (folder.path().join("out"), folder.path().join("seg"));
    let dead = free_port();
    let config = camera(&format!(
        "jsonl = {{ path = \"out/{{camera}}.jsonl\" }}\n\
         segments = {{ folder = \"seg\", length = \"60s\" }}\n\
         events = {{ webhooks = [{{ url = \"http://127.0.0.1:{dead}/\" }}] }}\n"
    ));
    let lines = out.join("door.jsonl");
    let count =
        |path: &Path| fs::read(path).map_or(0, |b| b.iter().filter(|&&b| b == b'\n').count());
    let mut live = Live::start(folder.path(), &config);
    let spool = folder.path().join("state/webhooks");
    live.wait("lines, an event and three fragments of video", || {
        let video = files(&seg, "mp4");
        count(&lines) > 48
            && !files(&spool, "jsonl").is_empty()
            && video.first().is_some_and(|path| fragments(path).len() >= 3)
    });
    live.kill();

    let before = count(&lines);
    let text = fs::read(&lines).expect("readable");
    // The possible remains of a line that was being written.
    let mut torn = text.clone();
    torn.extend_from_slice(b"{\"camera\":\"do");
    fs::write(&lines, torn).expect("writable");
    let pieces = files(&seg, "mp4");
    assert_eq!(pieces.len(), 1);
    let frames = decoded(&pieces[0]);
    let whole = fragments(&pieces[0]);
    assert_eq!(frames, whole.iter().sum::<usize>(), "{whole:?}");
    let waiting = files(&spool, "jsonl");
    assert_eq!(waiting.len(), 1, "an event waits for its webhook");
    assert_private(&waiting[0]);

    // The address answers now.
    let posts = webhook(dead);
    let mut live = Live::start(folder.path(), &config);
    live.wait("the lines go on", || count(&lines) > before + 10);
    let mut names = Vec::new();
    live.wait("the event arrives after all", || {
        names.extend(posts.try_iter().filter(|(status, ..)| *status == 200));
        !names.is_empty()
    });
    live.terminate();
    let first: Value = serde_json::from_str(&names[0].2).expect("JSON");
    assert_eq!(
        (&first["type"], &first["name"]),
        (&"appeared".into(), &"anna".into())
    );
    objects(&lines);
    assert!(fs::read(&lines).expect("readable").starts_with(&text));
    let pieces = files(&seg, "mp4");
    assert_eq!(pieces.len(), 2, "nothing was written over");
    assert_eq!(decoded(&pieces[0]), frames);
}
