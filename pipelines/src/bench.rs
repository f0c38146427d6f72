//! `facepipe bench`: how fast this machine is on a video, and where the time goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use gst::prelude::*;
use serde::Serialize;

use crate::graph::{free_sink, make, pad, set};
use crate::stages::{self, Counter};
use crate::ui::{self, Progress};
use crate::{Outcome, address, graph, interrupt};

/// Measure how fast faces are analysed in a video, and where the time goes.
///
/// The video is decoded and goes through the stages of `annotate`, as fast as they can, and nothing
/// is written. Frames a second count from the first result on, before which the models are loaded.
/// The stages run in parallel, so their times a frame add up to more than the time that a frame
/// takes. With --streams, copies of the video run side by side in one process, and all figures are
/// those of all copies together.
#[derive(clap::Args)]
pub struct Args {
    /// The video: a file, or a URI such as rtsp://camera/stream or v4l2:///dev/video0
    input: PathBuf,

    #[command(flatten)]
    stages: stages::Args,

    /// Stop after so many seconds of the video; without it, at its end
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u32).range(1..))]
    seconds: Option<u32>,

    /// How many copies of the video run at once
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1024))]
    streams: u32,

    /// Print the figures as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let begin = Instant::now();
    let uri = stages::uri(&args.input)?;
    if let Some(gallery) = &args.stages.gallery {
        gstfacerecog::gallery::Gallery::read(gallery)?;
    }
    let pipeline = graph::Running::new();
    let streams = (0..args.streams)
        .map(|_| Stream::build(&pipeline, args, &uri))
        .collect::<Result<Vec<_>>>()?;
    let mut run = Run {
        args,
        pipeline,
        streams,
        begin,
        end: begin,
    };
    let outcome = run.finish()?;
    let Some(report) = run.report() else {
        if outcome == Outcome::Interrupted {
            tell!("bench: stopped by Ctrl-C before the first frame");
            return Ok(outcome);
        }
        bail!(
            "no frame of {} could be decoded",
            address::shown(&args.input)
        );
    };
    if args.json {
        ui::print(&(serde_json::to_string(&report)? + "\n"))?;
    } else {
        ui::print(&report.readable())?;
    }
    Ok(outcome)
}

/// One copy of the video on its way.
struct Stream {
    counter: Arc<Counter>,
}

impl Stream {
    fn build(pipeline: &gst::Pipeline, args: &Args, uri: &str) -> Result<Self> {
        let source = make("uridecodebin")?;
        set(&source, "uri", uri)?;
        // Nothing but video is decoded.
        set(&source, "caps", "video/x-raw(ANY)")?;
        set(&source, "expose-all-streams", false)?;
        let sink = free_sink("fakesink")?;
        pipeline.add(&source)?;
        let entry = stages::build(pipeline, &args.stages, &sink)?;
        let counter = Arc::new(Counter::default());
        counter.watch(&pad(&sink, "sink")?);
        let entry = pad(&entry, "sink")?;
        if let Some(seconds) = args.seconds {
            end_after(&entry, gst::ClockTime::from_seconds(seconds.into()));
        }
        source.connect_pad_added(move |_, pad| {
            // A second video stays unlinked.
            if !entry.is_linked() {
                let _ = pad.link(&entry);
            }
        });
        Ok(Self { counter })
    }
}

/// Ends the stream on `pad` after `length` of it.
fn end_after(pad: &gst::Pad, length: gst::ClockTime) {
    let first = std::sync::OnceLock::new();
    let ended = AtomicBool::new(false);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) else {
            return gst::PadProbeReturn::Ok;
        };
        if pts.saturating_sub(*first.get_or_init(|| pts)) < length {
            return gst::PadProbeReturn::Ok;
        }
        if !ended.swap(true, Ordering::Relaxed) {
            pad.send_event(gst::event::Eos::new());
        }
        // Tells the source to stop.
        info.flow_res = Err(gst::FlowError::Eos);
        gst::PadProbeReturn::Handled
    });
}

struct Run<'a> {
    args: &'a Args,
    pipeline: graph::Running,
    streams: Vec<Stream>,
    begin: Instant,
    end: Instant,
}

