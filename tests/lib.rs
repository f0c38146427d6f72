//! Shared code of the end-to-end tests: links the elements in, finds the media, and runs pipelines
//! to their end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once};

use anyhow::{Context, Result, anyhow, bail};
use face_gallery::{Gallery, ModelId, Row};
use face_meta::Face;
use gst::prelude::*;

pub mod crossing;
pub mod feed;
pub mod made;
pub mod overload;
pub mod process;
pub mod refusal;

/// Properties of faceagegender, with which it reports all ages and genders, trustworthy or not.
pub const TELL_ALL: &str = "min-gender-confidence=0 max-age-deviation=1000 min-face-size=0 min-frontality=0 min-sharpness=0";

/// Whether an optional model is installed. If not, says that what needs it is skipped.
pub fn has_optional(model: &str) -> bool {
    let found = root().join(format!("models/{model}.onnx")).is_file();
    if !found {
        eprintln!(
            "SKIPPED: the model {model} is missing; fetch it with `make models NAMES={model}`"
        );
    }
    found
}

/// The longest time for any pipeline here. One that hangs fails its test instead.
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

/// The folder of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the checkout")
}

/// The path of a file of the test media.
pub fn media(name: &str) -> PathBuf {
    let path = root().join("media").join(name);
    assert!(
        path.is_file(),
        "{} is missing: run `make setup`",
        path.display()
    );
    path
}

/// The folder of the built plugins, one above that of the test.
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

/// One frame from a pipeline.
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
            faces: face_meta::read(buffer),
            sample,
        })
    }
}

/// The texts of the errors and warnings of a pipeline. Reading them takes no message off the bus.
#[derive(Clone, Default)]
struct Said {
    errors: Arc<Mutex<VecDeque<String>>>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Said {
    fn note(&self, message: &gst::MessageRef) {
        match message.view() {
            gst::MessageView::Error(error) => {
                let mut errors = self.errors.lock().expect("nobody panics");
                errors.push_back(error.error().to_string());
            }
            gst::MessageView::Warning(warning) => {
                let mut warnings = self.warnings.lock().expect("nobody panics");
                warnings.push(warning.error().to_string());
            }
            _ => {}
        }
    }

    /// The first error that was not returned before.
    fn error(&self) -> Option<anyhow::Error> {
        let mut errors = self.errors.lock().expect("nobody panics");
        errors.pop_front().map(anyhow::Error::msg)
    }
}

/// A pipeline that is set to NULL when it goes out of scope.
pub struct Running(pub gst::Pipeline, Said);

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
        Self::of(pipeline)
    }

    /// The same for a pipeline that was built by hand.
    pub fn of(pipeline: gst::Pipeline) -> Result<Self> {
        let said = Said::default();
        let heard = said.clone();
        let bus = pipeline.bus().context("no bus")?;
        bus.set_sync_handler(move |_, message| {
            heard.note(message);
            gst::BusSyncReply::Pass
        });
        Ok(Self(pipeline, said))
    }

    /// The texts of all warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.1.warnings.lock().expect("nobody panics").clone()
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
            Err(e) => Err(self.1.error().unwrap_or_else(|| e.into())),
        }
    }

    /// Fails with the first error that was not returned before.
    pub fn check(&self) -> Result<()> {
        self.1.error().map_or(Ok(()), Err)
    }

    /// The next frame at `out`. `None` at the end of the stream.
    pub fn next(&self) -> Result<Option<Frame>> {
        let sink = self.sink();
        for _ in 0..TIMEOUT.seconds() * 10 {
            if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100)) {
                return Frame::new(sample).map(Some);
            }
            if let Some(error) = self.1.error() {
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

/// Runs `filesrc ! decodebin ! ELEMENTS ! appsink` on a file of the media.
pub fn run_file(name: &str, elements: &str) -> Result<Vec<Frame>> {
    let pipeline = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! {elements} ! appsink name=out sync=false",
        media(name).display()
    ))?;
    pipeline.play()?;
    pipeline.collect()
}

/// Writes a gallery from one frame of `single_face.mp4`, with the name `selfie`.
pub fn enroll(path: &Path) {
    let elements = "facedetector ! facerecognizer attach-embedding=true interval=0";
    let frames = run_file("single_face.mp4", elements).expect("the clip plays");
    let embedding = frames[30].faces[0]
        .embedding
        .clone()
        .expect("attach-embedding is set");
    let (id, _) = ModelId::of("sface").expect("set up");
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
    /// Reads a picture of the media.
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

/// Runs `appsrc ! ELEMENTS ! appsink` on one picture.
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

/// The face that overlaps `rect` most, with the IoU.
pub fn best<'a>(rect: &face_meta::geometry::Rect, faces: &'a [Face]) -> Option<(&'a Face, f64)> {
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
