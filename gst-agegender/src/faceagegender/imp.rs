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
const SETTLED_INTERVAL: u32 = 8000;

struct Settings {
    inference: Inference,
    smooth: bool,
    pace: Pace,
    late: Late,
}

struct State {
    estimators: Vec<Estimator>,
    chips: Chips,
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
                smooth: true,
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
    asker: &'a Asker,
    smooth: bool,
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
        for estimator in self.estimators.iter_mut() {
            if let Some(estimate) = estimator.estimate(self.chips, frame, face, work)? {
                summary.add(estimate);
            }
        }
        Ok(())
    }

    fn tell(&self, summary: &Summary, face: &mut Face) {
        face.age = summary.age(self.smooth).or(face.age);
        face.gender = summary.gender(self.smooth).or(face.gender.take());
    }
}

impl FaceAgeGender {
    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let (smooth, pace, late) = {
            let settings = self.settings.lock();
            (settings.smooth, settings.pace, settings.late.into())
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
                asker: &state.asker,
                smooth,
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
                "Age and gender models, separated by commas: each a name or the path of an .onnx \
                 file with its descriptor next to it",
            );
            properties.extend([
                glib::ParamSpecBoolean::builder("smooth")
                    .nick("Smooth")
                    .blurb("Report the mean age and the majority gender over the track")
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
            "smooth" => settings.smooth = value.get().unwrap_or_default(),
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
            "smooth" => settings.smooth.to_value(),
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
