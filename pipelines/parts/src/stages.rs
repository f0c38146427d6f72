//! The common part of the commands that play videos: the stages that process every frame, their
//! options, and a counter of the frames that passed them.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::builder::PossibleValuesParser;
use clap::{ArgAction, ValueHint};
use face_core::model::Model;
use gst::prelude::*;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::address;
use crate::detection::Detection;
use crate::graph::{chain, make, set};
use crate::ui::{self, Progress};

/// Settings of the stages: options of a command, and a table in a configuration.
#[derive(Debug, Clone, PartialEq, clap::Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
// The commands that flatten this type have their own group of this name.
#[group(skip)]
pub struct Options {
    /// Name the faces after the people in this gallery, made by `facepipe enroll`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub gallery: Option<PathBuf>,

    /// Look for faces only on every Nth frame; in between, they are followed by prediction
    #[arg(long, value_name = "N", default_value_t = Options::default().interval,
          value_parser = clap::value_parser!(u32).range(INTERVALS))]
    pub interval: u32,

    /// The longest side, in pixels, of the picture given to the detector: a larger one finds
    /// smaller faces and is slower; 0 uses the video's own size. By default 640, or what the
    /// preset of --detector says
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(SIZES))]
    pub inference_size: Option<u32>,

    /// How faces are followed from frame to frame
    #[arg(long, default_value_t = Options::default().algorithm,
          value_parser = PossibleValuesParser::new(ALGORITHMS))]
    pub algorithm: String,

    /// When faces are compared by what they look like as they are followed: where their places leave a
    /// doubt, never, or on every frame
    #[arg(long, default_value_t = Options::default().appearance,
          value_parser = PossibleValuesParser::new(APPEARANCES))]
    pub appearance: String,

    /// What finds faces: the preset `fast`, for cameras (yunet at 640 pixels), or `accurate`, for
    /// photographs and archives (centerface at 1600 pixels, many times slower); or a model: a name, or the
    /// path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value_t = Options::default().detector)]
    pub detector: String,

    /// With --gallery: the model that tells faces apart, which must be the one that made the
    /// gallery: a name, or the path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value_t = Options::default().model)]
    pub model: String,

    /// With --gallery: the share of strangers who may get a name; lower is stricter. By default 0.001,
    /// one in a thousand, whatever the size of the gallery
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    pub false_name_rate: Option<f64>,

    /// With --gallery: the cosine distance, 0 to 2, beyond which a face does not match a person; lower
    /// is stricter. By default it follows from --false-name-rate
    #[arg(long, value_name = "D", value_parser = distance)]
    pub distance_threshold: Option<f64>,

    /// With --gallery: let several faces on one frame have the same name, as in mosaics, mirrors and
    /// posters; otherwise only the nearest of them gets it
    #[arg(long)]
    pub repeated_names: bool,

    /// With --gallery: the quality, 0 to 1, below which a face is not named: it is small, blurred or turned
    /// away
    #[arg(long, value_name = "SHARE", default_value_t = Options::default().min_quality,
          value_parser = share)]
    pub min_quality: f64,

    /// The confidence, 0 to 1, below which a face is dropped. By default the detector's own (yunet: 0.7,
    /// centerface: 0.46)
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub confidence: Option<f64>,

    /// Do not estimate age and gender
    #[arg(long = "no-age-gender", action = ArgAction::SetFalse)]
    pub age_gender: bool,

    /// Model for age and gender: a name or the path of an .onnx file; several are separated by commas
    /// (dlib-age,dlib-gender or faceres)
    #[arg(long, value_name = "MODEL", default_value_t = Options::default().age_gender_model)]
    pub age_gender_model: String,

    /// Tell the expression of each face; its model is optional: `make models
    /// NAMES=faceapi-expression` fetches it
    #[arg(long)]
    pub expression: bool,

    /// Threads inside each model's inference; the stages run in parallel anyway
    #[arg(long, value_name = "N", default_value_t = Options::default().threads,
          value_parser = clap::value_parser!(u32).range(THREADS))]
    pub threads: u32,

    /// What runs the models: cpu, cuda, tensorrt, openvino, …
    #[arg(long, value_name = "PROVIDER", default_value_t = Options::default().execution_provider)]
    pub execution_provider: String,
}

