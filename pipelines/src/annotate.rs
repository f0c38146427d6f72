//! `facepipe annotate`: a video with its faces marked, and what is known of them as JSON lines.

mod branches;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgGroup, ValueHint};
use gst::prelude::*;

use self::branches::{build_audio, build_json, build_video, muxer};
use crate::graph::{make, pad};
use crate::output::{self, Output};
use crate::source::Source;
use crate::stages::{self, Counter};
use crate::ui::Progress;
use crate::{Outcome, address, graph, interrupt};

/// How long the end of a video may take after Ctrl-C: the frames on the way are encoded, and all is
/// written to the disk.
const PATIENCE: Duration = Duration::from_secs(60);

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

    #[command(flatten)]
    stages: stages::Args,
}

fn with_muxer(path: PathBuf) -> Result<PathBuf, &'static str> {
    muxer(&path)
        .is_some()
        .then_some(path)
        .ok_or("expected a name that ends in .mp4 or .mkv")
}

pub fn run(args: &Args) -> Result<Outcome> {
    let uri = stages::uri(&args.input)?;
    check_files(args)?;
    let video = args.output.as_deref().map(Output::create).transpose()?;
    let json = args.json.as_deref().map(Output::create).transpose()?;

    let mut run = Run::build(args, &uri, video.as_ref(), json.as_ref())?;
    let outcome = run.finish()?;
    let summary = run.counter.summary(run.elapsed);
    // Shuts the pipeline down, which closes the files.
    drop(run);
    let Some(summary) = summary else {
        if interrupt::requested() {
            tell!("annotate: stopped by Ctrl-C before the first frame, nothing was written");
            return Ok(Outcome::Interrupted);
        }
        bail!(
            "no frame of {} could be decoded; nothing was written",
            address::shown(&args.input)
        );
    };
    let written = [video, json]
        .into_iter()
        .flatten()
        .map(Output::keep)
        .collect::<Result<Vec<_>>>()?;
    tell!("annotate: {summary}");
    for path in written {
        tell!("annotate: wrote {path}");
    }
    Ok(outcome)
}

/// Says before any work what cannot be read or written.
fn check_files(args: &Args) -> Result<()> {
    if let Some(gallery) = &args.stages.gallery {
        gstfacerecog::gallery::Gallery::read(gallery)?;
    }
    let json = args.json.as_ref();
    for output in args.output.iter().chain(json) {
        output::check_folder(output)?;
        let others = std::iter::once(&args.input).chain(&args.stages.gallery);
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

/// The pipeline at work.
struct Run {
    pipeline: graph::Running,
    source: Source,
    counter: Arc<Counter>,
    mux: Option<gst::Element>,
    only_files: bool,
    started: Instant,
    elapsed: Duration,
}

impl Run {
    fn build(
        args: &Args,
        uri: &str,
        video: Option<&Output>,
        json: Option<&Output>,
    ) -> Result<Self> {
        let pipeline = graph::Running::new();
        let last = make("tee")?;
        let first = stages::build(&pipeline, &args.stages, &last)?;
        let source = Source::build(&pipeline, &args.input, uri, &first)?;
        let counter = Arc::new(Counter::default());
        counter.watch(&pad(&last, "sink")?);
        if let Some(json) = json {
            build_json(&pipeline, &last, json)?;
        }
        let mux = video
            .map(|video| build_video(&pipeline, &last, args.output.as_deref(), video))
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

    /// Takes its time for files, but not for a reader that has stopped.
    fn finish_within(&self) {
        if self.only_files {
            interrupt::finish_within(PATIENCE);
        }
    }

    /// Runs until the end of the input, Ctrl-C or an error.
    fn finish(&mut self) -> Result<Outcome> {
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
                    return Ok(Outcome::Interrupted);
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
        // What is left is to write it to the disk.
        self.finish_within();
        // A live source has no other end.
        let cut_short = stopping && progress.total().is_some();
        Ok(if cut_short {
            Outcome::Interrupted
        } else {
            Outcome::Done
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_name_chooses_the_container() {
        assert_eq!(muxer(Path::new("a/b.MP4")), Some("mp4mux"));
        assert_eq!(muxer(Path::new("b.mkv")), Some("matroskamux"));
        assert!(with_muxer("b.avi".into()).is_err() && with_muxer("mp4".into()).is_err());
    }
}
