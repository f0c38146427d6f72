//! Age and gender of aligned faces: expectations and votes over class probabilities, for one face
//! and over a track.

use std::collections::HashMap;
use std::time::Duration;

use face_core::Error;
use face_core::align::{Chips, chip_runner};
use face_core::image::ReadFrame;
use face_core::model::{Model, Task};
use face_core::session::{self, Options, Place, Runner};
use face_core::stats::Work;
use face_core::turns::Asker;
use face_meta::{Face, Gender};

/// How a model's outputs become an estimate.
#[derive(Debug, Clone, PartialEq)]
enum Decoder {
    /// The mean of the classes' values, weighted by their probabilities ("deep expectation",
    /// Rothe, Timofte, Van Gool 2015).
    Expectation(Vec<f64>),
    /// The most probable class.
    Classes(Vec<String>),
}

/// A model's estimate for one face.
#[derive(Debug, Clone, PartialEq)]
pub enum Estimate {
    /// Years.
    Age(f64),
    Gender(Gender),
}

/// A loaded age or gender model.
pub struct Estimator {
    runner: Runner,
    decoder: Decoder,
}

impl Estimator {
    /// Loads `model` (name or path) and checks that its outputs fit its decoder.
    pub fn new(model: &str, options: &Options) -> Result<Self, Error> {
        let model = Model::find(model)?;
        let descriptor = &model.descriptor;
        let decoder = match (descriptor.task, descriptor.decoder.as_str()) {
            (Task::Age, "expectation") => Decoder::Expectation(descriptor.values.clone()),
            (Task::Gender, "classes") => Decoder::Classes(descriptor.labels.clone()),
            (task @ (Task::Age | Task::Gender), decoder) => {
                return Err(Error::invalid(
                    model.weights.with_extension("json"),
                    format!(
                        "no decoder `{decoder}` for {task}; use `expectation` for age, `classes` for gender"
                    ),
                ));
            }
            (task, _) => {
                return Err(Error::Settings(format!(
                    "model `{}` ({}) is for {task}: set `model` to models for age and gender",
                    descriptor.name,
                    model.weights.display()
                )));
            }
        };
        let session = session::load(&model, options)?;
        let estimator = Self {
            runner: chip_runner(&session)?,
            decoder,
        };
        let (found, wanted) = (
            estimator.runner.only_output()?.len(),
            estimator.decoder.classes(),
        );
        if found != wanted {
            return Err(session.unfit(format!(
                "its output has {found} classes; correct the {wanted} `{}` in its descriptor",
                estimator.decoder.field()
            )));
        }
        Ok(estimator)
    }

    /// Gets a place for this thread to run models; see
    /// [`face_core::session::SharedSession::place`].
    pub fn place(&self, asker: &Asker, patience: Option<Duration>) -> Option<Place> {
        self.runner.session().place(asker, patience)
    }

    /// The estimate for one face. `None` if the face has no extent or the model's output is not
    /// finite.
    pub fn estimate(
        &mut self,
        chips: &mut Chips,
        frame: &ReadFrame,
        face: &Face,
        work: &mut Work,
    ) -> Result<Option<Estimate>, Error> {
        if !work.sample(|| chips.fill(frame, face, &mut self.runner))? {
            return Ok(None);
        }
        work.infer(&mut self.runner)?;
        Ok(self.decoder.decode(self.runner.only_output()?))
    }
}

impl Decoder {
    fn classes(&self) -> usize {
        match self {
            Self::Expectation(values) => values.len(),
            Self::Classes(labels) => labels.len(),
        }
    }

    /// The descriptor's field for the classes.
    fn field(&self) -> &'static str {
        match self {
            Self::Expectation(_) => "values",
            Self::Classes(_) => "labels",
        }
    }

    fn decode(&self, probabilities: &[f32]) -> Option<Estimate> {
        let sum: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
        if !(sum.is_finite() && sum > 0.0) {
            return None;
        }
        match self {
            Self::Expectation(values) => {
                let weighted: f64 = values
                    .iter()
                    .zip(probabilities)
                    .map(|(v, &p)| v * f64::from(p))
                    .sum();
                Some(weighted / sum)
                    .filter(|age| age.is_finite())
                    .map(Estimate::Age)
            }
            Self::Classes(labels) => {
                let (label, &p) = labels
                    .iter()
                    .zip(probabilities)
                    .max_by(|a, b| a.1.total_cmp(b.1))?;
                let confidence = (f64::from(p) / sum).clamp(0.0, 1.0);
                Some(Estimate::Gender(Gender {
                    label: label.clone(),
                    confidence,
                }))
            }
        }
    }
}

