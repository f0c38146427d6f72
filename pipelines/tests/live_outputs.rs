//! The outputs of `facepipe live`: the real program on real clips.

mod common;

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

use common::{assert_code, enroll, facepipe, media, names, people, run};

const CLIP: &str = "WolfgangLanger_Pexels.mp4";

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with a gallery in which the woman of the clip is `anna`.
fn gallery() -> TempDir {
    let folder = people(&[("tom", "Tom_Hanks_54745.png")]);
    let anna = folder.path().join("people/anna");
    fs::create_dir_all(&anna).expect("writable");
    let frames = Command::new("gst-launch-1.0")
        .args(["-q", "filesrc"])
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

/// `facepipe live` at work; killed when it goes out of scope.
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

    /// Ends the program as a service manager does; it has 2 s.
    #[track_caller]
    fn terminate(mut self) {
        self.signal("-TERM");
        let begun = Instant::now();
        let status = self.child.wait().expect("a child");
        let took = begun.elapsed();
        assert!(status.success(), "{status}\n{}", self.log());
        assert!(took < Duration::from_secs(2), "{took:?}\n{}", self.log());
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

/// A table of one camera.
fn camera(outputs: &str) -> String {
    format!(
        "[[camera]]\nname = \"door\"\nuri = {:?}\ngallery = \"g.safetensors\"\n\
         stages = {{ interval = 3, age-gender = false, inference-size = 320 }}\n{outputs}",
        media(CLIP)
    )
}

/// The lines of a file, each of which must be a JSON object.
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

/// How many frames GStreamer decodes of a file.
fn decoded(path: &Path) -> usize {
    let output = Command::new("gst-launch-1.0")
        .args(["-v", "filesrc"])
        .arg(format!("location={}", path.display()))
        .args("! decodebin ! video/x-raw ! identity silent=false ! fakesink".split(' '))
        .stdin(Stdio::null())
        .output()
        .expect("gst-launch-1.0 is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{path:?}: {text}");
    text.matches("chain   ******* (identity0:sink)").count()
}

/// How many frames each whole fragment of an MP4 file has.
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
                // Behind the name stand version and flags.
                samples = run.and_then(|run| number(at + run + 8)).expect("a run");
            }
            b"mdat" => found.push(samples),
            _ => {}
        }
        at += length;
    }
    found
}

