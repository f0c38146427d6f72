//! Turns neighbours in the gallery into a name, for one face and over a track.

use std::collections::{BTreeSet, HashMap};

use crate::{Gallery, Neighbor};

/// The person that one embedding is closest to. `person` is `None` for nobody in the gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub person: Option<String>,
    /// Share of the vote, 0..=1.
    pub share: f64,
    /// Cosine distance to that person's nearest row, or to the nearest row at all for nobody.
    pub distance: f64,
}

impl Verdict {
    /// Without anything to compare.
    pub fn nobody() -> Self {
        Self {
            person: None,
            share: 1.0,
            distance: 2.0,
        }
    }
}

/// The rule by which a face gets its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// How many of the nearest images vote.
    pub neighbors: usize,
    /// The cosine distance beyond which an image votes for nobody.
    pub threshold: f64,
}

/// Decides who an embedding of length 1 is. The nearest images of the gallery vote; variations of
/// an image vote as one.
///
/// Each of these images votes for its person if it is within the threshold, and for nobody
/// otherwise. The majority decides. A person with fewer images than `neighbors` cannot cast as many
/// votes, so what counts is the share of the votes that the person could cast, and at least half of
/// them must have been cast. (If everybody has `neighbors` images, this is the plain majority.
/// Without this rule, nobody with a single photograph would ever be recognised.) If people are
/// equal, the nearest wins.
pub fn who(gallery: &Gallery, embedding: &[f32], rule: Rule) -> Verdict {
    who_else(gallery, embedding, rule, &BTreeSet::new())
}

/// The same as if `others` were not in the gallery.
pub fn who_else(
    gallery: &Gallery,
    embedding: &[f32],
    rule: Rule,
    others: &BTreeSet<String>,
) -> Verdict {
    let others: Vec<usize> = match others.is_empty() {
        true => Vec::new(),
        false => {
            let people = gallery.people().iter().enumerate();
            let others = people.filter(|(_, name)| others.contains(*name));
            others.map(|(person, _)| person).collect()
        }
    };
    let theirs: usize = others.iter().map(|&p| gallery.images_of(p)).sum();
    let mut nearest = gallery.nearest_images(embedding, rule.neighbors.saturating_add(theirs));
    nearest.retain(|neighbor| !others.contains(&neighbor.person));
    nearest.truncate(rule.neighbors);
    decide(gallery, &nearest, rule)
}

fn decide(gallery: &Gallery, neighbors: &[Neighbor], rule: Rule) -> Verdict {
    let Rule {
        neighbors: k,
        threshold,
    } = rule;
    let nearest = neighbors.first().map_or(2.0, |n| n.distance);
    // Person, votes, distance of the nearest row; in order of first appearance, so the nearest come
    // first.
    let mut votes: Vec<(usize, usize, f64)> = Vec::new();
    for neighbor in neighbors.iter().filter(|n| n.distance <= threshold) {
        match votes
            .iter_mut()
            .find(|(person, ..)| *person == neighbor.person)
        {
            Some((_, count, _)) => *count += 1,
            None => votes.push((neighbor.person, 1, neighbor.distance)),
        }
    }
    let possible = |person: usize| gallery.images_of(person).min(k).max(1);
    // `max_by_key` returns the last of equals. The list is reversed, so that is the nearest.
    let winner = votes.iter().rev().max_by_key(|(_, count, _)| *count);
    match winner {
        Some(&(person, count, distance)) if 2 * count >= possible(person) => Verdict {
            person: Some(gallery.person_name(person).to_owned()),
            share: count as f64 / possible(person) as f64,
            distance,
        },
        Some(&(person, count, _)) => Verdict {
            person: None,
            share: 1.0 - count as f64 / possible(person) as f64,
            distance: nearest,
        },
        None => Verdict {
            person: None,
            share: 1.0,
            distance: nearest,
        },
    }
}

