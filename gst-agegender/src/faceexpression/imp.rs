use std::sync::LazyLock;
use std::time::Duration;

use face_core::Error;
use face_core::align::Chips;
use face_core::element::{self, Front, Inference, Preload, Timing};
use face_core::image::ReadFrame;
use face_core::late::Budget;
use face_core::rounds::{Rounds, Stage};
use face_core::session::Place;
use face_core::stats::{self, Stats, Work};
use face_core::tracks::Pace;
use face_core::turns::Asker;
use face_meta::Face;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use super::Late;
use crate::expression::{Classifier, Summary};
use crate::quality::{Judge, Least};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "faceexpression",
        gst::DebugColorFlags::empty(),
        Some("Expression classifier"),
    )
});

const MODEL: &str = "faceapi-expression";
const INTERVAL: u32 = 200;
const MIN_CONFIDENCE: f64 = 0.5;
const MIN_FACE_SIZE: u32 = 32;
const MIN_SHARPNESS: f64 = 0.015;
const MIN_FRONTALITY: f64 = 0.4;

struct Settings {
    inference: Inference,
    tell: Tell,
    /// In ms of stream time.
    interval: u32,
    late: Late,
}

/// What is looked at and told.
#[derive(Clone, Copy)]
struct Tell {
    smooth: bool,
    min_confidence: f64,
    min_face_size: u32,
    min_frontality: f64,
    min_sharpness: f64,
}

impl Tell {
    fn least(&self) -> Least {
        Least {
            size: f64::from(self.min_face_size),
            frontality: self.min_frontality,
            sharpness: self.min_sharpness,
        }
    }
}

struct State {
    classifier: Classifier,
    chips: Chips,
    judge: Judge,
    rounds: Rounds<Summary>,
    info: Option<gst_video::VideoInfo>,
    asker: Asker,
}

pub struct FaceExpression {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    timing: Timing,
    stats: Stats,
    preload: Preload,
    front: Front,
}

impl Default for FaceExpression {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings {
                inference: Inference::new(MODEL),
                tell: Tell {
                    smooth: true,
                    min_confidence: MIN_CONFIDENCE,
                    min_face_size: MIN_FACE_SIZE,
                    min_frontality: MIN_FRONTALITY,
                    min_sharpness: MIN_SHARPNESS,
                },
                interval: INTERVAL,
                late: Late::default(),
            }),
            state: Mutex::new(None),
            timing: Timing::default(),
            stats: Stats::new(stats::Kind::Model),
            preload: Preload::default(),
            front: Front::default(),
        }
    }
}

/// The model, and the frame that it processes.
struct Look<'a> {
    classifier: &'a mut Classifier,
    chips: &'a mut Chips,
    judge: &'a mut Judge,
    asker: &'a Asker,
    tell: Tell,
    /// The time of the frame in ns.
    now: Option<u64>,
}

impl Stage for Look<'_> {
    type Summary = Summary;

    /// An expression changes, so it is never settled.
    fn settled(_summary: &Summary) -> u32 {
        0
    }

    fn place(&self, patience: Option<Duration>) -> Option<Place> {
        self.classifier.place(self.asker, patience)
    }

    fn look(
        &mut self,
        frame: &ReadFrame,
        face: &mut Face,
        summary: &mut Summary,
        work: &mut Work,
    ) -> Result<(), Error> {
        let least = self.tell.least();
        let view = work.sample(|| self.judge.view(frame, face, least))?;
        if let Some(view) = view
            && let Some(found) = self.classifier.classify(self.chips, frame, face, work)?
        {
            summary.add(self.now, view.weight(), found);
        }
        Ok(())
    }

    fn tell(&self, summary: &Summary, face: &mut Face) {
        let Tell {
            smooth,
            min_confidence,
            ..
        } = self.tell;
        let found = summary.expression(self.classifier.labels(), self.now, smooth, min_confidence);
        face.expression = found.or(face.expression.take());
    }
}

