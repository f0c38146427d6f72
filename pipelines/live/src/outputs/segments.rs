//! Writes the annotated video to successive files.

mod file;
mod playlist;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, TrySendError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::file::SegmentFile;
pub use self::file::muxer;
use self::playlist::{Entry, Playlist};
use super::dated::{Dated, private_folder};
use super::hub::{Coded, Hub, Viewer};
use super::rotate::remove_oldest;
use crate::config::{Format, Segments};
use crate::telemetry;
use crate::threads::Thread;

/// How many frames wait for the disk. Beyond that, a piece of the video is lost.
const QUEUE: usize = 300;

/// The pause after a failure, and between checks whether frames still arrive.
const RETRY: Duration = Duration::from_secs(1);

/// After this long without a frame the file ends, and the next frame starts another.
const GAP: Duration = Duration::from_secs(2);

/// How long finishing the last file may take at the end.
const CLOSE: Duration = Duration::from_millis(900);

/// Writes the video of a hub. Dropping it finishes the file.
pub struct Recorder {
    hub: Arc<Hub>,
    viewer: Arc<dyn Viewer>,
    end: mpsc::Sender<()>,
    thread: Thread,
}

impl Recorder {
    pub fn start(
        name: &str,
        config: &Segments,
        hub: &Arc<Hub>,
        telemetry: &Arc<telemetry::Camera>,
    ) -> Result<Self> {
        let (coded, receiver) = mpsc::sync_channel(QUEUE);
        let (end, ended) = mpsc::channel();
        let work = Work::new(name, config, hub, telemetry);
        let thread =
            Thread::start("segments", move || work.run(&receiver, &ended)).with_context(|| {
                format!("{name}: the thread that writes segments cannot be started")
            })?;
        let viewer: Arc<dyn Viewer> = Arc::new(Inlet {
            coded,
            broken: AtomicBool::new(true),
            hub: Arc::downgrade(hub),
            telemetry: telemetry.clone(),
        });
        hub.join(viewer.clone());
        Ok(Self {
            hub: hub.clone(),
            viewer,
            end,
            thread,
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.hub.leave(&self.viewer);
        // Fails if the thread is gone, which is fine.
        let _ = self.end.send(());
        if !self.thread.ends_within(CLOSE) {
            tracing::error!("a segment does not end in time; its last second may be lost");
        }
    }
}

/// Passes frames to the writing thread.
struct Inlet {
    coded: mpsc::SyncSender<Coded>,
    /// Frames are missing, so the next must be a keyframe.
    broken: AtomicBool,
    hub: Weak<Hub>,
    telemetry: Arc<telemetry::Camera>,
}

impl Viewer for Inlet {
    fn frame(&self, coded: &Coded) {
        if self.broken.load(Ordering::Relaxed) && !coded.is_keyframe {
            return;
        }
        match self.coded.try_send(coded.clone()) {
            Ok(()) => self.broken.store(false, Ordering::Relaxed),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.telemetry.output_errors.inc();
                if !self.broken.swap(true, Ordering::Relaxed)
                    && let Some(hub) = self.hub.upgrade()
                {
                    hub.request_keyframe();
                }
            }
        }
    }
}

/// The state of the writing thread.
struct Work {
    config: Segments,
    hub: Weak<Hub>,
    telemetry: Arc<telemetry::Camera>,
    names: Dated,
    playlist: Option<Playlist>,
    open: Option<SegmentFile>,
    closed: VecDeque<PathBuf>,
    failure: Option<Failure>,
    /// The moment at time 0 of the video; frames before it count as time 0.
    origin: Instant,
    /// Whether a keyframe to end the file has been requested.
    asked: bool,
    /// Whether the next file is discontinuous with the last one.
    begins_anew: bool,
}

struct Failure {
    at: Instant,
    lost: u64,
}

impl Work {
    fn new(
        name: &str,
        config: &Segments,
        hub: &Arc<Hub>,
        telemetry: &Arc<telemetry::Camera>,
    ) -> Self {
        let extension = match config.format {
            Format::Mp4 => ".mp4",
            Format::Hls => ".ts",
        };
        let names = Dated::new(&config.folder, format!("{name}-"), extension.into());
        let playlist = (config.format == Format::Hls)
            .then(|| Playlist::read(config.folder.join(format!("{name}.m3u8")), config.keep));
        let closed: VecDeque<_> = names.existing().into();
        Self {
            begins_anew: !closed.is_empty(),
            closed,
            config: config.clone(),
            hub: Arc::downgrade(hub),
            telemetry: telemetry.clone(),
            names,
            playlist,
            open: None,
            failure: None,
            origin: Instant::now(),
            asked: false,
        }
    }

