use std::collections::BTreeSet;
use std::sync::LazyLock;

use face_core::{Error, element};
use face_meta::Face;
use face_meta::geometry::Rect;
use face_meta::names;
use face_meta::people::KnownPeople;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;

use super::hider::Hider;
use super::paint::Image;
use super::planes;
use super::selection::Selection;
use super::settings::{MILLISECOND, Settings};
use super::timeline::{Reported, Timeline};
use super::trust::Trust;
use super::{Mode, Target};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facemetablur",
        gst::DebugColorFlags::empty(),
        Some("Hides faces"),
    )
});

/// Waits for its turn. Serialised events keep their place among the frames.
enum Item {
    Frame(gst::Buffer),
    Event(gst::Event),
}

#[derive(Default)]
struct State {
    hider: Option<Hider>,
    timeline: Timeline<Item>,
    trust: Trust,
    /// How far time advances for a frame without a timestamp, in ns.
    frame_duration: u64,
    /// The last frame's time, in ns.
    time: Option<u64>,
    picture: Option<Image>,
    /// Whom the recognisers upstream can name, if they have announced it.
    known: Option<KnownPeople>,
    /// Names that have already been reported as unknown.
    strangers: BTreeSet<String>,
    /// Whether it was reported that nothing upstream names faces.
    nameless: bool,
    /// The serial of the settings for which the picture was read.
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

    /// Hides `boxes`.
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

    /// Forgets the past.
    fn flush(&mut self) {
        self.timeline.clear();
        self.time = None;
    }
}

impl FaceMetaBlur {
    /// Queues a frame.
    fn take_in(&self, buffer: gst::Buffer) {
        let doubt = self.state.lock().trust.look(&buffer);
        if let Some(doubt) = doubt {
            gst::element_imp_warning!(self, gst::StreamError::Failed, ("{doubt}"));
        }
        let (selection, times) = {
            let settings = self.settings.lock();
            (settings.selection.clone(), settings.times)
        };
        let found = face_meta::read(&buffer);
        self.doubt_recogniser(&selection, &found);
        let faces: Vec<Reported> = found
            .iter()
            .map(|face| Reported {
                track: face.track.map(|track| track.id),
                rect: face.rect,
                predicted: face.is_predicted(),
                hidden: selection.hides(face),
            })
            .collect();
        let mut state = self.state.lock();
        let time = state.advance(&buffer);
        state
            .timeline
            .push(time, Item::Frame(buffer), &faces, &times);
    }