const INTERVALS: RangeInclusive<i64> = 1..=1000;
const SIZES: RangeInclusive<i64> = 0..=8192;
const THREADS: RangeInclusive<i64> = 1..=256;
const DISTANCES: RangeInclusive<f64> = 0.0..=2.0;
const RATES: RangeInclusive<f64> = 1e-6..=1.0;
const AGE_GENDER_MODELS: &str = "dlib-age,dlib-gender";
const EXPRESSION_MODEL: &str = "faceapi-expression";
const ALGORITHMS: [&str; 3] = ["ocsort", "bytetrack", "iou"];
const APPEARANCES: [&str; 3] = ["auto", "none", "always"];

impl Default for Options {
    fn default() -> Self {
        Self {
            gallery: None,
            interval: 1,
            inference_size: None,
            algorithm: ALGORITHMS[0].into(),
            appearance: APPEARANCES[0].into(),
            detector: "yunet".into(),
            model: "sface".into(),
            false_name_rate: None,
            distance_threshold: None,
            repeated_names: false,
            min_quality: 0.0,
            confidence: None,
            age_gender: true,
            age_gender_model: AGE_GENDER_MODELS.into(),
            expression: false,
            threads: 1,
            execution_provider: "cpu".into(),
        }
    }
}

impl Options {
    /// Everything that affects the results, apart from the gallery. Equal texts mean equal results.
    pub fn fingerprint(&self) -> String {
        let Self {
            gallery: _,
            interval,
            inference_size,
            algorithm,
            appearance,
            detector,
            model,
            false_name_rate,
            distance_threshold,
            repeated_names,
            min_quality,
            confidence: _,
            age_gender,
            age_gender_model,
            expression,
            threads: _,
            execution_provider: _,
        } = self;
        let no_age_gender = !age_gender;
        let confidence = self.confidence.map_or("own".into(), |c| c.to_string());
        let Detection {
            model: detector,
            inference_size,
        } = Detection::of(detector, *inference_size);
        let mut text = format!(
            "{interval} {inference_size} {algorithm} {detector:?} {model:?} {confidence} \
             {no_age_gender}"
        );
        if let Some(distance) = distance_threshold {
            text += &format!(" {distance}");
        }
        if let Some(rate) = false_name_rate {
            text += &format!(" rate {rate}");
        }
        if appearance != APPEARANCES[0] {
            text += &format!(" {appearance}");
        }
        if *repeated_names {
            text += " repeated";
        }
        if age_gender_model != AGE_GENDER_MODELS {
            text += &format!(" {age_gender_model:?}");
        }
        if *expression {
            text += " expression";
        }
        if *min_quality > 0.0 {
            text += &format!(" quality {min_quality}");
        }
        text
    }

    /// Checks numbers and words that no command line has checked. An error comes with its key.
    pub fn check(&self) -> Result<(), (&'static str, anyhow::Error)> {
        for (key, value, range) in [
            ("interval", self.interval, INTERVALS),
            ("inference-size", self.inference_size.unwrap_or(0), SIZES),
            ("threads", self.threads, THREADS),
        ] {
            if !range.contains(&i64::from(value)) {
                let (least, most) = range.into_inner();
                return Err((key, anyhow!("{value} is not within {least} to {most}")));
            }
        }
        for (key, share) in [
            ("confidence", self.confidence.unwrap_or(0.0)),
            ("min-quality", self.min_quality),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return Err((key, anyhow!("{share} is not within 0 to 1")));
            }
        }
        if let Some(rate) = self.false_name_rate
            && !RATES.contains(&rate)
        {
            return Err((
                "false-name-rate",
                anyhow!("{rate} is not within 0.000001 to 1"),
            ));
        }
        if let Some(distance) = self.distance_threshold
            && !DISTANCES.contains(&distance)
        {
            return Err((
                "distance-threshold",
                anyhow!("{distance} is not within 0 to 2"),
            ));
        }
        for (key, name, known) in [
            ("algorithm", &self.algorithm, ALGORITHMS),
            ("appearance", &self.appearance, APPEARANCES),
        ] {
            if !known.contains(&name.as_str()) {
                let known = known.join(", ");
                return Err((key, anyhow!("`{name}` is not one of {known}")));
            }
        }
        Ok(())
    }
}

/// A number in 0..=1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

