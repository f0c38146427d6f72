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
use crate::estimator::Estimator;
use crate::quality::{Judge, Least};
use crate::summary::{Silence, Summary};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "faceagegender",
        gst::DebugColorFlags::empty(),
        Some("Age and gender estimator"),
    )
});

const MODELS: &str = "dlib-age,dlib-gender";
const INTERVAL: u32 = 500;
const SETTLED_INTERVAL: u32 = 8000;
const MIN_GENDER_CONFIDENCE: f64 = 0.74;
const MIN_FACE_SIZE: u32 = 24;
const MIN_SHARPNESS: f64 = 0.015;
/// The model's.
const MIN_FRONTALITY: f64 = -1.0;

struct Settings {
    inference: Inference,
    tell: Tell,
    pace: Pace,
    late: Late,
}

/// What is looked at and told.
#[derive(Clone, Copy)]
struct Tell {
    smooth: bool,
    min_gender_confidence: f64,
    /// 0 = the model's.
    max_age_deviation: f64,
    min_face_size: u32,
    /// Below 0 = the model's.
    min_frontality: f64,
    min_sharpness: f64,
}

impl Tell {
    fn silence(&self) -> Silence {
        Silence {
            least_gender_confidence: self.min_gender_confidence,
            most_age_deviation: Some(self.max_age_deviation).filter(|years| *years > 0.0),
        }
    }

    fn least(&self) -> Least {
        Least {
            size: f64::from(self.min_face_size),
            frontality: self.min_frontality,
            sharpness: self.min_sharpness,
        }
    }
}

struct State {
    estimators: Vec<Estimator>,
    chips: Chips,
    judge: Judge,
    rounds: Rounds<Summary>,
    info: Option<gst_video::VideoInfo>,
    asker: Asker,
}

pub struct FaceAgeGender {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    timing: Timing,
    stats: Stats,
    preload: Preload,
    front: Front,
}

impl Default for FaceAgeGender {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings {
                inference: Inference::new(MODELS),
                tell: Tell {
                    smooth: true,
                    min_gender_confidence: MIN_GENDER_CONFIDENCE,
                    max_age_deviation: 0.0,
                    min_face_size: MIN_FACE_SIZE,
                    min_frontality: MIN_FRONTALITY,
                    min_sharpness: MIN_SHARPNESS,
                },
                pace: Pace {
                    interval: INTERVAL,
                    settled: SETTLED_INTERVAL,
                },
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

/// The models, and the frame that they process.
struct Look<'a> {
    estimators: &'a mut [Estimator],
    chips: &'a mut Chips,
    judge: &'a mut Judge,
    asker: &'a Asker,
    tell: Tell,
}

impl Stage for Look<'_> {
    type Summary = Summary;

    fn settled(summary: &Summary) -> u32 {
        summary.settled()
    }

    fn place(&self, patience: Option<Duration>) -> Option<Place> {
        self.estimators.first()?.place(self.asker, patience)
    }

    fn look(
        &mut self,
        frame: &ReadFrame,
        face: &mut Face,
        summary: &mut Summary,
        work: &mut Work,
    ) -> Result<(), Error> {
        let least = self.tell.least();
        let Some(view) = work.sample(|| self.judge.view(frame, face, least))? else {
            summary.forget_last();
            return Ok(());
        };
        let mut estimates = Vec::with_capacity(self.estimators.len());
        for estimator in self.estimators.iter_mut() {
            let least = match self.tell.min_frontality {
                least if least >= 0.0 => least,
                _ => estimator.least_frontality(),
            };
            if view.frontality >= least {
                estimates.extend(estimator.estimate(self.chips, frame, face, work)?);
            }
        }
        summary.add(&estimates, view.weight());
        if (1..self.estimators.len()).contains(&estimates.len()) {
            summary.unsettle();
        }
        Ok(())
    }

