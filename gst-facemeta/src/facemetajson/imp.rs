use std::sync::LazyLock;

use face_core::element;
use face_meta::record::{Line, Tally, Times, Track};
use face_meta::track::TrackEnded;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facemetajson",
        gst::DebugColorFlags::empty(),
        Some("Face metadata as JSON Lines"),
    )
});

static JSON_CAPS: LazyLock<gst::Caps> =
    LazyLock::new(|| gst::Caps::builder("application/x-json").build());

#[derive(Debug, Clone, Copy)]
struct Settings {
    frames: bool,
    tracks: bool,
    empty_frames: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            frames: true,
            tracks: true,
            empty_frames: true,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Width and height in the caps.
    size: Option<(u32, u32)>,
    /// Timestamp of the last frame.
    pts: Option<gst::ClockTime>,
    /// Covers the time since the start or a flush.
    tally: Tally,
}

pub struct FaceMetaJson {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// Width and height of caps, whatever their format and memory.
fn size(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let side = |name| u32::try_from(structure.get::<i32>(name).ok()?).ok();
    Some((side("width")?, side("height")?))
}

impl FaceMetaJson {
    fn to_buffer(&self, line: &Line) -> Result<gst::Buffer, gst::FlowError> {
        line.to_bytes()
            .map(gst::Buffer::from_mut_slice)
            .map_err(|error| {
                gst::element_imp_error!(self, gst::StreamError::Encode, ("{error}"));
                gst::FlowError::Error
            })
    }

    fn chain(&self, buffer: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = *self.settings.lock();
        let faces = face_meta::read(buffer);
        let (frame, ended) = {
            let mut state = self.state.lock();
            let Some(size) = state.size else {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::Negotiation,
                    ("a frame came before its caps")
                );
                return Err(gst::FlowError::NotNegotiated);
            };
            // If a converter changed the frame's size, the size in its metadata is right.
            let size = buffer
                .meta::<gst_video::VideoMeta>()
                .map_or(size, |meta| (meta.width(), meta.height()));
            state.pts = buffer.pts().or(state.pts);
            let segment = self.sinkpad.sticky_event::<gst::event::Segment>(0);
            let segment = segment.as_ref().map(|event| event.segment());
            let times = Times::of(buffer.pts(), segment);
            state.tally.frame(times, size, &faces)
        };
        if settings.tracks {
            self.push_tracks(ended, buffer.pts());
        }
        if !settings.frames || faces.is_empty() && !settings.empty_frames {
            // Tells elements that wait for data that none comes.
            if let Some(pts) = buffer.pts() {
                let gap = gst::event::Gap::builder(pts)
                    .duration(buffer.duration())
                    .build();
                self.srcpad.push_event(gap);
            }
            return Ok(gst::FlowSuccess::Ok);
        }
        let mut out = self.to_buffer(&Line::Frame(frame))?;
        let kept =
            gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC | gst::BufferFlags::CORRUPTED;
        let out_ref = out.make_mut();
        out_ref.set_pts(buffer.pts());
        out_ref.set_dts(buffer.dts());
        out_ref.set_duration(buffer.duration());
        out_ref.set_flags(buffer.flags() & kept);
        self.srcpad.push(out)
    }

    /// Pushes the lines of tracks that ended: one track, or all.
    fn end_tracks(&self, only: Option<u64>) {
        let wanted = self.settings.lock().tracks;
        let (ended, pts) = {
            let mut state = self.state.lock();
            let ended: Vec<Track> = match only {
                Some(id) => state.tally.end(id).into_iter().collect(),
                None => state.tally.end_all(),
            };
            (ended, state.pts)
        };
        if wanted {
            self.push_tracks(ended, pts);
        }
    }

