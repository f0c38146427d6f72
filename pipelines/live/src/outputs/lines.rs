//! The lines of a camera: adds camera and time, writes them, and derives events.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use face_meta::record::{Line, Tally, Times, Track};
use face_meta::track::TrackEnded;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

use super::Shared;
use super::moment::{Moment, in_millis};
use super::reporter::Reporter;
use super::writer::Writer;
use crate::config::Camera;
use crate::forgotten::Forgotten;
use crate::recent::CameraTracks;
use crate::strangers::Visit;
use crate::telemetry;
use face_parts::graph::{chain, free_sink, pad};
use face_parts::stages::picture_queue;

/// Takes the lines of a camera's pipelines, one pipeline at a time.
pub struct Lines {
    camera: String,
    jsonl: Option<Jsonl>,
    /// Locked while a line is handled, so that nobody is forgotten between its check and its writing.
    reporter: Mutex<Reporter>,
    forgotten: Arc<Forgotten>,
    telemetry: Arc<telemetry::Camera>,
}

struct Jsonl {
    writer: Arc<Writer>,
    only_faces: bool,
}

impl Lines {
    pub fn new(config: &Camera, shared: &Shared, tracks: &Arc<CameraTracks>) -> Result<Self> {
        let jsonl = config
            .jsonl
            .as_ref()
            .map(|jsonl| {
                Ok::<_, anyhow::Error>(Jsonl {
                    writer: shared.writers.get(&jsonl.path, &jsonl.rotation)?,
                    only_faces: jsonl.only_faces,
                })
            })
            .transpose()?;
        let telemetry = shared.telemetry.camera(&config.name);
        Ok(Self {
            camera: config.name.clone(),
            jsonl,
            reporter: Mutex::new(Reporter::new(config, shared, &telemetry, tracks)?),
            forgotten: shared.forgotten(&config.name),
            telemetry,
        })
    }

    /// Adds the branch to a pipeline.
    pub fn attach(self: &Arc<Self>, pipeline: &gst::Pipeline, tee: &gst::Element) -> Result<()> {
        use gst::prelude::*;
        let queue = picture_queue()?;
        let sink = free_sink("appsink")?
            .downcast::<gst_app::AppSink>()
            .ok()
            .context("appsink is not an AppSink")?;
        sink.set_property("enable-last-sample", false);
        let stream = Arc::new(Mutex::new(Stream {
            tally: Tally::default(),
            last: Moment::now(),
        }));
        let (lines, frames) = (self.clone(), stream.clone());
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let moment = Moment::of_frame(sink, &sample);
                    lines.frame(&mut frames.lock(), &sample, moment);
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let lines = self.clone();
        pad(sink.upcast_ref(), "sink")?.add_probe(
            gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::EVENT_FLUSH,
            move |_, info| {
                if let Some(event) = info.event() {
                    lines.event(&mut stream.lock(), event);
                }
                gst::PadProbeReturn::Ok
            },
        );
        chain(pipeline, &[&queue, sink.upcast_ref()])?;
        tee.link(&queue)?;
        Ok(())
    }

    fn frame(&self, stream: &mut Stream, sample: &gst::Sample, moment: Moment) {
        let info = sample.caps().map(gst_video::VideoInfo::from_caps);
        let (Some(buffer), Some(Ok(info))) = (sample.buffer(), info) else {
            return;
        };
        let times = Times::of(buffer.pts(), sample.segment());
        let faces = face_meta::read(buffer);
        let size = (info.width(), info.height());
        let (frame, ended) = stream.tally.frame(times, size, &faces);
        stream.last = moment;
        self.end_tracks(ended, moment);
        self.take(Line::Frame(frame), moment);
    }

    fn event(&self, stream: &mut Stream, event: &gst::Event) {
        use gst::EventView;
        let ended = match event.view() {
            EventView::StreamStart(_) | EventView::Eos(_) => stream.tally.end_all(),
            EventView::FlushStop(_) => {
                stream.tally = Tally::default();
                return;
            }
            _ => match TrackEnded::from_event(event) {
                Some(ended) => stream.tally.end(ended.id).into_iter().collect(),
                None => return,
            },
        };
        self.end_tracks(ended, stream.last);
    }

    fn end_tracks(&self, ended: Vec<Track>, moment: Moment) {
        for track in ended {
            self.take(Line::Track(track), moment);
        }
    }

    fn take(&self, mut line: Line, moment: Moment) {
        let mut reporter = self.reporter.lock();
        let left = self.forgotten.edit(&mut line);
        if let (Some(jsonl), Some(left)) = (&self.jsonl, left) {
            let empty = matches!(&*left, Line::Frame(frame) if frame.faces.is_empty());
            if !(empty && jsonl.only_faces) {
                let stamped = Stamped {
                    camera: &self.camera,
                    time: moment.time,
                    line: &left,
                };
                match stamped.to_bytes() {
                    Ok(text) => jsonl.writer.send(text, &self.telemetry),
                    Err(error) => {
                        tracing::error!("a line cannot be written: {error}");
                        self.telemetry.output_errors.inc();
                    }
                }
            }
        }
        reporter.line(&line, moment);
    }

    /// Forgets a person: no line or event written after this has the name, and earlier ones are in
    /// their files. Returns what is not written by the deadline.
    pub fn forget(&self, person: &str, deadline: Instant) -> Vec<String> {
        let mut reporter = self.reporter.lock();
        self.forgotten.add(person);
        reporter.forget(person);
        let events = reporter.writer().cloned();
        // New lines need not wait for this.
        drop(reporter);
        let lines = self.jsonl.as_ref().map(|jsonl| jsonl.writer.clone());
        let mut late = Vec::new();
        for (writer, what) in [(lines, "lines"), (events, "events")] {
            if writer.is_some_and(|writer| !writer.flush(deadline)) {
                late.push(format!(
                    "{what} wait to be written, as the disk is too slow"
                ));
            }
        }
        late
    }

    /// Reports that a stranger has a name now, and what this camera saw of them.
    pub fn named(&self, person: &str, name: &str, visits: Vec<Visit>) {
        self.reporter.lock().named(person, name, visits);
    }

    /// The camera's pipeline ended.
    pub fn lost(&self) {
        self.reporter.lock().lost(Moment::now());
    }
}

/// The stream of one pipeline.
struct Stream {
    tally: Tally,
    /// When the last frame was taken.
    last: Moment,
}

/// A line in its written form: camera and time come first.
#[derive(Serialize)]
struct Stamped<'a> {
    camera: &'a str,
    #[serde(serialize_with = "in_millis")]
    time: Timestamp,
    #[serde(flatten)]
    line: &'a Line,
}

impl Stamped<'_> {
    fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use face_meta::record::Frame;

    use super::*;

    #[test]
    fn camera_and_time_stand_first() {
        let line = Line::Frame(Frame {
            pts: Some(u64::MAX),
            ..Frame::default()
        });
        let stamped = Stamped {
            camera: "door",
            time: "2026-01-31T23:59:59.1239Z".parse().expect("a time"),
            line: &line,
        };
        assert_eq!(
            String::from_utf8(stamped.to_bytes().expect("serialises")).expect("text"),
            "{\"camera\":\"door\",\"time\":\"2026-01-31T23:59:59.123Z\",\"type\":\"frame\",\"frame\":0,\
             \"pts\":18446744073709551615,\"width\":0,\"height\":0,\"faces\":[]}\n"
        );
    }
}
