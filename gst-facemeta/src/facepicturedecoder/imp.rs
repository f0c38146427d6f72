use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use face_core::still;
use face_picture::{MOST_BYTES, Moment, Picture};
use gst::prelude::*;
use gst::subclass::prelude::*;
use image::RgbImage;
use parking_lot::Mutex;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facepicturedecoder",
        gst::DebugColorFlags::empty(),
        Some("Decoder of pictures"),
    )
});

#[derive(Debug, Default)]
struct State {
    /// The bytes of the picture so far.
    bytes: Vec<u8>,
    /// Whether each buffer is a picture: the segment has times, or the caps have a frame rate.
    each: bool,
    rated: bool,
    /// The caps that were sent.
    caps: Option<gst::Caps>,
    /// A segment with times, which is to follow the next caps.
    segment: Option<gst::Event>,
    segment_sent: bool,
    /// Counts the pictures.
    pictures: u64,
    failed: bool,
}

#[derive(Debug, Default)]
pub struct Settings {
    animation: bool,
}

pub struct FacePictureDecoder {
    sinkpad: gst::Pad,
    srcpad: gst::Pad,
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

/// A frame to show, from `at` for `duration`.
struct Frame {
    image: RgbImage,
    at: Option<gst::ClockTime>,
    duration: Option<gst::ClockTime>,
}

impl FacePictureDecoder {
    fn chain(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        let each = {
            let state = self.state.lock();
            if state.failed {
                return Err(gst::FlowError::Error);
            }
            state.each
        };
        let map = buffer.map_readable().map_err(|_| {
            self.fail("the picture's memory cannot be read");
            gst::FlowError::Error
        })?;
        if each {
            return self.decode(&map, buffer.pts(), buffer.duration());
        }
        let mut state = self.state.lock();
        let bytes = &mut state.bytes;
        let fits = bytes.len() as u64 + map.len() as u64 <= MOST_BYTES
            && bytes.try_reserve(map.len()).is_ok();
        if fits {
            bytes.extend_from_slice(&map);
            return Ok(gst::FlowSuccess::Ok);
        }
        drop(state);
        self.fail(&face_picture::Error::TooLong.to_string());
        Err(gst::FlowError::Error)
    }

    /// Posts an error, once.
    fn fail(&self, cause: &str) {
        let mut state = self.state.lock();
        let before = std::mem::replace(&mut state.failed, true);
        state.bytes = Vec::new();
        drop(state);
        if !before {
            let name = self.name();
            let shown = name.file_name().unwrap_or_default().to_string_lossy();
            let colon = if shown.is_empty() { "" } else { ": " };
            gst::element_imp_error!(self, gst::StreamError::Decode, ("{shown}{colon}{cause}"));
        }
    }

    /// The file's name, if the source tells it. It also helps with formats that have no signature.
    fn name(&self) -> PathBuf {
        let mut query = gst::query::Uri::new();
        let uri = match self.sinkpad.peer_query(&mut query) {
            true => query.uri(),
            false => None,
        };
        let path = uri.and_then(|uri| glib::filename_from_uri(&uri).ok());
        path.map(|(path, _)| path).unwrap_or_default()
    }

    fn decode(
        &self,
        bytes: &[u8],
        pts: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let name = self.name();
        let shown = self.frames(bytes, &name, pts, duration);
        shown.map_err(|stopped| match stopped {
            Stopped::Flow(flow) => flow,
            Stopped::Picture(cause) => {
                self.fail(&cause);
                gst::FlowError::Error
            }
        })
    }

    fn frames(
        &self,
        bytes: &[u8],
        name: &Path,
        pts: Option<gst::ClockTime>,
        duration: Option<gst::ClockTime>,
    ) -> Result<gst::FlowSuccess, Stopped> {
        if self.settings.lock().animation
            && let Some(moments) = face_picture::animation(bytes)?
        {
            let mut at = pts.unwrap_or_default();
            let mut flow = gst::FlowSuccess::Ok;
            for moment in moments {
                let Moment { image, duration } = moment?;
                let stays = clock(duration);
                flow = self.show(Frame {
                    image,
                    at: Some(at),
                    duration: Some(stays),
                })?;
                at += stays;
            }
            return Ok(flow);
        }
        let Picture { image, notes, .. } = face_picture::read(bytes, name)?;
        for note in notes {
            gst::element_imp_warning!(self, gst::StreamError::Decode, ("{note}"));
        }
        self.show(Frame {
            image,
            at: pts,
            duration,
        })
    }

    fn show(&self, frame: Frame) -> Result<gst::FlowSuccess, Stopped> {
        let (mut buffer, info) = still::frame(frame.image.as_raw(), frame.image.dimensions())
            .map_err(|error| Stopped::Picture(error.message.to_string()))?;
        let caps = info
            .to_caps()
            .map_err(|error| Stopped::Picture(error.message.to_string()))?;
        let (new_caps, segment, number) = {
            let mut state = self.state.lock();
            let new_caps = state.caps.as_ref() != Some(&caps);
            state.caps = Some(caps.clone());
            let is_first = !std::mem::replace(&mut state.segment_sent, true);
            let segment = state.segment.take().or_else(|| {
                let whole = gst::FormattedSegment::<gst::ClockTime>::new();
                is_first.then(|| gst::event::Segment::new(&whole))
            });
            let number = state.pictures;
            state.pictures += 1;
            (new_caps, segment, number)
        };
        if new_caps {
            self.srcpad.push_event(gst::event::Caps::new(&caps));
        }
        if let Some(segment) = segment {
            self.srcpad.push_event(segment);
        }
        let writable = buffer.make_mut();
        if frame.at.is_some() {
            writable.set_pts(frame.at);
        }
        writable.set_duration(frame.duration);
        writable.set_offset(number);
        writable.set_offset_end(number + 1);
        Ok(self.srcpad.push(buffer)?)
    }

