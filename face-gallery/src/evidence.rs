//! The evidence for a track's name: the vote, and the embeddings with which to vote again when the
//! gallery changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::vote::{TrackVote, Verdict};

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

/// How many embeddings a live track keeps.
const KEPT: usize = 8;

/// How many answers of [`Evidence::otherwise`] a track keeps.
const ANSWERS: usize = 8;

/// The vote over a track, and its heaviest embeddings.
#[derive(Debug)]
pub struct Evidence {
    vote: TrackVote,
    heaviest: Heaviest,
    last: Option<Embedded>,
    /// What the track was last told: a name, or that it has none.
    told: Option<Option<String>>,
    /// The answers of [`Evidence::otherwise`], with its arguments. They hold until there are new
    /// embeddings.
    otherwise: Vec<(BTreeSet<String>, bool, Verdict)>,
}

impl Default for Evidence {
    fn default() -> Self {
        Self {
            vote: TrackVote::default(),
            heaviest: Heaviest::new(KEPT),
            last: None,
            told: None,
            otherwise: Vec::new(),
        }
    }
}

impl Evidence {
    /// Counts an embedding. Its verdict is `None` if there is no gallery.
    pub fn add(&mut self, embedded: Embedded, verdict: Option<Verdict>) {
        if let Some(verdict) = verdict {
            self.vote.add(verdict, embedded.weight);
        }
        self.heaviest.add(embedded.clone());
        self.last = Some(embedded);
        self.otherwise.clear();
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

    /// The vote of the embeddings that were kept, if the track is none of `others`; with `only_last`,
    /// the verdict on the last embedding. `verdict` says who an embedding is in that case. The
    /// last few answers are kept until there are new embeddings.
    pub fn otherwise(
        &mut self,
        others: &BTreeSet<String>,
        only_last: bool,
        mut verdict: impl FnMut(&Embedded) -> Verdict,
    ) -> Option<Verdict> {
        let mut known = self.otherwise.iter();
        if let Some((.., verdict)) = known.find(|(o, last, _)| o == others && *last == only_last) {
            return Some(verdict.clone());
        }
        let found = match only_last {
            true => self.last.as_ref().map(&mut verdict),
            false => {
                let mut vote = TrackVote::default();
                for kept in self.kept() {
                    vote.add(verdict(kept), kept.weight);
                }
                vote.majority()
            }
        }?;
        if self.otherwise.len() == ANSWERS {
            self.otherwise.remove(0);
        }
        self.otherwise
            .push((others.clone(), only_last, found.clone()));
        Some(found)
    }

    pub fn vote(&self) -> &TrackVote {
        &self.vote
    }

    /// The heaviest embeddings and the last one.
    pub fn kept(&self) -> impl Iterator<Item = &Embedded> {
        let heaviest = self.heaviest.as_slice();
        // The last embedding is among the heaviest unless it was too light.
        let is_kept = |last: &&Embedded| heaviest.last() == Some(*last);
        let last = self.last.as_ref().filter(|last| !is_kept(last));
        heaviest.iter().chain(last)
    }

    /// Votes again with the embeddings that were kept.
    pub fn revote(&mut self, mut verdict: impl FnMut(&Embedded) -> Option<Verdict>) {
        let mut vote = TrackVote::default();
        for kept in self.kept() {
            if let Some(verdict) = verdict(kept) {
                vote.add(verdict, kept.weight);
            }
        }
        self.vote = vote;
        self.otherwise.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn embedded(number: u8, weight: f64) -> Embedded {
        Embedded {
            embedding: [f32::from(number)].into(),
            weight,
        }
    }

    fn verdict(name: &str) -> Verdict {
        Verdict {
            person: Some(name.into()),
            share: 1.0,
            distance: 0.2,
        }
    }

    #[test]
    fn the_heaviest_are_kept_in_their_order() {
        let mut kept = Heaviest::new(64);
        for i in 0..200u8 {
            kept.add(embedded(i, f64::from(i % 100)));
        }
        assert_eq!(kept.as_slice().len(), 64);
        assert!(kept.as_slice().iter().all(|e| e.weight >= 68.0));
        assert!(kept.as_slice().is_sorted_by_key(|e| e.embedding[0] as u8));
    }

    #[test]
    fn the_heaviest_embeddings_and_the_last_vote_again() {
        let mut track = Evidence::default();
        for i in 0..100u8 {
            let weight = if i % 10 == 0 { 0.9 } else { 0.1 };
            track.add(embedded(i, weight), Some(verdict("ann")));
        }
        let numbers: Vec<f32> = track.kept().map(|k| k.embedding[0]).collect();
        assert_eq!(
            numbers,
            [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 99.0]
        );
        track.revote(|kept| {
            Some(verdict(if kept.embedding[0] < 10.0 {
                "bob"
            } else {
                "eve"
            }))
        });
        let eve = track.vote().majority().expect("a majority");
        assert_eq!(eve.person.as_deref(), Some("eve"));
        assert!((eve.share - 6.4 / 7.3).abs() < 1e-9, "{}", eve.share);
        assert_eq!(track.vote().last(), Some(&verdict("eve")));
        let others = BTreeSet::from(["eve".to_owned()]);
        let mut asked = 0;
        for only_last in [false, true, false, true] {
            let bob = track.otherwise(&others, only_last, |_| {
                asked += 1;
                verdict("bob")
            });
            assert_eq!(bob.and_then(|v| v.person).as_deref(), Some("bob"));
        }
        assert_eq!(asked, 9 + 1, "answers are kept");
        track.revote(|_| None);
        let bob = track.otherwise(&others, true, |kept| {
            assert_eq!(kept.embedding[0], 99.0);
            verdict("bob")
        });
        assert_eq!(bob.and_then(|v| v.person).as_deref(), Some("bob"));
        assert_eq!(track.vote().majority(), None, "no gallery, no name");
        assert_eq!(track.kept().count(), 9);
    }
}
