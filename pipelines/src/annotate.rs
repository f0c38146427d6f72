//! `facepipe annotate`: a video with its faces marked, and what is known of them as JSON lines.

mod branches;
mod streams;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::builder::{PathBufValueParser, PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, ValueHint};
use gst::prelude::*;

use self::branches::{build_audio, build_json, build_stages, build_video, muxer};
use self::streams::{Streams, hold_streams};
use crate::graph::{make, pad, set};
use crate::output::{self, Output};
use crate::ui::{self, Progress};
use crate::{Outcome, graph, interrupt};

/// Mark and name the faces in a video.
///
/// Every face is followed from frame to frame, given an age and a gender and, with --gallery, a
/// name. The result is a video with the faces marked and the sound of the input (-o), one JSON
/// object a line for each frame and each track (--json), or both. Both files get their names when
/// they are whole. Ctrl-C ends early and keeps what was done; a second Ctrl-C quits at once and
/// keeps nothing.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("outputs").args(["output", "json"]).required(true).multiple(true))]
pub struct Args {
    /// The video: a file, or a URI such as rtsp://camera/stream or v4l2:///dev/video0
    input: PathBuf,

    /// The annotated video to write, H.264 and AAC in .mp4 or .mkv
    #[arg(short, long, value_name = "FILE",
          value_hint = ValueHint::FilePath,
          value_parser = PathBufValueParser::new().try_map(with_muxer))]
    output: Option<PathBuf>,

    /// The JSON lines to write; - writes them to standard output as they come. Without -o no video
    /// is encoded, which is much faster
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    json: Option<PathBuf>,

    /// Name the faces after the people in this gallery, made by `facepipe enroll`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    gallery: Option<PathBuf>,

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
    model: String,

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

/// A number in 0..=1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("expected a number from 0 to 1".into()),
    }
}

fn with_muxer(path: PathBuf) -> Result<PathBuf, &'static str> {
    muxer(&path)
        .is_some()
        .then_some(path)
        .ok_or("expected a name that ends in .mp4 or .mkv")
}

pub fn run(args: &Args) -> Result<Outcome> {
    let uri = uri(&args.input)?;
    check_files(args)?;
    let video = args.output.as_deref().map(Output::create).transpose()?;
    let json = args
        .json
        .as_deref()
        .filter(|p| !is_stdout(p))
        .map(Output::create)
        .transpose()?;

    let mut run = Run::build(args, &uri, video.as_ref(), json.as_ref())?;
    let outcome = run.finish()?;
    let summary = run.summary();
    // Shuts the pipeline down, which closes the files.
    drop(run);
    let Some(summary) = summary else {
        if outcome == Outcome::Interrupted {
            eprintln!("annotate: stopped by Ctrl-C before the first frame, nothing was written");
            return Ok(outcome);
        }
        bail!(
            "no frame of {} could be decoded; nothing was written",
            args.input.display()
        );
    };
    let written = [video, json]
        .into_iter()
        .flatten()
        .map(|output| Ok(output.keep()?.display().to_string()))
        .collect::<Result<Vec<_>>>()?;
    eprintln!("annotate: {summary}");
    for path in written {
        eprintln!("annotate: wrote {path}");
    }
    Ok(outcome)
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
}

