//! Names several faces at once: a person is in one place at a time.
//!
//! Two faces on one picture, or two tracks that are on screen together, are rivals: they are not
//! the same person. Where rivals would get the same name, the nearest keeps it. The others are named
//! as if that person were not in the gallery. This is the deferred acceptance of Gale and Shapley
//! ("College admissions and the stability of marriage", 1962), with people who prefer near faces.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use crate::vote::Verdict;

/// By how much a rival must be nearer, in cosine distance, to take a name from the face that has
/// it. Otherwise two faces at about the same distance would exchange it all the time.
pub const LEAD: f64 = 0.02;

/// Who a face is on its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub verdict: Verdict,
    /// Whether the face has had this name until now.
    pub held: bool,
    /// Whether the face was told nothing before.
    pub is_new: bool,
    /// Whether the tracker only supposes the face to be there.
    pub predicted: bool,
}

impl From<Verdict> for Claim {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            held: false,
            is_new: true,
            predicted: false,
        }
    }
}

impl Claim {
    fn person(&self) -> Option<&str> {
        self.verdict.person.as_deref()
    }

    fn distance(&self) -> f64 {
        match self.held {
            true => self.verdict.distance - LEAD,
            false => self.verdict.distance,
        }
    }
}

/// Whether two of `claims` are for the same person.
pub fn collide<C: Borrow<Claim>>(claims: &[C]) -> bool {
    let mut people = BTreeSet::new();
    let mut named = claims.iter().filter_map(|claim| claim.borrow().person());
    !named.all(|person| people.insert(person))
}

/// Decides who each face is, such that no two rivals have the same name.
///
/// `rivals` says of two faces, by their indices, whether they cannot be the same person. `next`
/// says who a face is if it is none of the people given. Of equally near faces, the first wins.
pub fn assign(
    mut claims: Vec<Claim>,
    rivals: impl Fn(usize, usize) -> bool,
    mut next: impl FnMut(usize, &BTreeSet<String>) -> Claim,
) -> Vec<Verdict> {
    // For each face, the names that it lost, in this order.
    let mut lost: Vec<Vec<Claim>> = vec![Vec::new(); claims.len()];
    let mut ruled_out: Vec<BTreeSet<String>> = vec![BTreeSet::new(); claims.len()];
    // Each round rules out a person for a face.
    while collide(&claims) {
        let losers = losers(&claims, &rivals);
        if losers.is_empty() {
            break;
        }
        for face in losers {
            let person = claims[face].person().map(str::to_owned);
            ruled_out[face].extend(person);
            let mut new = next(face, &ruled_out[face]);
            if new.person().is_some_and(|p| ruled_out[face].contains(p)) {
                new.verdict.person = None;
            }
            lost[face].push(std::mem::replace(&mut claims[face], new));
        }
    }
    give_back(&mut claims, &mut lost, rivals);
    claims.into_iter().map(|claim| claim.verdict).collect()
}

/// The faces that are not the nearest among their rivals with the same name.
fn losers(claims: &[Claim], rivals: &impl Fn(usize, usize) -> bool) -> Vec<usize> {
    let mut by_person: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (face, claim) in claims.iter().enumerate() {
        if let Some(person) = claim.person() {
            by_person.entry(person).or_default().push(face);
        }
    }
    let mut losers = Vec::new();
    for mut faces in by_person.into_values().filter(|faces| faces.len() > 1) {
        let is_sure = |face: &usize| {
            let claim = &claims[*face];
            !claim.predicted && (claim.held || claim.is_new)
        };
        let sure = faces.iter().any(is_sure);
        let place = |face: usize| {
            let claim = &claims[face];
            match (claim.predicted, claim.held) {
                (false, _) => 1,
                // After a cut, the person is where a face appears. But a face that was somebody else
                // takes no name while the detector misses the one that has it.
                (true, true) => 2 * u8::from(sure),
                (true, false) => 3,
            }
        };
        // Stable: of equals, the first stays first.
        faces.sort_by(|&a, &b| {
            let distances = claims[a].distance().total_cmp(&claims[b].distance());
            place(a).cmp(&place(b)).then(distances)
        });
        let mut kept: Vec<usize> = Vec::new();
        for face in faces {
            match kept.iter().any(|other| rivals(*other, face)) {
                true => losers.push(face),
                false => kept.push(face),
            }
        }
    }
    losers
}