    fn push_tracks(&self, ended: Vec<Track>, pts: Option<gst::ClockTime>) {
        for track in ended {
            let id = track.track;
            let Ok(mut out) = self.to_buffer(&Line::Track(track)) else {
                return;
            };
            out.make_mut().set_pts(pts);
            // The next frame meets the same error downstream and reports it upstream.
            if let Err(error) = self.srcpad.push(out) {
                gst::debug!(CAT, imp = self, "track {id} was not accepted: {error:?}");
                return;
            }
        }
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "{event:?}");
        match event.view() {
            gst::EventView::Caps(caps) => {
                let Some(size) = size(caps.caps()) else {
                    gst::warning!(CAT, obj = pad, "no size in {}", caps.caps());
                    return false;
                };
                self.state.lock().size = Some(size);
                return self.srcpad.current_caps().as_ref() == Some(&*JSON_CAPS)
                    || self.srcpad.push_event(gst::event::Caps::new(&JSON_CAPS));
            }
            gst::EventView::FlushStop(_) => {
                let mut state = self.state.lock();
                *state = State {
                    size: state.size,
                    ..Default::default()
                };
            }
            gst::EventView::StreamStart(_) | gst::EventView::Eos(_) => self.end_tracks(None),
            gst::EventView::CustomDownstream(_) => {
                if let Some(ended) = TrackEnded::from_event(&event) {
                    self.end_tracks(Some(ended.id));
                }
            }
            _ => (),
        }
        gst::Pad::event_default(pad, Some(&*self.obj()), event)
    }

    fn sink_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        if let gst::QueryViewMut::Allocation(allocation) = query.view_mut() {
            // No pixel is read here, so any stride and offset will do.
            allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
            return true;
        }
        gst::Pad::query_default(pad, Some(&*self.obj()), query)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceMetaJson {
    const NAME: &'static str = "GstFaceMetaJson";
    type Type = super::FaceMetaJson;
    type ParentType = gst::Element;

    fn with_class(class: &Self::Class) -> Self {
        let template = |name| {
            class
                .pad_template(name)
                .unwrap_or_else(|| unreachable!("{name} is among the pad templates below"))
        };
        let sinkpad = gst::Pad::builder_from_template(&template("sink"))
            .chain_function(|_pad, parent, buffer| {
                Self::catch_panic_pad_function(
                    parent,
                    || Err(gst::FlowError::Error),
                    |this| this.chain(&buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_query(pad, query))
            })
            .build();
        let srcpad = gst::Pad::from_template(&template("src"));
        srcpad.use_fixed_caps();
        Self {
            sinkpad,
            srcpad,
            settings: Mutex::default(),
            state: Mutex::default(),
        }
    }
}

impl ObjectImpl for FaceMetaJson {
    fn constructed(&self) {
        self.parent_constructed();
        for pad in [&self.sinkpad, &self.srcpad] {
            // Fails only if a pad with this name exists.
            let _ = self.obj().add_pad(pad);
        }
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let default = Settings::default();
            vec![
                glib::ParamSpecBoolean::builder("frames")
                    .nick("Frames")
                    .blurb("Print a line for each frame; without it, only tracks are printed")
                    .default_value(default.frames)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("tracks")
                    .nick("Tracks")
                    .blurb("Print a line about the whole track when a track ends")
                    .default_value(default.tracks)
                    .mutable_playing()
                    .build(),
                glib::ParamSpecBoolean::builder("empty-frames")
                    .nick("Empty frames")
                    .blurb("Print a line for frames without faces, too")
                    .default_value(default.empty_frames)
                    .mutable_playing()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        match pspec.name() {
            "frames" => settings.frames = value.get().unwrap_or(settings.frames),
            "tracks" => settings.tracks = value.get().unwrap_or(settings.tracks),
            "empty-frames" => settings.empty_frames = value.get().unwrap_or(settings.empty_frames),
            _ => (),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = self.settings.lock();
        match pspec.name() {
            "frames" => settings.frames.to_value(),
            "tracks" => settings.tracks.to_value(),
            _ => settings.empty_frames.to_value(),
        }
    }
}

impl GstObjectImpl for FaceMetaJson {}

impl ElementImpl for FaceMetaJson {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face metadata to JSON",
                "Filter/Converter/Video",
                "Prints the faces of each frame, and each track that ended, as JSON Lines",
                env!("CARGO_PKG_NAME"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            [
                ("sink", gst::PadDirection::Sink, &element::any_video_caps()),
                ("src", gst::PadDirection::Src, &*JSON_CAPS),
            ]
            .into_iter()
            .filter_map(|(name, direction, caps)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, caps).ok()
            })
            .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let result = self.parent_change_state(transition);
        if transition == gst::StateChange::PausedToReady {
            *self.state.lock() = State::default();
        }
        result
    }
}
