//! The evidence for a track's name: all its embeddings in one, and what was decided by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::normalised;
use crate::vote::Verdict;

/// An embedding of length 1 and its weight in a vote, 0..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    pub embedding: Arc<[f32]>,
    pub weight: f64,
}

impl From<face_meta::Embedding> for Embedded {
    /// Without a weight from its writer, an embedding counts in full.
    fn from(embedding: face_meta::Embedding) -> Self {
        Self {
            embedding: embedding.values.into(),
            weight: embedding.weight.unwrap_or(1.0),
        }
    }
}

/// The heaviest embeddings of a track, in order of arrival.
#[derive(Debug, Clone)]
pub struct Heaviest {
    most: usize,
    kept: Vec<Embedded>,
}

impl Heaviest {
    /// Keeps `most` embeddings.
    pub fn new(most: usize) -> Self {
        Self {
            most,
            kept: Vec::new(),
        }
    }

    /// Adds `new`, replacing the lightest if there are too many.
    pub fn add(&mut self, new: Embedded) {
        if self.kept.len() >= self.most {
            let weights = self.kept.iter().map(|kept| kept.weight).enumerate();
            let lightest = weights.min_by(|(_, a), (_, b)| a.total_cmp(b));
            match lightest {
                Some((lightest, weight)) if weight < new.weight => self.kept.remove(lightest),
                _ => return,
            };
        }
        self.kept.push(new);
    }

    pub fn as_slice(&self) -> &[Embedded] {
        &self.kept
    }
}

/// The weighted mean of embeddings. What they have in common is the person; what differs from frame to
/// frame averages out.
#[derive(Debug, Clone, Default)]
pub struct Mean {
    sum: Vec<f64>,
}

impl Mean {
    /// Adds an embedding. One of another length than the first is left out.
    pub fn add(&mut self, embedded: &Embedded) {
        if self.sum.is_empty() {
            self.sum = vec![0.0; embedded.embedding.len()];
        }
        if self.sum.len() == embedded.embedding.len() {
            let numbers = self.sum.iter_mut().zip(&*embedded.embedding);
            numbers.for_each(|(sum, number)| *sum += embedded.weight * f64::from(*number));
        }
    }

    /// The mean of `all`.
    pub fn of<'a>(all: impl IntoIterator<Item = &'a Embedded>) -> Self {
        let mut mean = Self::default();
        all.into_iter().for_each(|embedded| mean.add(embedded));
        mean
    }

    /// The mean, scaled to length 1. `None` without an embedding, or if they cancel each other out.
    pub fn unit(&self) -> Option<Vec<f32>> {
        let sum: Vec<f32> = self.sum.iter().map(|sum| *sum as f32).collect();
        normalised(&sum)
    }
}

/// How many answers of [`Evidence::otherwise`] a track keeps.
const ANSWERS: usize = 8;

/// A track of which this many embeddings in a row agreed is settled: more of them would rarely change
/// its name.
const SETTLED: u32 = 3;

/// The cosine distance up to which an embedding agrees with those before.
const AGREES: f64 = 0.6;

/// All embeddings of a track, and what was decided by them.
#[derive(Debug, Default)]
pub struct Evidence {
    mean: Mean,
    together: Option<Arc<[f32]>>,
    last: Option<Arc<[f32]>>,
    /// The embeddings in a row that agreed with those before.
    agreed: u32,
    verdict: Option<Verdict>,
    /// What the track was last told: a name, or that it has none.
    told: Option<Option<String>>,
    /// The answers of [`Evidence::otherwise`], with its arguments. They hold until there are new
    /// embeddings.
    otherwise: Vec<(BTreeSet<String>, Verdict)>,
}

impl Evidence {
    /// Adds an embedding.
    pub fn add(&mut self, embedded: &Embedded) {
        let agrees = self
            .together
            .as_ref()
            .is_none_or(|before| crate::edit::distance(before, &embedded.embedding) <= AGREES);
        self.agreed = if agrees { self.agreed + 1 } else { 1 };
        self.mean.add(embedded);
        self.together = self.mean.unit().map(Into::into);
        self.last = Some(Arc::clone(&embedded.embedding));
        self.otherwise.clear();
    }

    /// What to ask the gallery: all embeddings in one, or the last one alone.
    pub fn embedding(&self, together: bool) -> Option<&Arc<[f32]>> {
        match together {
            true => self.together.as_ref(),
            false => self.last.as_ref(),
        }
    }

    /// Notes who the track is by itself; `None` if there is no gallery. Another person than before
    /// means that the track is not settled.
    pub fn judge(&mut self, verdict: Option<Verdict>) {
        let person = |verdict: &Option<Verdict>| verdict.as_ref().map(|v| v.person.clone());
        if self.verdict.is_some() && person(&self.verdict) != person(&verdict) {
            self.agreed = self.agreed.min(1);
        }
        self.verdict = verdict;
        self.otherwise.clear();
    }