/// Seconds of a file, by the tool that players would believe.
#[track_caller]
fn duration(path: &Path) -> f64 {
    let output = Command::new("gst-discoverer-1.0")
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

/// A web server that answers 503 twice and then takes everything; what it took comes with the headers.
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

/// The status of an RTSP DESCRIBE without credentials.
fn describe(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
    write!(
        stream,
        "DESCRIBE rtsp://127.0.0.1:{port}/door RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    )
    .expect("sent");
    let mut line = String::new();
    BufReader::new(stream)
        .read_line(&mut line)
        .expect("an answer");
    line
}

/// Whether a viewer gets 20 frames.
fn views(port: u16, password: &str, protocol: &str) -> bool {
    let output = Command::new("timeout")
        .args(["30", "gst-launch-1.0", "-q", "rtspsrc"])
        .arg(format!("location=rtsp://127.0.0.1:{port}/door"))
        .args(["user-id=viewer", "latency=50"])
        .arg(format!("user-pw={password}"))
        .arg(format!("protocols={protocol}"))
        .args("! rtph264depay ! avdec_h264 ! identity eos-after=20 ! fakesink".split(' '))
        .stdin(Stdio::null())
        .output()
        .expect("gst-launch-1.0 is installed");
    output.status.success()
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
    // Refused twice, the same event comes again under the same key.
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
    // No frame is missing between two files: 24 a second.
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

/// The files below a folder, but not the photos, that have `text` in them.
fn with(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in names(folder).into_iter().filter(|name| name != "people") {
        let path = folder.join(name);
        // A file may be closed, and have another name, meanwhile.
        match path.is_dir() {
            true => found.extend(with(&path, text)),
            false => found.extend(fs::read(&path).ok().and_then(|bytes| {
                let mut windows = bytes.windows(text.len());
                let has = windows.any(|window| window == text.as_bytes());
                has.then(|| path.clone())
            })),
        }
    }
    found
}

/// Whoever is forgotten while the camera sees them is named nowhere from then on, until they are enrolled
/// again; and nothing else is lost.
#[test]
fn somebody_is_forgotten_while_the_camera_sees_them() {
    let folder = gallery();
    let (root, out) = (folder.path(), folder.path().join("out"));
    let dead = free_port();
    let config = camera(&format!(
        "jsonl = {{ path = \"out/{{camera}}.jsonl\", max-size = \"9 kB\" }}\n\
         segments = {{ folder = \"seg\", length = \"2s\" }}\n\
         events = {{ path = \"out/events.jsonl\", left-after = \"500ms\", stranger-after = \"1s\", \
         webhooks = [{{ url = \"http://127.0.0.1:{dead}/hook?token=z9y8\" }}] }}\n"
    ));
    let mut live = Live::start(root, &config);
    let lines = || {
        let mut all: Vec<Value> = Vec::new();
        let (open, closed): (Vec<_>, Vec<_>) = files(&out, "jsonl")
            .into_iter()
            .partition(|path| path.ends_with("door.jsonl"));
        let closed = closed
            .into_iter()
            .filter(|path| !path.ends_with("events.jsonl"));
        for path in closed.chain(open) {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            all.extend(
                whole
                    .lines()
                    .map(|l| serde_json::from_str::<Value>(l).expect(l)),
            );
        }
        all
    };
    let named = |name: &str| {
        let is_named = |line: &&Value| line["faces"][0]["name"] == name;
        lines().iter().filter(is_named).count()
    };
    let spool = root.join("state/webhooks");
    live.wait(
        "named lines, a closed file, and an event that waits",
        || named("anna") > 8 && files(&out, "jsonl").len() > 2 && !with(&spool, "anna").is_empty(),
    );
    let mut forget = facepipe();
    let output = run(forget
        .args(["forget", "anna", "--json"])
        .args([&out, &root.join("g.safetensors")]));
    assert_code(&output, 0);
    let report: Value = serde_json::from_str(&common::stdout(&output)).expect("JSON");
    assert_eq!(report["running"][0]["cameras"][0], "door", "{report}");
    assert_eq!(with(root, "anna"), Vec::<PathBuf>::new());

    // What would have named her: lines, the event that she left, a new one for the webhook.
    let before = lines().len();
    let event = |kind: &str| !with(&out, &format!("\"type\":\"{kind}\"")).is_empty();
    live.wait("more lines, and a stranger", || {
        lines().len() > before + 24 && event("stranger") && named("Unknown") > 0
    });
    assert_eq!(with(root, "anna"), Vec::<PathBuf>::new());
    assert!(!event("left") && !event("appeared"));
    // Every frame has its line: in the files that were rewritten, and in those written since.
    let all = lines();
    let frames: Vec<u64> = all
        .iter()
        .filter_map(|line| line["frame"].as_u64())
        .collect();
    assert!(
        frames.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "{frames:?}"
    );
    assert_eq!(frames[0], 0);

    // She comes back by her own will.
    let track = all
        .iter()
        .rev()
        .find_map(|line| line["faces"][0]["track"].as_u64());
    let mut enroll = facepipe();
    enroll.args(["enroll", "--person", "anna", "--camera", "door", "--config"]);
    enroll.arg(root.join("live.toml")).arg("--track");
    assert_code(&run(enroll.arg(track.expect("a face").to_string())), 0);
    live.wait("her name", || named("anna") > 0);
    assert!(
        with(root, "z9y8")
            .iter()
            .all(|path| path.ends_with("live.toml"))
    );
    live.terminate();
}

#[test]
fn viewers_need_the_password_and_segments_play() {
    let folder = gallery();
    let port = free_port();
    let (seg, hls) = (folder.path().join("seg"), folder.path().join("hls"));
    let config = format!(
        "[restream]\nlisten = \"127.0.0.1:{port}\"\n{}{}",
        camera("restream = true\nsegments = { folder = \"seg\", length = \"2s\" }\n"),
        camera("segments = { folder = \"hls\", format = \"hls\", length = \"2s\", keep = 3 }\n")
            .replace("\"door\"", "\"hall\""),
    );
    let mut live = Live::start(folder.path(), &config);
    live.wait("a piece was closed", || files(&seg, "mp4").len() >= 2);
    let state = folder.path().join("state/restream-password");
    let password = fs::read_to_string(&state).expect("written");
    let password = password.trim();
    assert_private(&state);
    assert!(describe(port).contains(" 401 "));
    assert!(!views(port, "wrong", "tcp"));
    live.wait("the wrong password is told", || {
        live_log(folder.path()).contains("refused: a wrong user name or password")
    });
    let said = live.log();
    assert!(views(port, password, "tcp") && views(port, password, "udp"));
    // Who comes with the right password and goes is nothing to warn of.
    let after = live.log()[said.len()..].to_owned();
    assert!(
        !after.contains("refused") && !after.contains("rtsp"),
        "{after}"
    );
    live.wait("the list is full", || {
        let list = fs::read_to_string(hls.join("hall.m3u8")).unwrap_or_default();
        list.contains("#EXT-X-MEDIA-SEQUENCE:1\n")
    });
    live.signal("-HUP");
    live.wait("the configuration is read again", || {
        live_log(folder.path()).contains("configuration read again")
    });
    live.terminate();
    let log = live_log(folder.path());
    assert!(!log.contains(password), "{log}");
    // Decoders and GStreamer 1.22 itself may complain when a stream is cut on a busy machine.
    let is_wrong = |line: &&str| {
        (line.contains("ERROR") && !line.contains("glib::GStreamer"))
            || line.contains(" WARN gstreamer::rtsp")
    };
    let wrong: Vec<&str> = log.lines().filter(is_wrong).collect();
    assert!(wrong.is_empty(), "{wrong:?} in {log}");

    let pieces = files(&seg, "mp4");
    for path in &pieces {
        assert_private(path);
        assert!(duration(path) > 0.0 && decoded(path) > 0, "{path:?}");
    }
    let whole = duration(&pieces[0]);
    assert!((1.9..2.6).contains(&whole), "{whole} s");
    let list = fs::read_to_string(hls.join("hall.m3u8")).expect("written");
    assert!(list.ends_with("#EXT-X-ENDLIST\n"), "{list}");
    let listed: Vec<_> = list.lines().filter(|line| line.ends_with(".ts")).collect();
    let there = files(&hls, "ts");
    assert_eq!(listed.len(), 3, "{list}");
    assert_eq!(
        there,
        listed.iter().map(|name| hls.join(name)).collect::<Vec<_>>()
    );
    assert!(there.iter().all(|path| decoded(path) > 0));
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
    let error = common::stderr(&output);
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
    // What may be left of a line that was being written.
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