    fn sink_event(&self, pad: &gst::Pad, event: gst::Event) -> bool {
        gst::log!(CAT, obj = pad, "{event:?}");
        match event.view() {
            // The picture has caps of its own, and none of the tags: it is upright.
            gst::EventView::Tag(_) | gst::EventView::Gap(_) => true,
            gst::EventView::Caps(caps) => {
                // Pictures with a frame rate come one by one, as from `multifilesrc`.
                let mut structures = caps.caps().iter();
                self.state.lock().rated =
                    structures.any(|s| s.name().starts_with("image/") && s.has_field("framerate"));
                true
            }
            gst::EventView::StreamStart(_) => {
                let mut state = self.state.lock();
                (state.bytes, state.pictures) = (Vec::new(), 0);
                drop(state);
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            gst::EventView::Segment(segment) => {
                let each = segment.segment().format() == gst::Format::Time;
                let mut state = self.state.lock();
                state.each = each || state.rated;
                if each {
                    state.segment = Some(event);
                }
                true
            }
            gst::EventView::FlushStop(_) => {
                *self.state.lock() = State::default();
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            gst::EventView::Eos(_) => {
                let (bytes, due) = {
                    let mut state = self.state.lock();
                    let due = !state.each && !state.failed && state.pictures == 0;
                    (std::mem::take(&mut state.bytes), due)
                };
                let shown = if due {
                    self.decode(&bytes, None, None).err()
                } else {
                    None
                };
                // Other reasons have been told, or are none.
                if let Some(gst::FlowError::NotNegotiated | gst::FlowError::NotLinked) = shown {
                    self.fail("what follows does not take the picture");
                }
                gst::Pad::event_default(pad, Some(&*self.obj()), event)
            }
            _ => gst::Pad::event_default(pad, Some(&*self.obj()), event),
        }
    }

    fn src_query(&self, pad: &gst::Pad, query: &mut gst::QueryRef) -> bool {
        match query.view_mut() {
            // Bytes are decoded as a whole.
            gst::QueryViewMut::Seeking(seeking) => {
                let format = seeking.format();
                let none = gst::GenericFormattedValue::none_for_format(format);
                seeking.set(false, none, none);
                true
            }
            _ => gst::Pad::query_default(pad, Some(&*self.obj()), query),
        }
    }
}

/// Why no more frames are shown.
enum Stopped {
    Flow(gst::FlowError),
    Picture(String),
}

impl From<gst::FlowError> for Stopped {
    fn from(error: gst::FlowError) -> Self {
        Self::Flow(error)
    }
}

impl From<face_picture::Error> for Stopped {
    fn from(error: face_picture::Error) -> Self {
        Self::Picture(error.to_string())
    }
}

/// At most 584 years, the limit of the type.
fn clock(duration: Duration) -> gst::ClockTime {
    gst::ClockTime::from_nseconds(u64::try_from(duration.as_nanos()).unwrap_or(0))
}

#[glib::object_subclass]
impl ObjectSubclass for FacePictureDecoder {
    const NAME: &'static str = "GstFacePictureDecoder";
    type Type = super::FacePictureDecoder;
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
                    |this| this.chain(buffer),
                )
            })
            .event_function(|pad, parent, event| {
                Self::catch_panic_pad_function(parent, || false, |this| this.sink_event(pad, event))
            })
            .build();
        let srcpad = gst::Pad::builder_from_template(&template("src"))
            .query_function(|pad, parent, query| {
                Self::catch_panic_pad_function(parent, || false, |this| this.src_query(pad, query))
            })
            .build();
        srcpad.use_fixed_caps();
        Self {
            sinkpad,
            srcpad,
            settings: Mutex::default(),
            state: Mutex::default(),
        }
    }
}

impl ObjectImpl for FacePictureDecoder {
    fn constructed(&self) {
        self.parent_constructed();
        for pad in [&self.sinkpad, &self.srcpad] {
            // Fails only if a pad with this name exists.
            let _ = self.obj().add_pad(pad);
        }
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecBoolean::builder("animation")
                    .nick("Animation")
                    .blurb("Show all frames of a GIF, WebP or APNG, once, instead of the first one")
                    .mutable_ready()
                    .build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, _pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        settings.animation = value.get().unwrap_or(settings.animation);
    }

    fn property(&self, _id: usize, _pspec: &glib::ParamSpec) -> glib::Value {
        self.settings.lock().animation.to_value()
    }
}

impl GstObjectImpl for FacePictureDecoder {}

impl ElementImpl for FacePictureDecoder {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Picture decoder",
                "Codec/Decoder/Image",
                "Decodes pictures of many formats, upright, and refuses damaged ones",
                "The gst-face developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let video = gst_video::VideoCapsBuilder::new()
                .format(gst_video::VideoFormat::Rgb)
                .build();
            [
                ("sink", gst::PadDirection::Sink, gst::Caps::new_any()),
                ("src", gst::PadDirection::Src, video),
            ]
            .into_iter()
            .filter_map(|(name, direction, caps)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
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
