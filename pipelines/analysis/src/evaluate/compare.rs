//! Compares a result with labels, from the files to the score.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use face_core::file::read_text_at_most;
use face_meta::names::quoted;
use face_parts::interrupt;
use face_parts::tell;
use face_parts::ui::{self, DelayedProgress};

use super::score::{Score, Scorer};
use super::truth::{self, Truth};
use crate::record;

/// What to compare, and how.
pub struct Comparison<'a> {
    /// JSON lines.
    pub result: &'a Path,
    /// CVAT for video 1.1 (XML) or MOTChallenge text.
    pub truth: &'a Path,
    /// A text file with a line LABEL=NAME for each label or id.
    pub names: Option<&'a Path>,
    /// The size of the labelled picture in pixels, if `truth` does not contain it.
    pub truth_size: Option<(f64, f64)>,
    /// The least overlap of a face and its label.
    pub iou: f64,
    /// Whether predicted boxes count, where the tracker expects a face that was not detected.
    pub count_predicted: bool,
}

/// Counts right and wrong answers. `None` if Ctrl-C came in between.
pub fn compare(comparison: &Comparison) -> Result<Option<Score>> {
    let names = match comparison.names {
        Some(path) => read_names(path)?,
        None => HashMap::new(),
    };
    let score = read_truth(comparison, &names).and_then(|truth| score(comparison, &truth));
    if interrupt::requested() {
        return Ok(None);
    }
    score.map(Some)
}

/// The limit for a file of names, in bytes.
const LONGEST_NAMES: u64 = 16 << 20;

fn read_names(path: &Path) -> Result<HashMap<String, String>> {
    let text = read_text_at_most(path, LONGEST_NAMES)?;
    truth::read_names(&text).with_context(|| path.display().to_string())
}

fn read_truth(comparison: &Comparison, names: &HashMap<String, String>) -> Result<Truth> {
    let read = || {
        let file = File::open(comparison.truth).context("it cannot be read")?;
        let length = file.metadata().map(|m| m.len()).ok();
        let reader = Interruptible {
            file,
            progress: DelayedProgress::new("evaluate", length.filter(|n| *n > 0)),
            read: 0,
        };
        Truth::read(BufReader::with_capacity(1 << 18, reader), names)
    };
    let mut truth = read().with_context(|| comparison.truth.display().to_string())?;
    if !truth.unused.is_empty() {
        let labels: Vec<String> = truth.unused.iter().map(|l| quoted(l)).collect();
        tell!(
            "evaluate: --names has labels that the truth does not contain: {}",
            labels.join(", ")
        );
    }
    if truth.other_shapes > 0 {
        let shapes = ui::count(truth.other_shapes, "shape");
        tell!("evaluate: {shapes} of the truth left out, as only boxes are compared");
    }
    if let Some(given) = comparison.truth_size {
        if let Some((w, h)) = truth.size.filter(|size| *size != given) {
            bail!(
                "{} says that it was labelled at {w}x{h}; leave out --truth-size",
                comparison.truth.display()
            );
        }
        truth.size = Some(given);
    }
    Ok(truth)
}

fn score(comparison: &Comparison, truth: &Truth) -> Result<Score> {
    let mut scorer = Scorer::new(truth, comparison.iou, comparison.count_predicted);
    let mut progress = DelayedProgress::new("evaluate", Some(truth.end + 1));
    let mut aspect_differs = false;
    for (i, line) in record::lines(comparison.result)?.enumerate() {
        let record::Line::Frame(frame) = line? else {
            continue;
        };
        scorer
            .add(&frame)
            .with_context(|| comparison.result.display().to_string())?;
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
        "{} contains no frame",
        comparison.result.display()
    );
    if aspect_differs {
        tell!("evaluate: the pictures of labels and result differ in shape; labels were stretched");
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

/// Warns of circumstances that affect the measures.
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
             differently, translate them with --names"
        );
    }
}

/// A file being read. Ctrl-C interrupts reading.
struct Interruptible {
    file: File,
    progress: DelayedProgress,
    read: u64,
}

impl Read for Interruptible {
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
                "reading labels, {:.0} MB/s, {} left",
                rate / 1e6,
                ui::clock(Duration::from_secs_f64(left))
            )
        });
        Ok(n)
    }
}
