//! Marks the faces in a video, and writes their data as JSON lines.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use face_parts::branches::{build_audio, build_json, build_video};
use face_parts::graph::{make, pad};
use face_parts::output::{self, Output};
use face_parts::source::Source;
use face_parts::stages::{self, Counter};
use face_parts::ui::Progress;
use face_parts::{address, graph, interrupt};
use gst::prelude::*;

/// How long the end of a video may take after Ctrl-C: pending frames are encoded, and everything is
/// written to the disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to read and write.
pub struct Annotation<'a> {
    /// A file or an address.
    pub input: &'a Path,
    pub stages: &'a stages::Options,
    /// The annotated video, .mp4 or .mkv.
    pub video: Option<&'a Path>,
    /// The JSON lines.
    pub json: Option<&'a Path>,
}

/// The outcome.
pub struct Annotated {
    /// The number of frames and the time they took.
    pub summary: String,
    /// The outputs by their names as users know them.
    pub written: Vec<String>,
    /// What is missing of the input.
    pub flaw: Option<String>,
    /// What the decoder complained about.
    pub complaints: Vec<String>,
    /// Whether Ctrl-C came before the end.
    pub interrupted: bool,
}

/// Sends a video through the stages and writes the results. `None` if Ctrl-C came before the first
/// frame; then nothing was written.
pub fn annotate(annotation: &Annotation) -> Result<Option<Annotated>> {
    let uri = stages::uri(annotation.input)?;
    check_files(annotation)?;
    let video = annotation.video.map(Output::create).transpose()?;
    let json = annotation.json.map(Output::create).transpose()?;

    let mut run = AnnotationRun::build(annotation, &uri, video.as_ref(), json.as_ref())?;
    let interrupted = run.finish()?;
    let summary = run.counter.summary(run.elapsed);
    let flaw = run.source.flaw().map(str::to_owned);
    let complaints = run.source.warnings().into_iter();
    let complaints = complaints.chain(run.counter.damage()).collect();
    // Shuts the pipeline down, which closes the files.
    drop(run);
    let Some(summary) = summary else {
        if interrupt::requested() {
            return Ok(None);
        }
        let input = address::shown(annotation.input);
        if let Some(flaw) = flaw {
            bail!("{input}: {flaw}; nothing could be decoded");
        }
        bail!("no frame of {input} could be decoded; nothing was written");
    };
    let written = [video, json]
        .into_iter()
        .flatten()
        .map(Output::keep)
        .collect::<Result<Vec<_>>>()?;
    Ok(Some(Annotated {
        summary,
        written,
        flaw: flaw.map(|flaw| format!("{}: {flaw}", address::shown(annotation.input))),
        complaints,
        interrupted,
    }))
}

/// Fails early if an input cannot be read or an output cannot be written.
fn check_files(annotation: &Annotation) -> Result<()> {
    if let Some(gallery) = &annotation.stages.gallery {
        face_gallery::Gallery::read(gallery)?;
    }
    let gallery = annotation.stages.gallery.as_deref();
    for output in annotation.video.into_iter().chain(annotation.json) {
        output::check_folder(output)?;
        let others = std::iter::once(annotation.input).chain(gallery);
        for other in others {
            ensure!(
                !output::same_file(output, other),
                "{} would be replaced by the output; choose another name",
                other.display()
            );
        }
    }
    if let (Some(video), Some(json)) = (annotation.video, annotation.json) {
        ensure!(
            !output::same_file(video, json),
            "-o and --json name the same file"
        );
    }
    Ok(())
}

/// A running pipeline.
struct AnnotationRun {
    pipeline: graph::Running,
    source: Source,
    counter: Arc<Counter>,
    mux: Option<gst::Element>,
    only_files: bool,
    started: Instant,
    elapsed: Duration,
}

impl AnnotationRun {
    fn build(
        annotation: &Annotation,
        uri: &str,
        video: Option<&Output>,
        json: Option<&Output>,
    ) -> Result<Self> {
        let pipeline = graph::Running::new();
        let last = make("tee")?;
        let first = stages::build(&pipeline, annotation.stages, &last)?;
        let source = Source::build(&pipeline, annotation.input, uri, &first)?;
        let counter = Arc::new(Counter::default());
        counter.watch(&pad(&last, "sink")?);
        if let Some(json) = json {
            build_json(&pipeline, &last, json)?;
        }
        let mux = video
            .map(|video| build_video(&pipeline, &last, annotation.video, video))
            .transpose()?;
        Ok(Self {
            pipeline,
            source,
            counter,
            mux,
            only_files: video.into_iter().chain(json).all(Output::is_file),
            started: Instant::now(),
            elapsed: Duration::ZERO,
        })
    }

    /// Allows time for files, but not for a reader that has stopped reading.
    fn finish_within(&self) {
        if self.only_files {
            interrupt::finish_within(PATIENCE);
        }
    }

    /// Runs until the end of the input, Ctrl-C or an error. Returns whether Ctrl-C came before the
    /// end.
    fn finish(&mut self) -> Result<bool> {
        graph::start_alone(&self.pipeline)?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        self.started = Instant::now();
        let mut progress = Progress::new("annotate", None);
        let mut stopping = false;
        loop {
            if let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(100))
                && self.source.handle(&message)?
            {
                break;
            }
            if interrupt::requested() && !stopping {
                stopping = true;
                if !self.source.is_connected() {
                    return Ok(true);
                }
                progress.note("finishing the files; Ctrl-C again quits at once");
                self.finish_within();
                self.source.end();
            }
            let (pipeline, mux) = (&self.pipeline, &self.mux);
            self.source.connect(|| {
                mux.as_ref()
                    .map(|mux| build_audio(pipeline, mux))
                    .transpose()
            })?;
            self.counter.show(pipeline, self.started, &mut progress);
        }
        self.elapsed = self.started.elapsed();
        // Only writing to the disk remains.
        self.finish_within();
        // A live source ends in no other way.
        Ok(stopping && progress.total().is_some())
    }
}
