//! `facepipe run`: a ready pipeline with values for its variables.

mod library;
mod syntax;
mod template;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::error::ErrorKind;
use gst::prelude::*;
use serde::Serialize;

use self::template::Template;
use crate::output::{self, Output};
use crate::stages::Counter;
use crate::ui::{self, Progress};
use crate::{Outcome, graph, interrupt};

/// How long what is whole may take to get to the disk after Ctrl-C.
const TO_DISK: Duration = Duration::from_secs(60);

/// How long a pipeline may take to end after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(10);

/// Run a ready pipeline
///
/// --list shows the pipelines with their variables; those without a default must be given. Values
/// are taken as they are, with spaces and quotes; an empty one (gallery=) leaves the property unset.
/// Files get their names when they are whole. Ctrl-C ends early and keeps what was done; a second
/// Ctrl-C quits at once and keeps nothing.
///
///   facepipe run file-to-json input=party.mp4 gallery=friends.safetensors
///   facepipe run rtsp-to-screen input=rtsp://camera/stream --print
///
/// A pipeline of your own is a text file: lines that begin with # say what it is for, one line for
/// each variable, and below stands what gst-launch-1.0 takes, over as many lines as you like:
///
///   # Small pictures of a video
///   # ${input}: the video file
///   # ${width=320}: pixels
///   filesrc location=${input} ! decodebin ! videoscale ! video/x-raw,width=${width}
///       ! jpegenc ! multifilesink location=%05d.jpg
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The name of a pipeline, or the path of a file with one
    #[arg(required_unless_present = "list")]
    name: Option<String>,

    /// Values for its variables
    #[arg(value_name = "VARIABLE=VALUE", value_parser = assignment)]
    values: Vec<(String, String)>,

    /// Print the gst-launch-1.0 line that does the same, and do not run it (it needs the plugins:
    /// `make install`, or GST_PLUGIN_PATH)
    #[arg(long, conflicts_with = "list")]
    print: bool,

    /// Show the pipelines, or the one of that name, with their variables
    #[arg(long, conflicts_with = "values")]
    list: bool,

    /// With --list: print JSON
    #[arg(long, requires = "list")]
    json: bool,
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected VARIABLE=VALUE"),
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    let name = args.name.as_deref();
    if args.list {
        list(name, args.json)?;
        return Ok(Outcome::Done);
    }
    let name = name.context("clap requires a name")?;
    let template = library::find(name)?;
    let mut values = BTreeMap::new();
    for (variable, value) in &args.values {
        if values.insert(variable.clone(), value.clone()).is_some() {
            misuse(&format!("{variable} is given twice"));
        }
    }
    if let Some(objection) = template.objection(&values) {
        misuse(&format!("{name}: {objection}"));
    }
    let description = template.fill(&values)?;
    if args.print {
        ui::print(&(description.shell() + "\n"))?;
        return Ok(Outcome::Done);
    }
    Run::build(name, &description.launch())?.finish()
}

/// Ends the program as for any wrong usage.
fn misuse(message: &str) -> ! {
    use clap::Args as _;
    Args::augment_args(clap::Command::new("facepipe run"))
        .error(ErrorKind::InvalidValue, message)
        .exit()
}

/// A pipeline as `--list --json` prints it.
#[derive(Serialize)]
struct Entry {
    name: String,
    #[serde(flatten)]
    template: Template,
}

fn list(name: Option<&str>, json: bool) -> Result<()> {
    let names = match name {
        Some(name) => vec![name],
        None => library::ALL.iter().map(|(name, _)| *name).collect(),
    };
    let entry = |name: &str| {
        Ok(Entry {
            name: name.to_owned(),
            template: library::find(name)?,
        })
    };
    let entries = names.into_iter().map(entry).collect::<Result<Vec<_>>>()?;
    if json {
        return ui::print(&(serde_json::to_string_pretty(&entries)? + "\n"));
    }
    let blocks: Vec<String> = entries
        .iter()
        .map(|Entry { name, template }| {
            let mut block = format!("{name}: {}\n", template.title);
            if !template.comment.is_empty() {
                block += &format!("  {}\n", template.comment.replace('\n', "\n  "));
            }
            block + &template.table()
        })
        .collect();
    ui::print(&blocks.join("\n"))
}

