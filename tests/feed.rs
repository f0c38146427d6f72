//! Pushes buffers and events into elements by hand, and makes pictures and galleries for that.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use face_gallery::{Gallery, ModelId, Row};
use face_meta::geometry::Rect;
use gst::prelude::*;
use gst_video::VideoRegionOfInterestMeta;

use crate::{Frame, Picture, Running, init, run_picture};

/// Elements with buffers pushed in on the caller's thread, and an appsink `out` after them.
pub struct Feed {
    pub running: Running,
    pad: gst::Pad,
}

impl Feed {
    /// `ELEMENTS ! appsink`, playing, but without a stream.
    pub fn bare(elements: &str) -> Result<Self> {
        Self::clocked(elements, None)
    }

    fn clocked(elements: &str, clock: Option<&gst::Clock>) -> Result<Self> {
        let running = Running::new(&format!(
            "identity name=in ! {elements} ! appsink name=out sync=false async=false"
        ))?;
        if clock.is_some() {
            running.0.use_clock(clock);
        }
        running.play()?;
        let pad = running.element("in").static_pad("sink").context("no pad")?;
        Ok(Self { running, pad })
    }

    /// The same, with a stream of `caps` started.
    pub fn new(elements: &str, caps: &gst::Caps) -> Result<Self> {
        Self::bare(elements)?.begun(caps)
    }

    /// The same, with its time from `clock`.
    pub fn timed(elements: &str, caps: &gst::Caps, clock: &gst_check::TestClock) -> Result<Self> {
        Self::clocked(elements, Some(clock.upcast_ref()))?.begun(caps)
    }

    fn begun(self, caps: &gst::Caps) -> Result<Self> {
        self.begin();
        ensure!(self.caps(caps), "the caps {caps} are refused");
        self.segment();
        Ok(self)
    }

    pub fn event(&self, event: gst::Event) -> bool {
        self.pad.send_event(event)
    }

    pub fn begin(&self) -> bool {
        self.event(gst::event::StreamStart::new("test"))
    }

    pub fn caps(&self, caps: &gst::Caps) -> bool {
        self.event(gst::event::Caps::new(caps))
    }

    pub fn segment(&self) -> bool {
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        self.event(gst::event::Segment::new(&segment))
    }

    pub fn flush(&self) {
        self.event(gst::event::FlushStart::new());
        self.event(gst::event::FlushStop::new(true));
        self.segment();
    }

    pub fn eos(&self) -> bool {
        self.event(gst::event::Eos::new())
    }

    pub fn push(&self, buffer: gst::Buffer) -> Result<gst::FlowSuccess, gst::FlowError> {
        self.pad.chain(buffer)
    }

    /// The answer to upstream's allocation query for `caps`.
    pub fn allocation(&self, caps: &gst::Caps) -> gst::query::Allocation<gst::Query> {
        let mut query = gst::query::Allocation::new(Some(caps), true);
        assert!(self.pad.query(&mut query), "an answer");
        query
    }

    /// The least number of buffers of `caps` that upstream is asked for.
    pub fn buffers_asked_for(&self, caps: &gst::Caps) -> u32 {
        let query = self.allocation(caps);
        let pools = query.allocation_pools();
        pools.map(|(_, _, min, _)| min).max().unwrap_or(0)
    }

    /// Pushes a buffer and returns the resulting frame.
    pub fn pass(&self, buffer: gst::Buffer) -> Result<Frame> {
        if let Err(flow) = self.push(buffer) {
            self.running.check()?;
            return Err(flow.into());
        }
        self.running.next()?.context("the stream ended")
    }

    /// [`pass`](Self::pass) for the picture as frame number `index`, at 40 ms per frame.
    pub fn show(&self, picture: &Picture, index: u64) -> Result<Frame> {
        self.pass(picture.buffer(at(index)))
    }

    pub fn set(&self, element: &str, property: &str, value: &str) {
        self.running
            .element(element)
            .set_property_from_str(property, value);
    }

    /// Messages of `kind` on the bus.
    pub fn messages(&self, kind: gst::MessageType) -> Vec<gst::Message> {
        let bus = self.running.0.bus();
        std::iter::from_fn(|| bus.as_ref()?.pop_filtered(&[kind])).collect()
    }

