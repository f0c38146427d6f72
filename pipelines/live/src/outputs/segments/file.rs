//! One video file.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use gst::prelude::*;
use jiff::Timestamp;

use crate::config::Format;
use crate::outputs::hub::Coded;
use crate::threads::Thread;
use face_parts::graph::{self, chain, free_sink, make, set};

/// A crash loses at most this much of an MP4 file, in milliseconds.
const FRAGMENT: u32 = 1000;

/// The limit of data that waits for the disk.
const MOST_WAITING: u64 = 64 << 20;

/// How long finishing a file may take.
const FINISH: Duration = Duration::from_millis(700);

/// How long probing a file may take.
const PROBE: gst::ClockTime = gst::ClockTime::from_seconds(2);

/// The last frame of a file lasts as long as the one before it. A single frame lasts this long.
const FRAME: Duration = Duration::from_millis(40);

/// A file that is being written by its own pipeline.
pub struct SegmentFile {
    path: PathBuf,
    pipeline: graph::Running,
    source: gst_app::AppSrc,
    bus: gst::Bus,
    caps: gst::Caps,
    /// The moment at time 0.
    origin: Instant,
    begun: Instant,
    time: Timestamp,
    /// When the last frame was taken, and when it arrived.
    last: Instant,
    heard: Instant,
    frame: Duration,
    begins_anew: bool,
}

/// A finished file.
pub struct Piece {
    pub path: PathBuf,
    pub time: Timestamp,
    pub duration: Duration,
    /// Whether it is discontinuous with the previous file.
    pub begins_anew: bool,
}

impl SegmentFile {
    /// Creates the file, which must not exist, for frames like `coded`. With `begins_anew`, it is
    /// discontinuous with the previous one.
    pub fn create(
        path: PathBuf,
        format: Format,
        origin: Instant,
        coded: &Coded,
        begins_anew: bool,
    ) -> Result<Self> {
        // GStreamer would make it readable for everybody.
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let built = Self::build(path.clone(), format, origin, coded, begins_anew);
        if built.is_err() {
            remove(&path);
        }
        built
    }

    fn build(
        path: PathBuf,
        format: Format,
        origin: Instant,
        coded: &Coded,
        begins_anew: bool,
    ) -> Result<Self> {
        let pipeline = graph::Running::new();
        let source = gst_app::AppSrc::builder()
            .caps(&coded.caps)
            .format(gst::Format::Time)
            .max_bytes(0)
            .build();
        let parse = make("h264parse")?;
        let mux = make(muxer(format))?;
        if format == Format::Mp4 {
            set(&mux, "fragment-duration", FRAGMENT)?;
        }
        let sink = free_sink("filesink")?;
        sink.set_property("location", &path);
        set(&sink, "buffer-mode", "unbuffered")?;
        chain(&pipeline, &[source.upcast_ref(), &parse, &mux, &sink])?;
        graph::start(&pipeline)?;
        let bus = pipeline.bus().context("a pipeline has a bus")?;
        Ok(Self {
            path,
            pipeline,
            source,
            bus,
            caps: coded.caps.clone(),
            origin,
            begun: coded.taken.instant,
            time: coded.taken.time,
            last: coded.taken.instant,
            heard: Instant::now(),
            frame: FRAME,
            begins_anew,
        })
    }

    /// When the last frame arrived. It may have been taken long before.
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// The length of the file without `coded`.
    pub fn length(&self, coded: &Coded) -> Duration {
        coded.taken.instant.saturating_duration_since(self.begun)
    }

    /// The time from the last frame to `coded`.
    pub fn gap(&self, coded: &Coded) -> Duration {
        coded.taken.instant.saturating_duration_since(self.last)
    }

    /// Whether the file can contain `coded`.
    pub fn takes(&self, coded: &Coded) -> bool {
        self.caps == coded.caps
    }