    /// Adds pieces to the playlist that an earlier run did not list: at most the one cut off by a
    /// crash.
    fn adopt(&mut self) {
        let Some(playlist) = &self.playlist else {
            return;
        };
        let newer = self
            .closed
            .iter()
            .filter(|path| playlist.lacks(path))
            .cloned()
            .collect::<Vec<_>>();
        for path in newer {
            self.closed.retain(|other| *other != path);
            match file::probe(&path) {
                Ok(piece) => self.keep(Some(piece)),
                Err(error) => tracing::warn!("{error:#}; it is missing from the playlist"),
            }
        }
    }

    fn run(mut self, coded: &mpsc::Receiver<Coded>, ended: &mpsc::Receiver<()>) {
        self.adopt();
        loop {
            match coded.recv_timeout(Duration::from_millis(50)) {
                Ok(coded) => self.take(&coded),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let silent = |open: &SegmentFile| open.heard().elapsed() > GAP;
            if self.open.as_ref().is_some_and(silent) {
                self.begins_anew = true;
                self.close();
            }
            if ended.try_recv() != Err(mpsc::TryRecvError::Empty) {
                while let Ok(coded) = coded.try_recv() {
                    self.take(&coded);
                }
                break;
            }
        }
        self.close();
        let ended = self.playlist.as_mut().map(Playlist::end);
        if let Some(Err(error)) = ended {
            tracing::error!("the playlist: {error}");
        }
        if let Some(Failure { lost, .. }) = self.failure {
            tracing::error!(frames = lost, "segments could not be written until the end");
        }
    }

    fn take(&mut self, coded: &Coded) {
        if let Some(open) = &self.open {
            let full = open.length(coded) >= self.config.length;
            let other = !open.takes(coded) || open.gap(coded) > GAP;
            if (full && coded.is_keyframe) || other {
                self.begins_anew |= other;
                self.close();
            } else if full
                && !std::mem::replace(&mut self.asked, true)
                && let Some(hub) = self.hub.upgrade()
            {
                hub.request_keyframe();
            }
        }
        let written = match &mut self.open {
            Some(open) => open.write(coded),
            None => self.begin(coded),
        };
        match written {
            Ok(()) => {}
            Err(error) => self.fail(&error),
        }
    }

    /// Starts a file with a keyframe.
    fn begin(&mut self, coded: &Coded) -> Result<()> {
        if let Some(failure) = &mut self.failure
            && failure.at.elapsed() < RETRY
        {
            failure.lost += 1;
            return Ok(());
        }
        if !coded.is_keyframe {
            return Ok(());
        }
        private_folder(&self.config.folder)
            .with_context(|| self.config.folder.display().to_string())?;
        let path = self.names.free(coded.taken.time);
        let origin = match self.config.format {
            Format::Mp4 => coded.taken.instant,
            // The pieces of a playlist form one video.
            Format::Hls => self.origin,
        };
        self.asked = false;
        let anew = std::mem::take(&mut self.begins_anew);
        let mut open = SegmentFile::create(path, self.config.format, origin, coded, anew)?;
        let written = open.write(coded);
        self.open = Some(open);
        written
    }

    fn fail(&mut self, error: &anyhow::Error) {
        self.telemetry.output_errors.inc();
        self.begins_anew = true;
        if let Some(open) = self.open.take() {
            self.keep(open.abandon());
        }
        if self.failure.is_none() {
            tracing::error!("{error:#}; video is lost until it can be written");
        }
        let lost = self.failure.as_ref().map_or(0, |failure| failure.lost) + 1;
        self.failure = Some(Failure {
            at: Instant::now(),
            lost,
        });
    }

    /// Finishes the file.
    fn close(&mut self) {
        let Some(open) = self.open.take() else {
            return;
        };
        match open.finish() {
            Ok(piece) => {
                if let Some(Failure { lost, .. }) = self.failure.take() {
                    tracing::warn!(frames = lost, "segments are written again");
                }
                self.keep(Some(piece));
            }
            Err((error, piece)) => {
                self.fail(&error);
                self.keep(piece);
            }
        }
    }

    /// Adds a finished file to the list, and removes the oldest.
    fn keep(&mut self, piece: Option<file::Piece>) {
        let Some(piece) = piece else {
            return;
        };
        self.closed.push_back(piece.path.clone());
        if let Some(playlist) = &mut self.playlist {
            let name = piece.path.file_name().unwrap_or_default();
            let written = playlist.add(Entry {
                name: name.to_string_lossy().into_owned(),
                duration: piece.duration,
                time: Some(piece.time),
                begins_anew: piece.begins_anew,
            });
            if let Err(error) = written {
                self.telemetry.output_errors.inc();
                tracing::error!("the playlist: {error}");
            }
        }
        if self.config.keep > 0 {
            remove_oldest(&mut self.closed, self.config.keep);
        }
    }
}