    /// Warns once if names are listed and no recogniser gives faces any.
    fn doubt_recogniser(&self, selection: &Selection, faces: &[Face]) {
        // A recogniser of ours announces whom it knows before the first frame.
        let named = faces.iter().any(|face| face.recognition.is_some());
        if selection.counting().is_empty() || faces.is_empty() || named {
            return;
        }
        {
            let mut state = self.state.lock();
            if state.known.is_some() || std::mem::replace(&mut state.nameless, true) {
                return;
            }
        }
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("names: nothing upstream names faces, so every face is hidden; put `facerecognizer \
                 gallery=FILE` in front")
        );
    }

    /// Warns of names that no gallery upstream has, once for each.
    fn doubt_names(&self) {
        let selection = self.settings.lock().selection.clone();
        let (new, near) = {
            let mut state = self.state.lock();
            let State {
                known: Some(known),
                strangers,
                ..
            } = &mut *state
            else {
                return;
            };
            let new = selection
                .strangers(known)
                .filter(|n| !strangers.contains(*n));
            let new: Vec<String> = new.cloned().collect();
            let near: BTreeSet<String> = new
                .iter()
                .flat_map(|name| names::near(&known.0, name))
                .collect();
            strangers.extend(new.iter().cloned());
            (new, near)
        };
        if new.is_empty() {
            return;
        }
        let quoted: Vec<String> = new.iter().map(|name| names::quoted(name)).collect();
        let near: Vec<String> = near.into_iter().collect();
        let near = match near.is_empty() {
            true => String::new(),
            false => format!(" (similar: {})", near.join(", ")),
        };
        let effect = match selection.target {
            Target::AllButNamed => "these names show nobody",
            _ => "these names hide nobody",
        };
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            (
                "names: nobody in the galleries upstream is called {}{near}; {effect}",
                quoted.join(", ")
            )
        );
    }

    /// The next frame that is due (or the next one at all, with `all`), with its faces hidden.
    /// Pushes the events before it.
    fn next(&self, all: bool) -> Result<Option<gst::Buffer>, gst::FlowError> {
        loop {
            let settings = self.settings.lock().clone();
            let taken = {
                let timeline = &mut self.state.lock().timeline;
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
                    let (boxes, doubt) = self.state.lock().trust.places(&buffer, boxes);
                    if let Some(doubt) = doubt {
                        gst::element_imp_warning!(self, gst::StreamError::Failed, ("{doubt}"));
                    }
                    let hidden = self.state.lock().hide(buffer.make_mut(), &boxes, &settings);
                    if let Err(error) = hidden {
                        element::post(&*self.obj(), &error);
                        return Err(gst::FlowError::Error);
                    }
                    return Ok(Some(buffer));
                }
            }
        }
    }

    /// Reads a picture that was set while playing. The old one stays if the new one cannot be used.
    fn refresh_picture(&self, settings: &Settings) {
        let mut state = self.state.lock();
        if state.picture_serial == settings.serial {
            return;
        }
        state.picture_serial = settings.serial;
        match open_picture(settings) {
            Ok(picture) => state.picture = picture,
            Err(error) => {
                let instead = match state.picture {
                    Some(_) => "the current picture stays in use",
                    None => "faces are filled with the colour instead",
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

    /// Pushes everything that waits.
    fn drain(&self) {
        while let Ok(Some(buffer)) = self.next(true) {
            if self.obj().src_pad().push(buffer).is_err() {
                self.state.lock().timeline.clear();
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
        let mut settings = self.settings.lock();
        let before = settings.selection.clone();
        if !settings.set(pspec.name(), value) {
            gst::warning!(CAT, imp = self, "no property {}", pspec.name());
        }
        let checked = settings.selection.check();
        // Before the start, properties may be set in any order.
        let runs = self.obj().current_state() >= gst::State::Paused;
        if checked.is_err() && runs {
            settings.selection = before;
        }
        drop(settings);
        if let (Err(error), true) = (checked, runs) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("{}: {error}; the old value stays", pspec.name())
            );
        }
        if matches!(pspec.name(), "names" | "target") {
            self.doubt_names();
        }
        if pspec.name() == "look-back" {
            // Fails only without a bus.
            let latency = gst::message::Latency::builder().src(&*self.obj()).build();
            let _ = self.obj().post_message(latency);
            // Makes upstream ask again how many buffers are held.
            self.obj().reconfigure_sink();
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let value = self.settings.lock().get(pspec.name());
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
                "Hides the faces in the metadata: blurs, pixelates, fills or covers them",
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
        let settings = self.settings.lock().clone();
        let names = settings.selection.check();
        names.map_err(|error| Error::Settings(format!("names: {error}")).to_message())?;
        let picture = open_picture(&settings).map_err(|error| error.to_message())?;
        *self.state.lock() = State {
            picture,
            picture_serial: settings.serial,
            ..Default::default()
        };
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let state = std::mem::take(&mut *self.state.lock());
        // Returns the frames to their pool, outside the lock.
        drop(state);
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let unusable = || gst::loggable_error!(CAT, "unusable caps {incaps}");
        let info = gst_video::VideoInfo::from_caps(incaps).map_err(|_| unusable())?;
        let mut state = self.state.lock();
        if let Some(before) = &state.hider {
            let factor = |now: u32, then: u32| f64::from(now) / f64::from(then.max(1));
            let (width, height) = before.size();
            let factors = (factor(info.width(), width), factor(info.height(), height));
            state.timeline.scale(factors.0, factors.1);
        }
        // If the rate varies, caps may give the highest.
        let structure = incaps.structure(0);
        let most = structure.and_then(|s| s.get::<gst::Fraction>("max-framerate").ok());
        let rates = std::iter::once(info.fps()).chain(most);
        state.frame_duration = rates
            .filter(|rate| rate.numer() > 0 && rate.denom() > 0)
            .map(|rate| 1000 * MILLISECOND * rate.denom() as u64 / rate.numer() as u64)
            // A clock rate in place of a frame rate would ask for hundreds of buffers.
            .find(|duration| *duration >= MILLISECOND)
            .unwrap_or(40 * MILLISECOND);
        state.trust.set_shape(face_meta::Shape::of(&info));
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
            let look_back = self.settings.lock().times.look_back;
            let frame = self.state.lock().frame_duration;
            if look_back > 0 {
                // A frame leaves when a frame that is this much later arrives.
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
        let times = self.settings.lock().times;
        let held = times.waiting(self.state.lock().frame_duration);
        element::propose_allocation(self, decide_query, query, held)
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        match event.view() {
            gst::EventView::FlushStop(_) => {
                self.state.lock().flush();
            }
            gst::EventView::Caps(_)
            | gst::EventView::Segment(_)
            | gst::EventView::Eos(_)
            | gst::EventView::Gap(_) => self.drain(),
            gst::EventView::StreamStart(_) => {
                self.drain();
                self.state.lock().flush();
            }
            _ if event.is_serialized() => {
                if let Some(known) = KnownPeople::from_event(&event) {
                    self.state.lock().known = Some(known);
                    self.doubt_names();
                }
                let item = Item::Event(event);
                let first = self.state.lock().timeline.follow(item);
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
        // Never called: `generate_output` does the work, without copying the memory of frames that
        // pass.
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
