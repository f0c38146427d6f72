use std::sync::{LazyLock, Mutex};

use face_core::geometry::Rect;
use face_core::{Error, element, meta};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;

use super::Mode;
use super::hider::Hider;
use super::paint::Image;
use super::planes;
use super::settings::{MILLISECOND, Settings};
use super::timeline::{Seen, Timeline};
use super::trust::Trust;
use crate::lock;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facemetablur",
        gst::DebugColorFlags::empty(),
        Some("Hides faces"),
    )
});

/// What waits for its turn: serialised events keep their place among the frames.
enum Item {
    Frame(gst::Buffer),
    Event(gst::Event),
}

#[derive(Default)]
struct State {
    hider: Option<Hider>,
    timeline: Timeline<Item>,
    trust: Trust,
    /// How far time advances on a frame without a timestamp, in ns.
    frame_duration: u64,
    /// The last frame's time, in ns.
    time: Option<u64>,
    picture: Option<Image>,
    /// The settings that the picture was read for.
    picture_serial: u64,
}

fn open_picture(settings: &Settings) -> Result<Option<Image>, Error> {
    match (&settings.picture, settings.mode) {
        (Some(path), _) => Image::open(path).map(Some),
        (None, Mode::Picture) => Err(Error::Settings(
            "mode=picture needs a picture: set picture=FILE (PNG, JPEG, …)".into(),
        )),
        (None, _) => Ok(None),
    }
}

#[derive(Default)]
pub struct FaceMetaBlur {
    settings: Mutex<Settings>,
    state: Mutex<State>,
}

impl State {
    /// The time of a frame.
    fn advance(&mut self, buffer: &gst::BufferRef) -> u64 {
        let time = match (buffer.pts(), self.time) {
            (Some(pts), _) => pts.nseconds(),
            (None, Some(time)) => time.saturating_add(self.frame_duration),
            (None, None) => 0,
        };
        self.time = Some(time);
        time
    }

    /// Hides what is in `boxes`.
    fn hide(
        &mut self,
        buffer: &mut gst::BufferRef,
        boxes: &[Rect],
        settings: &Settings,
    ) -> Result<(), Error> {
        let Some(hider) = &mut self.hider else {
            return Err(Error::Frame("a frame came before its caps".into()));
        };
        hider.hide(buffer, boxes, settings, self.picture.as_ref())
    }

    /// Forgets what was.
    fn flush(&mut self) {
        self.timeline.clear();
        self.time = None;
    }
}

impl FaceMetaBlur {
    /// Takes a frame into the line of those that wait.
    fn take_in(&self, buffer: gst::Buffer) {
        let doubt = lock(&self.state).trust.look(&buffer);
        if let Some(doubt) = doubt {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{doubt}"));
        }
        let (selection, times) = {
            let settings = lock(&self.settings);
            (settings.selection.clone(), settings.times)
        };
        let faces: Vec<Seen> = meta::read(&buffer)
            .iter()
            .map(|face| Seen {
                track: face.track.map(|track| track.id),
                rect: face.rect,
                predicted: face.is_predicted(),
                hidden: selection.hides(face),
            })
            .collect();
        let mut state = lock(&self.state);
        let time = state.advance(&buffer);
        state
            .timeline
            .push(time, Item::Frame(buffer), &faces, &times);
    }

    /// The next frame that is due, or with `all` the next one, faces hidden. Events before it are
    /// sent on.
    fn next(&self, all: bool) -> Result<Option<gst::Buffer>, gst::FlowError> {
        loop {
            let settings = lock(&self.settings).clone();
            let taken = {
                let timeline = &mut lock(&self.state).timeline;
                if all {
                    timeline.take()
                } else {
                    timeline.pop(&settings.times)
                }
            };
            let (item, boxes) = match taken {
                Some(taken) => taken,
                None => return Ok(None),
            };
            match item {
                Item::Event(event) => {
                    self.parent_sink_event(event);
                }
                Item::Frame(buffer) if boxes.is_empty() || is_gap(&buffer) => {
                    return Ok(Some(buffer));
                }
                Item::Frame(mut buffer) => {
                    self.refresh_picture(&settings);
                    let (boxes, doubt) = lock(&self.state).trust.places(&buffer, boxes);
                    if let Some(doubt) = doubt {
                        gst::element_imp_warning!(self, gst::StreamError::Failed, ("{doubt}"));
                    }
                    let hidden = lock(&self.state).hide(buffer.make_mut(), &boxes, &settings);
                    if let Err(error) = hidden {
                        element::post(&*self.obj(), &error);
                        return Err(gst::FlowError::Error);
                    }
                    return Ok(Some(buffer));
                }
            }
        }
    }

    /// Reads a picture that was set while playing; the old one stays if the new one cannot be used.
    fn refresh_picture(&self, settings: &Settings) {
        let mut state = lock(&self.state);
        if state.picture_serial == settings.serial {
            return;
        }
        state.picture_serial = settings.serial;
        match open_picture(settings) {
            Ok(picture) => state.picture = picture,
            Err(error) => {
                let instead = match state.picture {
                    Some(_) => "the picture in use stays",
                    None => "faces are filled with the colour",
                };
                drop(state);
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Settings,
                    ("{error}; {instead}")
                );
            }
        }
    }

    /// Sends everything on that waits.
    fn drain(&self) {
        while let Ok(Some(buffer)) = self.next(true) {
            if self.obj().src_pad().push(buffer).is_err() {
                lock(&self.state).timeline.clear();
            }
        }
    }
}

fn is_gap(buffer: &gst::BufferRef) -> bool {
    buffer.size() == 0 && buffer.flags().contains(gst::BufferFlags::GAP)
}