impl Run<'_> {
    /// Runs until the end of the input, Ctrl-C or an error.
    fn finish(&mut self) -> Result<Outcome> {
        let outcome = self.play();
        self.end = Instant::now();
        outcome
    }

    fn play(&mut self) -> Result<Outcome> {
        graph::start_alone(&self.pipeline)?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let mut progress = Progress::new("bench", None);
        let mut undecodable = graph::Undecodable::default();
        let input = &self.args.input;
        while !interrupt::requested() {
            self.show(&mut progress);
            let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100)) else {
                continue;
            };
            match message.view() {
                gst::MessageView::Eos(_) => return Ok(Outcome::Done),
                gst::MessageView::Error(error) => {
                    // decodebin, asked for video only, lacks a decoder that makes some of sound.
                    let no_video = error.error().matches(gst::CoreError::MissingPlugin);
                    let cause = undecodable.explain(error, &self.pipeline, input);
                    return Err(match no_video && undecodable.is_empty() {
                        true => anyhow!("{} has no video", address::shown(input)),
                        false => cause,
                    });
                }
                gst::MessageView::Element(element) => undecodable.note(element),
                gst::MessageView::Latency(_) => {
                    let _ = self.pipeline.recalculate_latency();
                }
                _ => {}
            }
        }
        Ok(Outcome::Interrupted)
    }

    fn frames(&self) -> u64 {
        self.streams.iter().map(|s| s.counter.frames()).sum()
    }

    fn show(&self, progress: &mut Progress) {
        if self.first().is_none() {
            return;
        }
        if progress.total().is_none() {
            let whole = self.pipeline.query_duration::<gst::ClockTime>();
            let wanted = self.args.seconds.map(|s| 1000 * u64::from(s));
            let whole = whole.map(gst::ClockTime::mseconds);
            progress.set_total(match (whole, wanted) {
                (Some(whole), Some(wanted)) => Some(whole.min(wanted)),
                (whole, wanted) => whole.or(wanted),
            });
        }
        let slowest = self.streams.iter().map(|s| s.counter.span()).min();
        let position = slowest.unwrap_or_default();
        let duration = progress.total().map(Duration::from_millis);
        let message = ui::video_progress(position, duration, self.frames(), self.begin.elapsed());
        progress.update(position.as_millis() as u64, &message);
    }

    /// When the first result came.
    fn first(&self) -> Option<Instant> {
        self.streams.iter().filter_map(|s| s.counter.first()).min()
    }

    /// The figures; `None` if there was no frame.
    fn report(&self) -> Option<Report> {
        let first = self.first()?;
        let frames = self.frames();
        // The first frame ends the start-up. A picture has no other.
        let (counted, since) = match frames {
            1 => (1, self.begin),
            _ => (frames - 1, first),
        };
        let elapsed = self.end - since;
        let spans: Duration = self.streams.iter().map(|s| s.counter.span()).sum();
        let names = [
            "facedetector",
            "facetracker",
            "facerecognizer",
            "faceagegender",
        ];
        let stages = names.iter().filter_map(|name| self.stage(name)).collect();
        Some(Report {
            input: address::shown(&self.args.input),
            streams: self.args.streams,
            frames,
            seconds: elapsed.as_secs_f64(),
            fps: ui::rate(counted as f64, elapsed),
            realtime: ui::rate(spans.as_secs_f64(), elapsed),
            startup_seconds: (first - self.begin).as_secs_f64(),
            peak_memory_bytes: peak_memory(),
            stages,
        })
    }

    /// What all elements of one kind did together; `None` if there are none.
    fn stage(&self, name: &'static str) -> Option<Stage> {
        let mut stage = Stage::default();
        for element in self.pipeline.children() {
            if element.factory().is_some_and(|f| f.name() == name) {
                stage.element = name;
                stage.add(&element.property::<gst::Structure>(face_core::stats::PROPERTY));
            }
        }
        (!stage.element.is_empty()).then_some(stage)
    }
}

/// The most memory that this process ever had, in bytes; `None` where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The work of one kind of element: sums of their property `stats`.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Stage {
    element: &'static str,
    frames: u64,
    faces: u64,
    /// `None` where no model runs.
    inferences: Option<u64>,
    ms_per_frame: f64,
    sample_ms_per_inference: Option<f64>,
    infer_ms_per_inference: Option<f64>,
    #[serde(skip)]
    total: u64,
    #[serde(skip)]
    sample: u64,
    #[serde(skip)]
    infer: u64,
}

