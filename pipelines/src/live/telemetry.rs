//! What is seen of the cameras from outside: counts, states, and the ways to read them.

pub mod http;
pub mod log;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gst::prelude::*;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.add(1);
    }

    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// What a camera is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraState {
    Connecting,
    Running,
    /// Waits until it is tried again.
    Failed,
}

/// The counts of all cameras.
#[derive(Default)]
pub struct Telemetry {
    cameras: Mutex<BTreeMap<String, Arc<Camera>>>,
}

impl Telemetry {
    pub fn new() -> Self {
        Self::default()
    }

    /// The counts of a camera, which begin at 0 the first time.
    pub fn camera(&self, name: &str) -> Arc<Camera> {
        let mut cameras = self.cameras.lock().unwrap_or_else(PoisonError::into_inner);
        cameras.entry(name.into()).or_default().clone()
    }

    /// The camera is gone for good.
    pub fn remove(&self, name: &str) {
        let mut cameras = self.cameras.lock().unwrap_or_else(PoisonError::into_inner);
        cameras.remove(name);
    }
}

/// The counts of one camera, over all its pipelines.
#[derive(Default)]
pub struct Camera {
    state: AtomicU8,
    frames_in: Counter,
    frames_processed: Counter,
    pub reconnects: Counter,
    /// By outputs: lines, frames, events that could not be written or delivered.
    pub output_errors: Counter,
    pub events: Counter,
    pub recognitions: Counter,
    pub strangers: Counter,
    /// Of the re-stream, at present.
    pub viewers: Gauge,
}

impl Camera {
    pub fn set_state(&self, state: CameraState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub fn frames_in(&self) -> u64 {
        self.frames_in.get()
    }

    /// Counts the frames that come from the source.
    pub fn watch_input(self: &Arc<Self>, pad: &gst::Pad) {
        let camera = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            camera.frames_in.inc();
            gst::PadProbeReturn::Ok
        });
    }

    /// Counts the frames that went through all stages.
    pub fn watch_output(self: &Arc<Self>, pad: &gst::Pad) {
        let camera = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            camera.frames_processed.inc();
            gst::PadProbeReturn::Ok
        });
    }

    /// Takes over the `stats` of a stage, an element's factory name. They begin at 0 again with each
    /// pipeline.
    pub fn observe(&self, _stage: &str, _stats: &gst::Structure) {}
}