    /// Who the track is by itself.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The number of embeddings since the track is settled, including that one; 0 if it is not
    /// settled.
    pub fn settled(&self) -> u32 {
        (self.agreed + 1).saturating_sub(SETTLED)
    }

    /// The name that the track was last given.
    pub fn told(&self) -> Option<&str> {
        self.told.as_ref()?.as_deref()
    }

    /// Whether the track was told neither a name nor that it has none.
    pub fn is_new(&self) -> bool {
        self.told.is_none()
    }

    /// Notes the name that the track is given.
    pub fn tell(&mut self, person: Option<&str>) {
        if self.is_new() || self.told() != person {
            self.told = Some(person.map(Into::into));
        }
    }

    /// Who the track is if it is none of `others`. `verdict` says who an embedding is in that case. The last
    /// few answers are kept until there are new embeddings.
    pub fn otherwise(
        &mut self,
        others: &BTreeSet<String>,
        together: bool,
        verdict: impl FnOnce(&[f32]) -> Verdict,
    ) -> Option<Verdict> {
        if let Some((_, verdict)) = self.otherwise.iter().find(|(known, _)| known == others) {
            return Some(verdict.clone());
        }
        let found = verdict(self.embedding(together)?);
        if self.otherwise.len() == ANSWERS {
            self.otherwise.remove(0);
        }
        self.otherwise.push((others.clone(), found.clone()));
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(degrees: f32, weight: f64) -> Embedded {
        let (y, x) = degrees.to_radians().sin_cos();
        Embedded {
            embedding: [x, y].into(),
            weight,
        }
    }

    fn verdict(name: &str) -> Verdict {
        Verdict {
            person: Some(name.into()),
            confidence: 1.0,
            distance: 0.2,
        }
    }

    #[test]
    fn the_heaviest_are_kept_in_their_order() {
        let mut kept = Heaviest::new(64);
        for i in 0..200u8 {
            kept.add(Embedded {
                embedding: [f32::from(i)].into(),
                weight: f64::from(i % 100),
            });
        }
        assert_eq!(kept.as_slice().len(), 64);
        assert!(kept.as_slice().iter().all(|e| e.weight >= 68.0));
        assert!(kept.as_slice().is_sorted_by_key(|e| e.embedding[0] as u8));
    }

    #[test]
    fn the_mean_is_weighted_and_of_length_1() {
        let all = [embedded(0.0, 0.1), embedded(90.0, 0.3)];
        let mean = Mean::of(&all).unit().expect("a direction");
        let [x, y] = [mean[0], mean[1]];
        assert!((y / x - 3.0).abs() < 1e-5 && (x * x + y * y - 1.0).abs() < 1e-6);
        assert_eq!(Mean::default().unit(), None);
        let opposite = [embedded(0.0, 0.5), embedded(180.0, 0.5)];
        // Only rounding is left.
        let gone = Mean::of(&opposite).unit();
        assert!(gone.is_none_or(|mean| mean.iter().all(|v| v.is_finite())));
    }

    #[test]
    fn a_track_is_settled_once_three_embeddings_agree() {
        let mut track = Evidence::default();
        let mut settled = Vec::new();
        // The fifth is somebody else.
        for degrees in [0.0, 10.0, 5.0, 8.0, 100.0, 7.0, 6.0, 9.0] {
            track.add(&embedded(degrees, 0.5));
            track.judge(Some(verdict("ann")));
            settled.push(track.settled());
        }
        assert_eq!(settled, [0, 0, 1, 2, 0, 0, 1, 2]);
        track.judge(Some(verdict("bob")));
        assert_eq!(track.settled(), 0, "another name");
        track.judge(None);
        assert_eq!(track.verdict(), None, "no gallery, no name");
    }

    #[test]
    fn answers_are_kept_until_there_is_more() {
        let mut track = Evidence::default();
        let others = BTreeSet::from(["eve".to_owned()]);
        let ask = |track: &mut Evidence, together| {
            let mut asked = None;
            let found = track.otherwise(&others, together, |embedding| {
                asked = Some(embedding[1]);
                verdict("bob")
            });
            assert_eq!(found.is_some(), track.embedding(together).is_some());
            asked
        };
        assert_eq!(ask(&mut track, true), None, "nothing to ask");
        track.add(&embedded(0.0, 1.0));
        assert_eq!(ask(&mut track, true), Some(0.0));
        assert_eq!(ask(&mut track, true), None, "known");
        track.add(&embedded(90.0, 1.0));
        assert_eq!(ask(&mut track, false), Some(1.0), "the last one alone");
        track.judge(Some(verdict("ann")));
        let both = ask(&mut track, true).expect("asked again");
        assert!((both - 0.5f32.sqrt()).abs() < 1e-6);
    }
}