/// A share of strangers.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if RATES.contains(&value) => Ok(value),
        _ => {
            Err("expected a number from 0.000001 to 1, such as 0.001 for one in a thousand".into())
        }
    }
}

/// A cosine distance.
fn distance(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if DISTANCES.contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 2".into()),
    }
}

/// The limit of frames detected at the same time: the decoder and other stages need cores, too.
const MOST_AT_A_TIME: usize = 8;

/// The URI of the input. A file must exist.
pub fn uri(input: &Path) -> Result<String> {
    // Even without its scheme, an address may contain a password.
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

/// A queue for a few pictures. Both sides of it run in parallel, even if one frame takes much
/// longer than the others, for example because it has many new faces.
pub fn picture_queue() -> Result<gst::Element> {
    let queue = make("queue")?;
    set(&queue, "max-size-buffers", 16)?;
    set(&queue, "max-size-bytes", 64 << 20)?;
    set(&queue, "max-size-time", 0)?;
    Ok(queue)
}

/// What an analysis of whole files needs beyond names.
#[derive(Clone, Copy, Default)]
pub struct Extras {
    /// Embed faces even without a gallery, and attach the embeddings to the frames.
    pub embeddings: bool,
    /// Embed each face together with its mirror image. In a video the frames of a track do as much.
    pub mirror: bool,
    /// Name, age and gender of each frame alone, instead of those of the track so far.
    pub each_frame: bool,
    /// Frames arrive as they are captured. To keep up, inferences are skipped and, if even that is
    /// too slow, the oldest frames.
    pub live: bool,
}

/// Builds the stages that process every frame in `pipeline`, followed by `end`. Returns the first
/// element.
pub fn build(
    pipeline: &gst::Pipeline,
    options: &Options,
    end: &gst::Element,
) -> Result<gst::Element> {
    build_with(pipeline, options, Extras::default(), end)
}

/// See [`build`].
pub fn build_with(
    pipeline: &gst::Pipeline,
    options: &Options,
    extras: Extras,
    end: &gst::Element,
) -> Result<gst::Element> {
    let first = picture_queue()?;
    // Turns videos recorded upright or upside down; passes others through unchanged.
    let convert = make("videoconvert")?;
    let flip = make("videoflip")?;
    set(&flip, "video-direction", "auto")?;

    // Elements do not know which option names their model, but the check of a configuration does.
    let find = |name: &str, option: &'static str| match extras.live {
        true => Ok(()),
        false => Model::find(name).map(drop).context(option),
    };
    let detection = Detection::of(&options.detector, options.inference_size);
    find(detection.model, "--detector")?;
    let detector = make("facedetector")?;
    set(&detector, "model", detection.model)?;
    set(&detector, "interval", options.interval)?;
    set(&detector, "inference-size", detection.inference_size)?;
    if let Some(confidence) = options.confidence {
        set(&detector, "confidence-threshold", confidence)?;
    }
    if extras.live {
        set(&first, "leaky", "downstream")?;
    } else {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        // Frames leave in order, so with only one per core, cores would wait for the oldest frame.
        let frames = 2 * cores.min(MOST_AT_A_TIME);
        set(&detector, "frames-in-flight", frames)?;
    }
    inference(&detector, options, extras.live)?;
    let tracker = make("facetracker")?;
    set(&tracker, "algorithm", &options.algorithm)?;
    set(&tracker, "appearance", &options.appearance)?;
    let mut elements = vec![
        first.clone(),
        convert,
        flip,
        detector,
        picture_queue()?,
        tracker,
    ];

    if options.gallery.is_some() || extras.embeddings {
        find(&options.model, "--model")?;
        let recognizer = make("facerecognizer")?;
        if let Some(gallery) = &options.gallery {
            set(&recognizer, "gallery", gallery.display())?;
        }
        set(&recognizer, "model", &options.model)?;
        if let Some(rate) = options.false_name_rate {
            set(&recognizer, "false-name-rate", rate)?;
        }
        if let Some(distance) = options.distance_threshold {
            set(&recognizer, "distance-threshold", distance)?;
        }
        set(&recognizer, "repeated-names", options.repeated_names)?;
        set(&recognizer, "min-quality", options.min_quality)?;
        set(&recognizer, "attach-embedding", extras.embeddings)?;
        set(&recognizer, "mirror", extras.mirror)?;
        if extras.each_frame {
            set(&recognizer, "vote", false)?;
            set(&recognizer, "interval", 0)?;
        }
        inference(&recognizer, options, extras.live)?;
        elements.push(recognizer);
    }
    if options.age_gender {
        for model in options.age_gender_model.split(',') {
            find(model.trim(), "--age-gender-model")?;
        }
        let age_gender = make("faceagegender")?;
        set(&age_gender, "model", &options.age_gender_model)?;
        if extras.each_frame {
            set(&age_gender, "smooth", false)?;
            set(&age_gender, "interval", 0)?;
        }
        inference(&age_gender, options, extras.live)?;
        elements.push(age_gender);
    }
    if options.expression {
        find(EXPRESSION_MODEL, "--expression")?;
        let expression = make("faceexpression")?;
        if extras.each_frame {
            set(&expression, "smooth", false)?;
            set(&expression, "interval", 0)?;
        }
        inference(&expression, options, extras.live)?;
        elements.push(expression);
    }
    elements.push(end.clone());
    chain(pipeline, &elements.iter().collect::<Vec<_>>())?;
    Ok(first)
}

