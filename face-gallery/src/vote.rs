//! Decides who a face is: one rule, for a single face and for all embeddings of a track.
//!
//! A person's score is `−τ ln(Σ exp(−dᵢ / τ) / m^γ)`: a soft minimum of the cosine distances `dᵢ` to
//! the person's `m` images, so near images count and far ones hardly matter. With one image it is the
//! distance to it. A person with many images has more chances to be near a stranger, for which `m^γ`
//! makes up.
//!
//! The person with the lowest score gets the face if the score is within a limit, and no face that is
//! not to be named ([`Gallery::push_stranger`]) is nearer than the person's nearest image. The limit follows from the rate of
//! strangers who may be named and the number of people: every person is one more chance.
//! `docs/decisions/004-naming.md` compares this rule with others.

use std::collections::{BTreeSet, HashMap};

use face_core::model::{Descriptor, Strangers};

use crate::confidence::{self, Signs};
use crate::{Gallery, Neighbor, normal};

/// How far the soft minimum reaches, in cosine distance.
const TAU: f64 = 0.1;

/// How much each further image of a person counts against them: 1 would make the score a soft mean,
/// 0 a soft minimum that falls with every image.
const GAMMA: f64 = 0.75;

/// How many of the nearest images are looked at. Of those left out, each adds at most
/// `exp(−(d − d₁) / τ)` to a person's sum of 1 and more, with `d` the distance of the last image looked
/// at and `d₁` that of the person's nearest: a score is at most `τ ln(1 + m exp(−(d − d₁) / τ))` too
/// high, which never helps anybody to a name. With SFace, 25 000 images of others and three images
/// left out, this is 0.03 for a person at 0.45.
const IMAGES: usize = 64;

/// The rate of strangers who may be named, by default.
pub const FALSE_NAME_RATE: f64 = 0.001;

/// The cosine distance of a model whose descriptor says nothing: SFace's, from the similarity of
/// 0.363 in OpenCV's `FaceRecognizerSF`.
pub const DISTANCE_THRESHOLD: f64 = 0.637;

/// Who a face is. `person` is `None` for nobody in the gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub person: Option<String>,
    /// The probability that this answer is right, 0..=1.
    pub confidence: f64,
    /// Cosine distance to that person's nearest row, or to the nearest row at all for nobody.
    pub distance: f64,
}

impl Verdict {
    /// Without anything to compare.
    pub fn nobody() -> Self {
        Self {
            person: None,
            confidence: 1.0,
            distance: 2.0,
        }
    }
}

/// The rule by which a face gets its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// The share of strangers who may be named, 0..=1.
    pub false_name_rate: f64,
    /// Replaces the limit of `false_name_rate`: the cosine distance beyond which the nearest image of a
    /// person does not match.
    pub distance_threshold: Option<f64>,
    /// How alike strangers look to the model.
    pub strangers: Option<Strangers>,
    /// The limit for a model of which that is unknown.
    pub fallback: f64,
}

impl Rule {
    /// The rule for a model, with the default rate.
    pub fn of(model: &Descriptor) -> Self {
        Self {
            false_name_rate: FALSE_NAME_RATE,
            distance_threshold: None,
            strangers: model.strangers,
            fallback: model.distance_threshold.unwrap_or(DISTANCE_THRESHOLD),
        }
    }

    /// The score up to which a face gets a name, in a gallery of `people`; with a `distance_threshold`,
    /// that.
    pub fn limit(&self, people: usize) -> f64 {
        let own = || self.limit_at(self.false_name_rate, people);
        self.distance_threshold.unwrap_or_else(own)
    }

    /// The score within which `rate` of the strangers are.
    fn limit_at(&self, rate: f64, people: usize) -> f64 {
        let Some(Strangers { mean, deviation }) = self.strangers else {
            return self.fallback;
        };
        // Each person may take a stranger for themselves. Below 10⁻¹² nothing was measured.
        let share = rate / people.max(1) as f64;
        let similarity = mean - deviation * normal::quantile(share.clamp(1e-12, 1.0 - 1e-12));
        (1.0 - similarity).clamp(0.0, 2.0)
    }
}

/// Decides who an embedding of length 1 is: that of a face, or the mean of a track's.
pub fn who(gallery: &Gallery, embedding: &[f32], rule: &Rule) -> Verdict {
    who_else(gallery, embedding, rule, &BTreeSet::new())
}