#[glib::object_subclass]
impl ObjectSubclass for FaceMetaBlur {
    const NAME: &'static str = "GstFaceMetaBlur";
    type Type = super::FaceMetaBlur;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceMetaBlur {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(Settings::properties);
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = lock(&self.settings);
        let before = settings.selection.clone();
        if !settings.set(pspec.name(), value) {
            gst::warning!(CAT, imp = self, "no property {}", pspec.name());
        }
        let checked = settings.selection.check();
        // Before it starts, the order in which properties are set is free.
        let runs = self.obj().current_state() >= gst::State::Paused;
        if checked.is_err() && runs {
            settings.selection = before;
        }
        drop(settings);
        if let (Err(error), true) = (checked, runs) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("{}: {error}; it stays as it was", pspec.name())
            );
        }
        if pspec.name() == "look-back" {
            // Fails only without a bus.
            let latency = gst::message::Latency::builder().src(&*self.obj()).build();
            let _ = self.obj().post_message(latency);
            // Upstream asks again how many buffers are held.
            self.obj().reconfigure_sink();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let value = lock(&self.settings).get(pspec.name());
        value.unwrap_or_else(|| pspec.default_value().clone())
    }
}

impl GstObjectImpl for FaceMetaBlur {}

impl ElementImpl for FaceMetaBlur {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face blur",
                "Filter/Effect/Video",
                "Hides the faces in the metadata: blurred, in blocks, filled, or under a picture",
                "The gst-face developers",
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = element::pixel_caps();
            if let Some(structure) = caps.make_mut().structure_mut(0) {
                let known = |name: &str| {
                    let format = gst_video::VideoFormat::from_string(name);
                    let info = gst_video::VideoFormatInfo::from_format(format);
                    planes::components(&info).is_some()
                };
                if let Ok(list) = structure.get::<gst::List>("format") {
                    let names = list.iter().filter_map(|name| name.get::<&str>().ok());
                    let names: Vec<&str> = names.filter(|name| known(name)).collect();
                    structure.set("format", gst::List::new(names));
                }
            }
            element::pad_templates(&caps)
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for FaceMetaBlur {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let names = settings.selection.check();
        names.map_err(|error| Error::Settings(format!("names: {error}")).to_message())?;
        let picture = open_picture(&settings).map_err(|error| error.to_message())?;
        *lock(&self.state) = State {
            picture,
            picture_serial: settings.serial,
            ..Default::default()
        };
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = std::mem::take(&mut *lock(&self.state));
        // Frames go back to their pool, and not under the lock.
        drop(state);
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let unusable = || gst::loggable_error!(CAT, "unusable caps {incaps}");
        let info = gst_video::VideoInfo::from_caps(incaps).map_err(|_| unusable())?;
        let mut state = lock(&self.state);
        if let Some(before) = &state.hider {
            let factor = |now: u32, then: u32| f64::from(now) / f64::from(then.max(1));
            let (width, height) = before.size();
            let factors = (factor(info.width(), width), factor(info.height(), height));
            state.timeline.scale(factors.0, factors.1);
        }
        // Where the rate varies, caps may have the highest.
        let structure = incaps.structure(0);
        let most = structure.and_then(|s| s.get::<gst::Fraction>("max-framerate").ok());
        let rates = std::iter::once(info.fps()).chain(most);
        state.frame_duration = rates
            .filter(|rate| rate.numer() > 0 && rate.denom() > 0)
            .map(|rate| 1000 * MILLISECOND * rate.denom() as u64 / rate.numer() as u64)
            // A clock's rate in its place would ask for hundreds of buffers.
            .find(|duration| *duration >= MILLISECOND)
            .unwrap_or(40 * MILLISECOND);
        state.trust.set_shape(meta::Shape::of(&info));
        state.hider = Some(Hider::new(info).ok_or_else(unusable)?);
        Ok(())
    }

    fn query(&self, direction: gst::PadDirection, query: &mut gst::QueryRef) -> bool {
        if query.is_serialized() && direction == gst::PadDirection::Sink {
            // Upstream may be about to take its memory back.
            self.drain();
        }
        let answered = BaseTransformImplExt::parent_query(self, direction, query);
        if let gst::QueryViewMut::Latency(latency) = query.view_mut()
            && answered
            && direction == gst::PadDirection::Src
        {
            let look_back = lock(&self.settings).times.look_back;
            let frame = lock(&self.state).frame_duration;
            if look_back > 0 {
                // A frame leaves when one comes that is so much younger.
                let own = gst::ClockTime::from_nseconds(look_back + frame);
                element::add_latency(latency, own);
            }
        }
        answered
    }

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        let times = lock(&self.settings).times;
        let held = times.waiting(lock(&self.state).frame_duration);
        element::propose_allocation(self, decide_query, query, held)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStop(_) => {
                lock(&self.state).flush();
            }
            gst::EventView::Caps(_)
            | gst::EventView::Segment(_)
            | gst::EventView::Eos(_)
            | gst::EventView::Gap(_) => self.drain(),
            gst::EventView::StreamStart(_) => {
                self.drain();
                lock(&self.state).flush();
            }
            _ if event.is_serialized() => {
                let item = Item::Event(event);
                let first = lock(&self.state).timeline.follow(item);
                return match first {
                    Some(Item::Event(event)) => self.parent_sink_event(event),
                    _ => true,
                };
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(
        &self,
        _buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        // Never called: generate_output does the work, and copies no memory of frames that pass.
        Err(gst::FlowError::NotSupported)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if let Some(buffer) = self.take_queued_buffer() {
            self.take_in(buffer);
        }
        Ok(match self.next(false)? {
            Some(buffer) => GenerateOutputSuccess::Buffer(buffer),
            None => GenerateOutputSuccess::NoOutput,
        })
    }
}
