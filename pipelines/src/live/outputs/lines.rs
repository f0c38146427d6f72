//! The lines of a camera: stamped, written, and looked at for events.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use super::Shared;
use super::moment::Moment;
use super::reporter::Reporter;
use super::writer::Writer;
use crate::graph::{chain, free_sink, make};
use crate::live::config::Camera;
use crate::live::forgotten::Forgotten;
use crate::live::telemetry;
use crate::record::Line;
use crate::stages::picture_queue;

/// Takes the lines of one pipeline after the other.
pub struct Lines {
    /// `{"camera":"NAME","time":"`
    prefix: String,
    jsonl: Option<Jsonl>,
    /// Locked while a line is taken, so that nobody is forgotten between the look at it and its writing.
    reporter: Mutex<Reporter>,
    forgotten: Arc<Forgotten>,
    telemetry: Arc<telemetry::Camera>,
}

struct Jsonl {
    writer: Arc<Writer>,
    only_faces: bool,
}

impl Lines {
    pub fn new(config: &Camera, shared: &Shared) -> Result<Self> {
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
            prefix: format!(
                r#"{{"camera":{},"time":""#,
                serde_json::Value::from(config.name.as_str())
            ),
            jsonl,
            reporter: Mutex::new(Reporter::new(config, shared, &telemetry)?),
            forgotten: shared.forgotten(&config.name),
            telemetry,
        })
    }

    /// The branch of a pipeline.
    pub fn attach(self: &Arc<Self>, pipeline: &gst::Pipeline, tee: &gst::Element) -> Result<()> {
        use gst::prelude::*;
        let queue = picture_queue()?;
        let json = make("facemetajson")?;
        let sink = free_sink("appsink")?
            .downcast::<gst_app::AppSink>()
            .ok()
            .context("appsink is no AppSink")?;
        let lines = self.clone();
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let moment = Moment::of_frame(sink, &sample);
                    if let Some(map) = sample.buffer().and_then(|b| b.map_readable().ok()) {
                        lines.take(&map, moment);
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        chain(pipeline, &[&queue, &json, sink.upcast_ref()])?;
        tee.link(&queue)?;
        Ok(())
    }

    fn take(&self, text: &[u8], moment: Moment) {
        let parsed = std::str::from_utf8(text)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok((text, serde_json::from_str(text)?)));
        let (text, mut line): (_, Line) = match parsed {
            Ok(line) => line,
            // A box with numbers that are none; facemetajson writes null.
            Err(error) => {
                tracing::debug!("a line is left out: {error}");
                return self.telemetry.output_errors.inc();
            }
        };
        let mut reporter = self.reporter();
        let left = self.forgotten.edit(text, &mut line);
        if let (Some(jsonl), Some(text)) = (&self.jsonl, left) {
            let empty = matches!(&line, Line::Frame(frame) if frame.faces.is_empty());
            if !(empty && jsonl.only_faces) {
                let text = stamped(&self.prefix, text.as_bytes(), moment);
                jsonl.writer.send(text, &self.telemetry);
            }
        }
        reporter.line(&line, moment);
    }

    /// Forgets a person: no line or event that is written after this has the name, and those before it
    /// are in their files. Returns what is not there by the deadline.
    pub fn forget(&self, person: &str, deadline: Instant) -> Vec<String> {
        let mut reporter = self.reporter();
        self.forgotten.add(person);
        reporter.forget(person);
        let events = reporter.writer().cloned();
        // The lines go on.
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

    /// The camera's pipeline ended.
    pub fn lost(&self) {
        self.reporter().lost(Moment::now());
    }

    fn reporter(&self) -> std::sync::MutexGuard<'_, Reporter> {
        self.reporter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `line`, a JSON object, with camera and time in front of its keys.
fn stamped(prefix: &str, line: &[u8], moment: Moment) -> Vec<u8> {
    let mut text = format!("{prefix}{:.3}\",", moment.time).into_bytes();
    text.extend_from_slice(line.strip_prefix(b"{").unwrap_or(line));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn camera_and_time_stand_first() {
        let moment = Moment {
            time: "2026-01-31T23:59:59.1239Z".parse().expect("a time"),
            ..Moment::now()
        };
        let line = stamped(
            r#"{"camera":"door","time":""#,
            b"{\"type\":\"frame\"}\n",
            moment,
        );
        assert_eq!(
            String::from_utf8(line).expect("text"),
            "{\"camera\":\"door\",\"time\":\"2026-01-31T23:59:59.123Z\",\"type\":\"frame\"}\n"
        );
    }
}
