//! Runs age and gender models on faces.

use std::time::Duration;

use face_core::Error;
use face_core::align::{Chips, chip_runner};
use face_core::image::ReadFrame;
use face_core::model::{Model, Task};
use face_core::session::{self, Options, Place, Runner};
use face_core::stats::Work;
use face_core::turns::Asker;
use face_meta::Face;

use crate::classes::{corrected, evidence, expectation};
use crate::summary::{Age, Estimate, Evidence};

/// The labels of an output that is one number, the probability of the second.
const FEMALE_MALE: [&str; 2] = ["female", "male"];

/// What a model's outputs say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Decoder {
    /// One output: the classes' probabilities, of an age.
    Expectation,
    /// One output: the classes' probabilities, of a gender.
    Classes,
    /// The outputs `age`, and `male` (its probability) or `gender` (the probabilities of the
    /// descriptor's labels).
    AgeGender { classes: bool },
}

/// A loaded age or gender model.
pub struct Estimator {
    runner: Runner,
    decoder: Decoder,
    labels: Vec<String>,
}

impl Estimator {
    /// Loads `model` (name or path) and checks that its outputs fit its decoder.
    pub fn new(model: &str, options: &Options) -> Result<Self, Error> {
        let model = Model::find(model)?;
        let descriptor = &model.descriptor;
        let decoder = match (descriptor.task, descriptor.decoder.as_str()) {
            (Task::Age, "expectation") => Decoder::Expectation,
            (Task::Gender, "classes") => Decoder::Classes,
            (Task::AgeGender, "age-gender") => Decoder::AgeGender { classes: false },
            (task @ (Task::Age | Task::Gender | Task::AgeGender), decoder) => {
                return Err(Error::invalid(
                    model.weights.with_extension("json"),
                    format!(
                        "no decoder `{decoder}` for {task}; use `expectation` for age, `classes` \
                         for gender, `age-gender` for both"
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
        let runner = chip_runner(&session)?;
        let decoder = match decoder {
            Decoder::AgeGender { .. } => Decoder::AgeGender {
                classes: !runner.has_output("male"),
            },
            other => other,
        };
        let labels = match session.descriptor.labels.is_empty() {
            true => FEMALE_MALE.map(String::from).to_vec(),
            false => session.descriptor.labels.clone(),
        };
        let wanted = match decoder {
            Decoder::AgeGender { classes: false } => labels.len() == 2,
            Decoder::AgeGender { classes: true } => labels.len() >= 2,
            _ => true,
        };
        if !wanted {
            return Err(session.unfit(format!(
                "{} `labels` of genders are in its descriptor; an output `male` needs two, an output \
                 `gender` two or more",
                labels.len()
            )));
        }
        let estimator = Self {
            runner,
            decoder,
            labels,
        };
        estimator.check()?;
        Ok(estimator)
    }

    /// Checks the sizes of the outputs.
    fn check(&self) -> Result<(), Error> {
        let session = self.runner.session();
        let values = session.descriptor.values.len();
        let only = |wanted: usize, field: &str| match self.runner.only_output()?.len() {
            found if found == wanted => Ok(()),
            found => Err(session.unfit(format!(
                "its output has {found} classes; correct the {wanted} `{field}` in its descriptor"
            ))),
        };
        match self.decoder {
            Decoder::Expectation => only(values, "values"),
            Decoder::Classes => only(self.labels.len(), "labels"),
            Decoder::AgeGender { .. } => self.both().map(drop),
        }
    }

    /// The outputs of a model for both: ages, and the genders or the probability of male.
    fn both(&self) -> Result<(&[f32], &[f32]), Error> {
        let runner = &self.runner;
        let values = runner.session().descriptor.values.len();
        let ages = runner.output_of("age", &[1, values])?;
        let genders = match self.decoder {
            Decoder::AgeGender { classes: true } => {
                runner.output_of("gender", &[1, self.labels.len()])?
            }
            _ => runner.output_of("male", &[1, 1])?,
        };
        Ok((ages, genders))
    }

    /// Gets a place for this thread to run models; see
    /// [`face_core::session::SharedSession::place`].
    pub fn place(&self, asker: &Asker, patience: Option<Duration>) -> Option<Place> {
        self.runner.session().place(asker, patience)
    }

    /// How frontal a face must be for this model, 0..=1.
    pub fn least_frontality(&self) -> f64 {
        let descriptor = &self.runner.session().descriptor;
        descriptor.min_frontality.unwrap_or(0.0)
    }

    /// The estimate for one face. `None` if the face has no extent.
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
        self.decode().map(Some)
    }

    fn decode(&self) -> Result<Estimate, Error> {
        Ok(match self.decoder {
            Decoder::Expectation => Estimate {
                age: self.age(self.runner.only_output()?),
                gender: None,
            },
            Decoder::Classes => Estimate {
                age: None,
                gender: self.gender(self.runner.only_output()?),
            },
            Decoder::AgeGender { classes } => {
                let (ages, genders) = self.both()?;
                let gender = match (classes, genders) {
                    (false, [male]) => self.gender(&[1.0 - male, *male]),
                    _ => self.gender(genders),
                };
                Estimate {
                    age: self.age(ages),
                    gender,
                }
            }
        })
    }

    fn age(&self, probabilities: &[f32]) -> Option<Age> {
        let descriptor = &self.runner.session().descriptor;
        let (mean, deviation) = expectation(&descriptor.values, probabilities)?;
        Some(Age {
            years: corrected(&descriptor.age_curve, mean),
            deviation,
            most: descriptor.max_age_deviation,
        })
    }

    fn gender(&self, probabilities: &[f32]) -> Option<Evidence> {
        let descriptor = &self.runner.session().descriptor;
        let (temperature, logistic) = (descriptor.temperature, descriptor.gender_logistic);
        Some(Evidence {
            labels: self.labels.clone(),
            logits: evidence(probabilities, temperature, logistic)?,
        })
    }
}