/// The same as if `others` were not in the gallery.
pub fn who_else(
    gallery: &Gallery,
    embedding: &[f32],
    rule: &Rule,
    others: &BTreeSet<String>,
) -> Verdict {
    let near = Near::find(gallery, embedding, others);
    let Some(first) = near.candidates.first() else {
        return Verdict::nobody();
    };
    let right = confidence::right(near.signs(gallery, first, rule));
    let matches = match rule.distance_threshold {
        Some(limit) => first.distance <= limit,
        None => first.score <= rule.limit(gallery.people().len()),
    };
    match matches && near.stranger.is_none_or(|d| d > first.distance) {
        true => Verdict {
            person: Some(gallery.person_name(first.person).to_owned()),
            confidence: right,
            distance: first.distance,
        },
        false => Verdict {
            person: None,
            confidence: 1.0 - right,
            distance: near.distance,
        },
    }
}

/// The person with the lowest score, and what speaks for them, whether or not they are named. To fit
/// [`confidence`].
pub fn signs<'a>(gallery: &'a Gallery, embedding: &[f32], rule: &Rule) -> Option<(&'a str, Signs)> {
    let near = Near::find(gallery, embedding, &BTreeSet::new());
    let first = near.candidates.first()?;
    let signs = near.signs(gallery, first, rule);
    Some((gallery.person_name(first.person), signs))
}

/// What is near a face.
struct Near {
    /// The lowest score first.
    candidates: Vec<Candidate>,
    /// The distance of the nearest row.
    distance: f64,
    /// The distance of the nearest face that is not to be named.
    stranger: Option<f64>,
}

impl Near {
    /// Without the rows of `others`.
    fn find(gallery: &Gallery, embedding: &[f32], others: &BTreeSet<String>) -> Self {
        let others: Vec<usize> = match others.is_empty() {
            true => Vec::new(),
            false => {
                let people = gallery.people().iter().enumerate();
                let others = people.filter(|(_, name)| others.contains(*name));
                others.map(|(person, _)| person).collect()
            }
        };
        let theirs: usize = others.iter().map(|&p| gallery.images_of(p)).sum();
        let mut nearest = gallery.nearest_images(embedding, IMAGES.saturating_add(theirs));
        nearest.retain(|neighbor| !others.contains(&neighbor.person));
        nearest.truncate(IMAGES);
        Self {
            candidates: candidates(gallery, &nearest),
            distance: nearest.first().map_or(2.0, |n| n.distance),
            stranger: gallery.nearest_stranger(embedding).map(|(_, d)| d),
        }
    }

    /// What speaks for the first candidate.
    fn signs(&self, gallery: &Gallery, first: &Candidate, rule: &Rule) -> Signs {
        let deviation = rule
            .strangers
            .map_or(confidence::DEVIATION, |s| s.deviation);
        let next = self.candidates.get(1).map(|next| next.score - first.score);
        let alone = next.unwrap_or(confidence::ALONE * deviation);
        // A far one says no more for somebody who is alone.
        let stranger = self.stranger.map(|d| (d - first.distance).min(alone));
        let ahead = next.into_iter().chain(stranger).reduce(f64::min);
        // How likely a name is does not depend on how many wrong ones are wanted.
        let limit = rule.limit_at(FALSE_NAME_RATE, gallery.people().len());
        Signs {
            within: (limit - first.score) / deviation,
            ahead: ahead.map(|ahead| ahead / deviation),
        }
    }
}

/// A person's chance.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    person: usize,
    /// Of the nearest row.
    distance: f64,
    /// Σ exp((nearest − dᵢ) / τ)
    sum: f64,
    score: f64,
}

/// The people near a face, the lowest score first, and of equals the nearest.
fn candidates(gallery: &Gallery, nearest: &[Neighbor]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    let mut places = HashMap::new();
    for neighbor in nearest {
        let place = *places.entry(neighbor.person).or_insert(found.len());
        match found.get_mut(place) {
            Some(known) => known.sum += ((known.distance - neighbor.distance) / TAU).exp(),
            None => found.push(Candidate {
                person: neighbor.person,
                distance: neighbor.distance,
                sum: 1.0,
                score: 0.0,
            }),
        }
    }
    for candidate in &mut found {
        let images = gallery.images_of(candidate.person).clamp(1, IMAGES) as f64;
        candidate.score = candidate.distance - TAU * (candidate.sum.ln() - GAMMA * images.ln());
    }
    // Stable: the nearest were first.
    found.sort_by(|a, b| a.score.total_cmp(&b.score));
    found
}

#[cfg(test)]
mod tests;