impl FaceExpression {
    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let (tell, pace, late) = {
            let settings = self.settings.lock();
            let pace = Pace {
                interval: settings.interval,
                settled: 0,
            };
            (settings.tell, pace, settings.late.into())
        };
        let arrival = self.timing.arrival(&*self.obj(), buffer);
        let mut budget = Budget::new(|| self.timing.share(&*self.obj(), late, arrival, false));
        let mut faces = face_meta::claim(buffer);
        self.front.see(&*self.obj(), buffer, &faces);
        work.faces = faces.len() as u64;
        if let Some(state) = self.state.lock().as_mut() {
            let mut look = Look {
                classifier: &mut state.classifier,
                chips: &mut state.chips,
                judge: &mut state.judge,
                asker: &state.asker,
                tell,
                now: buffer.pts().map(gst::ClockTime::nseconds),
            };
            let frame = (&*buffer, state.info.as_ref());
            state
                .rounds
                .go(&mut look, frame, &mut faces, pace, &mut budget, work)?;
        }
        self.timing.spent(&*self.obj(), &budget, work);
        face_meta::update(buffer, &faces);
        Ok(())
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceExpression {
    const NAME: &'static str = "GstFaceExpression";
    type Type = super::FaceExpression;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceExpression {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = Inference::properties(
                MODEL,
                "Expression model: a name, or the path of an .onnx file with its descriptor next to it",
            );
            properties.extend([
                glib::ParamSpecBoolean::builder("smooth")
                    .nick("Smooth")
                    .blurb("Report the mean over the last second of a track, not the last estimate")
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("interval")
                    .nick("Interval")
                    .blurb("Stream time between two estimates for one track (ms); 0 = every frame")
                    .maximum(1000)
                    .default_value(INTERVAL)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("min-confidence")
                    .nick("Minimum confidence")
                    .blurb("The probability below which an expression is not reported")
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(MIN_CONFIDENCE)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("min-face-size")
                    .nick("Minimum face size")
                    .blurb("Faces whose longer side has fewer pixels are not estimated")
                    .maximum(8192)
                    .default_value(MIN_FACE_SIZE)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("min-frontality")
                    .nick("Minimum frontality")
                    .blurb(
                        "How frontal a face must be to be estimated: 1 with the nose midway between the \
                         eyes, 0 in profile",
                    )
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(MIN_FRONTALITY)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("min-sharpness")
                    .nick("Minimum sharpness")
                    .blurb(
                        "How sharp a face must be to be estimated: the variance of its Laplacian over that \
                         of its brightness, at 64 pixels; near 0 for blur, 0.1 to 1 for most faces",
                    )
                    .minimum(0.0)
                    .maximum(100.0)
                    .default_value(MIN_SHARPNESS)
                    .mutable_playing()
                    .build(),
                Late::property(),
                Stats::property(),
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
        // GObject has checked type and range, so the fall-backs are never used.
        match pspec.name() {
            "smooth" => settings.tell.smooth = value.get().unwrap_or_default(),
            "interval" => settings.interval = value.get().unwrap_or_default(),
            "min-confidence" => settings.tell.min_confidence = value.get().unwrap_or_default(),
            "min-face-size" => settings.tell.min_face_size = value.get().unwrap_or_default(),
            "min-frontality" => settings.tell.min_frontality = value.get().unwrap_or_default(),
            "min-sharpness" => settings.tell.min_sharpness = value.get().unwrap_or_default(),
            "late" => settings.late = value.get().unwrap_or_default(),
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
        match pspec.name() {
            "smooth" => settings.tell.smooth.to_value(),
            "interval" => settings.interval.to_value(),
            "min-confidence" => settings.tell.min_confidence.to_value(),
            "min-face-size" => settings.tell.min_face_size.to_value(),
            "min-frontality" => settings.tell.min_frontality.to_value(),
            "min-sharpness" => settings.tell.min_sharpness.to_value(),
            "late" => settings.late.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for FaceExpression {}

impl ElementImpl for FaceExpression {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face expression classifier",
                "Filter/Analyzer/Video",
                "Tells the expression of faces, over the last second of a track if there are any",
                "The gst-face developers",
            )
        });
        Some(&METADATA)
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
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

impl BaseTransformImpl for FaceExpression {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        element::propose_allocation(self, decide_query, query, 0)
    }

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let inference = self.settings.lock().inference.clone();
        let classifier =
            Classifier::new(&inference.model, &inference.options).map_err(|e| e.to_message())?;
        self.preload.end();
        self.stats.reset();
        self.timing.reset();
        self.front.reset();
        *self.state.lock() = Some(State {
            classifier,
            chips: Chips::default(),
            judge: Judge::default(),
            rounds: Rounds::default(),
            info: None,
            asker: Asker::other(),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = None;
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
        // A detector upstream must see it, too.
        let late = self.settings.lock().late.into();
        self.timing.src_event(&*self.obj(), late, &event);
        self.parent_src_event(event)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        self.timing.sink_event(&event);
        if let Some(state) = self.state.lock().as_mut() {
            state.rounds.handle(&event);
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(
        &self,
        _buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Never called: `generate_output` does the work, without copying the memory.
        Err(gst::FlowError::NotSupported)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        element::in_place(self, &self.stats, |buffer, work| self.process(buffer, work))
    }
}