/// The estimates for one track: the mean age, and the gender of most estimates, weighted by
/// confidence.
#[derive(Debug, Default)]
pub struct Summary {
    ages: (f64, u32),
    /// Sum of confidences and number of estimates, by label.
    genders: HashMap<String, (f64, u32)>,
    /// The last estimates, for tracks without smoothing.
    last: (Option<f64>, Option<Gender>),
}

/// A track with this many estimates is settled: more would hardly move its mean.
const SETTLED_ESTIMATES: u32 = 4;

impl Summary {
    /// The number of estimates since there were enough, including that one; 0 before.
    pub fn settled(&self) -> u32 {
        let genders: u32 = self.genders.values().map(|(_, count)| count).sum();
        (self.ages.1.max(genders) + 1).saturating_sub(SETTLED_ESTIMATES)
    }

    pub fn add(&mut self, estimate: Estimate) {
        match estimate {
            Estimate::Age(age) => {
                self.ages.0 += age;
                self.ages.1 += 1;
                self.last.0 = Some(age);
            }
            Estimate::Gender(gender) => {
                let sum = self.genders.entry(gender.label.clone()).or_default();
                sum.0 += gender.confidence;
                sum.1 += 1;
                self.last.1 = Some(gender);
            }
        }
    }

    /// Years: the mean over the track, or the last estimate.
    pub fn age(&self, smooth: bool) -> Option<f64> {
        if !smooth {
            return self.last.0;
        }
        (self.ages.1 > 0).then(|| self.ages.0 / f64::from(self.ages.1))
    }

    /// The majority over the track, or the last estimate. The confidence of a majority is the mean
    /// probability that the estimates give it.
    pub fn gender(&self, smooth: bool) -> Option<Gender> {
        if !smooth {
            return self.last.1.clone();
        }
        let estimates: u32 = self.genders.values().map(|(_, count)| count).sum();
        let (label, (weight, _)) = self
            .genders
            .iter()
            .max_by(|a, b| a.1.0.total_cmp(&b.1.0).then(b.0.cmp(a.0)))?;
        // An estimate for another label left at most the rest of its probability to this one. It
        // counts as 0.
        let confidence = weight / f64::from(estimates);
        Some(Gender {
            label: label.clone(),
            confidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gender(label: &str, confidence: f64) -> Estimate {
        Estimate::Gender(Gender {
            label: label.into(),
            confidence,
        })
    }

    #[test]
    fn expectation_and_most_probable_class() {
        let age = Decoder::Expectation(vec![0.0, 10.0, 20.0]);
        assert_eq!(age.decode(&[0.25, 0.5, 0.25]), Some(Estimate::Age(10.0)));
        assert_eq!(
            age.decode(&[2.0, 0.0, 2.0]),
            Some(Estimate::Age(10.0)),
            "normalised"
        );
        assert_eq!(age.decode(&[0.0, f32::NAN, 0.0]), None);
        let large = Decoder::Expectation(vec![0.0, f64::MAX]);
        assert_eq!(large.decode(&[-1.0, 1.5]), None, "an infinite age");
        let sex = Decoder::Classes(vec!["female".into(), "male".into()]);
        assert_eq!(sex.decode(&[0.25, 0.75]), Some(gender("male", 0.75)));
    }

    #[test]
    fn a_single_bad_frame_does_not_count() {
        let mut track = Summary::default();
        for estimate in [
            gender("female", 0.9),
            gender("male", 0.6),
            gender("female", 0.9),
        ] {
            track.add(estimate);
        }
        for age in [30.0, 36.0, 30.0] {
            track.add(Estimate::Age(age));
        }
        assert_eq!(track.age(true), Some(32.0));
        let smooth = track.gender(true).expect("three estimates");
        assert!(smooth.label == "female" && (smooth.confidence - 0.6).abs() < 1e-9);
        assert_eq!(track.gender(false).map(|g| g.confidence), Some(0.9));
        assert_eq!(Summary::default().gender(true), None);
    }
}