/// The elements of `pipeline` that have statistics, with the names of their kinds, in the order of
/// the stream.
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

/// Sets the properties that all inference stages have.
fn inference(element: &gst::Element, options: &Options, live: bool) -> Result<()> {
    set(element, "late", if live { "drop-work" } else { "wait" })?;
    set(element, "threads", options.threads)?;
    set(element, "execution-provider", &options.execution_provider)
}

/// Counts the frames that passed all stages. The streaming threads update it.
#[derive(Default)]
pub struct Counter {
    /// When the first frame arrived.
    first: OnceLock<Instant>,
    frames: AtomicU64,
    /// Frames that the decoder flagged as damaged.
    damaged: AtomicU64,
    /// The stream time at which the last frame ends, in nanoseconds.
    position: AtomicU64,
    /// The stream time of the first frame, in nanoseconds.
    start: Mutex<Option<u64>>,
}

impl Counter {
    /// Counts the frames on `pad`.
    pub fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let counter = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
            counter.first.get_or_init(Instant::now);
            counter.frames.fetch_add(1, Ordering::Relaxed);
            if info
                .buffer()
                .is_some_and(|buffer| buffer.flags().contains(gst::BufferFlags::CORRUPTED))
            {
                counter.damaged.fetch_add(1, Ordering::Relaxed);
            }
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
        self.start.lock().get_or_insert(time.nseconds());
        let end = time + buffer.duration().unwrap_or_default();
        self.position.fetch_max(end.nseconds(), Ordering::Relaxed);
    }

    /// Shows how far `pipeline` has come since it `started`.
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

    /// When the first frame arrived.
    pub fn first(&self) -> Option<Instant> {
        self.first.get().copied()
    }

    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    pub fn position(&self) -> Duration {
        Duration::from_nanos(self.position.load(Ordering::Relaxed))
    }

    /// One line about the frames that the decoder could not restore. `None` if there were none.
    pub fn damage(&self) -> Option<String> {
        let damaged = self.damaged.load(Ordering::Relaxed);
        (damaged > 0).then(|| format!("{} could not be fully decoded", ui::count(damaged, "frame")))
    }

    /// How much of the video has passed.
    pub fn span(&self) -> Duration {
        let start = *self.start.lock();
        self.position()
            .saturating_sub(Duration::from_nanos(start.unwrap_or(0)))
    }

    /// One line about the work done in `elapsed`. `None` if there was none.
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
    fn what_gives_other_results_has_another_fingerprint() {
        let of = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.fingerprint()
        };
        let usual = of(|_| ());
        assert_eq!(
            of(|o| o.detector = "fast".into()),
            usual,
            "the same by another name"
        );
        assert_eq!(of(|o| o.inference_size = Some(640)), usual);
        assert_eq!(of(|o| o.threads = 4), usual);
        for change in [
            (|o| o.detector = "accurate".into()) as fn(&mut Options),
            |o| o.inference_size = Some(0),
            |o| o.confidence = Some(0.5),
            |o| o.min_quality = 0.3,
        ] {
            assert_ne!(of(change), usual);
        }
    }

    #[test]
    fn shares_are_between_0_and_1() {
        assert_eq!(share("0.5"), Ok(0.5));
        for bad in ["1.5", "-1", "x", "NaN"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }
}
