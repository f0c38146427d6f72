//! What the commands that play videos have in common: the stages that look at every frame, their options,
//! and the count of the frames that came through.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueHint;
use clap::builder::PossibleValuesParser;
use gst::prelude::*;

use crate::address;
use crate::graph::{chain, make, set};
use crate::live::config::Stages;
use crate::ui::{self, Progress};

/// What the stages can be told.
#[derive(clap::Args)]
// The commands that flatten it have a group of this name themselves.
#[group(skip)]
pub struct Args {
    /// Name the faces after the people in this gallery, made by `facepipe enroll`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub gallery: Option<PathBuf>,

    /// Look for faces on every Nth frame only; between those they are followed by prediction
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    interval: u32,

    /// The longest side, in pixels, of the picture given to the detector: larger finds smaller faces
    /// and is slower; 0 takes the video's own size
    #[arg(long, value_name = "PIXELS", default_value_t = 640,
          value_parser = clap::value_parser!(u32).range(0..=8192))]
    inference_size: u32,

    /// How faces are followed from frame to frame
    #[arg(long, default_value = "ocsort",
          value_parser = PossibleValuesParser::new(["ocsort", "bytetrack", "iou"]))]
    algorithm: String,

    /// The model that finds faces: a name, or the path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value = "yunet")]
    detector: String,

    /// The model that tells faces apart, with --gallery: the one that the gallery was made by, as a
    /// name or the path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value = "sface")]
    pub model: String,

    /// The confidence, 0 to 1, below which a face is dropped
    #[arg(long, value_name = "SHARE", default_value_t = 0.7, value_parser = share)]
    confidence: f64,

    /// Do not estimate age and gender
    #[arg(long)]
    no_age_gender: bool,

    /// Threads inside each model's inference; the stages run in parallel anyway
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,

    /// What runs the models: cpu, cuda, tensorrt, openvino, …
    #[arg(long, value_name = "PROVIDER", default_value = "cpu")]
    execution_provider: String,
}

impl Args {
    /// What the results depend on, apart from the gallery: two equal texts give equal results.
    pub fn fingerprint(&self) -> String {
        let Self {
            gallery: _,
            interval,
            inference_size,
            algorithm,
            detector,
            model,
            confidence,
            no_age_gender,
            threads: _,
            execution_provider: _,
        } = self;
        format!(
            "{interval} {inference_size} {algorithm} {detector:?} {model:?} {confidence} \
             {no_age_gender}"
        )
    }

    /// On how many frames a face is looked for: every one in so many.
    pub fn interval(&self) -> u32 {
        self.interval
    }
}

impl From<&Stages> for Args {
    fn from(stages: &Stages) -> Self {
        let stages = stages.clone();
        Self {
            gallery: stages.gallery,
            interval: stages.interval,
            inference_size: stages.inference_size,
            algorithm: stages.algorithm,
            detector: stages.detector,
            model: stages.model,
            confidence: stages.confidence,
            no_age_gender: !stages.age_gender,
            threads: stages.threads,
            execution_provider: stages.execution_provider,
        }
    }
}

/// A number in 0..=1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

/// Frames that are detected at a time, at most: decoder and other stages need cores, too.
const MOST_AT_A_TIME: usize = 8;

/// The URI of the input; a file must exist.
pub fn uri(input: &Path) -> Result<String> {
    // Also one whose scheme was left out tells its password.
    let name = address::whole(&input.display().to_string());
    if input.is_dir() {
        bail!("{name} is a folder; name a video file or a URI");
    }
    if input.exists() {
        let path = std::path::absolute(input)?;
        return Ok(glib::filename_to_uri(path, None)?.into());
    }
    match input.to_str() {
        Some(text) if text.contains("://") => Ok(text.to_owned()),
        _ => bail!("{name} does not exist"),
    }
}

