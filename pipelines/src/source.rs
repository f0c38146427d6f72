//! The input of a pipeline: found, decoded, made whole pictures, and linked to what takes it.

pub mod multipart;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use gst::prelude::*;

use self::streams::{Streams, hold_streams};
use crate::address;
use crate::graph::{self, make, pad, set};

/// A file or URI at the head of a pipeline. Its streams are held back until all are known, and
/// then linked at once.
pub struct Source {
    input: PathBuf,
    pipeline: gst::Pipeline,
    /// What takes the video.
    video: gst::Element,
    streams: Arc<Mutex<Streams>>,
    /// The first pad behind the source of each stream that is linked.
    entries: Vec<gst::Pad>,
    undecodable: graph::Undecodable,
}

impl Source {
    /// Adds the source to `pipeline`; `video` is already in it. Errors name `input`.
    pub fn build(
        pipeline: &gst::Pipeline,
        input: &Path,
        uri: &str,
        video: &gst::Element,
    ) -> Result<Self> {
        let source = make("uridecodebin")?;
        set(&source, "uri", uri)?;
        multipart::play(&source);
        pipeline.add(&source)?;
        Ok(Self {
            input: input.to_owned(),
            pipeline: pipeline.clone(),
            video: video.clone(),
            streams: hold_streams(&source),
            entries: Vec::new(),
            undecodable: graph::Undecodable::default(),
        })
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_connected(&self) -> bool {
        self.streams().connected
    }

    /// Links the streams if all of them are known, all at once, as a muxer takes no latecomers.
    /// `audio` gives the pad that takes the sound, if the pipeline takes any.
    pub fn connect(&mut self, audio: impl FnOnce() -> Result<Option<gst::Pad>>) -> Result<()> {
        let (video, sound) = {
            let mut streams = self.streams();
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

    /// Ends the streams behind the source, whatever that does: the files are finished with what came
    /// so far.
    pub fn end(&self) {
        for entry in &self.entries {
            entry.send_event(gst::event::Eos::new());
        }
    }

    /// Handles one message of the bus; `true` at the end of the stream.
    pub fn handle(&mut self, message: &gst::Message) -> Result<bool> {
        use gst::MessageView;
        match message.view() {
            MessageView::Eos(_) => return Ok(true),
            MessageView::Error(error) => {
                return Err(self.undecodable.explain(error, &self.pipeline, &self.input));
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

/// The pad that takes video of `caps`: that of `first` or, for interlaced video, of what makes whole
/// pictures of it.
pub fn entry(pipeline: &gst::Pipeline, caps: &gst::Caps, first: &gst::Element) -> Result<gst::Pad> {
    let interlaced = caps
        .structure(0)
        .and_then(|s| s.get::<String>("interlace-mode").ok())
        .is_some_and(|mode| mode != "progressive");
    if !interlaced {
        return pad(first, "sink");
    }
    let deinterlace = make("deinterlace")?;
    // One picture a frame, not one a field.
    set(&deinterlace, "fields", "top")?;
    pipeline.add(&deinterlace)?;
    deinterlace.link(first)?;
    deinterlace.sync_state_with_parent()?;
    pad(&deinterlace, "sink")
}