impl Stage {
    fn add(&mut self, stats: &gst::Structure) {
        let number = |field| stats.get::<u64>(field).ok();
        self.frames += number("frames").unwrap_or(0);
        self.faces += number("faces").unwrap_or(0);
        self.total += number("time-total").unwrap_or(0);
        self.ms_per_frame = ms_each(self.total, self.frames).unwrap_or(0.0);
        if let Some(inferences) = number("inferences") {
            let inferences = inferences + self.inferences.unwrap_or(0);
            self.inferences = Some(inferences);
            self.sample += number("time-sample").unwrap_or(0);
            self.infer += number("time-infer").unwrap_or(0);
            self.sample_ms_per_inference = ms_each(self.sample, inferences);
            self.infer_ms_per_inference = ms_each(self.infer, inferences);
        }
    }

    fn row(&self) -> Vec<String> {
        let ms = |value: Option<f64>| value.map_or("-".into(), |ms| format!("{ms:.2}"));
        vec![
            self.element.to_owned(),
            ms(Some(self.ms_per_frame)),
            self.faces.to_string(),
            self.inferences.map_or("-".into(), |n| n.to_string()),
            ms(self.sample_ms_per_inference),
            ms(self.infer_ms_per_inference),
        ]
    }
}

/// Milliseconds for each of `count`, of `time` nanoseconds.
fn ms_each(time: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| time as f64 / 1e6 / count as f64)
}

#[derive(Serialize)]
struct Report {
    input: String,
    streams: u32,
    frames: u64,
    /// From the first result to the end.
    seconds: f64,
    fps: f64,
    realtime: f64,
    startup_seconds: f64,
    peak_memory_bytes: Option<u64>,
    stages: Vec<Stage>,
}

impl Report {
    fn readable(&self) -> String {
        let mut head = ui::count(self.frames, "frame");
        if self.streams > 1 {
            head += &format!(" of {} streams", self.streams);
        }
        let mut text = format!(
            "{head} in {:.1} s, {:.1} fps, {:.2} × realtime\nfirst result after {:.0} ms",
            self.seconds,
            self.fps,
            self.realtime,
            1e3 * self.startup_seconds
        );
        if let Some(bytes) = self.peak_memory_bytes {
            text += &format!(", at most {} MiB of memory", bytes >> 20);
        }
        let columns = [
            "stage",
            "ms/frame",
            "faces",
            "inferences",
            "ms sampling each",
            "ms running each",
        ];
        let mut rows = vec![columns.map(str::to_owned).to_vec()];
        rows.extend(self.stages.iter().map(Stage::row));
        let all: f64 = self.stages.iter().map(|s| s.ms_per_frame).sum();
        rows.push(vec!["all".into(), format!("{all:.2}")]);
        text + "\n\n" + &ui::table(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_elements_of_a_kind_add_up() {
        gst::init().expect("GStreamer starts");
        let stats = gst::Structure::builder("face-stats")
            .field("frames", 10u64)
            .field("faces", 4u64)
            .field("inferences", 2u64)
            .field("time-total", 30_000_000u64)
            .field("time-sample", 1_000_000u64)
            .field("time-infer", 8_000_000u64)
            .build();
        let mut stage = Stage::default();
        stage.add(&stats);
        stage.add(&stats);
        assert_eq!((stage.frames, stage.faces), (20, 8));
        assert_eq!(stage.inferences, Some(4));
        assert_eq!(stage.ms_per_frame, 3.0);
        assert_eq!(stage.sample_ms_per_inference, Some(0.5));
        assert_eq!(stage.infer_ms_per_inference, Some(4.0));
    }

    #[test]
    fn a_stage_without_a_model_has_no_inferences() {
        gst::init().expect("GStreamer starts");
        let stats = gst::Structure::builder("face-stats")
            .field("frames", 0u64)
            .build();
        let mut stage = Stage::default();
        stage.add(&stats);
        assert_eq!(stage.row(), ["", "0.00", "0", "-", "-", "-"]);
    }
}