/// Gives faces back what they lost to a rival that lost it in turn. (Among faces that are all rivals
/// of each other there are none: a name that is taken stays taken.)
fn give_back(claims: &mut [Claim], lost: &mut [Vec<Claim>], rivals: impl Fn(usize, usize) -> bool) {
    let nearest = |lost: &[Claim]| lost.first().map_or(f64::MAX, Claim::distance);
    let mut faces: Vec<usize> = (0..claims.len()).filter(|f| !lost[*f].is_empty()).collect();
    faces.sort_by(|a, b| nearest(&lost[*a]).total_cmp(&nearest(&lost[*b])));
    // What one gets back, it leaves to others what it had.
    let mut changed = true;
    while changed {
        changed = false;
        for &face in &faces {
            let is_free = |claim: &Claim| {
                let mut others = claims.iter().enumerate();
                !others.any(|(other, held)| {
                    other != face && held.person() == claim.person() && rivals(other, face)
                })
            };
            if let Some(free) = lost[face].iter().position(is_free) {
                claims[face] = lost[face].swap_remove(free);
                // What is left is better.
                lost[face].truncate(free);
                changed = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// For each face, the people that it may be, best first, with their distances.
    type Wishes<'a> = [&'a [(&'a str, f64)]];

    fn verdict(person: Option<&str>, distance: f64) -> Verdict {
        Verdict {
            person: person.map(Into::into),
            confidence: 1.0,
            distance,
        }
    }

    fn wish(wishes: &[(impl AsRef<str>, f64)], without: &BTreeSet<String>) -> Claim {
        let mut wishes = wishes.iter();
        let found = wishes.find(|(person, _)| !without.contains(person.as_ref()));
        let found = found.map(|(person, distance)| verdict(Some(person.as_ref()), *distance));
        found.unwrap_or_else(|| verdict(None, 2.0)).into()
    }

    fn named(wishes: &Wishes, rivals: impl Fn(usize, usize) -> bool) -> Vec<String> {
        let nobody = BTreeSet::new();
        let claims = wishes.iter().map(|w| wish(w, &nobody)).collect();
        let verdicts = assign(claims, rivals, |face, without| wish(wishes[face], without));
        let names = verdicts.into_iter().map(|v| v.person.unwrap_or("-".into()));
        names.collect()
    }

    fn all(_: usize, _: usize) -> bool {
        true
    }

    #[test]
    fn the_nearest_face_gets_the_name() {
        let wishes: &Wishes = &[&[("ann", 0.52)], &[("ann", 0.03)], &[("bob", 0.6)]];
        assert_eq!(named(wishes, all), ["-", "ann", "bob"]);
        let wishes: &Wishes = &[&[("ann", 0.5), ("bob", 0.6)], &[("ann", 0.1)]];
        assert_eq!(named(wishes, all), ["bob", "ann"]);
        // The loser is nearer to its next candidate than the face that has that name.
        let wishes: &Wishes = &[
            &[("ann", 0.3), ("bob", 0.2)],
            &[("ann", 0.1)],
            &[("bob", 0.4), ("eve", 0.5)],
        ];
        assert_eq!(named(wishes, all), ["bob", "ann", "eve"]);
        let wishes: &Wishes = &[&[("ann", 0.3)], &[("ann", 0.3)]];
        assert_eq!(named(wishes, all), ["ann", "-"], "equally near");
        assert_eq!(named(&[], all), [""; 0]);
    }

    #[test]
    fn faces_that_are_not_seen_together_share_a_name() {
        let wishes: &Wishes = &[&[("ann", 0.3)], &[("ann", 0.1)], &[("ann", 0.2)]];
        assert_eq!(named(wishes, |_, _| false), ["ann"; 3]);
        // The last one is alone.
        let rivals = |a: usize, b: usize| a < 2 && b < 2;
        assert_eq!(named(wishes, rivals), ["-", "ann", "ann"]);
        // One after the other: the first and the last do not meet.
        let chain = |a: usize, b: usize| a.abs_diff(b) == 1;
        let wishes: &Wishes = &[
            &[("ann", 0.3)],
            &[("ann", 0.2)],
            &[("bob", 0.3), ("ann", 0.1)],
            &[("bob", 0.1)],
        ];
        // The third loses bob and takes ann from the second, which frees her for the first.
        assert_eq!(named(wishes, chain), ["ann", "-", "ann", "bob"]);
    }

    #[test]
    fn a_name_stays_unless_a_rival_is_clearly_nearer() {
        let decide = |distance: f64| {
            let held = Claim {
                held: true,
                ..verdict(Some("ann"), 0.30).into()
            };
            let rival = verdict(Some("ann"), distance).into();
            let verdicts = assign(vec![held, rival], all, |_, _| verdict(None, 2.0).into());
            verdicts[0].person.is_some()
        };
        assert!(decide(0.31) && decide(0.29));
        assert!(!decide(0.27));
    }

    #[test]
    fn a_predicted_face_loses_to_one_that_appears() {
        let first_is_ann = |rival: Claim| {
            let predicted = Claim {
                held: true,
                is_new: false,
                predicted: true,
                ..verdict(Some("ann"), 0.30).into()
            };
            let verdicts = assign(vec![predicted, rival], all, |_, _| {
                verdict(None, 2.0).into()
            });
            assert_eq!(verdicts.iter().filter(|v| v.person.is_some()).count(), 1);
            verdicts[0].person.is_some()
        };
        let far: Claim = verdict(Some("ann"), 0.45).into();
        assert!(!first_is_ann(far.clone()), "after a cut");
        let held = Claim {
            held: true,
            is_new: false,
            ..far
        };
        assert!(!first_is_ann(held), "and on the frames that follow");
        let lookalike = Claim {
            is_new: false,
            ..verdict(Some("ann"), 0.10).into()
        };
        assert!(first_is_ann(lookalike), "it was somebody else");
    }

    #[test]
    fn a_caller_that_names_somebody_again_gets_nobody() {
        let claims = vec![verdict(Some("ann"), 0.1).into(); 2];
        let verdicts = assign(claims, all, |_, _| verdict(Some("ann"), 0.1).into());
        assert_eq!(verdicts[1].person, None);
    }

    proptest! {
        #[test]
        fn no_two_rivals_share_a_name_and_nobody_is_passed_over(
            wishes in prop::collection::vec(prop::collection::btree_map(0..6u8, 0.0..1.0, 0..5), 0..8),
            pairs in prop::collection::btree_set((0..8usize, 0..8usize), 0..40),
            clique: bool,
        ) {
            let wishes: Vec<Vec<(String, f64)>> = wishes
                .into_iter()
                .map(|wishes| wishes.into_iter().map(|(p, d)| (p.to_string(), d)).collect())
                .collect();
            let rivals = |a: usize, b: usize| {
                clique || pairs.contains(&(a, b)) || pairs.contains(&(b, a))
            };
            let nobody = BTreeSet::new();
            let claims = wishes.iter().map(|w| wish(w, &nobody)).collect();
            let found = assign(claims, rivals, |face, without| wish(&wishes[face], without));
            prop_assert_eq!(found.len(), wishes.len());
            for (i, one) in found.iter().enumerate() {
                for (j, other) in found.iter().enumerate().skip(i + 1) {
                    prop_assert!(
                        one.person.is_none() || one.person != other.person || !rivals(i, j)
                    );
                }
                // What a face would rather be, a rival is.
                for (person, distance) in &wishes[i] {
                    if one.person.as_ref() == Some(person) {
                        prop_assert_eq!(one.distance, *distance);
                        break;
                    }
                    let rival = found.iter().enumerate().find(|(j, other)| {
                        *j != i && rivals(i, *j) && other.person.as_ref() == Some(person)
                    });
                    prop_assert!(rival.is_some(), "{} is free for {}", person, i);
                    if clique {
                        prop_assert!(rival.is_some_and(|(_, r)| r.distance <= *distance));
                    }
                }
            }
        }
    }
}
