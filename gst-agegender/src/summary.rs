//! The age and gender of a face over its track.

use face_meta::Gender;

use crate::classes::{best, softmax};

/// A model's estimates for one face.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    pub age: Option<Age>,
    pub gender: Option<Evidence>,
}

/// An age in years.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Age {
    pub years: f64,
    /// The standard deviation of the model's classes.
    pub deviation: f64,
    /// The deviation above which the model's ages are not trustworthy, if it is known.
    pub most: Option<f64>,
}

/// How much speaks for each label: logits, calibrated.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    pub labels: Vec<String>,
    pub logits: Vec<f64>,
}

/// What is too uncertain to be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Silence {
    /// The least probability of a gender.
    pub least_gender_confidence: f64,
    /// The largest deviation of an age in years; `None` = the model's.
    pub most_age_deviation: Option<f64>,
}

/// A weighted mean and variance (West 1979).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    weight: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        let delta = value - self.mean;
        self.mean += delta * weight / self.weight;
        self.squares += weight * delta * (value - self.mean);
    }

    fn variance(&self) -> f64 {
        self.squares / self.weight
    }
}

#[derive(Debug, Default)]
struct Ages {
    years: Moments,
    /// Of the squares of the models' deviations.
    variance: Moments,
    /// The least of what the models allow.
    most: Option<f64>,
}

impl Ages {
    fn add(&mut self, age: &Age, weight: f64) {
        // What a model is less sure of counts less.
        let weight = weight / (1.0 + age.deviation * age.deviation);
        self.years.add(age.years, weight);
        self.variance.add(age.deviation * age.deviation, weight);
        self.most = match (self.most, age.most) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    fn tell(&self, silence: Silence) -> Option<f64> {
        // The law of total variance: what each estimate is unsure of, and how far they disagree.
        let deviation = (self.variance.mean + self.years.variance()).sqrt();
        let most = silence.most_age_deviation.or(self.most);
        (self.years.weight > 0.0 && most.is_none_or(|most| deviation <= most))
            .then(|| self.years.mean.max(0.0))
    }
}

#[derive(Debug, Default)]
struct Genders {
    labels: Vec<String>,
    logits: Vec<f64>,
    weight: f64,
}

impl Genders {
    fn add(&mut self, evidence: &Evidence, weight: f64) {
        if self.labels != evidence.labels {
            // Models with other labels cannot be averaged; the last one counts.
            *self = Self {
                labels: evidence.labels.clone(),
                logits: vec![0.0; evidence.logits.len()],
                weight: 0.0,
            };
        }
        self.weight += weight;
        for (mean, logit) in self.logits.iter_mut().zip(&evidence.logits) {
            *mean += (logit - *mean) * weight / self.weight;
        }
    }

    fn tell(&self, silence: Silence) -> Option<Gender> {
        let (index, confidence) = best(&softmax(&self.logits))?;
        (confidence >= silence.least_gender_confidence).then(|| Gender {
            label: self.labels[index].clone(),
            confidence,
        })
    }
}

/// The estimates for one track, or for one face without a track.
///
/// The age is a mean, weighted by the quality of the frames and the certainty of the model. The
/// gender follows from the mean evidence of the frames, weighted by their quality. Frames of a track
/// are alike, so their number makes nothing surer.
#[derive(Debug, Default)]
pub struct Summary {
    ages: Ages,
    genders: Genders,
    looks: u32,
    /// Of the last look alone, for tracks without smoothing.
    last: (Ages, Genders),
}

/// A track with this many looks is settled: more would hardly move its mean.
const SETTLED_LOOKS: u32 = 4;

impl Summary {
    /// The number of looks since there were enough, including that one; 0 before.
    pub fn settled(&self) -> u32 {
        (self.looks + 1).saturating_sub(SETTLED_LOOKS)
    }

    /// The last look does not count towards a settled track: a model had no answer to it.
    pub fn unsettle(&mut self) {
        self.looks = self.looks.saturating_sub(1);
    }

    /// Forgets what the last frame said, since another one says nothing.
    pub fn forget_last(&mut self) {
        self.last = Default::default();
    }

    /// Adds what the models say of one frame, of quality `weight` (above 0).
    pub fn add(&mut self, estimates: &[Estimate], weight: f64) {
        self.forget_last();
        if estimates.is_empty() {
            return;
        }
        self.looks = self.looks.saturating_add(1);
        for estimate in estimates {
            if let Some(age) = &estimate.age {
                self.ages.add(age, weight);
                self.last.0.add(age, weight);
            }
            if let Some(gender) = &estimate.gender {
                self.genders.add(gender, weight);
                self.last.1.add(gender, weight);
            }
        }
    }