/// The URI of the input; a file must exist.
fn uri(input: &Path) -> Result<String> {
    let name = input.display();
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

/// Says before any work what cannot be read or written.
fn check_files(args: &Args) -> Result<()> {
    if let Some(gallery) = &args.gallery {
        gstfacerecog::gallery::Gallery::read(gallery)?;
    }
    let json = args.json.as_ref().filter(|p| !is_stdout(p));
    for output in args.output.iter().chain(json) {
        output::check_folder(output)?;
        let others = std::iter::once(&args.input).chain(&args.gallery);
        for other in others {
            ensure!(
                !output::same_file(output, other),
                "{} would be replaced by the output; choose another name",
                other.display()
            );
        }
    }
    if let (Some(video), Some(json)) = (&args.output, json) {
        ensure!(
            !output::same_file(video, json),
            "-o and --json name the same file"
        );
    }
    Ok(())
}

/// What the streaming threads tell about the frames that came through all stages.
#[derive(Default)]
struct Counter {
    frames: AtomicU64,
    /// Stream time of the last frame's end, in nanoseconds.
    position: AtomicU64,
    /// Stream time of the first frame, in nanoseconds.
    start: Mutex<Option<u64>>,
}

impl Counter {
    /// Counts the frames on `pad`.
    fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let counter = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
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

    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    fn position(&self) -> Duration {
        Duration::from_nanos(self.position.load(Ordering::Relaxed))
    }

    /// How much of the video came through.
    fn span(&self) -> Duration {
        let start = *self.start.lock().unwrap_or_else(PoisonError::into_inner);
        self.position()
            .saturating_sub(Duration::from_nanos(start.unwrap_or(0)))
    }
}

/// The pipeline at work.
struct Run<'a> {
    args: &'a Args,
    pipeline: graph::Running,
    streams: Arc<Mutex<Streams>>,
    counter: Arc<Counter>,
    /// The first pad behind the source, of video and then of audio.
    entries: Vec<gst::Pad>,
    /// The first element of the video branch.
    entry: gst::Element,
    mux: Option<gst::Element>,
    /// What kinds of stream there is no decoder for.
    undecodable: Vec<String>,
    started: Instant,
    elapsed: Duration,
}

impl<'a> Run<'a> {
    fn build(
        args: &'a Args,
        uri: &str,
        video: Option<&Output>,
        json: Option<&Output>,
    ) -> Result<Self> {
        let pipeline = graph::Running::new();
        let source = make("uridecodebin")?;
        set(&source, "uri", uri)?;
        pipeline.add(&source)?;
        let streams = hold_streams(&source);

        let (entry, last) = build_stages(&pipeline, args)?;
        let counter = Arc::new(Counter::default());
        counter.watch(&pad(&last, "sink")?);
        if args.json.is_some() {
            build_json(&pipeline, &last, json)?;
        }
        let mux = video
            .map(|video| build_video(&pipeline, &last, args.output.as_deref(), video))
            .transpose()?;
        Ok(Self {
            args,
            pipeline,
            streams,
            counter,
            entries: Vec::new(),
            entry,
            mux,
            undecodable: Vec::new(),
            started: Instant::now(),
            elapsed: Duration::ZERO,
        })
    }