/// A queue for some pictures: what is on both sides of it runs in parallel, also where one frame takes
/// much longer than the others, as one with many new faces does.
pub fn picture_queue() -> Result<gst::Element> {
    let queue = make("queue")?;
    set(&queue, "max-size-buffers", 16)?;
    set(&queue, "max-size-bytes", 64 << 20)?;
    set(&queue, "max-size-time", 0)?;
    Ok(queue)
}

/// What an analysis of whole files wants beyond names.
#[derive(Clone, Copy, Default)]
pub struct Extras {
    /// Embed faces also without a gallery, and attach the embeddings to the frames.
    pub embeddings: bool,
    /// Name, age and gender of each frame by itself, instead of those of the track so far.
    pub each_frame: bool,
    /// Frames come when they are taken: rather than fall behind, inferences are left out and, where even
    /// that is too slow, the oldest frames.
    pub live: bool,
}

/// The stages that look at every frame, and `end` behind them, in `pipeline`; returns the first
/// element.
pub fn build(pipeline: &gst::Pipeline, args: &Args, end: &gst::Element) -> Result<gst::Element> {
    build_with(pipeline, args, Extras::default(), end)
}

/// See [`build`].
pub fn build_with(
    pipeline: &gst::Pipeline,
    args: &Args,
    extras: Extras,
    end: &gst::Element,
) -> Result<gst::Element> {
    let first = picture_queue()?;
    // Turns videos that were taken upright or upside down; others pass through both unchanged.
    let convert = make("videoconvert")?;
    let flip = make("videoflip")?;
    set(&flip, "video-direction", "auto")?;

    let detector = make("facedetector")?;
    set(&detector, "model", &args.detector)?;
    set(&detector, "interval", args.interval)?;
    set(&detector, "inference-size", args.inference_size)?;
    set(&detector, "confidence-threshold", args.confidence)?;
    if extras.live {
        set(&first, "leaky", "downstream")?;
    } else {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // As frames leave in order, cores would wait for the oldest if there was one for each only.
        let frames = 2 * cores.min(MOST_AT_A_TIME);
        set(&detector, "frames-in-flight", frames)?;
    }
    inference(&detector, args, extras.live)?;
    let tracker = make("facetracker")?;
    set(&tracker, "algorithm", &args.algorithm)?;
    let mut elements = vec![
        first.clone(),
        convert,
        flip,
        detector,
        picture_queue()?,
        tracker,
    ];

    if args.gallery.is_some() || extras.embeddings {
        let recognizer = make("facerecognizer")?;
        if let Some(gallery) = &args.gallery {
            set(&recognizer, "gallery", gallery.display())?;
        }
        set(&recognizer, "model", &args.model)?;
        set(&recognizer, "attach-embedding", extras.embeddings)?;
        if extras.each_frame {
            set(&recognizer, "vote", false)?;
            set(&recognizer, "interval", 0)?;
        }
        inference(&recognizer, args, extras.live)?;
        elements.push(recognizer);
    }
    if !args.no_age_gender {
        let age_gender = make("faceagegender")?;
        if extras.each_frame {
            set(&age_gender, "smooth", false)?;
            set(&age_gender, "interval", 0)?;
        }
        inference(&age_gender, args, extras.live)?;
        elements.push(age_gender);
    }
    elements.push(end.clone());
    chain(pipeline, &elements.iter().collect::<Vec<_>>())?;
    Ok(first)
}

/// The elements of `pipeline` that have statistics, with the names of their kinds, first ones first.
pub fn with_statistics(pipeline: &gst::Pipeline) -> Vec<(String, gst::Element)> {
    let mut elements: Vec<_> = pipeline
        .iterate_sorted()
        .into_iter()
        .filter_map(Result::ok)
        .filter(|element| element.find_property(face_core::stats::PROPERTY).is_some())
        .filter_map(|element| Some((element.factory()?.name().to_string(), element)))
        .filter(|(name, _)| name.starts_with("face"))
        .collect();
    // GStreamer begins with the sinks.
    elements.reverse();
    elements
}