    /// Years over the track, or of the last frame. `None` if they are not trustworthy.
    pub fn age(&self, smooth: bool, silence: Silence) -> Option<f64> {
        if smooth { &self.ages } else { &self.last.0 }.tell(silence)
    }

    /// The gender over the track, or of the last frame. `None` if it is not trustworthy.
    pub fn gender(&self, smooth: bool, silence: Silence) -> Option<Gender> {
        if smooth { &self.genders } else { &self.last.1 }.tell(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Silence = Silence {
        least_gender_confidence: 0.0,
        most_age_deviation: Some(f64::INFINITY),
    };

    fn gender(logit: f64) -> Estimate {
        Estimate {
            gender: Some(Evidence {
                labels: vec!["female".into(), "male".into()],
                logits: vec![0.0, logit],
            }),
            age: None,
        }
    }

    fn age(years: f64, deviation: f64) -> Estimate {
        Estimate {
            age: Some(Age {
                years,
                deviation,
                most: Some(16.0),
            }),
            gender: None,
        }
    }

    #[test]
    fn a_single_bad_frame_does_not_count() {
        let mut track = Summary::default();
        for logit in [-2.0, 1.0, -2.0] {
            track.add(&[gender(logit)], 1.0);
        }
        let smooth = track.gender(true, ALL).expect("three frames");
        assert_eq!(smooth.label, "female");
        assert!((smooth.confidence - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-9);
        track.add(&[gender(1.0)], 1.0);
        let last = track.gender(false, ALL).map(|g| g.label);
        assert_eq!(last.as_deref(), Some("male"));
        assert_eq!(Summary::default().gender(true, ALL), None);
        assert_eq!(Summary::default().age(true, ALL), None);
    }

    #[test]
    fn better_and_surer_frames_count_more() {
        let mut track = Summary::default();
        track.add(&[age(30.0, 5.0), gender(2.0)], 0.9);
        track.add(&[age(60.0, 5.0), gender(-2.0)], 0.1);
        let years = track.age(true, ALL).expect("two frames");
        assert!((years - 33.0).abs() < 1e-9, "{years}");
        assert_eq!(
            track.gender(true, ALL).map(|g| g.label).as_deref(),
            Some("male")
        );
        let mut track = Summary::default();
        track.add(&[age(30.0, 3.0)], 1.0);
        track.add(&[age(60.0, 7.0)], 1.0);
        let years = track.age(true, ALL).expect("two frames");
        assert!(
            (years - 35.0).abs() < 1e-9,
            "weights 1/10 and 1/50: {years}"
        );
    }

    #[test]
    fn what_is_not_trustworthy_is_not_told() {
        let own = Silence {
            least_gender_confidence: 0.8,
            most_age_deviation: None,
        };
        let mut track = Summary::default();
        track.add(&[age(30.0, 10.0), gender(1.0)], 1.0);
        assert_eq!(track.gender(true, own), None, "73 % is less than 80 %");
        assert_eq!(track.age(true, own), Some(30.0));
        // Each frame is sure; together they are not.
        track.add(&[age(70.0, 10.0), gender(1.0)], 1.0);
        assert_eq!(track.age(true, own), None, "20 years to each side");
        assert_eq!(track.age(false, own), Some(70.0));
        let strict = Silence {
            most_age_deviation: Some(9.0),
            ..own
        };
        assert_eq!(track.age(false, strict), None);
    }

    #[test]
    fn models_are_averaged_and_a_track_settles() {
        let mut track = Summary::default();
        for looks in 1..=5 {
            track.add(&[gender(3.0), gender(1.0)], 0.5);
            assert_eq!(track.settled(), u32::saturating_sub(looks, 3));
        }
        let found = track.gender(true, ALL).expect("evidence");
        assert!((found.confidence - 1.0 / (1.0 + (-2f64).exp())).abs() < 1e-9);
        track.add(&[gender(3.0)], 1.0);
        track.unsettle();
        assert_eq!(track.settled(), 2, "one of two models was silent");
        track.add(&[], 1.0);
        assert_eq!(track.settled(), 2);
        assert_eq!(
            track.gender(false, ALL),
            None,
            "the last frame says nothing"
        );
    }
}