    fn tell(&self, summary: &Summary, face: &mut Face) {
        let (smooth, silence) = (self.tell.smooth, self.tell.silence());
        face.age = summary.age(smooth, silence).or(face.age);
        face.gender = summary.gender(smooth, silence).or(face.gender.take());
    }
}

impl FaceAgeGender {
    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let (tell, pace, late) = {
            let settings = self.settings.lock();
            (settings.tell, settings.pace, settings.late.into())
        };
        let arrival = self.timing.arrival(&*self.obj(), buffer);
        let mut budget = Budget::new(|| self.timing.share(&*self.obj(), late, arrival, false));
        let mut faces = face_meta::claim(buffer);
        self.front.see(&*self.obj(), buffer, &faces);
        work.faces = faces.len() as u64;
        if let Some(state) = self.state.lock().as_mut() {
            let mut look = Look {
                estimators: &mut state.estimators,
                chips: &mut state.chips,
                judge: &mut state.judge,
                asker: &state.asker,
                tell,
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
                "Models for age, for gender or for both, separated by commas: each a name or the \
                 path of an .onnx file with its descriptor next to it. Several for the same are \
                 averaged, each by how sure it is",
            );
            properties.extend([
                glib::ParamSpecBoolean::builder("smooth")
                    .nick("Smooth")
                    .blurb("Report age and gender over the whole track, not of the last estimate")
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
                glib::ParamSpecUInt::builder("settled-interval")
                    .nick("Settled interval")
                    .blurb(
                        "The longest pause (ms). Once a track has four estimates, each pause is twice the \
                         previous one; interval=0 still means every frame",
                    )
                    .maximum(3_600_000)
                    .default_value(SETTLED_INTERVAL)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("min-gender-confidence")
                    .nick("Minimum gender confidence")
                    .blurb("The probability below which a gender is not reported")
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(MIN_GENDER_CONFIDENCE)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("max-age-deviation")
                    .nick("Maximum age deviation")
                    .blurb(
                        "The standard deviation (years), of the model and over the track, above which an \
                         age is not reported; 0 = the model's",
                    )
                    .minimum(0.0)
                    .maximum(1000.0)
                    .default_value(0.0)
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
                         eyes, 0 in profile; -1 = as the model needs it",
                    )
                    .minimum(-1.0)
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
            "min-gender-confidence" => {
                settings.tell.min_gender_confidence = value.get().unwrap_or_default();
            }
            "max-age-deviation" => {
                settings.tell.max_age_deviation = value.get().unwrap_or_default();
            }
            "min-face-size" => settings.tell.min_face_size = value.get().unwrap_or_default(),
            "min-frontality" => settings.tell.min_frontality = value.get().unwrap_or_default(),
            "min-sharpness" => settings.tell.min_sharpness = value.get().unwrap_or_default(),
            "interval" => settings.pace.interval = value.get().unwrap_or_default(),
            "settled-interval" => settings.pace.settled = value.get().unwrap_or_default(),
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
            "min-gender-confidence" => settings.tell.min_gender_confidence.to_value(),
            "max-age-deviation" => settings.tell.max_age_deviation.to_value(),
            "min-face-size" => settings.tell.min_face_size.to_value(),
            "min-frontality" => settings.tell.min_frontality.to_value(),
            "min-sharpness" => settings.tell.min_sharpness.to_value(),
            "interval" => settings.pace.interval.to_value(),
            "settled-interval" => settings.pace.settled.to_value(),
            "late" => settings.late.to_value(),
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
                "Estimates age and gender of faces, over whole tracks if there are any",
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

impl BaseTransformImpl for FaceAgeGender {
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
        let estimators = inference
            .model
            .split(',')
            .map(|model| Estimator::new(model.trim(), &inference.options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_message())?;
        self.preload.end();
        self.stats.reset();
        self.timing.reset();
        self.front.reset();
        *self.state.lock() = Some(State {
            estimators,
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
