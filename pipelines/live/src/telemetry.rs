//! Observes the cameras: counts, states, and the ways to read them.

mod arrival;
mod flight;
pub mod health;
mod histogram;
pub mod http;
pub mod log;
pub mod metrics;
pub mod process;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gst::prelude::*;
use parking_lot::Mutex;

pub use self::arrival::Arrivals;
use self::flight::Flight;
use self::histogram::Histogram;
use self::stage::Stage;
use super::thinning::Sight;

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
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A share, initially 1.
#[derive(Debug)]
pub struct Share(AtomicU32);

impl Default for Share {
    fn default() -> Self {
        Self(AtomicU32::new(1f32.to_bits()))
    }
}

impl Share {
    pub fn set(&self, share: f64) {
        self.0.store((share as f32).to_bits(), Ordering::Relaxed);
    }

    pub fn get(&self) -> f64 {
        f64::from(f32::from_bits(self.0.load(Ordering::Relaxed)))
    }
}

/// What a camera is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameraState {
    Connecting,
    Running,
    /// Waits for the next attempt.
    Failed,
}

impl CameraState {
    pub const ALL: [Self; 3] = [Self::Connecting, Self::Running, Self::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Running => "running",
            Self::Failed => "failed",
        }
    }
}

/// The counts of all cameras.
#[derive(Debug)]
pub struct Telemetry {
    cameras: Mutex<BTreeMap<String, Arc<Camera>>>,
    started: Instant,
    /// The share of the cameras' frames that are decoded.
    pub decoded: Share,
    /// The strangers who are told apart.
    pub strangers: Gauge,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self::new()
    }
}

impl Telemetry {
    pub fn new() -> Self {
        Self {
            cameras: Mutex::default(),
            started: Instant::now(),
            decoded: Share::default(),
            strangers: Gauge::default(),
        }
    }

    /// The counts of a camera. They start at 0.
    pub fn camera(&self, name: &str) -> Arc<Camera> {
        self.cameras.lock().entry(name.into()).or_default().clone()
    }

    /// The camera is gone for good.
    pub fn remove(&self, name: &str) {
        self.cameras.lock().remove(name);
    }

    /// All cameras, by name.
    fn cameras(&self) -> Vec<(String, Arc<Camera>)> {
        let cameras = self.cameras.lock();
        cameras
            .iter()
            .map(|(n, c)| (n.clone(), c.clone()))
            .collect()
    }

