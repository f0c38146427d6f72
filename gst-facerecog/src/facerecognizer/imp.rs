use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use face_core::Error;
use face_core::element::{self, Front, Inference, Preload, Timing};
use face_core::late::Budget;
use face_core::rounds::Rounds;
use face_core::stats::{self, Stats, Work};
use face_core::tracks::Pace;
use face_gallery::Gallery;
use face_gallery::evidence::Evidence;
use face_gallery::vote::FALSE_NAME_RATE;
use face_gallery::watch::{Content, Watch};
use face_meta::names::UNKNOWN;
use face_meta::people::KnownPeople;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use super::Late;
use super::galleries::{Counters, Fit, People};
use super::look::{Look, rule};
use crate::recognizer::Recognizer;

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
/// The `distance-threshold` that leaves the limit to `false-name-rate`.
const AUTOMATIC: f64 = -1.0;

#[derive(Clone)]
pub(super) struct Settings {
    inference: Inference,
    pub(super) gallery: Option<PathBuf>,
    /// Counts changes of `gallery`, so that setting the same path again reads it again.
    pub(super) gallery_serial: u64,
    pub(super) watch: bool,
    neighbors: u32,
    pub(super) false_name_rate: f64,
    /// `None` leaves the limit to `false_name_rate`.
    pub(super) distance_threshold: Option<f64>,
    pub(super) unknown_label: String,
    pub(super) vote: bool,
    pub(super) mirror: bool,
    /// Whether several faces of a frame may have one name.
    pub(super) repeated_names: bool,
    pace: Pace,
    pub(super) attach_embedding: bool,
    /// Faces of lower quality are neither embedded nor named.
    pub(super) min_quality: f64,
    late: Late,
}

pub(super) struct State {
    pub(super) recognizer: Recognizer,
    pub(super) gallery: Option<Arc<Gallery>>,
    /// The serial of the setting that is in use or was refused.
    pub(super) gallery_serial: u64,
    pub(super) watch: Option<Watch>,
    pub(super) rounds: Rounds<Evidence>,
    info: Option<gst_video::VideoInfo>,
}

pub struct FaceRecognizer {
    pub(super) settings: Mutex<Settings>,
    pub(super) state: Mutex<Option<State>>,
    timing: Timing,
    stats: Stats,
    pub(super) counters: Counters,
    pub(super) people: People,
    /// The distance beyond which nobody in the gallery matched on the last frame. Apart from the state,
    /// which a frame holds for as long as it is looked at.
    limit: Mutex<Option<f64>>,
    preload: Preload,
    front: Front,
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
                false_name_rate: FALSE_NAME_RATE,
                distance_threshold: None,
                unknown_label: UNKNOWN.into(),
                vote: true,
                mirror: false,
                repeated_names: false,
                pace: Pace {
                    interval: INTERVAL,
                    settled: SETTLED_INTERVAL,
                },
                attach_embedding: false,
                min_quality: 0.0,
                late: Late::default(),
            }),
            state: Mutex::new(None),
            timing: Timing::default(),
            stats: Stats::new(stats::Kind::Model),
            counters: Counters::default(),
            people: People::default(),
            limit: Mutex::default(),
            preload: Preload::default(),
            front: Front::default(),
        }
    }
}

impl State {
    /// Creates the state for playing. Also returns which content of the gallery's file was read.
    fn new(settings: &Settings) -> Result<(Self, Option<Content>), Error> {
        let recognizer = Recognizer::new(&settings.inference.model, &settings.inference.options)?;
        let (gallery, seen) = match &settings.gallery {
            Some(path) => {
                let (gallery, seen) = Fit::new(&recognizer).open(path)?;
                (Some(gallery), Some(seen))
            }
            None => (None, None),
        };
        let descriptor = recognizer.descriptor();
        let known = descriptor.strangers.is_some() || descriptor.distance_threshold.is_some();
        if gallery.is_some() && settings.distance_threshold.is_none() && !known {
            return Err(Error::Settings(format!(
                "the descriptor of model `{}` has neither `strangers` nor `distance_threshold`: set the \
                 property distance-threshold",
                settings.inference.model
            )));
        }
        let state = Self {
            recognizer,
            gallery,
            gallery_serial: settings.gallery_serial,
            watch: None,
            rounds: Rounds::default(),
            info: None,
        };
        Ok((state, seen))
    }
}

