//! Plays a pipeline from its launch line to its end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gst::prelude::*;

use crate::output::{self, Output, Target};
use crate::source::mend;
use crate::stages::Counter;
use crate::ui::Progress;
use crate::video::assume_rate;
use crate::{graph, interrupt};

/// How long finished output may take to reach the disk after Ctrl-C.
const TO_DISK: Duration = Duration::from_secs(60);

/// How long a pipeline may take to end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(10);

/// The result of a pipeline.
pub struct Played {
    /// The number of frames and the time they took.
    pub summary: String,
    /// Finished, but not kept yet.
    pub outputs: Vec<Output>,
    /// What is missing of the inputs, in words for the user.
    pub flaws: Vec<String>,
    /// What the decoders complained about.
    pub complaints: Vec<String>,
    /// Whether Ctrl-C came before the end.
    pub interrupted: bool,
}

/// Plays the pipeline in `line`, which users know as `name`. `None` if Ctrl-C came before the first
/// frame.
pub fn play(name: &str, line: &str) -> Result<Option<Played>> {
    Playing::build(name, line)?.finish()
}

/// A running pipeline.
struct Playing<'a> {
    name: &'a str,
    pipeline: graph::Running,
    counter: Arc<Counter>,
    outputs: Vec<Output>,
    undecodable: graph::Undecodable,
    flaws: Vec<String>,
    warnings: graph::Warnings,
}

impl<'a> Playing<'a> {
    fn build(name: &'a str, line: &str) -> Result<Self> {
        let pipeline = parse(line).with_context(|| name.to_owned())?;
        let elements = elements(&pipeline)?;
        let counter = Arc::new(Counter::default());
        if let Some(pad) = counted(&elements) {
            counter.watch(&pad);
        }
        for encoder in elements.iter().filter(|e| factory(e) == "x264enc") {
            assume_rate(&graph::pad(encoder, "sink")?);
        }
        mend::mend(&pipeline);
        let flaws: Vec<String> = elements.iter().filter_map(flaw).collect();
        Ok(Self {
            name,
            outputs: outputs(&elements)?,
            pipeline,
            counter,
            undecodable: graph::Undecodable::of(flaws.first().cloned()),
            flaws,
            warnings: graph::Warnings::default(),
        })
    }

    /// Runs until the end of the input, Ctrl-C or an error.
    fn finish(mut self) -> Result<Option<Played>> {
        graph::start_alone(&self.pipeline)?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let started = Instant::now();
        let mut progress = Progress::new("run", None);
        let mut stopping: Option<Instant> = None;
        loop {
            if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100))
                && self.handle(&message, &progress)?
            {
                break;
            }
            // A sink that lost its server may never end.
            if stopping.is_some_and(|since| since.elapsed() > PATIENCE) {
                progress.note("the pipeline does not end; quitting");
                interrupt::quit();
            }
            if interrupt::requested() && stopping.is_none() {
                stopping = Some(Instant::now());
                progress.note("finishing; Ctrl-C again quits at once");
                self.pipeline.send_event(gst::event::Eos::new());
            }
            self.counter.show(&self.pipeline, started, &mut progress);
        }
        // A live source ends in no other way.
        let cut_short = stopping.is_some() && progress.total().is_some();
        let summary = self.counter.summary(started.elapsed());
        drop(progress);
        // Shuts the pipeline down, which closes the files.
        drop(self.pipeline);
        interrupt::finish_within(TO_DISK);
        let Some(summary) = summary else {
            if stopping.is_some() {
                return Ok(None);
            }
            return Err(self
                .undecodable
                .error(Path::new(self.name))
                .unwrap_or_else(|| anyhow!("the source of {} produced no picture", self.name)));
        };
        // Each was shown when it came first.
        let warnings = self
            .warnings
            .summary()
            .filter(|_| self.warnings.count() > 1);
        Ok(Some(Played {
            summary,
            outputs: self.outputs,
            flaws: self.flaws,
            complaints: warnings.into_iter().chain(self.counter.damage()).collect(),
            interrupted: cut_short,
        }))
    }

    /// Handles one message of the bus. Returns `true` at the end of the stream.
    fn handle(&mut self, message: &gst::Message, progress: &Progress) -> Result<bool> {
        use gst::MessageView;
        match message.view() {
            MessageView::Eos(_) => return Ok(true),
            MessageView::Error(error) => {
                let name = Path::new(self.name);
                return Err(self.undecodable.explain(error, &self.pipeline, name));
            }
            MessageView::Warning(warning) => {
                if let Some(text) = self.warnings.note(warning) {
                    progress.note(&format!("warning: {text}"));
                }
            }
            MessageView::Element(element) => self.undecodable.note(element),
            MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            MessageView::ClockLost(_) => {
                // The documented way to select another clock.
                self.pipeline.set_state(gst::State::Paused)?;
                self.pipeline.set_state(gst::State::Playing)?;
            }
            _ => {}
        }
        Ok(false)
    }
}

