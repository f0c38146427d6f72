//! `facepipe evaluate`: how good a result is, by what was labelled by hand.

mod confusion;
mod cvat;
mod identity;
mod input;
mod mot;
mod print;
mod score;
mod truth;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueHint;
use face_core::file::read_text_at_most;

use self::print::Report;
use self::score::{Score, Scorer};
use self::truth::Truth;
use crate::output::{self, Output};
use crate::ui::{self, Progress};
use crate::{Outcome, interrupt, record};

/// Measure how good a result is: detection, names, tracks, ages and genders against labels
///
/// RESULT is the JSON lines of annotate or analyze. TRUTH is what was labelled by hand in the same
/// video: an export of CVAT as "CVAT for video 1.1" (annotations.xml), or MOTChallenge text (gt.txt).
/// Frames are compared by their number, and labels are scaled to the size of the result's frames.
///
/// In CVAT, label each person by name, or use one label with an attribute "name"; attributes "age" and
/// "gender" are compared if they are there. Frames outside of the task's first and last frame, or left
/// out by its frame step, do not count. Boxes between listed ones are interpolated. In MOTChallenge
/// text the id is the name, unless --names gives another; frames and pixels count from 1 there, and
/// lines flagged with 0 do not count.
#[derive(clap::Args)]
#[command(verbatim_doc_comment, after_help = MEASURES)]
pub struct Args {
    /// The result: JSON lines
    #[arg(value_hint = ValueHint::FilePath)]
    result: PathBuf,

    /// The labels: CVAT for video 1.1 (XML) or MOTChallenge text
    #[arg(value_hint = ValueHint::FilePath)]
    truth: PathBuf,

    /// Least overlap (intersection over union) of a face and a label that belong together
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, value_parser = share)]
    iou: f64,

    /// Leave out predicted boxes, where the tracker says a face must be that was not detected
    #[arg(long)]
    no_predicted: bool,

    /// Names of the labels: a text file with a line LABEL=NAME for each label or id
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    names: Option<PathBuf>,

    /// Size of the picture that was labelled, where TRUTH does not say it and it is not the result's
    #[arg(long, value_name = "WxH", value_parser = size)]
    truth_size: Option<(f64, f64)>,

    /// The picture to write of who was taken for whom: a confusion matrix as PNG
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    confusion: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

const MEASURES: &str = "\
Measures, of each person and of all:
  boxes           labelled boxes
  recall          share of them that a face of the result was matched with (IoU of --iou or more)
  precision       share of the faces that were matched with a label
  F1              harmonic mean of precision and recall
  name precision  share of the faces that overlap a box labelled with their name; in total, a
                  face that is unknown, without a name or where nobody is counts against it,
                  and of a person it is the share of the faces with that name
  name recall     share of the labelled boxes that a face with the right name overlaps
  IDF1            F1 of the frames on which each labelled track is followed by the one track that
                  stands for it over the whole video (Ristani et al. 2016)
  MOTA            1 - (missed boxes + faces without a label + switches) / boxes
                  (CLEAR MOT, Bernardin and Stiefelhagen 2008)
  switches        how often a labelled track was matched with another track than before
  age error       mean absolute error of the ages of matched faces, in years
  gender          share of the matched faces with the right gender
Precision, F1 and MOTA are of all people only: a face where nobody is labelled is nobody's.
IDF1, MOTA and switches need a result with tracks, and all name measures one with names. A labelled
track is a <track> of CVAT, or an id of MOTChallenge text; a person may have several.";

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
    let names = match &args.names {
        Some(path) => read_names(path)?,
        None => HashMap::new(),
    };
    let score = read_truth(args, &names).and_then(|truth| score(args, &truth));
    if interrupt::requested() {
        tell!("evaluate: stopped by Ctrl-C; nothing was written");
        return Ok(Outcome::Interrupted);
    }
    let score = score?;
    let place = match &args.confusion {
        Some(path) => draw(path, &score, args.json)?,
        None => ui::Place::Stdout,
    };
    let report = Report::new(&args.result, &args.truth, args.iou, &score);
    let text = if args.json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.table()
    };
    place.print(&text)?;
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

/// Longest file of names that is read.
const LONGEST_NAMES: u64 = 16 << 20;

fn read_names(path: &Path) -> Result<HashMap<String, String>> {
    let text = read_text_at_most(path, LONGEST_NAMES)?;
    truth::read_names(&text).with_context(|| path.display().to_string())
}

