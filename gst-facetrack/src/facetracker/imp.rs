use std::sync::LazyLock;

use face_core::element;
use face_core::stats::{self, Stats, Work};
use face_meta::track::TrackEnded;
use face_meta::{Face, Track};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use super::eyes::{BufferEyes, Sampling};
use super::{Algorithm, Appearance};
use crate::sight::Blind;
use crate::tracker::{self, Detection, Ended, Params, Scene, Tracker};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facetracker",
        gst::DebugColorFlags::empty(),
        Some("Face tracker"),
    )
});

const MILLISECOND: u64 = 1_000_000;

#[derive(Clone, Copy)]
struct Settings {
    algorithm: Algorithm,
    params: Params,
    first_track_id: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::default(),
            params: Params::default(),
            first_track_id: 1,
        }
    }
}

struct State {
    tracker: Box<dyn Tracker>,
    algorithm: Algorithm,
    /// The first track's id.
    first_id: u64,
    /// Width and height of the frames.
    size: (u32, u32),
    /// What the frames are like, if their pixels can be read.
    info: Option<gst_video::VideoInfo>,
    sampling: Sampling,
    shape: Option<face_meta::Shape>,
    /// How far time advances for a buffer without a timestamp, in ns.
    frame_duration: u64,
    /// The last frame's time, in ns.
    time: Option<u64>,
}

pub struct FaceTracker {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    stats: Stats,
}

impl Default for FaceTracker {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            state: Mutex::new(State::new(settings.algorithm, 1)),
            settings: Mutex::new(settings),
            stats: Stats::new(stats::Kind::Tracker),
        }
    }
}

impl State {
    fn new(algorithm: Algorithm, first_id: u64) -> Self {
        Self {
            tracker: tracker::create(algorithm.into(), first_id),
            algorithm,
            first_id,
            size: (0, 0),
            info: None,
            sampling: Sampling::default(),
            shape: None,
            frame_duration: 40 * MILLISECOND,
            time: None,
        }
    }

    /// Ends all tracks.
    fn finish(&mut self) -> Vec<Ended> {
        self.time = None;
        self.tracker.finish()
    }

    /// The time of a frame, and whether there is a jump from the previous one.
    fn advance(&mut self, buffer: &gst::BufferRef, max_lost: u64) -> (u64, bool) {
        let time = match (buffer.pts(), self.time) {
            (Some(pts), _) => pts.nseconds(),
            (None, Some(time)) => time.saturating_add(self.frame_duration),
            (None, None) => 0,
        };
        // Frames dropped upstream also cause a discontinuity, but that ends no track.
        let jumped = buffer.flags().contains(gst::BufferFlags::DISCONT)
            && self
                .time
                .is_some_and(|last| time < last || time - last > max_lost);
        self.time = Some(time);
        (time, jumped)
    }

    /// Tracks the faces of one frame. Returns the tracks that ended.
    fn process(
        &mut self,
        buffer: &mut gst::BufferRef,
        settings: &Settings,
        work: &mut Work,
    ) -> Vec<Ended> {
        let mut ended = Vec::new();
        if self.algorithm != settings.algorithm {
            ended.extend(self.tracker.finish());
            self.tracker = tracker::create(settings.algorithm.into(), self.tracker.next_id());
            self.algorithm = settings.algorithm;
        }
        let (time, jumped) = self.advance(buffer, settings.params.max_lost);
        if jumped {
            ended.extend(self.tracker.finish());
        }
        let mut faces = face_meta::claim(buffer);
        let detections: Vec<Detection> = faces
            .iter()
            .map(|face| Detection {
                rect: face.rect,
                confidence: face.confidence.unwrap_or(1.0),
            })
            .collect();
        let (width, height) = self.size;
        let scene = Scene {
            detections: &detections,
            examined: face_meta::examined(buffer).unwrap_or(true),
            time,
            size: Some((width.into(), height.into())),
        };
        let params = &settings.params;
        let step = match &self.info {
            Some(info) => {
                let mut eyes = BufferEyes::new(buffer, info, &mut self.sampling);
                self.tracker.follow(&scene, params, &mut eyes)
            }
            None => self.tracker.follow(&scene, params, &mut Blind),
        };
        ended.extend(step.ended);
        let mut predicted = Vec::new();
        for tracked in step.tracked {
            let track = |predicted| Track {
                id: tracked.id,
                first_seen: tracked.first_seen,
                predicted,
            };
            match tracked.detection.and_then(|i| faces.get_mut(i)) {
                // A face that an earlier tracker predicted stays predicted.
                Some(face) => face.track = Some(track(face.is_predicted())),
                None => predicted.push(Face {
                    rect: tracked.rect,
                    track: Some(track(true)),
                    ..Default::default()
                }),
            }
        }
        work.faces = (faces.len() + predicted.len()) as u64;
        work.tracks = self.tracker.live() as u64;
        work.next_track = self.tracker.next_id();
        work.tracks_total = work.next_track - self.first_id;
        face_meta::update(buffer, &faces);
        if let (false, Some(shape)) = (faces.is_empty(), &self.shape) {
            face_meta::set_shape(buffer, shape);
        }
        for face in predicted {
            face_meta::add(buffer, self.size, &face);
        }
        ended
    }
}

