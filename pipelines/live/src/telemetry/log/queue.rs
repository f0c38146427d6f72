//! Passes lines to standard error: a queue, and a thread that empties it. If nobody reads standard
//! error, the queue fills up, and lines are dropped and counted. Nobody waits.

use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The limit of waiting lines.
const MOST: usize = 2048;

/// How often to check for suppressed messages.
const TICK: Duration = Duration::from_secs(1);

static QUEUED: AtomicU64 = AtomicU64::new(0);
static WRITTEN: AtomicU64 = AtomicU64::new(0);
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Takes lines whose secrets are not yet masked.
#[derive(Clone)]
pub struct Queue(SyncSender<String>);

impl Queue {
    /// Adds a line, without its line break. Never waits.
    pub fn push(&self, line: String) {
        // Counted before it can be written.
        QUEUED.fetch_add(1, Ordering::SeqCst);
        if self.0.try_send(line).is_err() {
            QUEUED.fetch_sub(1, Ordering::SeqCst);
            DROPPED.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Starts the writing thread, once per process.
pub fn start() -> io::Result<Queue> {
    static QUEUE: OnceLock<Queue> = OnceLock::new();
    if let Some(queue) = QUEUE.get() {
        return Ok(queue.clone());
    }
    let (sender, lines) = sync_channel(MOST);
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || empty(&lines))?;
    Ok(QUEUE.get_or_init(|| Queue(sender)).clone())
}

pub fn dropped() -> u64 {
    DROPPED.load(Ordering::SeqCst)
}

/// Waits until all lines are written, but no longer than `patience`.
pub fn flush(patience: Duration) {
    let deadline = Instant::now() + patience;
    while WRITTEN.load(Ordering::SeqCst) < QUEUED.load(Ordering::SeqCst)
        && Instant::now() < deadline
    {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn empty(lines: &Receiver<String>) {
    let mut told = 0;
    let mut looked = Instant::now();
    loop {
        match lines.recv_timeout(TICK) {
            Ok(line) => {
                write(&line);
                WRITTEN.fetch_add(1, Ordering::SeqCst);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if looked.elapsed() < TICK {
            continue;
        }
        looked = Instant::now();
        super::gstreamer::tell_held_back();
        let dropped = dropped();
        if dropped > told {
            tracing::warn!(
                lines = dropped - told,
                "log lines were dropped, as nobody read them"
            );
            told = dropped;
        }
    }
}

fn write(line: &str) {
    let mut line = face_parts::address::redact(line);
    line.push('\n');
    // If the log cannot be written, there is no place to report it.
    let _ = io::stderr().write_all(line.as_bytes());
}
