//! Takes the annotated and encoded video of a camera from its current pipeline to all viewers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use gst::prelude::*;
use parking_lot::Mutex;

use super::moment::Moment;
use face_parts::graph::{chain, free_sink, make, make_first, pad, set};
use face_parts::video::{ENCODABLE, assume_rate, crop_to_even};

/// How many frames wait to be drawn on and encoded; older ones are dropped.
const QUEUE: u32 = 4;

/// The maximum distance of keyframes, in frames.
const KEYFRAMES: u32 = 50;

/// A camera without a frame for this long has no picture.
const SILENCE: Duration = Duration::from_secs(5);

/// One frame of H.264 as a byte stream, aligned to access units.
#[derive(Clone)]
pub struct Coded {
    pub buffer: gst::Buffer,
    pub caps: gst::Caps,
    /// Later than that of the previous frame.
    pub taken: Moment,
    pub is_keyframe: bool,
}

/// A receiver of frames. Called on the encoder's thread, so it must not block.
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
    /// In the current pipeline: a `valve`, followed by the encoder.
    gate: Option<glib::WeakRef<gst::Element>>,
    encoder: Option<glib::WeakRef<gst::Element>>,
    /// When the last frame arrived, wanted or not.
    heard: Option<Instant>,
    /// When the last coded frame was taken.
    last: Option<Instant>,
}

impl State {
    /// Opens the gate if there are viewers, and closes it otherwise.
    fn set_gate(&self) {
        if let Some(gate) = self.gate.as_ref().and_then(|gate| gate.upgrade()) {
            gate.set_property("drop", self.viewers.is_empty());
        }
    }
}

impl Hub {
    /// Adds a viewer. It starts with the next frame and soon gets a keyframe.
    pub fn join(&self, viewer: Arc<dyn Viewer>) {
        {
            let mut state = self.state.lock();
            state.viewers.push(viewer);
            state.set_gate();
        }
        self.request_keyframe();
    }

    pub fn leave(&self, viewer: &Arc<dyn Viewer>) {
        let mut state = self.state.lock();
        state.viewers.retain(|other| !Arc::ptr_eq(other, viewer));
        state.set_gate();
    }

    /// Whether there is currently a picture.
    pub fn is_alive(&self) -> bool {
        self.state
            .lock()
            .heard
            .is_some_and(|heard| heard.elapsed() < SILENCE)
    }

    /// Makes the encoder start over with its next frame.
    pub fn request_keyframe(&self) {
        let encoder = self.state.lock().encoder.as_ref().and_then(|e| e.upgrade());
        if let Some(encoder) = encoder {
            encoder.send_event(
                gst_video::UpstreamForceKeyUnitEvent::builder()
                    .all_headers(true)
                    .build(),
            );
        }
    }

    /// Adds the branch to a pipeline.
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
        // Enlarges tiny pictures; others pass as they are.
        let scale = make("videoscale")?;
        let size = make("capsfilter")?;
        set(&size, "caps", ENCODABLE)?;
        let encoder = encoder()?;
        assume_rate(&pad(&encoder, "sink")?);
        let parse = make("h264parse")?;
        // New viewers, and every file, find everything that a decoder needs at each keyframe.
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
            .context("appsink is not an AppSink")?;
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
            &scale,
            &size,
            &encoder,
            &parse,
            &coded,
            sink.upcast_ref(),
        ];
        chain(pipeline, &elements)?;
        let hub = self.clone();
        pad(&gate, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            hub.state.lock().heard = Some(Instant::now());
            gst::PadProbeReturn::Ok
        });
        {
            let mut state = self.state.lock();
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
            let mut state = self.state.lock();
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

/// An H.264 encoder without delay.
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
