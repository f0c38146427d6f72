//! The annotated and encoded video of a camera, from whatever pipeline it has, to whoever wants it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;

use super::moment::Moment;
use crate::graph::{chain, free_sink, make, make_first, pad, set};
use crate::video::{assume_rate, crop_to_even};

/// Frames that wait to be drawn on and encoded; older ones are dropped.
const QUEUE: u32 = 4;

/// From one keyframe to the next, in frames, at most.
const KEYFRAMES: u32 = 50;

/// A camera that brought no frame for so long brings none.
const SILENCE: Duration = Duration::from_secs(5);

/// One frame of H.264, a byte stream by access units.
#[derive(Clone)]
pub struct Coded {
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    /// Later than that of the frame before.
    pub taken: Moment,
    pub is_keyframe: bool,
}

/// Somebody who wants frames. Called on the thread of the encoder, so it must not wait.
pub trait Viewer: Send + Sync {
    fn frame(&self, coded: &Coded);
}

/// Encodes only while there are viewers.
#[derive(Default)]
pub struct Hub {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    viewers: Vec<Arc<dyn Viewer>>,
    /// Of the pipeline at present: a `valve` and the encoder behind it.
    gate: Option<glib::WeakRef<gst::Element>>,
    encoder: Option<glib::WeakRef<gst::Element>>,
    /// When the last frame came, wanted or not.
    heard: Option<Instant>,
    /// When the last coded frame was taken.
    last: Option<Instant>,
}

impl State {
    /// Lets frames through only when somebody wants them.
    fn set_gate(&self) {
        if let Some(gate) = self.gate.as_ref().and_then(|gate| gate.upgrade()) {
            gate.set_property("drop", self.viewers.is_empty());
        }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a viewer, who begins with the next frame, a keyframe soon.
    pub fn join(&self, viewer: Arc<dyn Viewer>) {
        {
            let mut state = self.lock();
            state.viewers.push(viewer);
            state.set_gate();
        }
        self.request_keyframe();
    }

    pub fn leave(&self, viewer: &Arc<dyn Viewer>) {
        let mut state = self.lock();
        state.viewers.retain(|other| !Arc::ptr_eq(other, viewer));
        state.set_gate();
    }

    /// Whether there is a picture at present.
    pub fn is_alive(&self) -> bool {
        self.lock()
            .heard
            .is_some_and(|heard| heard.elapsed() < SILENCE)
    }

    /// Has the encoder begin anew with its next frame.
    pub fn request_keyframe(&self) {
        let encoder = self.lock().encoder.as_ref().and_then(|e| e.upgrade());
        if let Some(encoder) = encoder {
            encoder.send_event(
                gst_video::UpstreamForceKeyUnitEvent::builder()
                    .all_headers(true)
                    .build(),
            );
        }
    }

    /// The branch of a pipeline.
    pub fn attach(self: &Arc<Self>, pipeline: &gst::Pipeline, tee: &gst::Element) -> Result<()> {
        let gate = make("valve")?;
        // The end of the stream passes a closed gate.
        set(&gate, "drop-mode", "forward-sticky-events")?;
        let queue = make("queue")?;
        set(&queue, "max-size-buffers", QUEUE)?;
        set(&queue, "max-size-bytes", 0)?;
        set(&queue, "max-size-time", 0)?;
        set(&queue, "leaky", "downstream")?;
        let overlay = make("facemetaoverlay")?;
        let convert = make("videoconvert")?;
        let format = make("capsfilter")?;
        set(&format, "caps", "video/x-raw,format=I420")?;
        let crop = make("videocrop")?;
        keep_even(&crop)?;
        let encoder = encoder()?;
        assume_rate(&pad(&encoder, "sink")?);
        let parse = make("h264parse")?;
        // Who joins, and every file, finds all that a decoder needs at any keyframe.
        set(&parse, "config-interval", -1)?;
        let coded = make("capsfilter")?;
        set(
            &coded,
            "caps",
            "video/x-h264,stream-format=byte-stream,alignment=au",
        )?;
        let sink = free_sink("appsink")?
            .downcast::<gst_app::AppSink>()
            .ok()
            .context("appsink is no AppSink")?;
        let hub = self.clone();
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    hub.pass_on(&sample, Moment::of_frame(sink, &sample));
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let elements = [
            &gate,
            &queue,
            &overlay,
            &convert,
            &format,
            &crop,
            &encoder,
            &parse,
            &coded,
            sink.upcast_ref(),
        ];
        chain(pipeline, &elements)?;
        let hub = self.clone();
        pad(&gate, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            hub.lock().heard = Some(Instant::now());
            gst::PadProbeReturn::Ok
        });
        {
            let mut state = self.lock();
            state.gate = Some(gate.downgrade());
            state.encoder = Some(encoder.downgrade());
            state.set_gate();
        }
        tee.link(&gate)?;
        Ok(())
    }

    fn pass_on(&self, sample: &gst::Sample, mut taken: Moment) {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return;
        };
        let viewers = {
            let mut state = self.lock();
            if let Some(last) = state.last
                && taken.instant <= last
            {
                taken.instant = last + Duration::from_millis(1);
            }
            state.last = Some(taken.instant);
            state.viewers.clone()
        };
        let is_keyframe = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let coded = Coded {
            buffer,
            caps,
            taken,
            is_keyframe,
        };
        for viewer in viewers {
            viewer.frame(&coded);
        }
    }
}

/// Cuts odd sizes to even ones, whenever the size changes.
fn keep_even(crop: &gst::Element) -> Result<()> {
    let cropper = crop.downgrade();
    pad(crop, "sink")?.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(caps)) = info.event().map(|e| e.view())
            && let Ok(video) = gst_video::VideoInfo::from_caps(caps.caps())
            && let Some(crop) = cropper.upgrade()
        {
            crop_to_even(&crop, &video);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// An H.264 encoder that gives each frame at once.
fn encoder() -> Result<gst::Element> {
    let encoder = make_first(&["x264enc", "openh264enc"])?;
    if encoder.find_property("speed-preset").is_none() {
        set(&encoder, "rate-control", "quality")?;
        set(&encoder, "bitrate", 4_000_000)?;
        set(&encoder, "complexity", "low")?;
        set(&encoder, "gop-size", KEYFRAMES)?;
        return Ok(encoder);
    }
    set(&encoder, "tune", "zerolatency")?;
    set(&encoder, "speed-preset", "superfast")?;
    set(&encoder, "pass", "qual")?;
    set(&encoder, "quantizer", 23)?;
    set(&encoder, "key-int-max", KEYFRAMES)?;
    Ok(encoder)
}