    /// Passes on a frame. An error may belong to an earlier frame.
    pub fn write(&mut self, coded: &Coded) -> Result<()> {
        if let Some(error) = graph::first_error(&self.pipeline) {
            return Err(error.context(self.path.display().to_string()));
        }
        ensure!(
            self.source.current_level_bytes() < MOST_WAITING,
            "{}: the disk is too slow",
            self.path.display()
        );
        let gap = self.gap(coded);
        if !gap.is_zero() {
            self.frame = gap;
        }
        self.last = coded.taken.instant;
        self.heard = Instant::now();
        let at = coded.taken.instant.saturating_duration_since(self.origin);
        let at = gst::ClockTime::try_from(at).unwrap_or(gst::ClockTime::ZERO);
        let mut buffer = coded.buffer.copy();
        {
            let buffer = buffer.make_mut();
            buffer.set_pts(at);
            // The encoder does not reorder.
            buffer.set_dts(at);
            buffer.set_duration(gst::ClockTime::try_from(self.frame).ok());
        }
        self.source
            .push_buffer(buffer)
            .map(drop)
            .map_err(|error| anyhow!("{}: {error}", self.path.display()))
    }

    /// Finishes the file. An error comes with the usable part, if any.
    pub fn finish(self) -> Result<Piece, (anyhow::Error, Option<Piece>)> {
        // Fails if there was an error, which is on the bus.
        let _ = self.source.end_of_stream();
        let wait = gst::ClockTime::try_from(FINISH).unwrap_or(gst::ClockTime::SECOND);
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(wait, &wanted);
        let error = match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => None,
            Some(gst::MessageView::Error(error)) => Some(graph::explain(error)),
            _ => Some(anyhow!("the disk does not answer")),
        };
        let name = self.path.display().to_string();
        let piece = self.abandon();
        match (error, piece) {
            (None, Some(piece)) => Ok(piece),
            (error, piece) => Err((
                error
                    .unwrap_or_else(|| anyhow!("nothing was written"))
                    .context(name),
                piece,
            )),
        }
    }

    /// Gives up the file as it is. `None` if nothing in it can be played.
    pub fn abandon(self) -> Option<Piece> {
        let piece = Piece {
            path: self.path,
            time: self.time,
            duration: self.last.saturating_duration_since(self.begun) + self.frame,
            begins_anew: self.begins_anew,
        };
        shut_down(self.pipeline);
        if is_playable(&piece.path) {
            return Some(piece);
        }
        remove(&piece.path);
        None
    }
}

/// Examines a file that an earlier run left.
pub fn probe(path: &Path) -> Result<Piece> {
    let look = || {
        let discoverer = gst_pbutils::Discoverer::new(PROBE)?;
        let uri = glib::filename_to_uri(path, None)?;
        let info = discoverer.discover_uri(&uri)?;
        let duration = info.duration().context("it is incomplete")?;
        let metadata = fs::metadata(path)?;
        // Not every file system knows when a file was created.
        let begun = metadata.created().or_else(|_| {
            metadata
                .modified()
                .map(|end| end.checked_sub(duration.into()).unwrap_or(end))
        })?;
        Ok::<_, anyhow::Error>((duration, Timestamp::try_from(begun)?))
    };
    let (duration, time) = look().with_context(|| path.display().to_string())?;
    Ok(Piece {
        path: path.to_owned(),
        time,
        duration: duration.into(),
        begins_anew: false,
    })
}

/// Stops the pipeline; on a separate thread, as the disk may hang.
fn shut_down(pipeline: graph::Running) {
    // Without a thread, dropping it here takes its time.
    if let Ok(thread) = Thread::start("shut-down", move || drop(pipeline))
        && !thread.ends_within(FINISH)
    {
        tracing::info!("a file does not end in time; its pipeline stops in the background");
    }
}

/// Whether the file contains more than its header.
fn is_playable(path: &Path) -> bool {
    /// The boxes `ftyp` and `moov` of one track are smaller, and so are the tables of a transport
    /// stream.
    const HEADER: u64 = 1500;
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > HEADER)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!("{} cannot be removed: {error}", path.display());
    }
}

/// The muxer for a format.
pub fn muxer(format: Format) -> &'static str {
    match format {
        Format::Mp4 => "mp4mux",
        Format::Hls => "mpegtsmux",
    }
}
