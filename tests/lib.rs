//! What the end-to-end tests share: the elements linked in, the media, and pipelines run to their
//! end.

use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Context, Result, anyhow, bail};
use face_core::meta::{self, Face};
use face_core::model::Model;
use gst::prelude::*;
use gstfacerecog::gallery::{Gallery, ModelId, Row};

pub mod feed;
pub mod overload;
pub mod process;
pub mod refusal;

/// How long any pipeline here may take; one that hangs fails its test instead.
pub const TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(240);

/// Starts GStreamer with the elements of this workspace.
pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().expect("GStreamer starts");
        gstfacedetect::plugin_register_static().expect("facedetector");
        gstfacetrack::plugin_register_static().expect("facetracker");
        gstfacerecog::plugin_register_static().expect("facerecognizer");
        gstagegender::plugin_register_static().expect("faceagegender");
        gstfacemeta::plugin_register_static().expect("facemetajson and facemetaoverlay");
    });
}

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
}

/// A file of the test media.
pub fn media(name: &str) -> PathBuf {
    let path = root().join("media").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make setup`",
        path.display()
    );
    path
}

/// The folder of the built plugins: the one above the test's own.
pub fn plugins() -> PathBuf {
    let program = std::env::current_exe().expect("a running test");
    let folder = program
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps");
    assert!(
        folder.join("libgstfacedetect.so").is_file(),
        "no plugins in {}: build the workspace first (`make test` does)",
        folder.display()
    );
    folder.to_owned()
}

/// One frame that came out of a pipeline.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Presentation time in ns.
    pub pts: Option<u64>,
    pub width: u32,
    pub height: u32,
    pub faces: Vec<Face>,
    pub sample: gst::Sample,
}

impl Frame {
    pub fn new(sample: gst::Sample) -> Result<Self> {
        let buffer = sample.buffer().context("a sample without a buffer")?;
        let structure = sample
            .caps()
            .and_then(|c| c.structure(0))
            .context("no caps")?;
        let side = |name| structure.get::<i32>(name).map(|v| v as u32).unwrap_or(0);
        Ok(Self {
            pts: buffer.pts().map(|t| t.nseconds()),
            width: side("width"),
            height: side("height"),
            faces: meta::read(buffer),
            sample,
        })
    }
}

/// The first error on the bus, as a person would read it.
fn bus_error(pipeline: &gst::Pipeline) -> Option<anyhow::Error> {
    let message = pipeline.bus()?.pop_filtered(&[gst::MessageType::Error])?;
    let gst::MessageView::Error(error) = message.view() else {
        return None;
    };
    Some(anyhow!("{}", error.error()))
}

/// A pipeline that is set to NULL when it goes out of scope.
pub struct Running(pub gst::Pipeline);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

impl Running {
    pub fn new(description: &str) -> Result<Self> {
        init();
        let pipeline = gst::parse::launch(description)?
            .downcast::<gst::Pipeline>()
            .map_err(|_| anyhow!("no pipeline"))?;
        Ok(Self(pipeline))
    }

    pub fn element(&self, name: &str) -> gst::Element {
        self.0
            .by_name(name)
            .unwrap_or_else(|| panic!("no element {name}"))
    }

    pub fn sink(&self) -> gst_app::AppSink {
        self.element("out").downcast().expect("`out` is an appsink")
    }

    pub fn source(&self) -> gst_app::AppSrc {
        self.element("in").downcast().expect("`in` is an appsrc")
    }

    pub fn play(&self) -> Result<()> {
        match self.0.set_state(gst::State::Playing) {
            Ok(_) => Ok(()),
            Err(e) => Err(bus_error(&self.0).unwrap_or_else(|| e.into())),
        }
    }

    /// Fails with the first error on the bus.
    pub fn check(&self) -> Result<()> {
        bus_error(&self.0).map_or(Ok(()), Err)
    }

    /// The next frame at `out`; `None` at the end of the stream.
    pub fn next(&self) -> Result<Option<Frame>> {
        let sink = self.sink();
        for _ in 0..TIMEOUT.seconds() * 10 {
            if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                return Frame::new(sample).map(Some);
            }
            if let Some(error) = bus_error(&self.0) {
                return Err(error);
            }
            if sink.is_eos() {
                return Ok(None);
            }
        }
        bail!("nothing came out of the pipeline for {TIMEOUT}")
    }

    /// All frames at `out`.
    pub fn collect(&self) -> Result<Vec<Frame>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Waits for the end of the stream or an error.
    pub fn wait(&self) -> Result<()> {
        let bus = self.0.bus().context("no bus")?;
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = bus
            .timed_pop_filtered(TIMEOUT, &kinds)
            .context("the pipeline hangs")?;
        match message.view() {
            gst::MessageView::Error(error) => Err(anyhow!("{}", error.error())),
            _ => Ok(()),
        }
    }
}

/// Runs `filesrc ! decodebin ! ELEMENTS ! appsink` over a file of the media.
pub fn run_file(name: &str, elements: &str) -> Result<Vec<Frame>> {
    let pipeline = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! {elements} ! appsink name=out sync=false",
        media(name).display()
    ))?;
    pipeline.play()?;
    pipeline.collect()
}

/// Writes a gallery with one frame of `single_face.mp4`, whose person it calls `selfie`.
pub fn enroll(path: &Path) {
    let elements = "facedetector ! facerecognizer attach-embedding=true interval=0";
    let frames = run_file("single_face.mp4", elements).expect("the clip plays");
    let embedding = frames[30].faces[0]
        .embedding
        .clone()
        .expect("attach-embedding is set");
    let model = Model::find("sface").expect("set up");
    let id = ModelId {
        name: "sface".into(),
        sha256: model.read_weights().expect("set up").1,
    };
    let mut gallery = Gallery::new(id, embedding.values.len());
    let row = Row {
        person: "selfie".into(),
        source: "frame 30".into(),
    };
    assert!(gallery.push(row, &embedding.values));
    gallery.write(path).expect("writable");
}

/// A packed RGB picture.
#[derive(Clone)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub data: Vec<u8>,
}

impl Picture {
    /// A picture of the media.
    pub fn open(name: &str) -> Self {
        let rgb = image::open(media(name))
            .expect("a readable picture")
            .to_rgb8();
        Self {
            width: rgb.width(),
            height: rgb.height(),
            data: rgb.into_raw(),
        }
    }

    pub fn info(&self) -> gst_video::VideoInfo {
        init();
        gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, self.width, self.height)
            .fps(gst::Fraction::new(25, 1))
            .build()
            .expect("a valid size")
    }

    pub fn caps(&self) -> gst::Caps {
        self.info().to_caps().expect("valid caps")
    }

    pub fn buffer(&self, pts: gst::ClockTime) -> gst::Buffer {
        let info = self.info();
        let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
        let writable = buffer.get_mut().expect("only one owner");
        writable.set_pts(pts);
        writable.set_duration(gst::ClockTime::from_mseconds(40));
        let stride = info.stride()[0] as usize;
        let mut map = writable.map_writable().expect("writable");
        let row = self.width as usize * 3;
        for (target, source) in map.chunks_mut(stride).zip(self.data.chunks(row)) {
            target[..row].copy_from_slice(source);
        }
        drop(map);
        buffer
    }
}

/// Runs `appsrc ! ELEMENTS ! appsink` over one picture.
pub fn run_picture(picture: &Picture, elements: &str) -> Result<Frame> {
    let pipeline = Running::new(&format!(
        "appsrc name=in format=time ! {elements} ! appsink name=out sync=false"
    ))?;
    let source = pipeline.source();
    source.set_caps(Some(&picture.caps()));
    pipeline.play()?;
    source
        .push_buffer(picture.buffer(gst::ClockTime::ZERO))
        .map_err(|e| anyhow!("{e}"))?;
    source.end_of_stream().map_err(|e| anyhow!("{e}"))?;
    pipeline.next()?.context("no frame came out")
}

/// The face of `faces` that overlaps `rect` most, with the IoU.
pub fn best<'a>(rect: &face_core::geometry::Rect, faces: &'a [Face]) -> Option<(&'a Face, f64)> {
    faces
        .iter()
        .map(|face| (face, face.rect.iou(rect)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
}

/// Cosine similarity of two vectors.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(x, y)| f64::from(*x) * f64::from(*y))
            .sum()
    };
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}
