//! A running `facepipe live`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::facepipe;

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Live {
    child: Child,
    folder: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

impl Live {
    /// Starts it in `folder` with this configuration. Its state is in that folder, too.
    pub fn start(folder: &Path, config: &str) -> Self {
        configure(folder, config);
        let mut child = facepipe()
            .arg("live")
            .arg(folder.join("live.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("facepipe starts");
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let written = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().expect("no panics").push(line);
            }
        });
        let folder = folder.to_owned();
        Self { child, folder, log }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panics").clone()
    }

    /// The number of log lines that contain all of `needles`.
    pub fn said(&self, needles: &[&str]) -> usize {
        let all = |line: &&String| needles.iter().all(|n| line.contains(n));
        self.log().iter().filter(all).count()
    }

    /// Waits until `done`.
    #[track_caller]
    pub fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            assert!(
                Instant::now() < deadline,
                "{what} does not come; the log:\n{}",
                self.log().join("\n")
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    #[track_caller]
    pub fn wait_for_log(&self, needles: &[&str], times: usize) {
        self.wait(&format!("{needles:?}"), || self.said(needles) >= times);
    }

    /// Writes another configuration and asks for a reload.
    pub fn reconfigure(&self, config: &str) {
        configure(&self.folder, config);
        self.signal("HUP");
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args(["-s", signal, &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }

    /// Ends it with SIGTERM. Returns the exit code and how long that took.
    pub fn terminate(&mut self) -> (Option<i32>, Duration) {
        let begin = Instant::now();
        self.signal("TERM");
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return (status.code(), begin.elapsed());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("does not end; the log:\n{}", self.log().join("\n"));
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes the configuration. Without its own `[server]` it opens no port.
fn configure(folder: &Path, config: &str) {
    let server = match config.contains("[server]") {
        true => "",
        false => "[server]\ndisabled = true\n",
    };
    let text = format!("state = \"state\"\n{server}{config}");
    fs::write(folder.join("live.toml"), text).expect("writable");
}

/// The lines of a JSONL file; none if it does not exist. All but the last must be complete.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}
