use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use face_core::Error;
use face_core::element::{self, Inference, Preload, Timing};
use face_core::late::{Budget, Share, turns};
use face_core::meta::{self, Embedding, Face, Recognition};
use face_core::names::UNKNOWN;
use face_core::stats::{self, Stats, Work};
use face_core::tracks::{Pace, Schedule, Tracks};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;

use super::Late;
use super::galleries::{Counters, Fit};
use crate::evidence::Evidence;
use crate::gallery::Gallery;
use crate::gallery::watch::{Seen, Watch};
use crate::recognizer::Recognizer;
use crate::vote::{Verdict, decide};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facerecognizer",
        gst::DebugColorFlags::empty(),
        Some("Face recognizer"),
    )
});

const MODEL: &str = "sface";
const NEIGHBORS: u32 = 6;
const INTERVAL: u32 = 500;
const SETTLED_INTERVAL: u32 = 8000;
/// Shown before a model is loaded: SFace's, the similarity 0.363 of OpenCV's `FaceRecognizerSF`.
const DISTANCE_THRESHOLD: f64 = 0.637;

#[derive(Clone)]
pub(super) struct Settings {
    inference: Inference,
    pub(super) gallery: Option<PathBuf>,
    /// Counts changes of `gallery`, so that the same path set again is read again.
    pub(super) gallery_serial: u64,
    pub(super) watch: bool,
    neighbors: u32,
    /// The model's own where `None`.
    distance_threshold: Option<f64>,
    unknown_label: String,
    vote: bool,
    pace: Pace,
    attach_embedding: bool,
    late: Late,
}

/// What is known of one track.
#[derive(Default)]
pub(super) struct TrackState {
    pub(super) evidence: Evidence,
    schedule: Schedule,
}

pub(super) struct State {
    pub(super) recognizer: Recognizer,
    pub(super) gallery: Option<Arc<Gallery>>,
    /// Of the setting that is in use or was refused.
    pub(super) gallery_serial: u64,
    pub(super) watch: Option<Watch>,
    pub(super) tracks: Tracks<TrackState>,
    /// Frames since the start.
    pub(super) frames: u64,
    info: Option<gst_video::VideoInfo>,
}

pub struct FaceRecognizer {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    timing: Timing,
    stats: Stats,
    pub(super) counters: Counters,
    preload: Preload,
}

impl Default for FaceRecognizer {
    fn default() -> Self {
        Self {
            settings: Mutex::new(Settings {
                inference: Inference::new(MODEL),
                gallery: None,
                gallery_serial: 0,
                watch: true,
                neighbors: NEIGHBORS,
                distance_threshold: None,
                unknown_label: UNKNOWN.into(),
                vote: true,
                pace: Pace {
                    interval: INTERVAL,
                    settled: SETTLED_INTERVAL,
                },
                attach_embedding: false,
                late: Late::default(),
            }),
            state: Mutex::new(None),
            timing: Timing::default(),
            stats: Stats::new(stats::Kind::Model),
            counters: Counters::default(),
            preload: Preload::default(),
        }
    }
}

/// Who an embedding is by the gallery; `model_threshold` is the model's own.
pub(super) fn judge(
    gallery: &Gallery,
    embedding: &[f32],
    settings: &Settings,
    model_threshold: Option<f64>,
) -> Verdict {
    let threshold = settings
        .distance_threshold
        .or(model_threshold)
        .unwrap_or(DISTANCE_THRESHOLD);
    let k = settings.neighbors as usize;
    decide(gallery, &gallery.nearest_images(embedding, k), k, threshold)
}

impl State {
    /// What is needed to play, and which file the gallery was.
    fn new(settings: &Settings) -> Result<(Self, Option<Seen>), Error> {
        let recognizer = Recognizer::new(&settings.inference.model, &settings.inference.options)?;
        let (gallery, seen) = match &settings.gallery {
            Some(path) => {
                let (gallery, seen) = Fit::new(&recognizer).open(path)?;
                (Some(gallery), Some(seen))
            }
            None => (None, None),
        };
        if gallery.is_some()
            && settings
                .distance_threshold
                .or(recognizer.distance_threshold())
                .is_none()
        {
            return Err(Error::Settings(format!(
                "the descriptor of model `{}` has no `distance_threshold`: set the property \
                 distance-threshold",
                settings.inference.model
            )));
        }
        let state = Self {
            recognizer,
            gallery,
            gallery_serial: settings.gallery_serial,
            watch: None,
            tracks: Tracks::default(),
            frames: 0,
            info: None,
        };
        Ok((state, seen))
    }