/// The pipeline at work.
struct Run<'a> {
    name: &'a str,
    pipeline: graph::Running,
    counter: Arc<Counter>,
    outputs: Vec<Output>,
    undecodable: graph::Undecodable,
    /// Warnings that were shown.
    warnings: Vec<String>,
}

impl<'a> Run<'a> {
    fn build(name: &'a str, line: &str) -> Result<Self> {
        let pipeline = parse(line).with_context(|| name.to_owned())?;
        let elements = elements(&pipeline)?;
        let counter = Arc::new(Counter::default());
        if let Some(pad) = counted(&elements) {
            counter.watch(&pad);
        }
        Ok(Self {
            name,
            outputs: outputs(&elements)?,
            pipeline,
            counter,
            undecodable: graph::Undecodable::default(),
            warnings: Vec::new(),
        })
    }

    /// Runs until the end of the input, Ctrl-C or an error.
    fn finish(mut self) -> Result<Outcome> {
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
        // A live source has no other end.
        let cut_short = stopping.is_some() && progress.total().is_some();
        let summary = self.counter.summary(started.elapsed());
        drop(progress);
        // Shuts the pipeline down, which closes the files.
        drop(self.pipeline);
        interrupt::finish_within(TO_DISK);
        let Some(summary) = summary else {
            if stopping.is_some() {
                tell!("run: stopped by Ctrl-C before the first frame, no file was written");
                return Ok(Outcome::Interrupted);
            }
            return Err(self
                .undecodable
                .error(Path::new(self.name))
                .unwrap_or_else(|| anyhow!("no picture came out of the source of {}", self.name)));
        };
        tell!("run: {summary}");
        for output in self.outputs {
            tell!("run: wrote {}", output.keep()?);
        }
        Ok(if cut_short {
            Outcome::Interrupted
        } else {
            Outcome::Done
        })
    }

    /// Handles one message of the bus; `true` at the end of the stream.
    fn handle(&mut self, message: &gst::Message, progress: &Progress) -> Result<bool> {
        use gst::MessageView;
        match message.view() {
            MessageView::Eos(_) => return Ok(true),
            MessageView::Error(error) => {
                let name = Path::new(self.name);
                return Err(self.undecodable.explain(error, &self.pipeline, name));
            }
            MessageView::Warning(warning) => {
                let text = graph::warning(warning);
                if !self.warnings.contains(&text) {
                    progress.note(&format!("warning: {text}"));
                    self.warnings.push(text);
                }
            }
            MessageView::Element(element) => self.undecodable.note(element),
            MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            MessageView::ClockLost(_) => {
                // The documented way to have another one chosen.
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
    let missing = context.missing_elements();
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|name| name.as_str()).collect();
        return Err(graph::missing(&names));
    }
    match parsed?.downcast::<gst::Pipeline>() {
        Ok(pipeline) => Ok(graph::Running(pipeline)),
        Err(_) => bail!("a pipeline has at least two elements"),
    }
}

/// All elements, also inside of bins, sources first.
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

/// Where frames are counted: at the first detector or, without one, at a sink.
fn counted(elements: &[gst::Element]) -> Option<gst::Pad> {
    let detector = elements.iter().find(|e| factory(e) == "facedetector");
    let sink = || elements.iter().find(|e| e.num_src_pads() == 0);
    detector.or_else(sink)?.sink_pads().into_iter().next()
}

/// A string property that is set.
fn text(element: &gst::Element, property: &str) -> Option<String> {
    let spec = element.find_property(property)?;
    let is_text = spec.value_type() == glib::Type::STRING;
    is_text.then(|| element.property(property)).flatten()
}

/// Lets all `filesink`s write as all commands do: files appear whole or not at all, standard output is
/// appended to. Fails if one would replace what another element reads.
fn outputs(elements: &[gst::Element]) -> Result<Vec<Output>> {
    let (sinks, others): (Vec<_>, Vec<_>) = elements.iter().partition(|e| factory(e) == "filesink");
    let mut read: Vec<PathBuf> = Vec::new();
    for element in others {
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
