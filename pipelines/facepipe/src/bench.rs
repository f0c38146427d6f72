//! `facepipe bench`: measures how fast this machine analyses a video, and where the time goes.

use std::path::PathBuf;

use anyhow::Result;

use crate::Outcome;
use face_analysis::speed::{Measurement, StageTimes, Trial, measure};
use face_parts::stages;
use face_parts::tell;
use face_parts::ui;

/// Measure how fast faces are analysed in a video, and where the time goes
///
/// The video is decoded and passes the stages of `annotate` at full speed; nothing is written.
/// Frames per second are counted from the first result on, when the models have been loaded. The
/// stages run in parallel, so their times per frame add up to more than a frame takes. With
/// --streams, copies of the video run in parallel in one process, and all figures are totals over
/// the copies.
#[derive(clap::Args)]
pub struct Args {
    /// The video: a file, or a URI such as rtsp://camera/stream or v4l2:///dev/video0
    input: PathBuf,

    #[command(flatten)]
    stages: stages::Options,

    /// Stop after this many seconds of the video; by default at its end
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
    let measured = measure(&Trial {
        input: &args.input,
        stages: &args.stages,
        seconds: args.seconds,
        streams: args.streams,
    })?;
    let Some(measured) = measured else {
        tell!("bench: stopped by Ctrl-C before the first frame");
        return Ok(Outcome::Interrupted);
    };
    ui::print(&match args.json {
        true => serde_json::to_string(&measured)? + "\n",
        false => readable(&measured),
    })?;
    Ok(match measured.interrupted {
        true => Outcome::Interrupted,
        false => Outcome::Done,
    })
}

fn readable(measured: &Measurement) -> String {
    let mut head = ui::count(measured.frames, "frame");
    if measured.streams > 1 {
        head += &format!(" of {} streams", measured.streams);
    }
    let mut text = format!(
        "{head} in {:.1} s, {:.1} fps, {:.2} × realtime\nfirst result after {:.0} ms",
        measured.seconds,
        measured.fps,
        measured.realtime,
        1e3 * measured.startup_seconds
    );
    if let Some(bytes) = measured.peak_memory_bytes {
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
    rows.extend(measured.stages.iter().map(row));
    let all: f64 = measured.stages.iter().map(|s| s.ms_per_frame).sum();
    rows.push(vec!["all".into(), format!("{all:.2}")]);
    text + "\n\n" + &ui::table(&rows)
}

fn row(stage: &StageTimes) -> Vec<String> {
    let ms = |value: Option<f64>| value.map_or("-".into(), |ms| format!("{ms:.2}"));
    vec![
        stage.element.to_owned(),
        ms(Some(stage.ms_per_frame)),
        stage.faces.to_string(),
        stage.inferences.map_or("-".into(), |n| n.to_string()),
        ms(stage.sample_ms_per_inference),
        ms(stage.infer_ms_per_inference),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_without_a_model_has_no_inferences() {
        let row = row(&StageTimes::default());
        assert_eq!(row, ["", "0.00", "0", "-", "-", "-"]);
    }
}