    /// Embeds the face and counts the verdict.
    fn embed(
        &mut self,
        frame: &face_core::image::ReadFrame,
        face: &mut Face,
        track: &mut Evidence,
        settings: &Settings,
        work: &mut Work,
    ) -> Result<(), Error> {
        let Some(found) = self.recognizer.embed(frame, face, work)? else {
            return Ok(());
        };
        let model_threshold = self.recognizer.distance_threshold();
        let gallery = self.gallery.as_ref();
        let verdict = gallery.map(|g| judge(g, &found.embedding, settings, model_threshold));
        track.add(&found.embedding, found.weight, verdict);
        if settings.attach_embedding {
            let model = self.recognizer.model_id().name;
            face.embedding = Some(Embedding {
                model,
                values: found.embedding,
            });
        }
        Ok(())
    }

    /// Writes names into `faces`. The frame is mapped only if a face is due. Of those that are, `budget`
    /// says how many are embedded on this frame.
    fn process(
        &mut self,
        buffer: &gst::BufferRef,
        faces: &mut [Face],
        settings: &Settings,
        budget: &mut Budget<impl Fn() -> Share>,
        work: &mut Work,
    ) -> Result<(), Error> {
        if self.gallery.is_none() && !settings.attach_embedding {
            return Ok(());
        }
        let time = buffer.pts().map(gst::ClockTime::nseconds);
        let examined = meta::examined(buffer).unwrap_or(true);
        let info = self.info.clone();
        let mut frame = None;
        self.frames += 1;
        let passed: Vec<u32> = faces
            .iter()
            .map(|face| {
                face.track
                    .map_or(0, |t| self.tracks.get(t.id).schedule.passed())
            })
            .collect();
        for i in turns(&passed, self.frames) {
            let face = &mut faces[i];
            let mut track = match face.track {
                Some(track) => std::mem::take(self.tracks.get(track.id)),
                None => TrackState::default(),
            };
            let schedule = &mut track.schedule;
            schedule.see(time, examined && face.is_predicted());
            let due = !face.is_predicted()
                && schedule.is_due(settings.pace, track.evidence.vote().settled(), time);
            let place = due.then(|| budget.begin(|patience| self.recognizer.place(patience)));
            if let Some(None) = place {
                schedule.pass_over();
                work.dropped += 1;
            } else if place.is_some() {
                let info = info
                    .as_ref()
                    .ok_or_else(|| Error::Frame("a frame came before its caps".into()))?;
                let frame = match &frame {
                    Some(frame) => frame,
                    None => frame.insert(face_core::frame::map(buffer, info)?),
                };
                self.embed(frame, face, &mut track.evidence, settings, work)?;
                drop(place);
                track.schedule.done(time);
                budget.spend();
            }
            let verdict = match settings.vote {
                true => track.evidence.vote().majority(),
                false => track.evidence.vote().last().cloned(),
            };
            if let Some(verdict) = verdict {
                face.recognition = Some(Recognition {
                    name: verdict
                        .person
                        .unwrap_or_else(|| settings.unknown_label.clone()),
                    confidence: verdict.share,
                    distance: verdict.distance,
                });
            }
            if let Some(id) = face.track.map(|t| t.id) {
                *self.tracks.get(id) = track;
            }
        }
        Ok(())
    }
}