    /// Runs until the end of the input, Ctrl-C or an error.
    fn finish(&mut self) -> Result<Outcome> {
        graph::start(&self.pipeline)?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        self.started = Instant::now();
        let mut progress = Progress::new("annotate", None);
        let mut stopping = false;
        loop {
            if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100))
                && self.handle(&message)?
            {
                break;
            }
            if interrupt::requested() && !stopping {
                stopping = true;
                if !self.streams().connected {
                    return Ok(Outcome::Interrupted);
                }
                progress.note("finishing the files; Ctrl-C again quits at once");
                self.end_streams();
            }
            if self.streams().ready() {
                self.connect()?;
            }
            self.show(&mut progress);
        }
        self.elapsed = self.started.elapsed();
        // A live source has no other end.
        let cut_short = stopping && progress.total().is_some();
        Ok(if cut_short {
            Outcome::Interrupted
        } else {
            Outcome::Done
        })
    }

    fn streams(&self) -> std::sync::MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles one message of the bus; `true` at the end of the stream.
    fn handle(&mut self, message: &gst::Message) -> Result<bool> {
        use gst::MessageView;
        match message.view() {
            MessageView::Eos(_) => return Ok(true),
            MessageView::Error(error) => {
                // A missing decoder ends in an error that does not name it.
                self.note_missing_plugins();
                return Err(match self.undecodable.is_empty() {
                    true => graph::explain(error).context(self.args.input.display().to_string()),
                    false => self.no_decoder(),
                });
            }
            MessageView::Element(element) => self.note_missing_plugin(element),
            MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            _ => {}
        }
        Ok(false)
    }

    fn note_missing_plugin(&mut self, message: &gst::message::Element) {
        if let Ok(missing) = gst_pbutils::MissingPluginMessage::parse(message) {
            self.undecodable.push(missing.description().to_string());
        }
    }

    /// Looks for what stands on the bus behind an error.
    fn note_missing_plugins(&mut self) {
        let Some(bus) = self.pipeline.bus() else {
            return;
        };
        while let Some(message) = bus.pop_filtered(&[gst::MessageType::Element]) {
            if let gst::MessageView::Element(element) = message.view() {
                self.note_missing_plugin(element);
            }
        }
    }

    fn no_decoder(&self) -> anyhow::Error {
        anyhow!(
            "{}: this GStreamer cannot decode it, missing: {}; install the Debian packages \
             gstreamer1.0-libav and gstreamer1.0-plugins-bad",
            self.args.input.display(),
            self.undecodable.join(", ")
        )
    }

    /// Links the streams that the source has, all at once, as a muxer takes no latecomers.
    fn connect(&mut self) -> Result<()> {
        let (video, audio) = {
            let mut streams = self.streams();
            streams.connected = true;
            (streams.video.take(), streams.audio.take())
        };
        let Some(video) = video else {
            return Err(match self.undecodable.is_empty() {
                true => anyhow!("{} has no video", self.args.input.display()),
                false => self.no_decoder(),
            });
        };
        if let (Some(audio), Some(mux)) = (audio, &self.mux) {
            let entry = build_audio(&self.pipeline, mux)?;
            audio.connect(&entry)?;
            self.entries.push(entry);
        }
        let entry = self.deinterlaced(&video.caps())?;
        video.connect(&entry)?;
        self.entries.push(entry);
        Ok(())
    }

    /// The pad that takes the video: of the first stage or, for interlaced video, of what makes
    /// whole pictures of it.
    fn deinterlaced(&self, caps: &gst::Caps) -> Result<gst::Pad> {
        let interlaced = caps
            .structure(0)
            .and_then(|s| s.get::<String>("interlace-mode").ok())
            .is_some_and(|mode| mode != "progressive");
        if !interlaced {
            return pad(&self.entry, "sink");
        }
        let deinterlace = make("deinterlace")?;
        // One picture a frame, not one a field.
        set(&deinterlace, "fields", "top")?;
        self.pipeline.add(&deinterlace)?;
        deinterlace.link(&self.entry)?;
        deinterlace.sync_state_with_parent()?;
        pad(&deinterlace, "sink")
    }

    /// Ends the streams behind the source, whatever that does: the files are finished with what came
    /// so far.
    fn end_streams(&self) {
        for entry in &self.entries {
            entry.send_event(gst::event::Eos::new());
        }
    }

    fn show(&self, progress: &mut Progress) {
        let frames = self.counter.frames();
        if frames == 0 {
            return;
        }
        if progress.total().is_none() {
            let duration = self.pipeline.query_duration::<gst::ClockTime>();
            progress.set_total(duration.map(|d| d.mseconds()));
        }
        let duration = progress.total().map(Duration::from_millis);
        let position = self.counter.position();
        let message = ui::video_progress(position, duration, frames, self.started.elapsed());
        progress.update(position.as_millis() as u64, &message);
    }

    /// One line about the work done; `None` if there was none.
    fn summary(&self) -> Option<String> {
        let frames = self.counter.frames();
        (frames > 0).then(|| {
            format!(
                "{} in {:.1} s, {:.1} fps, {:.2} × realtime",
                ui::count(frames, "frame"),
                self.elapsed.as_secs_f64(),
                ui::rate(frames as f64, self.elapsed),
                ui::rate(self.counter.span().as_secs_f64(), self.elapsed)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_chooses_the_container() {
        assert_eq!(muxer(Path::new("a/b.MP4")), Some("mp4mux"));
        assert_eq!(muxer(Path::new("b.mkv")), Some("matroskamux"));
        assert!(with_muxer("b.avi".into()).is_err() && with_muxer("mp4".into()).is_err());
    }

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
