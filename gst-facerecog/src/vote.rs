//! From neighbours in the gallery to a name, for one face and over a track.

use std::collections::HashMap;

use crate::gallery::{Gallery, Neighbor};

/// Who one embedding is closest to. `person` is `None` for nobody in the gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub person: Option<String>,
    /// Share of the vote, 0..=1.
    pub share: f64,
    /// Cosine distance to that person's nearest row, or for nobody to the nearest row at all.
    pub distance: f64,
}

/// Lets the nearest neighbours of one embedding vote. `neighbors` holds the `k` nearest images
/// ([`Gallery::nearest_images`]), nearest first: variations of an image have one vote together.
///
/// Each neighbour within `threshold` votes for its person, each beyond it for nobody; the majority
/// decides. A person with fewer than `k` images cannot cast `k` votes: what counts is the share of the
/// votes that person could cast, and at least half of them must have been cast. (With `k` images for
/// everybody that is the plain majority; without it nobody with a single photograph would ever be
/// recognised.) Of equal people the nearest wins.
pub fn decide(gallery: &Gallery, neighbors: &[Neighbor], k: usize, threshold: f64) -> Verdict {
    let nearest = neighbors.first().map_or(2.0, |n| n.distance);
    // Person, votes, distance of the nearest; in the order of first appearance, so nearest first.
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
    // max_by_key takes the last of equals, so the list is turned around: the nearest of them.
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

/// The running vote over a track: each verdict counts with the weight of its embedding
/// ([`crate::quality::weight`]) times its share.
#[derive(Debug, Clone, Default)]
pub struct TrackVote {
    /// Weight for, and weighted distance to, each person.
    people: HashMap<Option<String>, (f64, f64)>,
    total: f64,
    count: u32,
    last: Option<Verdict>,
}

/// A track with so many votes and so clear a majority is settled: more embeddings would rarely change
/// its name.
const SETTLED_VOTES: u32 = 4;
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

    /// The majority so far: its share of all weight, and the mean distance of its votes.
    pub fn majority(&self) -> Option<Verdict> {
        // The name decides between equals, so that the answer does not depend on hashing.
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

    /// Whether the majority is clear enough to look less often.
    pub fn is_settled(&self) -> bool {
        self.count >= SETTLED_VOTES && self.majority().is_some_and(|m| m.share >= SETTLED_SHARE)
    }

    /// The verdict on the last embedding.
    pub fn last(&self) -> Option<&Verdict> {
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::{ModelId, Row};

    /// Ann has six rows at 0°, 1°, … 5°, Bob one at 90°, Eve six from 180° on.
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
        let gallery = gallery();
        decide(&gallery, &gallery.nearest(&[x, y], 6), 6, threshold)
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
        assert_eq!(
            decide(&empty, &empty.nearest(&[1.0, 0.0], 6), 6, 0.6).person,
            None
        );
    }

    /// Ann has one photo at 0° with eight variations, Bob two at 20° and 24°.
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
            let neighbors = gallery.nearest_images(&[x, y], 6);
            decide(&gallery, &neighbors, 6, 0.3)
        };
        // Two photos against one, though one of its variations is the nearest row.
        let bob = ask(13.0);
        assert_eq!((bob.person.as_deref(), bob.share), (Some("bob"), 1.0));
        // One photo is all that Ann could have, and its nearest variation says how near.
        let ann = ask(-40.0);
        assert_eq!((ann.person.as_deref(), ann.share), (Some("ann"), 1.0));
        assert!((ann.distance - (1.0 - 40f64.to_radians().cos())).abs() < 1e-6);
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
        assert!(!track.is_settled(), "a quarter speaks against it");
        track.add(verdict(Some("ann")), 0.9);
        assert!(track.is_settled());
    }
}
