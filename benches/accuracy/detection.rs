//! Detection: what is found, what is false, and what it costs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use face_core::model::{Model, Task, installed};
use face_meta::geometry::Rect;

use crate::data::{Data, Labelled};
use crate::line::{Found, Lines, parallel, processor_time, read};
use crate::measures::{OVERLAP, Outcome, Share, Truth, matched, recall_at};
use crate::portraits::{CONDITIONS, Portrait};
use crate::scene::compose;
use crate::table::{Table, number, percent};

/// `inference-size`, and what the tables call it.
const SIZES: [(u32, &str); 2] = [(640, "640"), (0, "full size")];

/// The confidence down to which faces are collected, for recall at a given precision.
const LEAST_CONFIDENCE: f64 = 0.2;

/// The precision at which recall is stated.
const PRECISION: f64 = 0.9;

/// The confidence below which a detector drops faces if its descriptor says nothing.
const DEFAULT_THRESHOLD: f64 = 0.7;

/// Faces with masks smaller than this do not count, in pixels.
const LEAST_MASK: f64 = 20.0;

/// The least overlap in the composites: a turned face has no one upright box.
const LOOSE_OVERLAP: f64 = 0.3;

fn detectors() -> Vec<Model> {
    let mut models = installed();
    models.retain(|model| model.descriptor.task == Task::Detection);
    // The default first.
    models.sort_by_key(|model| model.descriptor.name != "yunet");
    models
}

fn line(model: &Model, size: u32, threshold: f64) -> Result<Lines> {
    Lines::start(&format!(
        "facedetector model={} inference-size={size} confidence-threshold={threshold}",
        model.descriptor.name
    ))
}

/// The faces of every picture, and the processor time per picture.
fn faces(lines: &mut Lines, paths: &[PathBuf]) -> Result<(Vec<Vec<Found>>, Duration)> {
    let (mut all, mut time) = (Vec::new(), Duration::ZERO);
    for batch in paths.chunks(16) {
        let pictures = read(batch)?;
        let begin = processor_time();
        all.extend(lines.look(&pictures)?);
        time += processor_time() - begin;
    }
    Ok((all, time / paths.len().max(1) as u32))
}

/// The labels of a group; the others do not count.
fn truth(labels: &[Labelled], group: &str) -> Vec<Truth> {
    let side = |rect: &Rect| rect.w.min(rect.h);
    let truth = |label: &Labelled| Truth {
        rect: label.rect,
        counts: label.groups.iter().any(|g| g == group)
            && (group != "mask" || side(&label.rect) >= LEAST_MASK),
    };
    labels.iter().map(truth).collect()
}

struct Score {
    outcomes: Vec<(f64, Outcome)>,
    labels: usize,
}

impl Score {
    fn new(all: &[Vec<Found>], labels: &[&Vec<Labelled>], group: &str) -> Self {
        let mut score = Self {
            outcomes: Vec::new(),
            labels: 0,
        };
        for (faces, labels) in all.iter().zip(labels) {
            let truth = truth(labels, group);
            score.labels += truth.iter().filter(|label| label.counts).count();
            let faces: Vec<_> = faces.iter().map(|f| (f.rect, f.confidence)).collect();
            score.outcomes.extend(matched(&faces, &truth, OVERLAP));
        }
        score
    }

    /// Recall and precision at a threshold.
    fn at(&self, threshold: f64) -> (f64, f64) {
        let count = |wanted: Outcome| {
            let above = self.outcomes.iter().filter(|(c, _)| *c >= threshold);
            above.filter(|(_, outcome)| *outcome == wanted).count() as f64
        };
        let (found, wrong) = (count(Outcome::Found), count(Outcome::False));
        (found / self.labels as f64, found / (found + wrong))
    }

    fn at_precision(&self) -> String {
        match recall_at(&self.outcomes, self.labels, PRECISION) {
            Some((recall, confidence)) => format!("{recall:.2} ({confidence:.2})"),
            None => "–".into(),
        }
    }
}

