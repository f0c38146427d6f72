//! Measures how fast this machine analyses a video, and where the time goes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use face_parts::graph::{free_sink, make, pad, set};
use face_parts::stages::{self, Counter};
use face_parts::ui::{self, Progress};
use face_parts::{address, graph, interrupt};
use gst::prelude::*;
use serde::Serialize;

/// What to measure.
pub struct Trial<'a> {
    /// A file or an address.
    pub input: &'a Path,
    pub stages: &'a stages::Options,
    /// How much of the video; `None` means all.
    pub seconds: Option<u32>,
    /// How many copies of the video run at once.
    pub streams: u32,
}

/// The figures for all copies together.
#[derive(Serialize)]
pub struct Measurement {
    pub input: String,
    pub streams: u32,
    pub frames: u64,
    /// From the first result to the end.
    pub seconds: f64,
    pub fps: f64,
    pub realtime: f64,
    pub startup_seconds: f64,
    pub peak_memory_bytes: Option<u64>,
    pub stages: Vec<StageTimes>,
    /// Whether Ctrl-C ended it.
    #[serde(skip)]
    pub interrupted: bool,
}

/// Sends a video through the stages at full speed. `None` if Ctrl-C came before the first frame.
pub fn measure(trial: &Trial) -> Result<Option<Measurement>> {
    let begin = Instant::now();
    let uri = stages::uri(trial.input)?;
    if let Some(gallery) = &trial.stages.gallery {
        face_gallery::Gallery::read(gallery)?;
    }
    let pipeline = graph::Running::new();
    let copies = (0..trial.streams)
        .map(|_| VideoCopy::build(&pipeline, trial, &uri))
        .collect::<Result<Vec<_>>>()?;
    let mut run = TrialRun {
        trial,
        pipeline,
        copies,
        begin,
        end: begin,
    };
    let interrupted = run.finish()?;
    let measurement = run.measurement(interrupted);
    if measurement.is_none() && !interrupted {
        bail!(
            "no frame of {} could be decoded",
            address::shown(trial.input)
        );
    }
    Ok(measurement)
}

/// A running copy of the video.
struct VideoCopy {
    counter: Arc<Counter>,
}

impl VideoCopy {
    fn build(pipeline: &gst::Pipeline, trial: &Trial, uri: &str) -> Result<Self> {
        let source = make("uridecodebin")?;
        set(&source, "uri", uri)?;
        // Decodes nothing but video.
        set(&source, "caps", "video/x-raw(ANY)")?;
        set(&source, "expose-all-streams", false)?;
        let sink = free_sink("fakesink")?;
        pipeline.add(&source)?;
        let entry = stages::build(pipeline, trial.stages, &sink)?;
        let counter = Arc::new(Counter::default());
        counter.watch(&pad(&sink, "sink")?);
        let entry = pad(&entry, "sink")?;
        if let Some(seconds) = trial.seconds {
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

/// Ends the stream on `pad` after `length`.
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

struct TrialRun<'a> {
    trial: &'a Trial<'a>,
    pipeline: graph::Running,
    copies: Vec<VideoCopy>,
    begin: Instant,
    end: Instant,
}

impl TrialRun<'_> {
    /// Runs until the end of the input, Ctrl-C or an error. Returns whether it was Ctrl-C.
    fn finish(&mut self) -> Result<bool> {
        let interrupted = self.play();
        self.end = Instant::now();
        interrupted
    }

    fn play(&mut self) -> Result<bool> {
        graph::start_alone(&self.pipeline)?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let mut progress = Progress::new("bench", None);
        let mut undecodable = graph::Undecodable::default();
        let input = self.trial.input;
        while !interrupt::requested() {
            self.show(&mut progress);
            let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100)) else {
                continue;
            };
            match message.view() {
                gst::MessageView::Eos(_) => return Ok(false),
                gst::MessageView::Error(error) => {
                    // For audio only, decodebin reports a missing decoder, as it was asked for video.
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
        Ok(true)
    }

    fn frames(&self) -> u64 {
        self.copies.iter().map(|s| s.counter.frames()).sum()
    }

    fn show(&self, progress: &mut Progress) {
        if self.first().is_none() {
            return;
        }
        if progress.total().is_none() {
            let whole = self.pipeline.query_duration::<gst::ClockTime>();
            let wanted = self.trial.seconds.map(|s| 1000 * u64::from(s));
            let whole = whole.map(gst::ClockTime::mseconds);
            progress.set_total(match (whole, wanted) {
                (Some(whole), Some(wanted)) => Some(whole.min(wanted)),
                (whole, wanted) => whole.or(wanted),
            });
        }
        let slowest = self.copies.iter().map(|s| s.counter.span()).min();
        let position = slowest.unwrap_or_default();
        let duration = progress.total().map(Duration::from_millis);
        let message = ui::video_progress(position, duration, self.frames(), self.begin.elapsed());
        progress.update(position.as_millis() as u64, &message);
    }

    /// When the first result came.
    fn first(&self) -> Option<Instant> {
        self.copies.iter().filter_map(|s| s.counter.first()).min()
    }

    /// The figures. `None` if there was no frame.
    fn measurement(&self, interrupted: bool) -> Option<Measurement> {
        let first = self.first()?;
        let frames = self.frames();
        // The first frame ends the start-up. A picture has no other.
        let (counted, since) = match frames {
            1 => (1, self.begin),
            _ => (frames - 1, first),
        };
        let elapsed = self.end - since;
        let spans: Duration = self.copies.iter().map(|s| s.counter.span()).sum();
        let names = [
            "facedetector",
            "facetracker",
            "facerecognizer",
            "faceagegender",
            "faceexpression",
        ];
        let stages = names.iter().filter_map(|name| self.stage(name)).collect();
        Some(Measurement {
            input: address::shown(self.trial.input),
            streams: self.trial.streams,
            frames,
            seconds: elapsed.as_secs_f64(),
            fps: ui::rate(counted as f64, elapsed),
            realtime: ui::rate(spans.as_secs_f64(), elapsed),
            startup_seconds: (first - self.begin).as_secs_f64(),
            peak_memory_bytes: peak_memory(),
            stages,
            interrupted,
        })
    }

    /// The sums over all elements of one kind. `None` if there are none.
    fn stage(&self, name: &'static str) -> Option<StageTimes> {
        let mut stage = StageTimes::default();
        for element in self.pipeline.children() {
            if element.factory().is_some_and(|f| f.name() == name) {
                stage.element = name;
                stage.add(&element.property::<gst::Structure>(face_core::stats::PROPERTY));
            }
        }
        (!stage.element.is_empty()).then_some(stage)
    }
}

/// The peak memory of this process, in bytes. `None` if the system does not report it.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// The work of one kind of element: sums of their property `stats`.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct StageTimes {
    pub element: &'static str,
    pub frames: u64,
    pub faces: u64,
    /// `None` if no model runs.
    pub inferences: Option<u64>,
    pub ms_per_frame: f64,
    pub sample_ms_per_inference: Option<f64>,
    pub infer_ms_per_inference: Option<f64>,
    #[serde(skip)]
    total: u64,
    #[serde(skip)]
    sample: u64,
    #[serde(skip)]
    infer: u64,
}

impl StageTimes {
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
}

/// The milliseconds for each of `count` in a total of `time` nanoseconds.
fn ms_each(time: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| time as f64 / 1e6 / count as f64)
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
        let mut stage = StageTimes::default();
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
        let mut stage = StageTimes::default();
        stage.add(&stats);
        assert_eq!(stage, StageTimes::default());
    }
}