/// Sets what all inference stages have.
fn inference(element: &gst::Element, args: &Args, live: bool) -> Result<()> {
    set(element, "late", if live { "drop-work" } else { "wait" })?;
    set(element, "threads", args.threads)?;
    set(element, "execution-provider", &args.execution_provider)
}

/// What the streaming threads tell about the frames that came through all stages.
#[derive(Default)]
pub struct Counter {
    /// When the first frame came.
    first: OnceLock<Instant>,
    frames: AtomicU64,
    /// Stream time of the last frame's end, in nanoseconds.
    position: AtomicU64,
    /// Stream time of the first frame, in nanoseconds.
    start: Mutex<Option<u64>>,
}

impl Counter {
    /// Counts the frames on `pad`.
    pub fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let counter = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            counter.first.get_or_init(Instant::now);
            counter.frames.fetch_add(1, Ordering::Relaxed);
            if let (Some(buffer), Some(event)) =
                (info.buffer(), pad.sticky_event::<gst::event::Segment>(0))
            {
                counter.advance(buffer, event.segment());
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn advance(&self, buffer: &gst::BufferRef, segment: &gst::Segment) {
        let Some(segment) = segment.downcast_ref::<gst::ClockTime>() else {
            return;
        };
        let Some(time) = segment.to_stream_time(buffer.pts()) else {
            return;
        };
        self.start
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(time.nseconds());
        let end = time + buffer.duration().unwrap_or_default();
        self.position.fetch_max(end.nseconds(), Ordering::Relaxed);
    }

    /// Shows how far `pipeline` has come since it was `started`.
    pub fn show(&self, pipeline: &gst::Pipeline, started: Instant, progress: &mut Progress) {
        let frames = self.frames();
        if frames == 0 {
            return;
        }
        if progress.total().is_none() {
            let duration = pipeline.query_duration::<gst::ClockTime>();
            progress.set_total(duration.map(|d| d.mseconds()));
        }
        let duration = progress.total().map(Duration::from_millis);
        let position = self.position();
        let message = ui::video_progress(position, duration, frames, started.elapsed());
        progress.update(position.as_millis() as u64, &message);
    }

    /// When the first frame came.
    pub fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }

    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub fn position(&self) -> Duration {
        Duration::from_nanos(self.position.load(Ordering::Relaxed))
    }

    /// How much of the video came through.
    pub fn span(&self) -> Duration {
        let start = *self.start.lock().unwrap_or_else(PoisonError::into_inner);
        self.position()
            .saturating_sub(Duration::from_nanos(start.unwrap_or(0)))
    }

    /// One line about the work done in `elapsed`; `None` if there was none.
    pub fn summary(&self, elapsed: Duration) -> Option<String> {
        let frames = self.frames();
        (frames > 0).then(|| {
            format!(
                "{} in {:.1} s, {:.1} fps, {:.2} × realtime",
                ui::count(frames, "frame"),
                elapsed.as_secs_f64(),
                ui::rate(frames as f64, elapsed),
                ui::rate(self.span().as_secs_f64(), elapsed)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_files_or_uris() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        assert_eq!(
            uri(Path::new(file)).expect("a file"),
            format!("file://{file}")
        );
        assert_eq!(
            uri(Path::new("rtsp://cam/1")).expect("a URI"),
            "rtsp://cam/1"
        );
        let error = |text: &str| uri(Path::new(text)).expect_err("no input").to_string();
        assert!(error("/no/such.mp4").contains("does not exist"));
        assert!(error(env!("CARGO_MANIFEST_DIR")).contains("is a folder"));
    }

    #[test]
    fn shares_are_between_0_and_1() {
        assert_eq!(share("0.5"), Ok(0.5));
        for bad in ["1.5", "-1", "x", "NaN"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
