//! The expression of a face: classes of one frame, and their mean over the last second.

use std::collections::VecDeque;
use std::time::Duration;

use face_core::Error;
use face_core::align::{Chips, chip_runner};
use face_core::image::ReadFrame;
use face_core::model::{Model, Task};
use face_core::session::{self, Options, Place, Runner};
use face_core::stats::Work;
use face_core::turns::Asker;
use face_meta::{Expression, Face};

use crate::classes::{best, evidence, softmax};

/// How far back frames count, in ns of stream time. An expression lasts half a second to four
/// seconds (Ekman 2003).
const WINDOW: u64 = 1_000_000_000;

/// A loaded expression model.
pub struct Classifier {
    runner: Runner,
    labels: Vec<String>,
}

impl Classifier {
    /// Loads `model` (name or path) and checks that its output fits its labels.
    pub fn new(model: &str, options: &Options) -> Result<Self, Error> {
        let model = Model::find(model)?;
        model.expect_task(Task::Expression)?;
        if model.descriptor.decoder != "classes" {
            return Err(Error::invalid(
                model.weights.with_extension("json"),
                format!(
                    "no decoder `{}` for expression; use `classes`",
                    model.descriptor.decoder
                ),
            ));
        }
        let session = session::load(&model, options)?;
        let classifier = Self {
            runner: chip_runner(&session)?,
            labels: session.descriptor.labels.clone(),
        };
        match classifier.runner.only_output()?.len() {
            found if found == classifier.labels.len() => Ok(classifier),
            found => Err(session.unfit(format!(
                "its output has {found} classes; correct the {} `labels` in its descriptor",
                classifier.labels.len()
            ))),
        }
    }

    /// Gets a place for this thread to run models.
    pub fn place(&self, asker: &Asker, patience: Option<Duration>) -> Option<Place> {
        self.runner.session().place(asker, patience)
    }

    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// The probabilities of the labels: the mean of the face's and its mirror image's. `None` if
    /// the face has no extent or the model's output is not finite.
    pub fn classify(
        &mut self,
        chips: &mut Chips,
        frame: &ReadFrame,
        face: &Face,
        work: &mut Work,
    ) -> Result<Option<Vec<f64>>, Error> {
        if !work.sample(|| chips.fill(frame, face, &mut self.runner))? {
            return Ok(None);
        }
        work.infer(&mut self.runner)?;
        let Some(one) = self.probabilities()? else {
            return Ok(None);
        };
        let [_, _, _, width] = self.runner.shape();
        work.sample(|| mirror(self.runner.input(), width));
        work.infer(&mut self.runner)?;
        let Some(other) = self.probabilities()? else {
            return Ok(None);
        };
        Ok(Some(
            one.iter().zip(&other).map(|(a, b)| (a + b) / 2.0).collect(),
        ))
    }

    fn probabilities(&self) -> Result<Option<Vec<f64>>, Error> {
        let temperature = self.runner.session().descriptor.temperature;
        let logits = evidence(self.runner.only_output()?, temperature, None);
        Ok(logits.map(|logits| softmax(&logits)))
    }
}

/// Reverses each row.
fn mirror(values: &mut [f32], width: usize) {
    values.chunks_mut(width.max(1)).for_each(<[f32]>::reverse);
}

fn is_recent(time: u64, now: u64) -> bool {
    time <= now && now - time < WINDOW
}

/// The probabilities on the frames of a track that count.
#[derive(Debug, Default)]
pub struct Summary {
    /// Stream time in ns, weight, probabilities.
    frames: VecDeque<(Option<u64>, f64, Vec<f64>)>,
}

impl Summary {
    /// Adds a frame of time `now` (ns) and quality `weight` (above 0). Drops those that are too
    /// old, and all if the time is unknown or ran backwards.
    pub fn add(&mut self, now: Option<u64>, weight: f64, probabilities: Vec<f64>) {
        self.frames.retain(|(time, _, _)| match (time, now) {
            (Some(time), Some(now)) => is_recent(*time, now),
            _ => false,
        });
        self.frames.push_back((now, weight, probabilities));
    }

    /// The expression at `now`: the most probable label of the mean of the frames, or of the last
    /// one. `None` if it is less probable than `least`.
    pub fn expression(
        &self,
        labels: &[String],
        now: Option<u64>,
        smooth: bool,
        least: f64,
    ) -> Option<Expression> {
        let counts = |time: &Option<u64>| match (time, now) {
            (Some(time), Some(now)) => is_recent(*time, now),
            (None, None) => true,
            _ => false,
        };
        let frames = self.frames.iter().rev().filter(|(time, _, _)| counts(time));
        let mut mean = vec![0.0; labels.len()];
        let mut total = 0.0;
        for (_, weight, probabilities) in frames.take(if smooth { usize::MAX } else { 1 }) {
            total += weight;
            for (mean, p) in mean.iter_mut().zip(probabilities) {
                *mean += p * weight;
            }
        }
        let (index, sum) = best(&mean).filter(|_| total > 0.0)?;
        let confidence = (sum / total).min(1.0);
        (confidence >= least).then(|| Expression {
            label: labels[index].clone(),
            confidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn labels() -> Vec<String> {
        ["neutral", "happy"].map(String::from).to_vec()
    }

    fn shown(summary: &Summary, now: Option<u64>, smooth: bool) -> Option<(String, f64)> {
        summary
            .expression(&labels(), now, smooth, 0.0)
            .map(|e| (e.label, (e.confidence * 1e6).round() / 1e6))
    }

    #[test]
    fn the_last_second_counts() {
        let mut summary = Summary::default();
        assert_eq!(shown(&summary, Some(0), true), None);
        summary.add(Some(0), 1.0, vec![0.9, 0.1]);
        summary.add(Some(600 * MS), 1.0, vec![0.3, 0.7]);
        let at = |ms: u64, smooth| shown(&summary, Some(ms * MS), smooth);
        assert_eq!(at(600, true), Some(("neutral".into(), 0.6)));
        assert_eq!(at(600, false), Some(("happy".into(), 0.7)));
        assert_eq!(at(1000, true), Some(("happy".into(), 0.7)));
        assert_eq!(at(1600, true), None, "a second later");
        let unsure = summary.expression(&labels(), Some(600 * MS), true, 0.65);
        assert_eq!(unsure, None);
    }

    #[test]
    fn better_frames_count_more() {
        let mut summary = Summary::default();
        summary.add(Some(0), 3.0, vec![0.9, 0.1]);
        summary.add(Some(1), 1.0, vec![0.1, 0.9]);
        let found = shown(&summary, Some(1), true);
        assert_eq!(found, Some(("neutral".into(), 0.7)));
    }

    #[test]
    fn time_that_runs_backwards_or_is_unknown_begins_anew() {
        let mut summary = Summary::default();
        summary.add(Some(900 * MS), 1.0, vec![1.0, 0.0]);
        summary.add(Some(100 * MS), 1.0, vec![0.0, 1.0]);
        let found = shown(&summary, Some(100 * MS), true);
        assert_eq!(found, Some(("happy".into(), 1.0)));
        summary.add(None, 1.0, vec![1.0, 0.0]);
        assert_eq!(shown(&summary, None, true), Some(("neutral".into(), 1.0)));
    }

    #[test]
    fn a_mirror_image_has_its_rows_reversed() {
        let mut values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        mirror(&mut values, 3);
        assert_eq!(values, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    }
}