/// The running vote over a track. Each verdict counts with the weight of its embedding
/// ([`crate::quality::weight`]) times its share.
#[derive(Debug, Clone, Default)]
pub struct TrackVote {
    /// For each person, the total weight and the weighted distance.
    people: HashMap<Option<String>, (f64, f64)>,
    total: f64,
    count: u32,
    last: Option<Verdict>,
}

/// A track with this many votes and a clear enough majority is settled: more embeddings would
/// rarely change its name.
const SETTLED_VOTES: u32 = 3;
const SETTLED_SHARE: f64 = 0.8;

impl TrackVote {
    pub fn add(&mut self, verdict: Verdict, weight: f64) {
        let vote = weight * verdict.share;
        let entry = self.people.entry(verdict.person.clone()).or_default();
        entry.0 += vote;
        entry.1 += vote * verdict.distance;
        self.total += weight;
        self.count += 1;
        self.last = Some(verdict);
    }

    /// The majority so far, with its share of all weight and the mean distance of its votes.
    pub fn majority(&self) -> Option<Verdict> {
        // The name decides between equals, so the result does not depend on hashing.
        let (person, (weight, distance)) = self
            .people
            .iter()
            .max_by(|a, b| a.1.0.total_cmp(&b.1.0).then_with(|| b.0.cmp(a.0)))?;
        Some(Verdict {
            person: person.clone(),
            share: if self.total > 0.0 {
                weight / self.total
            } else {
                0.0
            },
            distance: if *weight > 0.0 {
                distance / weight
            } else {
                2.0
            },
        })
    }

    /// The number of votes since the majority became settled, including that one; 0 if it is not
    /// settled.
    pub fn settled(&self) -> u32 {
        let clear = self.majority().is_some_and(|m| m.share >= SETTLED_SHARE);
        match clear {
            true => (self.count + 1).saturating_sub(SETTLED_VOTES),
            false => 0,
        }
    }