fn parse(line: &str) -> Result<graph::Running> {
    let mut context = gst::ParseContext::new();
    let flags = gst::ParseFlags::FATAL_ERRORS;
    let parsed = gst::parse::launch_full(line, Some(&mut context), flags);
    // GStreamer also lists elements that it has, but that do not accept a value.
    let missing = context.missing_elements();
    let missing = missing.iter().map(|name| name.as_str());
    let names: Vec<_> = missing
        .filter(|name| gst::ElementFactory::find(name).is_none())
        .collect();
    if !names.is_empty() {
        return Err(graph::missing(&names));
    }
    match parsed?.downcast::<gst::Pipeline>() {
        Ok(pipeline) => Ok(graph::Running(pipeline)),
        Err(_) => bail!("a pipeline has at least two elements"),
    }
}

/// All elements, including those inside bins, sources first.
fn elements(pipeline: &gst::Pipeline) -> Result<Vec<gst::Element>> {
    let mut elements = Vec::new();
    for element in pipeline.iterate_recurse() {
        elements.push(element?);
    }
    elements.reverse();
    Ok(elements)
}

fn factory(element: &gst::Element) -> String {
    element
        .factory()
        .map(|f| f.name().into())
        .unwrap_or_default()
}

fn is_sink(element: &gst::Element) -> bool {
    element.element_flags().contains(gst::ElementFlags::SINK)
}

/// The pad where frames are counted: at the first detector or, without one, at a sink.
fn counted(elements: &[gst::Element]) -> Option<gst::Pad> {
    let detector = elements.iter().find(|e| factory(e) == "facedetector");
    let sink = || elements.iter().find(|e| is_sink(e));
    detector.or_else(sink)?.sink_pads().into_iter().next()
}

/// What is missing of the file that an element reads, with its name.
fn flaw(element: &gst::Element) -> Option<String> {
    let path = match factory(element).as_str() {
        "filesrc" => mend::location(element)?,
        "uridecodebin" => mend::file(&text(element, "uri")?)?,
        _ => return None,
    };
    mend::flaw(&path).map(|flaw| format!("{}: {flaw}", path.display()))
}

/// The value of a string property, if it is set.
fn text(element: &gst::Element, property: &str) -> Option<String> {
    let spec = element.find_property(property)?;
    let is_text = spec.value_type() == glib::Type::STRING;
    is_text.then(|| element.property(property)).flatten()
}

/// Fails if a sink other than `filesink` would replace a pipe or a device with a file, as
/// `multifilesink` does.
fn check_foreign(sink: &str, location: &str) -> Result<()> {
    // The locations of network sinks are addresses.
    if location.contains("://") {
        return Ok(());
    }
    if let Ok(Target::Descriptor(_) | Target::Stream(_)) = Target::of(Path::new(location)) {
        bail!("{sink} would replace {location} with a file; use filesink");
    }
    Ok(())
}

/// Makes all `filesink`s write like the commands do: files appear whole or not at all, and standard
/// output is appended to. Fails if an output would replace the input of another element.
fn outputs(elements: &[gst::Element]) -> Result<Vec<Output>> {
    let (sinks, others): (Vec<_>, Vec<_>) = elements.iter().partition(|e| factory(e) == "filesink");
    let mut read: Vec<PathBuf> = Vec::new();
    for element in others {
        if is_sink(element)
            && let Some(location) = text(element, "location")
        {
            check_foreign(&factory(element), &location)?;
            continue;
        }
        let paths = ["location", "gallery"].map(|name| text(element, name));
        read.extend(paths.into_iter().flatten().map(PathBuf::from));
        let uri = text(element, "uri").and_then(|uri| glib::filename_from_uri(&uri).ok());
        read.extend(uri.map(|(path, _)| path));
    }
    let mut outputs = Vec::new();
    for sink in sinks {
        let Some(path) = text(sink, "location").map(PathBuf::from) else {
            continue;
        };
        for other in &read {
            ensure!(
                !output::same_file(&path, other),
                "{} would be replaced by the output; choose another name",
                other.display()
            );
        }
        let output = Output::create(&path)?;
        graph::write_to(sink, &output)?;
        outputs.push(output);
        read.push(path);
    }
    Ok(outputs)
}