fn read_truth(args: &Args, names: &HashMap<String, String>) -> Result<Truth> {
    let read = || {
        let file = File::open(&args.truth).context("it cannot be read")?;
        let length = file.metadata().map(|m| m.len()).ok();
        let reader = Watched {
            file,
            progress: Delayed::new(length.filter(|n| *n > 0)),
            read: 0,
        };
        Truth::read(BufReader::with_capacity(1 << 18, reader), names)
    };
    let mut truth = read().with_context(|| args.truth.display().to_string())?;
    if truth.other_shapes > 0 {
        let shapes = ui::count(truth.other_shapes, "shape");
        tell!("evaluate: {shapes} of the truth left out: only boxes are compared");
    }
    if let Some(given) = args.truth_size {
        if let Some((w, h)) = truth.size.filter(|size| *size != given) {
            bail!(
                "{} says that it was labelled at {w}x{h}; leave out --truth-size",
                args.truth.display()
            );
        }
        truth.size = Some(given);
    }
    Ok(truth)
}

fn score(args: &Args, truth: &Truth) -> Result<Score> {
    let mut scorer = Scorer::new(truth, args.iou, !args.no_predicted);
    let mut progress = Delayed::new(Some(truth.end + 1));
    let mut aspect_differs = false;
    for (i, line) in record::lines(&args.result)?.enumerate() {
        let record::Line::Frame(frame) = line? else {
            continue;
        };
        scorer
            .add(&frame)
            .with_context(|| args.result.display().to_string())?;
        aspect_differs |= truth.size.is_some_and(|(w, h)| {
            let aspect = w / h * f64::from(frame.height) / f64::from(frame.width.max(1));
            frame.width > 0 && !(0.98..1.02).contains(&aspect)
        });
        if i % 256 == 0 {
            ensure!(!interrupt::requested(), "stopped");
            progress.update(frame.frame, |elapsed, total| {
                frames_message(frame.frame + 1, total, elapsed)
            });
        }
    }
    let score = scorer.finish()?;
    drop(progress);
    ensure!(
        score.frames + score.frames_left_out > 0,
        "{} has no frame in it",
        args.result.display()
    );
    if aspect_differs {
        tell!(
            "evaluate: labels and result are of pictures of different shape; labels were stretched"
        );
    }
    remark(&score);
    Ok(score)
}

fn frames_message(done: u64, total: u64, elapsed: Duration) -> String {
    let rate = ui::rate(done as f64, elapsed);
    let left = ui::rate(total.saturating_sub(done) as f64, Duration::from_secs(1)) / rate.max(1.0);
    format!(
        "{}, {rate:.0} a second, {} left",
        ui::count(done, "frame"),
        ui::clock(Duration::from_secs_f64(left))
    )
}

/// Says what a reader of the measures should know.
fn remark(score: &Score) {
    if score.frames_left_out > 0 {
        let frames = ui::count(score.frames_left_out, "frame");
        tell!("evaluate: {frames} of the result left out, as they were not labelled");
    }
    if score.frames_missing > 0 {
        let frames = ui::count(score.frames_missing, "labelled frame");
        tell!("evaluate: {frames} not in the result: everybody labelled there counts as missed");
    }
    if score.faces > 0 && score.faces_tracked < score.faces {
        tell!(
            "evaluate: {} of {} have no track: IDF1, MOTA and switches are left out",
            score.faces - score.faces_tracked,
            ui::count(score.faces, "face")
        );
    }
    let total = score.total();
    if score.faces_named > 0 && total.named_right == 0 {
        tell!(
            "evaluate: no name of the result is right anywhere; if labels and gallery spell names \
             differently, translate them by --names"
        );
    }
}

/// Writes the picture; where the measures can be printed then.
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

/// Progress of what mostly takes no time: shown after a second.
struct Delayed {
    total: Option<u64>,
    started: Instant,
    progress: Option<Progress>,
}

impl Delayed {
    fn new(total: Option<u64>) -> Self {
        Self {
            total,
            started: Instant::now(),
            progress: None,
        }
    }

    /// `message` is given the time so far and the total.
    fn update(&mut self, done: u64, message: impl FnOnce(Duration, u64) -> String) {
        let elapsed = self.started.elapsed();
        if elapsed >= Duration::from_secs(1) {
            let total = self.total;
            let progress = self
                .progress
                .get_or_insert_with(|| Progress::new("evaluate", total));
            progress.update(done, &message(elapsed, total.unwrap_or(0)));
        }
    }
}

/// A file that is being read, which Ctrl-C ends.
struct Watched {
    file: File,
    progress: Delayed,
    read: u64,
}

impl Read for Watched {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if interrupt::requested() {
            return Err(io::Error::other("stopped"));
        }
        let n = self.file.read(to)?;
        self.read += n as u64;
        let read = self.read;
        self.progress.update(read, |elapsed, total| {
            let rate = ui::rate(read as f64, elapsed).max(1.0);
            let left = total.saturating_sub(read) as f64 / rate;
            format!(
                "reading labels, {:.0} MB a second, {} left",
                rate / 1e6,
                ui::clock(Duration::from_secs_f64(left))
            )
        });
        Ok(n)
    }
}