    /// Ids of the tracks whose end was announced on the bus.
    pub fn ended(&self) -> Vec<u64> {
        ended(&self.messages(gst::MessageType::Element))
    }
}

/// Ids of the tracks that `messages` end, ascending.
pub fn ended(messages: &[gst::Message]) -> Vec<u64> {
    let mut ids: Vec<u64> = messages
        .iter()
        .filter_map(|m| m.structure())
        .filter(|s| s.name() == face_meta::track::TRACK_ENDED)
        .filter_map(|s| s.get("id").ok())
        .collect();
    ids.sort_unstable();
    ids
}

/// The time of frame `index` at 25 frames per second.
pub fn at(index: u64) -> gst::ClockTime {
    gst::ClockTime::from_mseconds(40 * index)
}

/// Adds a region as a foreign element would: without an entry in the face metadata.
pub fn add_region(buffer: &mut gst::Buffer, kind: &str, rect: (u32, u32, u32, u32), id: i32) {
    let buffer = buffer.get_mut().expect("only one owner");
    VideoRegionOfInterestMeta::add(buffer, kind, rect).set_id(id);
}

/// A box in whole pixels.
pub fn whole(rect: &Rect) -> (u32, u32, u32, u32) {
    let [x, y, w, h] = [rect.x, rect.y, rect.w, rect.h].map(|v| v.round().max(0.0) as u32);
    (x, y, w, h)
}

impl Picture {
    pub fn black(width: u32, height: u32) -> Self {
        let data = vec![0; 3 * width as usize * height as usize];
        Self {
            width,
            height,
            data,
        }
    }

    fn image(&self) -> image::RgbImage {
        image::RgbImage::from_raw(self.width, self.height, self.data.clone())
            .expect("data of this size")
    }

    fn from_image(image: image::RgbImage) -> Self {
        Self {
            width: image.width(),
            height: image.height(),
            data: image.into_raw(),
        }
    }

    /// The part of the picture at `x`, `y`.
    pub fn crop(&self, x: u32, y: u32, width: u32, height: u32) -> Self {
        let part = image::imageops::crop_imm(&self.image(), x, y, width, height).to_image();
        Self::from_image(part)
    }

    pub fn resized(&self, width: u32, height: u32) -> Self {
        let filter = image::imageops::FilterType::Triangle;
        Self::from_image(image::imageops::resize(
            &self.image(),
            width,
            height,
            filter,
        ))
    }

    /// Copies `other` into the picture at `x`, `y`.
    pub fn paste(&mut self, other: &Self, x: u32, y: u32) {
        let mut image = self.image();
        image::imageops::replace(&mut image, &other.image(), x.into(), y.into());
        self.data = image.into_raw();
    }

    pub fn sample(&self) -> gst::Sample {
        init();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        gst::Sample::builder()
            .buffer(&self.buffer(gst::ClockTime::ZERO))
            .caps(&self.caps())
            .segment(&segment)
            .build()
    }

    /// The picture as GStreamer's own converter makes it. `caps` give neither size nor frame rate.
    pub fn converted(&self, caps: &str) -> Result<gst::Sample> {
        let sample = self.sample();
        let caps: gst::Caps = format!(
            "video/x-raw,width={},height={},framerate=25/1,{caps}",
            self.width, self.height
        )
        .parse()?;
        let sample = gst_video::convert_sample(&sample, &caps, Some(crate::TIMEOUT))?;
        Ok(sample)
    }
}

/// Detects the faces of `picture` and writes a gallery to `path` that calls them `names`, from left
/// to right.
pub fn enroll(path: &Path, picture: &Picture, names: &[&str]) -> Result<Gallery> {
    init();
    let (model, dimensions) = ModelId::of("sface")?;
    let mut gallery = Gallery::new(model, dimensions);
    let elements = "facedetector ! facerecognizer attach-embedding=true";
    let mut faces = run_picture(picture, elements)?.faces;
    faces.sort_by(|a, b| a.rect.x.total_cmp(&b.rect.x));
    ensure!(faces.len() == names.len(), "{} faces", faces.len());
    for (face, name) in faces.iter().zip(names) {
        let row = Row {
            person: (*name).into(),
            source: "test".into(),
        };
        let embedding = face.embedding.as_ref().context("no embedding")?;
        ensure!(gallery.push(row, &embedding.values), "no direction");
    }
    gallery.write(path)?;
    Ok(gallery)
}
