//! Holds back the input's streams until the pipeline is built for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use gst::prelude::*;
use parking_lot::Mutex;

/// How long to wait for the other streams of a live source once its video has arrived.
const PATIENCE: Duration = Duration::from_secs(5);

/// The streams that the source offers.
#[derive(Default)]
pub struct Streams {
    pub video: Option<Held>,
    pub audio: Option<Held>,
    /// When the video arrived.
    since: Option<Instant>,
    complete: bool,
    pub connected: bool,
}

/// A pad and the probe that blocks it.
pub struct Held {
    pad: gst::Pad,
    probe: Option<gst::PadProbeId>,
}

impl Held {
    fn new(pad: &gst::Pad) -> Self {
        let probe = pad.add_probe(gst::PadProbeType::BLOCK_DOWNSTREAM, |_, _| {
            gst::PadProbeReturn::Ok
        });
        Self {
            pad: pad.clone(),
            probe,
        }
    }

    /// Links the pad and lets its data flow.
    pub fn connect(self, sink: &gst::Pad) -> Result<()> {
        self.pad.link(sink)?;
        Ok(())
    }

    pub fn caps(&self) -> gst::Caps {
        caps(&self.pad)
    }
}

/// Lets the data flow. If the pad was not linked, the data is dropped: a stream held back for ever
/// would fill the memory.
impl Drop for Held {
    fn drop(&mut self) {
        if let Some(probe) = self.probe.take() {
            self.pad.remove_probe(probe);
        }
    }
}

impl Streams {
    /// A source that has this one pad, for video.
    pub fn of_one(pad: &gst::Pad) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            video: Some(Held::new(pad)),
            complete: true,
            ..Self::default()
        }))
    }

    /// Keeps the first video and the first audio stream. Others stay unlinked.
    fn offer(&mut self, pad: &gst::Pad) {
        let caps = caps(pad);
        let Some(kind) = caps.structure(0).map(|s| s.name().as_str()) else {
            return;
        };
        if self.connected {
            return;
        }
        if kind.starts_with("video/") && self.video.is_none() {
            self.video = Some(Held::new(pad));
            self.since = Some(Instant::now());
        } else if kind.starts_with("audio/") && self.audio.is_none() {
            self.audio = Some(Held::new(pad));
        }
    }

    /// Whether to link the streams that have arrived.
    pub fn ready(&self) -> bool {
        !self.connected
            && (self.complete || self.since.is_some_and(|since| since.elapsed() > PATIENCE))
    }
}

/// Holds back the streams of `source`.
pub fn hold_streams(source: &gst::Element) -> Arc<Mutex<Streams>> {
    let streams = Arc::new(Mutex::new(Streams::default()));
    let lock = |streams: &Mutex<Streams>, f: &dyn Fn(&mut Streams)| {
        f(&mut streams.lock());
    };
    let added = streams.clone();
    source.connect_pad_added(move |_, pad| lock(&added, &|streams| streams.offer(pad)));
    let complete = streams.clone();
    source.connect_no_more_pads(move |_| lock(&complete, &|streams| streams.complete = true));
    streams
}

fn caps(pad: &gst::Pad) -> gst::Caps {
    pad.current_caps().unwrap_or_else(|| pad.query_caps(None))
}