/// The tables of a folder of labelled pictures.
pub fn labelled(data: &Data, out: &mut String) -> Result<()> {
    let sets: [(&BTreeMap<_, _>, &[&str], &str); 2] = [
        (&data.crowds, &["easy", "medium", "hard"], "crowds"),
        (&data.masks, &["mask"], "masks"),
    ];
    for (set, groups, what) in sets {
        if set.is_empty() {
            continue;
        }
        let (paths, labels): (Vec<PathBuf>, Vec<&Vec<Labelled>>) = set
            .iter()
            .map(|(path, labels)| (path.clone(), labels))
            .unzip();
        let mut table = Table::new([
            "detector",
            "labels",
            "recall at its threshold",
            "precision there",
            "recall at precision 0.9 (threshold)",
            "CPU ms per picture",
        ]);
        for model in detectors() {
            let name = &model.descriptor.name;
            let threshold = model
                .descriptor
                .confidence_threshold
                .unwrap_or(DEFAULT_THRESHOLD);
            for (size, size_name) in SIZES {
                let started = line(&model, size, LEAST_CONFIDENCE);
                let all = started.and_then(|mut lines| faces(&mut lines, &paths));
                let (all, time) = match all {
                    Ok(all) => all,
                    Err(error) => {
                        eprintln!("accuracy: {name} at {size_name} is left out: {error:#}");
                        continue;
                    }
                };
                for group in groups {
                    let score = Score::new(&all, &labels, group);
                    let (recall, precision) = score.at(threshold);
                    table.row([
                        format!("`{name}`, {size_name}"),
                        format!("{} {group}", score.labels),
                        format!("{} ({threshold})", number(recall, 2)),
                        number(precision, 2),
                        score.at_precision(),
                        number(1e3 * time.as_secs_f64(), 0),
                    ]);
                }
            }
        }
        *out += &format!(
            "{} pictures of {what}. A face counts as found if it overlaps its label by half (IoU {OVERLAP}); labels \
             of other groups{} neither count nor hurt. In brackets: the confidence.\n\n{table}\n",
            paths.len(),
            match what {
                "masks" => ", and masks of less than 20 pixels,",
                _ => "",
            }
        );
    }
    Ok(())
}

/// Known faces shown at sizes, blurs, lights and angles: what each detector finds of them.
pub fn shown(portraits: &[Portrait], out: &mut String) -> Result<()> {
    let mut table = Table::new(["shown", "detector", "found %", "false, per picture"]);
    let mut lines = Vec::new();
    for model in detectors() {
        match Lines::start(&format!("facedetector model={}", model.descriptor.name)) {
            Ok(started) => lines.push((model.descriptor.name, started)),
            Err(error) => eprintln!("accuracy: {} is left out: {error:#}", model.descriptor.name),
        }
    }
    for (what, shown) in CONDITIONS {
        let made = parallel(portraits, |p| compose(&p.picture, &p.rect, shown));
        let (pictures, boxes): (Vec<_>, Vec<_>) = made.into_iter().unzip();
        for (name, lines) in &mut lines {
            let (mut found, mut wrong) = (Share::default(), 0);
            for (faces, rect) in lines.look(&pictures)?.iter().zip(&boxes) {
                let truth = [Truth {
                    rect: *rect,
                    counts: true,
                }];
                let faces: Vec<_> = faces.iter().map(|f| (f.rect, f.confidence)).collect();
                let outcomes = matched(&faces, &truth, LOOSE_OVERLAP);
                let is = |wanted| outcomes.iter().filter(|(_, o)| *o == wanted).count();
                found.add(is(Outcome::Found) > 0);
                wrong += is(Outcome::False);
            }
            table.row([
                what.to_owned(),
                format!("`{name}`"),
                percent(found.value(), 0),
                number(wrong as f64 / found.of as f64, 2),
            ]);
        }
    }
    *out += &format!(
        "{} known faces shown in other ways, at the defaults of `facedetector`. The overlap need only be \
         {LOOSE_OVERLAP}, as a turned face has no one upright box. \"False\" includes people beside them.\n\n{table}\n",
        portraits.len()
    );
    Ok(())
}
