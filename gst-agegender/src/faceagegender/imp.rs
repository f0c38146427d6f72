use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use face_core::Error;
use face_core::align::Chips;
use face_core::element::{self, Inference, Preload, Timing};
use face_core::late::{Budget, Share, turns};
use face_core::meta::{self, Face};
use face_core::stats::{self, Stats, Work};
use face_core::tracks::{Pace, Schedule, Tracks};
use face_core::turns::Asker;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;

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
    tracks: Tracks<(Summary, Schedule)>,
    /// Frames since the start.
    frames: u64,
    info: Option<gst_video::VideoInfo>,
    asker: Asker,
}

pub struct FaceAgeGender {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    timing: Timing,
    stats: Stats,
    preload: Preload,
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
        }
    }
}

impl State {
    /// Writes age and gender into `faces`. The frame is mapped only if a face is due. Of those that
    /// are, `budget` says how many are looked at on this frame.
    fn process(
        &mut self,
        buffer: &gst::BufferRef,
        faces: &mut [Face],
        budget: &mut Budget<impl Fn() -> Share>,
        smooth: bool,
        pace: Pace,
        work: &mut Work,
    ) -> Result<(), Error> {
        let time = buffer.pts().map(gst::ClockTime::nseconds);
        let examined = meta::examined(buffer).unwrap_or(true);
        let mut frame = None;
        self.frames += 1;
        let passed: Vec<u32> = faces
            .iter()
            .map(|face| face.track.map_or(0, |t| self.tracks.get(t.id).1.passed()))
            .collect();
        for i in turns(&passed, self.frames) {
            let face = &mut faces[i];
            let mut alone = Default::default();
            let (summary, schedule) = match face.track {
                Some(track) => self.tracks.get(track.id),
                None => &mut alone,
            };
            schedule.see(time, examined && face.is_predicted());
            let due = !face.is_predicted() && schedule.is_due(pace, summary.settled(), time);
            let asker = &self.asker;
            let turn = |patience| self.estimators.first()?.place(asker, patience);
            let place = due.then(|| budget.begin(turn));
            if let Some(None) = place {
                schedule.pass_over();
                work.dropped += 1;
            } else if place.is_some() {
                let info = self
                    .info
                    .as_ref()
                    .ok_or_else(|| Error::Frame("a frame came before its caps".into()))?;
                let frame = match &frame {
                    Some(frame) => frame,
                    None => frame.insert(face_core::frame::map(buffer, info)?),
                };
                for estimator in &mut self.estimators {
                    if let Some(estimate) =
                        estimator.estimate(&mut self.chips, frame, face, work)?
                    {
                        summary.add(estimate);
                    }
                }
                drop(place);
                schedule.done(time);
                budget.spend();
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

    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let (smooth, pace, late) = {
            let settings = self.settings();
            (settings.smooth, settings.pace, settings.late.into())
        };
        let arrival = self.timing.arrival(&*self.obj(), buffer);
        let mut budget = Budget::new(|| self.timing.share(&*self.obj(), late, arrival, false));
        let mut faces = meta::claim(buffer);
        work.faces = faces.len() as u64;
        if let Some(state) = self.state().as_mut() {
            state.process(buffer, &mut faces, &mut budget, smooth, pace, work)?;
        }
        self.timing.spent(&*self.obj(), &budget, work);
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
                glib::ParamSpecUInt::builder("settled-interval")
                    .nick("Settled interval")
                    .blurb(
                        "The longest pause (ms): once a track has four estimates, each pause is twice the one \
                         before; interval=0 still means every frame",
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
        let mut settings = self.settings();
        if settings.inference.set(pspec.name(), value) {
            return;
        }
        // GObject has checked type and range; the fall-backs are never taken.
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
        let settings = self.settings();
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
                "Estimates age and gender of faces, over their tracks where they have any",
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
        let inference = self.settings().inference.clone();
        let estimators = inference
            .model
            .split(',')
            .map(|model| Estimator::new(model.trim(), &inference.options))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| e.to_message())?;
        self.preload.end();
        self.stats.reset();
        self.timing.reset();
        *self.state() = Some(State {
            estimators,
            chips: Chips::default(),
            tracks: Tracks::default(),
            frames: 0,
            info: None,
            asker: Asker::other(),
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

    fn src_event(&self, event: gst::Event) -> bool {
        // A detector in front has to hear of it, too.
        let late = self.settings().late.into();
        self.timing.src_event(&*self.obj(), late, &event);
        self.parent_src_event(event)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        self.timing.sink_event(&event);
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
        Err(gst::FlowError::NotSupported)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        element::in_place(self, &self.stats, |buffer, work| self.process(buffer, work))
    }
}