    /// The observations of all running cameras since the last call.
    pub fn sights(&self) -> Vec<Sight> {
        let cameras = self.cameras();
        cameras.iter().filter_map(|(_, c)| c.sight()).collect()
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The counts of one camera, across all its pipelines.
#[derive(Debug)]
pub struct Camera {
    state: AtomicU8,
    frames_in: Counter,
    frames_processed: Counter,
    frames_dropped: Counter,
    /// Not decoded, because decoding all of them was too much for the machine.
    frames_thinned: Counter,
    flight: Mutex<Flight>,
    arrivals: Mutex<Arrivals>,
    /// The detections done and skipped at the time of the last call.
    seen: Mutex<(u64, u64)>,
    latency: Histogram,
    /// Of the last frame, in microseconds.
    latest_latency: AtomicU64,
    /// Milliseconds since 1970; 0 before the first.
    last_frame: AtomicU64,
    /// By the factory name of the element.
    stages: Mutex<BTreeMap<String, Stage>>,
    created: Instant,
    pub reconnects: Counter,
    /// Lines, frames and events that outputs could not write or deliver.
    pub output_errors: Counter,
    pub events: Counter,
    pub recognitions: Counter,
    pub strangers: Counter,
    /// Viewers of the annotated stream.
    pub viewers: Gauge,
}

impl Default for Camera {
    fn default() -> Self {
        Self {
            state: AtomicU8::new(CameraState::Connecting as u8),
            frames_in: Counter::default(),
            frames_processed: Counter::default(),
            frames_dropped: Counter::default(),
            frames_thinned: Counter::default(),
            flight: Mutex::default(),
            arrivals: Mutex::default(),
            seen: Mutex::default(),
            latency: Histogram::default(),
            latest_latency: AtomicU64::new(0),
            last_frame: AtomicU64::new(0),
            stages: Mutex::default(),
            created: Instant::now(),
            reconnects: Counter::default(),
            output_errors: Counter::default(),
            events: Counter::default(),
            recognitions: Counter::default(),
            strangers: Counter::default(),
            viewers: Gauge::default(),
        }
    }
}

impl Camera {
    pub fn set_state(&self, state: CameraState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub fn state(&self) -> CameraState {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        CameraState::ALL[state.min(CameraState::ALL.len() - 1)]
    }

    pub fn frames_in(&self) -> u64 {
        self.frames_in.get()
    }

    /// Counts a frame that is not decoded, because decoding all of them is too much.
    pub fn thin_out(&self) {
        self.frames_thinned.inc();
    }

    /// Frames that the camera sent, decoded or not.
    pub fn frames_sent(&self) -> u64 {
        self.frames_in.get() + self.frames_thinned.get()
    }

    /// The observations of the camera since the last call. `None` while it does not run.
    fn sight(&self) -> Option<Sight> {
        let now = {
            let stages = self.stages.lock();
            let detector = stages.get("facedetector")?;
            (
                detector.sum("inferences")?,
                detector.sum("work-dropped").unwrap_or(0),
            )
        };
        let mut seen = self.seen.lock();
        let before = std::mem::replace(&mut *seen, now);
        let behind = self.arrivals.lock().behind(self.created.elapsed())?;
        (self.state() == CameraState::Running).then_some(Sight {
            behind,
            looks: now.0.saturating_sub(before.0),
            passed_over: now.1.saturating_sub(before.1),
        })
    }

    /// Counts the frames from the source. Called once per pipeline, before it runs.
    pub fn watch_input(self: &Arc<Self>, pad: &gst::Pad) {
        self.frames_dropped.add(self.flight.lock().clear());
        *self.arrivals.lock() = Arrivals::default();
        self.stages.lock().values_mut().for_each(Stage::begin);
        let camera = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            camera.frames_in.inc();
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.unwrap_or_default().as_millis();
            camera.last_frame.store(now as u64, Ordering::Relaxed);
            if let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) {
                camera
                    .frames_dropped
                    .add(camera.flight.lock().enter(pts.nseconds()));
                if let Some(lag) = latency(pad, pts) {
                    camera.arrivals.lock().see(camera.created.elapsed(), lag);
                }
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Counts the frames that passed all stages, and measures their latency.
    pub fn watch_output(self: &Arc<Self>, pad: &gst::Pad) {
        let camera = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            camera.frames_processed.inc();
            let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) else {
                return gst::PadProbeReturn::Ok;
            };
            camera
                .frames_dropped
                .add(camera.flight.lock().leave(pts.nseconds()));
            if let Some(latency) = latency(pad, pts) {
                camera.latency.record(latency);
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                camera.latest_latency.store(micros, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
    }

    /// Reads the `stats` of a stage, which is an element's factory name. They start at 0 again with
    /// each pipeline.
    pub fn observe(&self, stage: &str, stats: &gst::Structure) {
        let mut stages = self.stages.lock();
        if let Some(known) = stages.get_mut(stage) {
            return known.observe(stats);
        }
        let mut new = Stage::default();
        new.observe(stats);
        stages.insert(stage.into(), new);
    }

    /// Faces that the detector found.
    fn detected(&self) -> u64 {
        let stages = self.stages.lock();
        let faces = stages
            .get("facedetector")
            .and_then(|stage| stage.sum("faces"));
        faces.unwrap_or(0)
    }

    /// Of the last frame, in seconds. `None` before the first.
    fn latest_latency(&self) -> Option<f64> {
        let micros = self.latest_latency.load(Ordering::Relaxed);
        (self.frames_processed.get() > 0).then_some(micros as f64 / 1e6)
    }

    /// When the last frame arrived, in seconds since 1970.
    fn last_frame(&self) -> Option<f64> {
        let millis = self.last_frame.load(Ordering::Relaxed);
        (millis > 0).then_some(millis as f64 / 1e3)
    }

    /// The time since the last frame or, if there was none, since the camera was added.
    fn silence(&self) -> Duration {
        match self.last_frame.load(Ordering::Relaxed) {
            0 => self.created.elapsed(),
            millis => SystemTime::now()
                .duration_since(UNIX_EPOCH + Duration::from_millis(millis))
                .unwrap_or_default(),
        }
    }
}

/// How old a frame at `pad` is, counted from the moment it was taken.
fn latency(pad: &gst::Pad, pts: gst::ClockTime) -> Option<Duration> {
    let segment = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = segment.segment().downcast_ref::<gst::ClockTime>()?;
    let at = segment.to_running_time(pts)?;
    let now = pad.parent_element()?.current_running_time()?;
    Some(now.saturating_sub(at).into())
}