    /// The verdict on the last embedding.
    pub fn last(&self) -> Option<&Verdict> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ModelId, Row};

    /// Ann has six rows at 0°, 1°, … 5°, Bob has one at 90°, and Eve has six from 180° on.
    fn gallery() -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: String::new(),
        };
        let mut gallery = Gallery::new(model, 2);
        let mut push = |person: &str, degrees: f32| {
            let (y, x) = degrees.to_radians().sin_cos();
            let row = Row {
                person: person.into(),
                source: String::new(),
            };
            assert!(gallery.push(row, &[x, y]));
        };
        for i in 0..6u8 {
            push("ann", i.into());
            push("eve", 180.0 + f32::from(i));
        }
        push("bob", 90.0);
        gallery
    }

    fn ask(degrees: f32, threshold: f64) -> Verdict {
        let (y, x) = degrees.to_radians().sin_cos();
        let rule = Rule {
            neighbors: 6,
            threshold,
        };
        who(&gallery(), &[x, y], rule)
    }

    #[test]
    fn the_majority_of_the_neighbours_decides() {
        let ann = ask(2.0, 0.3);
        assert_eq!((ann.person.as_deref(), ann.share), (Some("ann"), 1.0));
        assert!(ann.distance < 1e-6);
    }

    #[test]
    fn one_photograph_is_enough() {
        let bob = ask(80.0, 0.3);
        assert_eq!((bob.person.as_deref(), bob.share), (Some("bob"), 1.0));
    }

    #[test]
    fn far_from_everybody_is_nobody() {
        let nobody = ask(45.0, 0.2);
        assert_eq!(nobody.person, None);
        assert!((nobody.distance - (1.0 - 40f64.to_radians().cos())).abs() < 1e-6);
    }

    #[test]
    fn fewer_than_half_of_the_possible_votes_are_none() {
        // Only the rows at 5° and 4° lie within the threshold: two of six votes.
        let threshold = 1.0 - 16.5f64.to_radians().cos();
        let doubtful = ask(20.0, threshold);
        assert_eq!(doubtful.person, None);
        assert!((doubtful.share - 4.0 / 6.0).abs() < 1e-9);
    }

    #[test]
    fn an_empty_gallery_knows_nobody() {
        let empty = Gallery::new(
            ModelId {
                name: "m".into(),
                sha256: String::new(),
            },
            2,
        );
        let rule = Rule {
            neighbors: 6,
            threshold: 0.6,
        };
        assert_eq!(who(&empty, &[1.0, 0.0], rule).person, None);
    }

    /// Ann has one photo at 0° with eight variations, Bob has two at 20° and 24°.
    #[test]
    fn variations_of_a_photo_do_not_outvote_photos() {
        let mut gallery = Gallery::new(gallery().model, 2);
        let mut push = |person: &str, source: String, degrees: f32| {
            let (y, x) = degrees.to_radians().sin_cos();
            let person = person.into();
            assert!(gallery.push(Row { person, source }, &[x, y]));
        };
        push("ann", "1.jpg".into(), 0.0);
        for i in 1..9u8 {
            push("ann", format!("1.jpg#{i}"), i.into());
        }
        push("bob", "1.jpg".into(), 20.0);
        push("bob", "2.jpg".into(), 24.0);
        let ask = |degrees: f32| {
            let (y, x) = degrees.to_radians().sin_cos();
            let rule = Rule {
                neighbors: 6,
                threshold: 0.3,
            };
            who(&gallery, &[x, y], rule)
        };
        // Two photos outvote one, though one of its variations is the nearest row.
        let bob = ask(13.0);
        assert_eq!((bob.person.as_deref(), bob.share), (Some("bob"), 1.0));
        // One photo is all that Ann can have; its nearest variation gives the distance.
        let ann = ask(-40.0);
        assert_eq!((ann.person.as_deref(), ann.share), (Some("ann"), 1.0));
        assert!((ann.distance - (1.0 - 40f64.to_radians().cos())).abs() < 1e-6);
    }

    #[test]
    fn without_some_people_the_rest_of_the_gallery_decides() {
        let rule = Rule {
            neighbors: 6,
            threshold: 1.5,
        };
        let without = |names: &[&str]| {
            let names = names.iter().map(|n| n.to_string()).collect();
            let verdict = who_else(&gallery(), &[1.0, 0.0], rule, &names);
            (verdict.person, (verdict.distance * 100.0).round())
        };
        assert_eq!(without(&[]), (Some("ann".into()), 0.0));
        assert_eq!(without(&["nobody"]), (Some("ann".into()), 0.0));
        assert_eq!(without(&["ann"]), (Some("bob".into()), 100.0));
        let (nobody, distance) = without(&["ann", "bob"]);
        assert_eq!((nobody, distance), (None, 200.0));
        assert_eq!(without(&["ann", "bob", "eve"]), (None, 200.0));
    }

    #[test]
    fn good_frames_outweigh_bad_ones() {
        let verdict = |name: Option<&str>| Verdict {
            person: name.map(Into::into),
            share: 1.0,
            distance: 0.25,
        };
        let mut track = TrackVote::default();
        assert_eq!(track.majority(), None);
        for _ in 0..3 {
            track.add(verdict(None), 0.1);
        }
        track.add(verdict(Some("ann")), 0.9);
        let majority = track.majority().expect("four votes");
        assert_eq!(majority.person.as_deref(), Some("ann"));
        assert!((majority.share - 0.75).abs() < 1e-9 && (majority.distance - 0.25).abs() < 1e-9);
        assert_eq!(track.last(), Some(&verdict(Some("ann"))));
        assert_eq!(track.settled(), 0, "a quarter speaks against it");
        track.add(verdict(Some("ann")), 0.9);
        assert_eq!(track.settled(), 3, "the fifth of at least three votes");
    }
}
