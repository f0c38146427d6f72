//! `facepipe annotate`: marks the faces in a video, and writes their data as JSON lines.

use std::path::PathBuf;

use anyhow::Result;
use clap::builder::{PathBufValueParser, TypedValueParser};
use clap::{ArgGroup, ValueHint};

use crate::Outcome;
use face_analysis::annotate::{Annotation, annotate};
use face_parts::branches::muxer;
use face_parts::stages;
use face_parts::tell;

/// Mark and name the faces in a video
///
/// Every face is followed from frame to frame and gets an age, a gender and, with --gallery, a
/// name. The result is a video with marked faces and the sound of the input (-o), one JSON object
/// per line for each frame and each track (--json), or both. Both files get their names when they
/// are complete. Ctrl-C ends early and keeps what was done; a second Ctrl-C quits at once and keeps
/// nothing.
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
    stages: stages::Options,
}

fn with_muxer(path: PathBuf) -> Result<PathBuf, &'static str> {
    muxer(&path)
        .is_some()
        .then_some(path)
        .ok_or("expected a name that ends in .mp4 or .mkv")
}

pub fn run(args: &Args) -> Result<Outcome> {
    let annotated = annotate(&Annotation {
        input: &args.input,
        stages: &args.stages,
        video: args.output.as_deref(),
        json: args.json.as_deref(),
    })?;
    let Some(annotated) = annotated else {
        tell!("annotate: stopped by Ctrl-C before the first frame, nothing was written");
        return Ok(Outcome::Interrupted);
    };
    tell!("annotate: {}", annotated.summary);
    for complaint in annotated.complaints.iter().chain(&annotated.flaw) {
        tell!("annotate: {complaint}");
    }
    for path in annotated.written {
        tell!("annotate: wrote {path}");
    }
    Ok(match (annotated.interrupted, annotated.flaw) {
        (true, _) => Outcome::Interrupted,
        (false, Some(_)) => Outcome::Incomplete,
        (false, None) => Outcome::Done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_video_is_called_by_its_container() {
        assert!(with_muxer("b.MP4".into()).is_ok());
        assert!(with_muxer("b.avi".into()).is_err() && with_muxer("mp4".into()).is_err());
    }
}
