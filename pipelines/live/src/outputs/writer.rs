//! Threads that write lines to files, so that a slow or full disk blocks nobody.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use parking_lot::Mutex;

use super::rotate::Rotated;
use crate::config::Rotation;
use crate::telemetry;
use crate::threads::Thread;

/// How many lines wait to be written; more are dropped.
const QUEUE: usize = 4096;

/// How often to retry after a failure, and to check for old files.
const RETRY: Duration = Duration::from_secs(1);

/// How long writing the last lines may take at the end.
const CLOSE: Duration = Duration::from_millis(700);

/// The writers of the process, one per path.
#[derive(Default)]
pub struct Writers(Mutex<BTreeMap<PathBuf, Weak<Writer>>>);

impl Writers {
    /// The writer of `path`, started if there is none. An existing one keeps its rotation.
    pub fn get(&self, path: &Path, rotation: &Rotation) -> Result<Arc<Writer>> {
        let mut writers = self.0.lock();
        writers.retain(|_, writer| writer.strong_count() > 0);
        if let Some(writer) = writers.get(path).and_then(Weak::upgrade) {
            return Ok(writer);
        }
        let writer = Arc::new(Writer::start(path, rotation)?);
        writers.insert(path.to_owned(), Arc::downgrade(&writer));
        Ok(writer)
    }
}

struct Line {
    text: Vec<u8>,
    /// Counts the loss of the line.
    telemetry: Arc<telemetry::Camera>,
}

enum Item {
    Line(Line),
    /// Answered when everything before it is in the file.
    Flush(mpsc::Sender<()>),
}

/// Writes lines to one file. Dropping it finishes the file.
pub struct Writer {
    /// `None` at the end.
    lines: Option<mpsc::SyncSender<Item>>,
    thread: Mutex<Thread>,
}

impl Writer {
    fn start(path: &Path, rotation: &Rotation) -> Result<Self> {
        let (lines, receiver) = mpsc::sync_channel(QUEUE);
        let file = Rotated::new(path, rotation);
        let name = path.display().to_string();
        let thread = Thread::start("lines", move || write_all(&receiver, file, &name))
            .with_context(|| {
                format!(
                    "{}: the thread that writes it cannot be started",
                    path.display()
                )
            })?;
        Ok(Self {
            lines: Some(lines),
            thread: Mutex::new(thread),
        })
    }

    /// Queues a line with its line break. Never blocks.
    pub fn send(&self, text: Vec<u8>, telemetry: &Arc<telemetry::Camera>) {
        let line = Line {
            text,
            telemetry: telemetry.clone(),
        };
        let sent = self
            .lines
            .as_ref()
            .map(|lines| lines.try_send(Item::Line(line)));
        if let Some(Err(TrySendError::Full(_) | TrySendError::Disconnected(_))) = sent {
            telemetry.output_errors.inc();
        }
    }

    /// Waits until the queued lines are in the file, or lost. Returns `false` if that takes longer
    /// than the deadline.
    pub fn flush(&self, deadline: Instant) -> bool {
        let (written, done) = mpsc::channel();
        let mut item = Item::Flush(written);
        while let Some(lines) = &self.lines {
            match lines.try_send(item) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return false,
                Err(TrySendError::Full(back)) => item = back,
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        done.recv_timeout(left).is_ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.lines = None;
        if !self.thread.get_mut().ends_within(CLOSE) {
            tracing::error!("a file cannot be written; its last lines are lost");
        }
    }
}

/// When the losses began, and the number of lost lines.
struct Failure {
    tried: Instant,
    lost: u64,
}

fn write_all(lines: &mpsc::Receiver<Item>, mut file: Rotated, name: &str) {
    let mut failure: Option<Failure> = None;
    loop {
        let line = match lines.recv_timeout(RETRY) {
            Ok(Item::Line(line)) => line,
            Ok(Item::Flush(written)) => {
                // Fails only if nobody waits any more.
                let _ = written.send(());
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Err(error) = file.tick(Instant::now()) {
                    tracing::warn!("{name}: {error}");
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Some(failure) = &mut failure
            && failure.tried.elapsed() < RETRY
        {
            failure.lost += 1;
            line.telemetry.output_errors.inc();
            continue;
        }
        match (file.write(&line.text, Instant::now()), &mut failure) {
            (Ok(()), None) => {}
            (Ok(()), Some(Failure { lost, .. })) => {
                tracing::warn!(lost, "{name}: can be written again; lines were lost");
                failure = None;
            }
            (Err(error), before) => {
                line.telemetry.output_errors.inc();
                let lost = before.as_ref().map_or(0, |failure| failure.lost) + 1;
                if before.is_none() {
                    tracing::error!("{name}: {error}; lines are lost until it can be written");
                }
                failure = Some(Failure {
                    tried: Instant::now(),
                    lost,
                });
            }
        }
    }
    if let Some(Failure { lost, .. }) = failure {
        tracing::error!(lost, "{name}: lines were lost until the end");
    }
}
