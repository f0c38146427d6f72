//! What the name of a track rests on: the vote, and the embeddings to vote anew with another gallery.

use std::sync::Arc;

use crate::vote::{TrackVote, Verdict};

/// Embeddings that are kept of a track.
const KEPT: usize = 8;

/// An embedding and its weight in a vote.
#[derive(Debug, Clone)]
pub struct Kept {
    pub embedding: Arc<[f32]>,
    weight: f64,
}

/// The vote over a track, and its heaviest embeddings.
#[derive(Debug, Default)]
pub struct Evidence {
    vote: TrackVote,
    /// In the order of their times.
    kept: Vec<Kept>,
}

impl Evidence {
    /// Counts an embedding, whose verdict is `None` where there is no gallery.
    pub fn add(&mut self, embedding: &[f32], weight: f64, verdict: Option<Verdict>) {
        if let Some(verdict) = verdict {
            self.vote.add(verdict, weight);
        }
        if self.kept.len() >= KEPT {
            let weights = self.kept.iter().map(|kept| kept.weight).enumerate();
            let lightest = weights.min_by(|(_, a), (_, b)| a.total_cmp(b));
            if let Some((lightest, _)) = lightest {
                self.kept.remove(lightest);
            }
        }
        let embedding = embedding.into();
        self.kept.push(Kept { embedding, weight });
    }

    pub fn vote(&self) -> &TrackVote {
        &self.vote
    }

    pub fn kept(&self) -> &[Kept] {
        &self.kept
    }

    /// Votes anew with the embeddings that were kept.
    pub fn revote(&mut self, mut verdict: impl FnMut(&Kept) -> Option<Verdict>) {
        self.vote = TrackVote::default();
        for kept in &self.kept {
            if let Some(verdict) = verdict(kept) {
                self.vote.add(verdict, kept.weight);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(name: &str) -> Verdict {
        Verdict {
            person: Some(name.into()),
            share: 1.0,
            distance: 0.2,
        }
    }

    #[test]
    fn the_heaviest_embeddings_vote_anew() {
        let mut track = Evidence::default();
        for i in 0..100u8 {
            let weight = if i % 10 == 0 { 0.9 } else { 0.1 };
            track.add(&[f32::from(i)], weight, Some(verdict("ann")));
        }
        let numbers: Vec<f32> = track.kept().iter().map(|k| k.embedding[0]).collect();
        assert_eq!(numbers, [30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 99.0]);
        track.revote(|kept| {
            Some(verdict(if kept.embedding[0] < 40.0 {
                "bob"
            } else {
                "eve"
            }))
        });
        let eve = track.vote().majority().expect("a majority");
        assert_eq!(eve.person.as_deref(), Some("eve"));
        assert!((eve.share - 5.5 / 6.4).abs() < 0.1, "{}", eve.share);
        assert_eq!(track.vote().last(), Some(&verdict("eve")));
        track.revote(|_| None);
        assert_eq!(track.vote().majority(), None, "no gallery, no name");
        assert_eq!(track.kept().len(), 8);
    }
}