impl FaceRecognizer {
    fn process(&self, buffer: &mut gst::BufferRef, work: &mut Work) -> Result<(), Error> {
        let settings = self.settings.lock().clone();
        let arrival = self.timing.arrival(&*self.obj(), buffer);
        let late = settings.late.into();
        let mut budget = Budget::new(|| self.timing.share(&*self.obj(), late, arrival, false));
        let mut faces = face_meta::claim(buffer);
        self.front.see(&*self.obj(), buffer, &faces);
        work.faces = faces.len() as u64;
        if let Some(state) = self.state.lock().as_mut()
            && (state.gallery.is_some() || settings.attach_embedding)
        {
            *self.limit.lock() = state
                .gallery
                .as_ref()
                .map(|gallery| rule(&settings, &state.recognizer).limit(gallery.people().len()));
            let mut look = Look {
                recognizer: &mut state.recognizer,
                gallery: state.gallery.as_deref(),
                settings: &settings,
            };
            let frame = (&*buffer, state.info.as_ref());
            let pace = settings.pace;
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
                "Recognition model: a name (sface) or the path of an .onnx file with its descriptor next \
                 to it",
            );
            properties.extend([
                glib::ParamSpecString::builder("gallery")
                    .nick("Gallery")
                    .blurb(
                        "Gallery file made by `facepipe enroll`. May be changed while playing; a \
                         file that cannot be used is then refused with a warning",
                    )
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("watch")
                    .nick("Watch")
                    .blurb(
                        "Reload the gallery's file within a second when it changes; a file that cannot \
                         be used is refused with a warning",
                    )
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecUInt::builder("neighbors")
                    .nick("Neighbours")
                    .blurb("Deprecated and without effect: all images of a person count")
                    .minimum(1)
                    .maximum(1024)
                    .default_value(NEIGHBORS)
                    .mutable_playing()
                    .deprecated()
                    .build(),
                glib::ParamSpecDouble::builder("false-name-rate")
                    .nick("False name rate")
                    .blurb(
                        "The share of strangers who may get a name. The more people the gallery \
                         holds, the nearer a face must be to one of them",
                    )
                    .minimum(1e-6)
                    .maximum(1.0)
                    .default_value(FALSE_NAME_RATE)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("distance-threshold")
                    .nick("Distance threshold")
                    .blurb(
                        "The cosine distance beyond which a person does not match, in place of \
                         false-name-rate; -1 = what false-name-rate says",
                    )
                    .minimum(AUTOMATIC)
                    .maximum(2.0)
                    .default_value(AUTOMATIC)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecString::builder("unknown-label")
                    .nick("Unknown label")
                    .blurb("The name of faces that match nobody in the gallery")
                    .default_value(UNKNOWN)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("vote")
                    .nick("Vote")
                    .blurb(
                        "Name a track by all of its embeddings together, not by the last one",
                    )
                    .default_value(true)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("mirror")
                    .nick("Mirror")
                    .blurb(
                        "Embed each face together with its mirror image, which names more people \
                         rightly and takes two inferences",
                    )
                    .default_value(false)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("repeated-names")
                    .nick("Repeated names")
                    .blurb(
                        "Whether several faces of a frame may have the same name, as in mosaics, \
                         mirrors and posters; otherwise only the nearest of them gets it",
                    )
                    .default_value(false)
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
                        "The longest pause (ms). Once three embeddings of a track agree, each pause is \
                         twice the previous one; interval=0 still means every frame",
                    )
                    .maximum(3_600_000)
                    .default_value(SETTLED_INTERVAL)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("attach-embedding")
                    .nick("Attach embedding")
                    .blurb(
                        "Attach embeddings to the faces, on the frames for which they are computed",
                    )
                    .default_value(false)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("min-quality")
                    .nick("Minimum quality")
                    .blurb(
                        "Neither name nor embed faces of lower quality: small, blurred or turned away. A \
                         track keeps the name that its better frames gave it; 0 = all faces",
                    )
                    .minimum(0.0)
                    .maximum(1.0)
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
                    // The file may have changed since it was read.
                    let old = self
                        .state
                        .lock()
                        .as_mut()
                        .and_then(|state| state.watch.take());
                    drop(old);
                    self.watch(Content::Unsure);
                }
            }
            "neighbors" => settings.neighbors = value.get().unwrap_or(NEIGHBORS),
            "false-name-rate" => {
                settings.false_name_rate = value.get().unwrap_or(FALSE_NAME_RATE);
                drop(settings);
                self.rule_set();
            }
            "distance-threshold" => {
                settings.distance_threshold = value.get().ok().filter(|d| *d >= 0.0);
                drop(settings);
                self.rule_set();
            }
            "unknown-label" => settings.unknown_label = text().unwrap_or(UNKNOWN.into()),
            "vote" => {
                settings.vote = value.get().unwrap_or_default();
                drop(settings);
                self.rule_set();
            }
            "mirror" => settings.mirror = value.get().unwrap_or_default(),
            "repeated-names" => settings.repeated_names = value.get().unwrap_or_default(),
            "interval" => settings.pace.interval = value.get().unwrap_or_default(),
            "settled-interval" => settings.pace.settled = value.get().unwrap_or_default(),
            "attach-embedding" => settings.attach_embedding = value.get().unwrap_or_default(),
            "min-quality" => settings.min_quality = value.get().unwrap_or_default(),
            "late" => settings.late = value.get().unwrap_or_default(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == stats::PROPERTY {
            let mut stats = self.stats.to_structure();
            self.counters.add_to(&mut stats);
            if let Some(limit) = *self.limit.lock() {
                stats.set("distance-threshold", limit);
            }
            return stats.to_value();
        }
        let settings = self.settings.lock().clone();
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
            "false-name-rate" => settings.false_name_rate.to_value(),
            "distance-threshold" => settings.distance_threshold.unwrap_or(AUTOMATIC).to_value(),
            "unknown-label" => settings.unknown_label.to_value(),
            "vote" => settings.vote.to_value(),
            "mirror" => settings.mirror.to_value(),
            "repeated-names" => settings.repeated_names.to_value(),
            "interval" => settings.pace.interval.to_value(),
            "settled-interval" => settings.pace.settled.to_value(),
            "attach-embedding" => settings.attach_embedding.to_value(),
            "min-quality" => settings.min_quality.to_value(),
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
                "Names faces after the people in a gallery",
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
        let settings = self.settings.lock().clone();
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
        self.front.reset();
        self.counters.reset(state.gallery.as_deref());
        self.people.reset();
        *self.state.lock() = Some(state);
        if self.settings.lock().gallery_serial != settings.gallery_serial {
            self.gallery_set();
        } else if let Some(seen) = seen {
            self.watch(seen);
        }
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = self.state.lock().take();
        // Ending the watch waits for its thread, which may be about to take the lock.
        drop(state);
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
        if let Some(people) = KnownPeople::from_event(&event) {
            // Passed on together with our own.
            self.people.set_in_front(people);
            return true;
        }
        if event.type_() == gst::EventType::StreamStart {
            self.people.tell();
        }
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
        self.tell_people();
        element::in_place(self, &self.stats, |buffer, work| self.process(buffer, work))
    }
}