impl FaceRecognizer {
    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let settings = self.settings().clone();
        let arrival = self.timing.arrival(&*self.obj(), buffer);
        let late = settings.late.into();
        let mut budget = Budget::new(|| self.timing.share(&*self.obj(), late, arrival, false));
        let mut faces = meta::claim(buffer);
        work.faces = faces.len() as u64;
        if let Some(state) = self.state().as_mut() {
            state.process(buffer, &mut faces, &settings, &mut budget, work)?;
        }
        self.timing.spent(&*self.obj(), &budget, work);
        meta::update(buffer, &faces);
        Ok(())
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceRecognizer {
    const NAME: &'static str = "GstFaceRecognizer";
    type Type = super::FaceRecognizer;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceRecognizer {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut properties = Inference::properties(
                MODEL,
                "Recognition model: a name (sface) or the path of an .onnx file with its descriptor \
                 beside it",
            );
            properties.extend([
                glib::ParamSpecString::builder("gallery")
                    .nick("Gallery")
                    .blurb(
                        "Gallery file made by `facepipe enroll`; may be changed while playing, one \
                         that cannot be used is then refused with a warning",
                    )
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("watch")
                    .nick("Watch")
                    .blurb(
                        "Take over the gallery's file within a second when it changes; one that cannot \
                         be used is refused with a warning",
                    )
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("neighbors")
                    .nick("Neighbours")
                    .blurb("How many of the nearest gallery images vote")
                    .minimum(1)
                    .maximum(1024)
                    .default_value(NEIGHBORS)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("distance-threshold")
                    .nick("Distance threshold")
                    .blurb(
                        "Images beyond this cosine distance vote for nobody (default: the \
                         model's own)",
                    )
                    .minimum(0.0)
                    .maximum(2.0)
                    .default_value(DISTANCE_THRESHOLD)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("unknown-label")
                    .nick("Unknown label")
                    .blurb("The name of faces that are nobody of the gallery")
                    .default_value(UNKNOWN)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("vote")
                    .nick("Vote")
                    .blurb(
                        "Name a track by the weighted majority of its embeddings, not by the last \
                         one",
                    )
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("interval")
                    .nick("Interval")
                    .blurb("Stream time between two embeddings of one track (ms); 0 = every frame")
                    .maximum(3_600_000)
                    .default_value(INTERVAL)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("settled-interval")
                    .nick("Settled interval")
                    .blurb(
                        "The longest pause (ms): once a track has three votes and a majority of 80 %, each \
                         pause is twice the one before; interval=0 still means every frame",
                    )
                    .maximum(3_600_000)
                    .default_value(SETTLED_INTERVAL)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("attach-embedding")
                    .nick("Attach embedding")
                    .blurb(
                        "Attach embeddings to the faces, on the frames on which they are computed",
                    )
                    .default_value(false)
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
        let text = || {
            value
                .get::<Option<String>>()
                .ok()
                .flatten()
                .filter(|t| !t.is_empty())
        };
        match pspec.name() {
            "gallery" => {
                settings.gallery = text().map(PathBuf::from);
                settings.gallery_serial += 1;
                drop(settings);
                self.gallery_set();
            }
            "watch" => {
                let watch = value.get().unwrap_or(true);
                let changed = std::mem::replace(&mut settings.watch, watch) != watch;
                drop(settings);
                if changed {
                    // It may have changed since it was read.
                    let old = self.state().as_mut().and_then(|state| state.watch.take());
                    drop(old);
                    self.watch(Seen::Unsure);
                }
            }
            "neighbors" => settings.neighbors = value.get().unwrap_or(NEIGHBORS),
            "distance-threshold" => settings.distance_threshold = value.get().ok(),
            "unknown-label" => settings.unknown_label = text().unwrap_or(UNKNOWN.into()),
            "vote" => settings.vote = value.get().unwrap_or_default(),
            "interval" => settings.pace.interval = value.get().unwrap_or_default(),
            "settled-interval" => settings.pace.settled = value.get().unwrap_or_default(),
            "attach-embedding" => settings.attach_embedding = value.get().unwrap_or_default(),
            "late" => settings.late = value.get().unwrap_or_default(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == stats::PROPERTY {
            let mut stats = self.stats.to_structure();
            self.counters.add_to(&mut stats);
            return stats.to_value();
        }
        let settings = self.settings().clone();
        if let Some(value) = settings.inference.get(pspec.name()) {
            return value;
        }
        match pspec.name() {
            "gallery" => settings
                .gallery
                .map(|path| path.to_string_lossy().into_owned())
                .to_value(),
            "watch" => settings.watch.to_value(),
            "neighbors" => settings.neighbors.to_value(),
            "distance-threshold" => settings
                .distance_threshold
                .or_else(|| self.state().as_ref()?.recognizer.distance_threshold())
                .unwrap_or(DISTANCE_THRESHOLD)
                .to_value(),
            "unknown-label" => settings.unknown_label.to_value(),
            "vote" => settings.vote.to_value(),
            "interval" => settings.pace.interval.to_value(),
            "settled-interval" => settings.pace.settled.to_value(),
            "attach-embedding" => settings.attach_embedding.to_value(),
            "late" => settings.late.to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for FaceRecognizer {}

impl ElementImpl for FaceRecognizer {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face recognizer",
                "Filter/Analyzer/Video",
                "Names faces by their nearest neighbours in a gallery",
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

impl BaseTransformImpl for FaceRecognizer {
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
        let settings = self.settings().clone();
        let (state, seen) = State::new(&settings).map_err(|e| e.to_message())?;
        if state.gallery.is_none() && !settings.attach_embedding {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Settings,
                ("no gallery is set, so faces get no names; make one with `facepipe enroll \
                     PEOPLE_DIR -o friends.safetensors` and set gallery=friends.safetensors")
            );
        }
        self.preload.end();
        self.stats.reset();
        self.timing.reset();
        self.counters.reset(state.gallery.as_deref());
        *self.state() = Some(state);
        if self.settings().gallery_serial != settings.gallery_serial {
            self.gallery_set();
        } else if let Some(seen) = seen {
            self.watch(seen);
        }
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = self.state().take();
        // Waits for the thread that watches the gallery, which may be about to take the lock.
        drop(state);
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
