//! `facepipe evaluate`: measures the quality of a result against manual labels.

mod print;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::ValueHint;

use crate::Outcome;
use face_analysis::evaluate::confusion;
use face_analysis::evaluate::measures::Evaluation;
use face_analysis::evaluate::score::Score;
use face_analysis::evaluate::{Comparison, compare};
use face_parts::output::{self, Output};
use face_parts::tell;
use face_parts::ui;

/// Measure how good a result is: detection, names, tracks, ages, genders, expressions against labels
///
/// RESULT is the JSON lines of annotate or analyze. TRUTH has the manual labels of the same video: an
/// export from CVAT as "CVAT for video 1.1" (annotations.xml), or MOTChallenge text (gt.txt). Frames
/// are compared by number, and labels are scaled to the size of the result's frames.
///
/// In CVAT, label each person by name, or use one label with an attribute "name"; attributes "age",
/// "gender" and "expression" are compared if present. Frames outside the task's first and last frame,
/// or skipped by its frame step, do not count. Boxes between listed ones are interpolated. In MOTChallenge text the id is
/// the name, unless --names gives another; frames and pixels count from 1 there, and lines with the
/// flag 0 do not count.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = MEASURES)]
pub struct Args {
    /// The result: JSON lines
    #[arg(value_hint = ValueHint::FilePath)]
    result: PathBuf,

    /// The labels: CVAT for video 1.1 (XML) or MOTChallenge text
    #[arg(value_hint = ValueHint::FilePath)]
    truth: PathBuf,

    /// The least overlap (intersection over union) of a face and its label
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    iou: f64,

    /// Ignore predicted boxes, where the tracker expects a face that was not detected
    #[arg(long)]
    no_predicted: bool,

    /// A text file with the names of the labels: a line LABEL=NAME for each label or id
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    names: Option<PathBuf>,

    /// The size of the labelled picture, if TRUTH does not give it and it differs from the result's
    #[arg(long, value_name = "WxH", value_parser = size)]
    truth_size: Option<(f64, f64)>,

    /// The confusion matrix to write: a PNG picture of who was taken for whom
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    confusion: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

const MEASURES: &str = "\
Measures, for each person and in total:
  boxes           labelled boxes
  recall          share of them that were matched with a face of the result (IoU of --iou or more)
  precision       share of the faces that were matched with a label
  F1              harmonic mean of precision and recall
  name precision  share of the faces that overlap a box labelled with their name. For a person, only
                  faces with that name count; in total, all faces do, even unknown ones, those
                  without a name and those where nobody is labelled
  name recall     share of the labelled boxes overlapped by a face with the right name
  IDF1            F1 of the frames on which each labelled track is followed by the one track
                  assigned to it for the whole video (Ristani et al. 2016)
  MOTA            1 - (missed boxes + faces without a label + switches) / boxes
                  (CLEAR MOT, Bernardin and Stiefelhagen 2008)
  switches        how often a labelled track was matched with a different track than before
  HOTA            square root of DetA times AssA, a mean over the overlaps 0.05, 0.10 to 0.95, like
                  the next three, whatever --iou says (Luiten et al. 2021, as TrackEval computes it)
  DetA            matches, as a share of all labelled boxes and faces
  AssA            for a match: frames on which its two tracks match, as a share of the frames that
                  have one of them; the mean over all matches
  LocA            overlap of the matches
  age error       mean absolute error of the ages of matched faces, in years
  gender          share of the matched faces with the right gender
  expression      share of the matched faces with the right expression
Precision, F1, MOTA, HOTA, DetA and LocA exist only in total: a face where nobody is labelled
belongs to nobody. IDF1, MOTA, switches and HOTA need a result with tracks, and all name measures one
with names. A labelled track is a <track> in CVAT, or an id in MOTChallenge text; a person may have
several.";

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok();
    share
        .filter(|s| *s > 0.0 && *s <= 1.0)
        .ok_or_else(|| "expected a number above 0, and 1 at most".into())
}

fn size(text: &str) -> Result<(f64, f64), String> {
    let side = |text: &str| text.parse::<u32>().ok().filter(|s| *s > 0).map(f64::from);
    text.split_once('x')
        .and_then(|(w, h)| Some((side(w)?, side(h)?)))
        .ok_or_else(|| "expected width and height in pixels, such as 1920x1080".into())
}

pub fn run(args: &Args) -> Result<Outcome> {
    check_files(args)?;
    let comparison = Comparison {
        result: &args.result,
        truth: &args.truth,
        names: args.names.as_deref(),
        truth_size: args.truth_size,
        iou: args.iou,
        count_predicted: !args.no_predicted,
    };
    let Some(score) = compare(&comparison)? else {
        tell!("evaluate: stopped by Ctrl-C; nothing was written");
        return Ok(Outcome::Interrupted);
    };
    let place = match &args.confusion {
        Some(path) => draw(path, &score, args.json)?,
        None => ui::Place::Stdout,
    };
    let evaluation = Evaluation::new(&comparison, &score);
    let printed = place.print(&match args.json {
        true => serde_json::to_string_pretty(&evaluation)? + "\n",
        false => print::table(&evaluation),
    });
    ui::summary(printed, args.confusion.is_some())?;
    Ok(Outcome::Done)
}

fn check_files(args: &Args) -> Result<()> {
    if let Some(picture) = &args.confusion {
        output::check_folder(picture)?;
        for other in [&args.result, &args.truth].into_iter().chain(&args.names) {
            ensure!(
                !output::same_file(picture, other),
                "{} would be replaced by the picture; choose another name",
                other.display()
            );
        }
    }
    Ok(())
}

/// Writes the picture. Returns where to print the measures then.
fn draw(path: &Path, score: &Score, json: bool) -> Result<ui::Place> {
    ensure!(
        score.faces_named > 0,
        "there is no confusion to draw: no face of the result has a name; analyse with --gallery"
    );
    let png = confusion::draw(&confusion::Matrix::new(score))?;
    let output = Output::create(path)?;
    let place = ui::Place::beside(&output, json)?;
    output.write(&png)?;
    tell!("evaluate: wrote {}", output.keep()?);
    Ok(place)
}
