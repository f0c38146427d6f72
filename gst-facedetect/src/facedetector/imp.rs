use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use face_core::Error;
use face_core::element::{self, Inference, Preload};
use face_core::meta::{self, Face};
use face_core::stats::{self, Stats, Work};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;

use crate::detector::{CONFIDENCE_THRESHOLD, Detector, Params};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facedetector",
        gst::DebugColorFlags::empty(),
        Some("Face detector"),
    )
});

const MODEL: &str = "yunet";

struct Settings {
    inference: Inference,
    params: Params,
    interval: u32,
}

struct State {
    detector: Detector,
    info: Option<gst_video::VideoInfo>,
    /// Frames since start or flush.
    frames: u64,
}

pub struct FaceDetector {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    stats: Stats,
    preload: Preload,
}

impl Default for FaceDetector {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings {
                inference: Inference::new(MODEL),
                params: Params::default(),
                interval: 1,
            }),
            state: Mutex::new(None),
            stats: Stats::new(stats::Kind::Model),
            preload: Preload::default(),
        }
    }
}

impl FaceDetector {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let (params, interval) = {
            let settings = self.settings();
            (settings.params, u64::from(settings.interval.max(1)))
        };
        let mut state = self.state();
        let Some(State {
            detector,
            info: Some(info),
            frames,
        }) = state.as_mut()
        else {
            return Err(Error::Frame("a frame came before its caps".into()));
        };
        let due = *frames % interval == 0;
        *frames += 1;
        if due {
            let found = detector.detect(&element::map(buffer, info)?, &params, work)?;
            gst::log!(
                CAT,
                imp = self,
                "{} faces at {:?}",
                found.len(),
                buffer.pts()
            );
            attach(
                buffer,
                (info.width(), info.height()),
                found,
                params.nms_threshold,
            );
        }
        meta::set_examined(buffer, due);
        Ok(())
    }
}

/// Adds what was found. A face that somebody else found before is not added a second time, but
/// given what it lacks.
fn attach(buffer: &mut gst::BufferRef, size: (u32, u32), found: Vec<Face>, nms_threshold: f64) {
    let mut before = meta::claim(buffer);
    let mut completed = Vec::new();
    for face in found {
        let same = before
            .iter()
            .enumerate()
            .map(|(i, known)| (i, known.rect.iou(&face.rect)))
            .filter(|(_, iou)| *iou > nms_threshold)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match same {
            Some((i, _)) => {
                let known = before.swap_remove(i);
                completed.push(Face {
                    landmarks: known.landmarks.or(face.landmarks),
                    confidence: known.confidence.or(face.confidence),
                    model: known.model.clone().or(face.model),
                    ..known
                });
            }
            None => {
                meta::add(buffer, size, &face);
            }
        }
    }
    meta::update(buffer, &completed);
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
                "Detection model: a name (yunet, centerface) or the path of an .onnx file with its \
                 descriptor beside it",
            );
            let fraction = |name: &str, nick: &str, blurb: &str, default: f64| {
                glib::ParamSpecDouble::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(default)
                    .mutable_playing()
                    .build()
            };
            let count = |name: &str, nick: &str, blurb: &str, least: u32, default: u32| {
                glib::ParamSpecUInt::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .minimum(least)
                    .maximum(1 << 16)
                    .default_value(default)
                    .mutable_playing()
                    .build()
            };
            properties.push(Stats::property());
            properties.extend([
                fraction(
                    "confidence-threshold",
                    "Confidence threshold",
                    "Faces less confident than this are dropped (a model may come with a default of \
                     its own)",
                    CONFIDENCE_THRESHOLD,
                ),
                fraction(
                    "nms-threshold",
                    "NMS threshold",
                    "Of two boxes that overlap more than this (IoU), the less confident is dropped",
                    Params::default().nms_threshold,
                ),
                count(
                    "inference-size",
                    "Inference size",
                    "Longest side, in pixels, of what the model is given; smaller frames are not \
                     enlarged; 0 = the frame's own size",
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
                count(
                    "max-faces",
                    "Maximum of faces",
                    "Keep only this many faces, the most confident ones; 0 = all",
                    0,
                    0,
                ),
                count(
                    "min-face-size",
                    "Minimum face size",
                    "Drop faces whose shorter side has fewer pixels of the frame",
                    0,
                    0,
                ),
            ]);
            properties
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings();
        if settings.inference.set(pspec.name(), value) {
            return;
        }
        let params = &mut settings.params;
        // GObject has checked type and range; the fall-backs are never taken.
        let number = || value.get::<f64>().unwrap_or_default();
        let count = || value.get::<u32>().unwrap_or_default();
        match pspec.name() {
            "confidence-threshold" => params.confidence_threshold = Some(number()),
            "nms-threshold" => params.nms_threshold = number(),
            "inference-size" => params.inference_size = count(),
            "max-faces" => params.max_faces = count(),
            "min-face-size" => params.min_face_size = count(),
            "interval" => settings.interval = count(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == stats::PROPERTY {
            return self.stats.to_structure().to_value();
        }
        let settings = self.settings();
        if let Some(value) = settings.inference.get(pspec.name()) {
            return value;
        }
        let params = settings.params;
        match pspec.name() {
            "confidence-threshold" => {
                drop(settings);
                let state = self.state();
                let own = params.confidence_threshold.unwrap_or(CONFIDENCE_THRESHOLD);
                state
                    .as_ref()
                    .map_or(own, |s| s.detector.confidence_threshold(&params))
                    .to_value()
            }
            "nms-threshold" => params.nms_threshold.to_value(),
            "inference-size" => params.inference_size.to_value(),
            "max-faces" => params.max_faces.to_value(),
            "min-face-size" => params.min_face_size.to_value(),
            "interval" => settings.interval.to_value(),
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
        let inference = self.settings().inference.clone();
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
        let inference = self.settings().inference.clone();
        let detector =
            Detector::new(&inference.model, &inference.options).map_err(|e| e.to_message())?;
        self.preload.end();
        self.stats.reset();
        *self.state() = Some(State {
            detector,
            info: None,
            frames: 0,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state() = None;
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "unusable caps {incaps}"))?;
        if let Some(state) = self.state().as_mut() {
            state.info = Some(info);
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let gst::EventView::FlushStop(_) = event.view()
            && let Some(state) = self.state().as_mut()
        {
            state.frames = 0;
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(
        &self,
        _buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Never called: generate_output does the work, without a copy of the memory.
        Ok(gst::FlowSuccess::Ok)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        element::in_place(self, &self.stats, |buffer, work| self.process(buffer, work))
    }
}