/// What frames of these caps are like, if their pixels can be read: raw video in system memory.
fn readable(caps: &gst::CapsRef) -> Option<gst_video::VideoInfo> {
    let system = caps.features(0).is_none_or(|features| {
        !features.is_any()
            && features
                .iter()
                .all(|f| f == "memory:SystemMemory" || f == "meta:GstVideoOverlayComposition")
    });
    system.then(|| gst_video::VideoInfo::from_caps(caps).ok())?
}

impl FaceTracker {
    /// Ends all tracks.
    fn finish(&self) -> Vec<Ended> {
        let ended = self.state.lock().finish();
        self.stats.end_tracks();
        ended
    }

    /// Informs the application and, if `push`, downstream. The caller must hold no lock.
    fn announce(&self, ended: Vec<Ended>, push: bool) {
        for Ended {
            id,
            first_seen,
            last_seen,
        } in ended
        {
            gst::debug!(CAT, imp = self, "track {id} ended");
            let structure = TrackEnded {
                id,
                first_seen,
                last_seen,
            }
            .to_structure();
            if push {
                let event = gst::event::CustomDownstream::new(structure.clone());
                self.obj().src_pad().push_event(event);
            }
            let message = gst::message::Element::builder(structure)
                .src(&*self.obj())
                .build();
            // Fails only without a bus.
            let _ = self.obj().post_message(message);
        }
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceTracker {
    const NAME: &'static str = "GstFaceTracker";
    type Type = super::FaceTracker;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceTracker {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let defaults = Params::default();
            let milliseconds = |name: &str, nick: &str, blurb: &str, default: u64| {
                glib::ParamSpecUInt::builder(name)
                    .nick(nick)
                    .blurb(blurb)
                    .maximum(3_600_000)
                    .default_value((default / MILLISECOND) as u32)
                    .mutable_playing()
                    .build()
            };
            vec![
                glib::ParamSpecEnum::builder_with_default("algorithm", Algorithm::default())
                    .nick("Algorithm")
                    .blurb("How faces are followed; a change ends all tracks")
                    .mutable_playing()
                    .build(),
                glib::ParamSpecDouble::builder("iou-threshold")
                    .nick("IoU threshold")
                    .blurb(
                        "algorithm=iou: the least overlap (IoU) of a face's boxes in consecutive frames",
                    )
                    .minimum(0.0)
                    .maximum(1.0)
                    .default_value(defaults.iou_threshold)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecEnum::builder_with_default("appearance", Appearance::default())
                    .nick("Appearance")
                    .blurb(
                        "When faces are compared by what they look like; only for video in system memory, \
                         and not with algorithm=iou",
                    )
                    .mutable_playing()
                    .build(),
                milliseconds(
                    "max-lost",
                    "Longest loss",
                    "How long a face may go undetected before its track ends (ms of stream time)",
                    defaults.max_lost,
                ),
                milliseconds(
                    "max-predicted",
                    "Longest prediction",
                    "How long a face that the detector misses is still reported, at predicted \
                     positions (ms of stream time)",
                    defaults.max_predicted,
                ),
                glib::ParamSpecUInt64::builder("first-track-id")
                    .nick("First track's id")
                    .blurb(
                        "The id of the first track after the start, to continue where another tracker \
                         ended; the element never reuses an id",
                    )
                    .minimum(1)
                    .default_value(1)
                    .mutable_ready()
                    .build(),
                Stats::property(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        // GObject has checked type and range, so the fall-backs are never used.
        let nanoseconds = || u64::from(value.get::<u32>().unwrap_or_default()) * MILLISECOND;
        match pspec.name() {
            "algorithm" => settings.algorithm = value.get().unwrap_or_default(),
            "appearance" => {
                settings.params.appearance = value.get::<Appearance>().unwrap_or_default().into();
            }
            "iou-threshold" => settings.params.iou_threshold = value.get().unwrap_or_default(),
            "first-track-id" => settings.first_track_id = value.get().unwrap_or(1),
            "max-lost" => settings.params.max_lost = nanoseconds(),
            "max-predicted" => settings.params.max_predicted = nanoseconds(),
            name => gst::warning!(CAT, imp = self, "no property {name}"),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == stats::PROPERTY {
            return self.stats.to_structure().to_value();
        }
        let settings = *self.settings.lock();
        match pspec.name() {
            "algorithm" => settings.algorithm.to_value(),
            "appearance" => Appearance::from(settings.params.appearance).to_value(),
            "iou-threshold" => settings.params.iou_threshold.to_value(),
            "first-track-id" => settings.first_track_id.to_value(),
            "max-lost" => ((settings.params.max_lost / MILLISECOND) as u32).to_value(),
            "max-predicted" => ((settings.params.max_predicted / MILLISECOND) as u32).to_value(),
            _ => pspec.default_value().clone(),
        }
    }
}

impl GstObjectImpl for FaceTracker {}

impl ElementImpl for FaceTracker {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face tracker",
                "Filter/Analyzer/Video",
                "Follows faces from frame to frame and predicts faces that the detector missed",
                "The gst-face developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> =
            LazyLock::new(|| element::pad_templates(&element::any_video_caps()));
        &TEMPLATES
    }
}

impl BaseTransformImpl for FaceTracker {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        self.stats.reset();
        let settings = *self.settings.lock();
        let mut state = self.state.lock();
        // Ids continue where they ended. None is used twice while the element lives.
        let first_id = settings.first_track_id.max(state.tracker.next_id());
        *state = State::new(settings.algorithm, first_id);
        self.stats.first_track(first_id);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let ended = self.finish();
        self.announce(ended, false);
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let unusable = || gst::loggable_error!(CAT, "unusable caps {incaps}");
        let structure = incaps.structure(0).ok_or_else(unusable)?;
        let side = |name| {
            structure
                .get::<i32>(name)
                .ok()
                .and_then(|v| u32::try_from(v).ok())
        };
        let mut state = self.state.lock();
        state.size = (
            side("width").ok_or_else(unusable)?,
            side("height").ok_or_else(unusable)?,
        );
        state.shape = face_meta::Shape::read(structure);
        state.info = readable(incaps);
        if let Ok(rate) = structure.get::<gst::Fraction>("framerate")
            && rate.numer() > 0
            && rate.denom() > 0
        {
            state.frame_duration = 1_000_000_000 * rate.denom() as u64 / rate.numer() as u64;
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            // The flush itself makes downstream stages drop their state.
            gst::EventView::FlushStop(_) => {
                let ended = self.finish();
                self.announce(ended, false);
            }
            gst::EventView::Eos(_) | gst::EventView::StreamStart(_) => {
                let ended = self.finish();
                self.announce(ended, true);
            }
            _ => {}
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
        let mut ended = Vec::new();
        let output = element::in_place(self, &self.stats, |buffer, work| {
            let settings = *self.settings.lock();
            ended = self.state.lock().process(buffer, &settings, work);
            Ok(())
        });
        self.announce(ended, true);
        output
    }
}
