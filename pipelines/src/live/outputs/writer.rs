//! The threads that write lines to files, so that a slow or full disk holds nobody up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::rotate::Rotated;
use crate::live::config::Rotation;
use crate::live::telemetry;
use crate::live::threads::Thread;

/// Lines that wait to be written; more are dropped.
const QUEUE: usize = 4096;

/// How often writing is tried again after a failure, and old files are looked for.
const RETRY: Duration = Duration::from_secs(1);

/// How long the last lines may take at the end.
const CLOSE: Duration = Duration::from_millis(700);

/// The writers of the process, one a path.
#[derive(Default)]
pub struct Writers(Mutex<BTreeMap<PathBuf, Weak<Writer>>>);

impl Writers {
    /// The writer of `path`, begun if there is none. Where there is one, its rotation stays.
    pub fn get(&self, path: &Path, rotation: &Rotation) -> Result<Arc<Writer>> {
        let mut writers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// Where the loss of the line is counted.
    telemetry: Arc<telemetry::Camera>,
}

enum Item {
    Line(Line),
    /// To be answered when everything before it is in the file.
    Flush(mpsc::Sender<()>),
}

/// Writes lines to one file. Dropped, it finishes the file.
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
            .with_context(|| format!("{}: no thread to write it", path.display()))?;
        Ok(Self {
            lines: Some(lines),
            thread: Mutex::new(thread),
        })
    }

    /// Hands over a line with its line break; never waits.
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

    /// Waits until the lines that were handed over are in the file, or lost. `false` if they are not by
    /// the deadline.
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
        let thread = (self.thread.get_mut()).unwrap_or_else(PoisonError::into_inner);
        if !thread.ends_within(CLOSE) {
            tracing::error!("a file takes no lines; the last ones are lost");
        }
    }
}

/// Since when lines are lost, and how many.
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
                if let Err(error) = file.tick() {
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
        match (file.write(&line.text), &mut failure) {
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
        tracing::error!(lost, "{name}: lines were lost up to the end");
    }
}
