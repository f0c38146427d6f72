use std::sync::{LazyLock, Mutex};

use face_core::element;
use face_core::meta;
use face_core::tracks::TrackEnded;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::line::{FaceLine, Line};
use super::summary::{Summaries, Summary};
use crate::lock;

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
    tracks: bool,
    empty_frames: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tracks: true,
            empty_frames: true,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    /// Width and height in the caps.
    size: Option<(u32, u32)>,
    /// Frames since start or flush.
    frames: u64,
    /// PTS of the last frame.
    pts: Option<gst::ClockTime>,
    tracks: Summaries,
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
                gst::element_imp_error!(self, gst::StreamError::Encode, ["{error}"]);
                gst::FlowError::Error
            })
    }

    fn chain(&self, buffer: &gst::BufferRef) -> Result<gst::FlowSuccess, gst::FlowError> {
        let settings = *lock(&self.settings);
        let faces = meta::read(buffer);
        let (frame, (width, height), ended) = {
            let mut state = lock(&self.state);
            let Some(size) = state.size else {
                gst::element_imp_error!(
                    self,
                    gst::CoreError::Negotiation,
                    ["a frame came before its caps"]
                );
                return Err(gst::FlowError::NotNegotiated);
            };
            let frame = state.frames;
            state.frames += 1;
            state.pts = buffer.pts().or(state.pts);
            state
                .tracks
                .update(frame, buffer.pts().map(|t| t.nseconds()), &faces);
            (frame, size, state.tracks.end_excess())
        };
        if settings.tracks {
            self.push_tracks(&ended, buffer.pts());
        }
        if faces.is_empty() && !settings.empty_frames {
            // Whoever waits for data learns that none comes.
            if let Some(pts) = buffer.pts() {
                let gap = gst::event::Gap::builder(pts)
                    .duration(buffer.duration())
                    .build();
                self.srcpad.push_event(gap);
            }
            return Ok(gst::FlowSuccess::Ok);
        }
        let (width, height) = buffer
            .meta::<gst_video::VideoMeta>()
            .map_or((width, height), |m| (m.width(), m.height()));
        let mut out = self.to_buffer(&Line::Frame {
            frame,
            pts: buffer.pts().map(|t| t.nseconds()),
            width,
            height,
            faces: faces.iter().map(FaceLine::from).collect(),
        })?;
        let kept =
            gst::BufferFlags::DISCONT | gst::BufferFlags::RESYNC | gst::BufferFlags::CORRUPTED;
        let out_ref = out.make_mut();
        out_ref.set_pts(buffer.pts());
        out_ref.set_dts(buffer.dts());
        out_ref.set_duration(buffer.duration());
        out_ref.set_flags(buffer.flags() & kept);
        self.srcpad.push(out)
    }

    /// Pushes the lines of tracks that ended: one, or all.
    fn end_tracks(&self, only: Option<u64>) {
        let wanted = lock(&self.settings).tracks;
        let (ended, pts) = {
            let mut state = lock(&self.state);
            let ended: Vec<_> = match only {
                Some(id) => state.tracks.end(id).map(|s| (id, s)).into_iter().collect(),
                None => state.tracks.end_all().collect(),
            };
            (ended, state.pts)
        };
        if wanted {
            self.push_tracks(&ended, pts);
        }
    }

    fn push_tracks(&self, ended: &[(u64, Summary)], pts: Option<gst::ClockTime>) {
        for (id, summary) in ended {
            let Ok(mut out) = self.to_buffer(&summary.line(*id)) else {
                return;
            };
            out.make_mut().set_pts(pts);
            // What is wrong downstream, the next frame meets as well and reports upstream.
            if let Err(error) = self.srcpad.push(out) {
                gst::debug!(CAT, imp = self, "track {id} was not taken: {error:?}");
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
                lock(&self.state).size = Some(size);
                return self.srcpad.current_caps().as_ref() == Some(&*JSON_CAPS)
                    || self.srcpad.push_event(gst::event::Caps::new(&JSON_CAPS));
            }
            gst::EventView::FlushStop(_) => {
                let mut state = lock(&self.state);
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
            // No pixel is read here: any stride and offset will do.
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
            // Fails only for a second pad of one name.
            let _ = self.obj().add_pad(pad);
        }
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let default = Settings::default();
            vec![
                glib::ParamSpecBoolean::builder("tracks")
                    .nick("Tracks")
                    .blurb("Print a line when a track ends, over the whole track")
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
        let mut settings = lock(&self.settings);
        match pspec.name() {
            "tracks" => settings.tracks = value.get().unwrap_or(settings.tracks),
            "empty-frames" => settings.empty_frames = value.get().unwrap_or(settings.empty_frames),
            _ => (),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let settings = lock(&self.settings);
        match pspec.name() {
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
            *lock(&self.state) = State::default();
        }
        result
    }
}
