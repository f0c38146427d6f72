//! The input of a pipeline: opens and decodes it, deinterlaces it, and links it to the rest.

pub mod container;
pub mod mend;
pub mod multipart;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, anyhow};
use gst::prelude::*;
use parking_lot::Mutex;

use self::streams::{Streams, hold_streams};
use crate::address;
use crate::graph::{self, Warnings, make, pad, set};
use crate::picture;

/// A file or URI at the start of a pipeline. Its streams are held back until all are known, and
/// then linked together.
pub struct Source {
    input: PathBuf,
    pipeline: gst::Pipeline,
    /// The element that takes the video.
    video: gst::Element,
    streams: Arc<Mutex<Streams>>,
    /// The first pad after the source of each linked stream.
    entries: Vec<gst::Pad>,
    undecodable: graph::Undecodable,
    warnings: Warnings,
}

impl Source {
    /// Adds the source to `pipeline`, which already contains `video`. Errors name `input`.
    pub fn build(
        pipeline: &gst::Pipeline,
        input: &Path,
        uri: &str,
        video: &gst::Element,
    ) -> Result<Self> {
        let streams = match picture::file_of(uri) {
            Some(file) => Streams::of_one(&picture::source(pipeline, &file)?),
            None => {
                let source = make("uridecodebin")?;
                set(&source, "uri", uri)?;
                mend::mend(pipeline);
                multipart::play(&source);
                pipeline.add(&source)?;
                hold_streams(&source)
            }
        };
        Ok(Self {
            input: input.to_owned(),
            pipeline: pipeline.clone(),
            video: video.clone(),
            streams,
            entries: Vec::new(),
            undecodable: graph::Undecodable::of(mend::file(uri).and_then(|path| mend::flaw(&path))),
            warnings: Warnings::default(),
        })
    }

    /// What is missing of the input, in words for the user.
    pub fn flaw(&self) -> Option<&str> {
        self.undecodable.flaw()
    }

    /// The warnings so far, in one line.
    pub fn warnings(&self) -> Option<String> {
        self.warnings.summary()
    }

    pub fn is_connected(&self) -> bool {
        self.streams.lock().connected
    }

    /// Links the streams once all of them are known. They are linked together, as a muxer accepts
    /// no latecomers. `audio` gives the pad for the sound, if the pipeline uses any.
    pub fn connect(&mut self, audio: impl FnOnce() -> Result<Option<gst::Pad>>) -> Result<()> {
        let (video, sound) = {
            let mut streams = self.streams.lock();
            if !streams.ready() {
                return Ok(());
            }
            streams.connected = true;
            (streams.video.take(), streams.audio.take())
        };
        let Some(video) = video else {
            let input = &self.input;
            return Err(self
                .undecodable
                .error(input)
                .unwrap_or_else(|| anyhow!("{} has no video", address::shown(input))));
        };
        if let Some(sound) = sound
            && let Some(entry) = audio()?
        {
            sound.connect(&entry)?;
            self.entries.push(entry);
        }
        let entry = entry(&self.pipeline, &video.caps(), &self.video)?;
        video.connect(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Ends the streams after the source, whatever it is doing. The files are finished with the
    /// data so far.
    pub fn end(&self) {
        for entry in &self.entries {
            entry.send_event(gst::event::Eos::new());
        }
    }

    /// Handles one message of the bus. Returns `true` at the end of the stream.
    pub fn handle(&mut self, message: &gst::Message) -> Result<bool> {
        use gst::MessageView;
        match message.view() {
            MessageView::Eos(_) => return Ok(true),
            MessageView::Error(error) => {
                return Err(self.undecodable.explain(error, &self.pipeline, &self.input));
            }
            MessageView::Warning(warning) => {
                self.warnings.note(warning);
            }
            MessageView::Element(element) => self.undecodable.note(element),
            MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            _ => {}
        }
        Ok(false)
    }
}

/// The pad that takes video of `caps`: that of `first` or, for interlaced video, that of a
/// deinterlacer.
pub fn entry(pipeline: &gst::Pipeline, caps: &gst::Caps, first: &gst::Element) -> Result<gst::Pad> {
    let interlaced = caps
        .structure(0)
        .and_then(|s| s.get::<String>("interlace-mode").ok())
        .is_some_and(|mode| mode != "progressive");
    if !interlaced {
        return pad(first, "sink");
    }
    let deinterlace = make("deinterlace")?;
    // One picture per frame, not one per field.
    set(&deinterlace, "fields", "top")?;
    pipeline.add(&deinterlace)?;
    deinterlace.link(first)?;
    deinterlace.sync_state_with_parent()?;
    pad(&deinterlace, "sink")
}
