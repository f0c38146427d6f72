use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use face_core::Error;
use face_core::align::Chips;
use face_core::element::{self, Inference};
use face_core::meta::{self, Face};
use face_core::tracks::{Tracks, is_due};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;

use crate::estimator::{Estimator, Summary};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "faceagegender",
        gst::DebugColorFlags::empty(),
        Some("Age and gender estimator"),
    )
});

const MODELS: &str = "dlib-age,dlib-gender";
const INTERVAL: u32 = 500;

struct Settings {
    inference: Inference,
    smooth: bool,
    /// Milliseconds of stream time.
    interval: u32,
}

struct State {
    estimators: Vec<Estimator>,
    chips: Chips,
    tracks: Tracks<Summary>,
    info: Option<gst_video::VideoInfo>,
}

pub struct FaceAgeGender {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
}

impl Default for FaceAgeGender {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings {
                inference: Inference::new(MODELS),
                smooth: true,
                interval: INTERVAL,
            }),
            state: Mutex::new(None),
        }
    }
}

impl State {
    /// Writes age and gender into `faces`. The frame is mapped only if a face is due.
    fn process(
        &mut self,
        buffer: &gst::BufferRef,
        faces: &mut [Face],
        smooth: bool,
        interval: u32,
    ) -> Result<(), Error> {
        let time = buffer.pts().map(gst::ClockTime::nseconds);
        let mut frame = None;
        for face in faces {
            let mut alone = Summary::default();
            let summary = match face.track {
                Some(track) => self.tracks.get(track.id),
                None => &mut alone,
            };
            if !face.is_predicted() && is_due(summary.time, time, interval) {
                let info = self
                    .info
                    .as_ref()
                    .ok_or_else(|| Error::Frame("a frame came before its caps".into()))?;
                let frame = match &frame {
                    Some(frame) => frame,
                    None => frame.insert(element::map(buffer, info)?),
                };
                for estimator in &mut self.estimators {
                    if let Some(estimate) = estimator.estimate(&mut self.chips, frame, face)? {
                        summary.add(estimate);
                    }
                }
                summary.time = time;
            }
            face.age = summary.age(smooth).or(face.age);
            face.gender = summary.gender(smooth).or(face.gender.take());
        }
        Ok(())
    }
}

impl FaceAgeGender {
    fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self, buffer: &mut gst::BufferRef) -> Result<(), Error> {
        let (smooth, interval) = {
            let settings = self.settings();
            (settings.smooth, settings.interval)
        };
        let mut faces = meta::claim(buffer);
        if let Some(state) = self.state().as_mut() {
            state.process(buffer, &mut faces, smooth, interval)?;
        }
        meta::update(buffer, &faces);
        Ok(())
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceAgeGender {
    const NAME: &'static str = "GstFaceAgeGender";
    type Type = super::FaceAgeGender;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceAgeGender {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = Inference::properties(
                MODELS,
                "Age and gender models, separated by commas: each a name or the path of an .onnx \
                 file with its descriptor beside it",
            );
            properties.extend([
                glib::ParamSpecBoolean::builder("smooth")
                    .nick("Smooth")
                    .blurb("Give the mean age and the majority gender over the track")
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("interval")
                    .nick("Interval")
                    .blurb("Stream time between two estimates for one track (ms); 0 = every frame")
                    .maximum(3_600_000)
                    .default_value(INTERVAL)
                    .mutable_playing()
                    .build(),
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
        // GObject has checked type and range; the fall-backs are never taken.
        match pspec.name() {
            "smooth" => settings.smooth = value.get().unwrap_or_default(),
            "interval" => settings.interval = value.get().unwrap_or_default(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings();
        if let Some(value) = settings.inference.get(pspec.name()) {
            return value;
        }
        match pspec.name() {
            "smooth" => settings.smooth.to_value(),
            "interval" => settings.interval.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for FaceAgeGender {}

impl ElementImpl for FaceAgeGender {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face age and gender estimator",
                "Filter/Analyzer/Video",
                "Estimates age and gender of faces, over their tracks where they have any",
                "The gst-face developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> =
            LazyLock::new(|| element::pad_templates(&element::pixel_caps()));
        &TEMPLATES
    }
}

impl BaseTransformImpl for FaceAgeGender {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let inference = self.settings().inference.clone();
        let estimators = inference
            .model
            .split(',')
            .map(|model| Estimator::new(model.trim(), &inference.options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_message())?;
        *self.state() = Some(State {
            estimators,
            chips: Chips::default(),
            tracks: Tracks::default(),
            info: None,
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
        if let Some(state) = self.state().as_mut() {
            state.tracks.handle(&event);
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
        element::in_place(self, |buffer| self.process(buffer))
    }
}
