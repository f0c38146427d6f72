//! Who was with whom: the people of a graph, where they stand in it, and what connects them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::{PI, TAU};
use std::path::{Component, Path, PathBuf};

use super::load::InputResults;
use crate::analyze::people;
use crate::record::TrackSummary;

/// More people than this cannot be told apart in a graph: those longest in company are shown.
const MOST_PEOPLE: usize = 40;

/// The most pairs of a list.
const MOST_PAIRS: usize = 200;

/// The distance of neighbours on the circle, and its least radius, in pixels.
const SPACING: f64 = 88.0;
const LEAST_RADIUS: f64 = 90.0;

/// Somebody who was with others.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    pub label: String,
    pub named: bool,
    pub thumbnail: Option<PathBuf>,
    /// From the centre of the graph, in pixels.
    pub place: [f64; 2],
}

/// Two people who were on screen at the same time.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Indices into [`Company::members`].
    pub members: [usize; 2],
    /// 0 for those who share only pictures.
    pub time_ns: u64,
    /// The first and the last time, as a player shows it, in nanoseconds. Of the first input, if there
    /// are several.
    pub first: u64,
    pub last: u64,
    /// Indices into [`Report::inputs`](super::model::Report::inputs).
    pub inputs: Vec<usize>,
}

/// The people of one input or of several, and what connects them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Company {
    /// In the order of their places on a circle.
    pub members: Vec<Member>,
    /// Longest together first.
    pub pairs: Vec<Pair>,
    /// The number of people and of pairs who are left out.
    pub left_out: [usize; 2],
    pub radius: f64,
}

/// What is known of a pair before it has a place.
#[derive(Default)]
struct Bond {
    time_ns: u64,
    span: Option<[u64; 2]>,
    inputs: BTreeSet<usize>,
}

impl Bond {
    /// Orders by time, then by the number of inputs.
    fn strength(&self) -> (u64, usize) {
        (self.time_ns, self.inputs.len())
    }
}

/// The company in `inputs`, each with its index. In several inputs, only strangers who were grouped count:
/// the other numbers mean somebody else in each.
pub fn build(inputs: &[(usize, &InputResults)]) -> Company {
    let mut bonds: BTreeMap<[&str; 2], Bond> = BTreeMap::new();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for (place, input) in inputs {
        named.extend(input.summary.people.iter().map(|p| p.name.as_str()));
        let shared = input.summary.shared_strangers;
        let is_known = |person: &str| {
            let number = people::stranger(person);
            inputs.len() == 1 || named.contains(person) || number.is_some_and(|n| n <= shared)
        };
        for together in &input.summary.together {
            let pair = together.people.each_ref().map(String::as_str);
            let [a, b] = pair;
            if a == b || !pair.iter().all(|person| is_known(person)) {
                continue;
            }
            let bond = bonds.entry([a.min(b), a.max(b)]).or_default();
            bond.time_ns = bond.time_ns.saturating_add(together.time_ns);
            bond.span.get_or_insert([together.first, together.last]);
            bond.inputs.insert(*place);
        }
    }
    let mut totals: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for (people, bond) in &bonds {
        for person in people {
            let total = totals.entry(person).or_default();
            total.0 = total.0.saturating_add(bond.time_ns);
            total.1 += bond.inputs.len();
        }
    }
    let mut people: Vec<(&str, (u64, usize))> = totals.into_iter().collect();
    // Stable sort: ties stay in the order of names.
    people.sort_by_key(|(_, total)| Reverse(*total));
    let more_people = people.len().saturating_sub(MOST_PEOPLE);
    people.truncate(MOST_PEOPLE);
    let people: Vec<&str> = people.into_iter().map(|(person, _)| person).collect();

    let shown: BTreeSet<&str> = people.iter().copied().collect();
    let all = bonds.len();
    bonds.retain(|people, _| people.iter().all(|person| shown.contains(person)));
    let mut bonds: Vec<([&str; 2], Bond)> = bonds.into_iter().collect();
    bonds.sort_by_key(|(_, bond)| Reverse(bond.strength()));
    bonds.truncate(MOST_PAIRS);
    let more_pairs = all - bonds.len();

    let order = around(&people, &bonds);
    let radius = LEAST_RADIUS.max(SPACING * order.len() as f64 / TAU);
    let member = |(i, person): (usize, &&str)| {
        // Two stand side by side, and the strongest is on the left.
        let angle = PI + TAU * i as f64 / order.len() as f64;
        Member {
            label: (*person).to_owned(),
            named: named.contains(person),
            thumbnail: thumbnail(inputs, person),
            place: [radius * angle.cos(), radius * angle.sin()],
        }
    };
    let members: Vec<Member> = order.iter().enumerate().map(member).collect();
    let place = |person: &str| order.iter().position(|p| *p == person).unwrap_or(0);
    let pair = |(people, bond): ([&str; 2], Bond)| {
        let [first, last] = bond.span.unwrap_or_default();
        Pair {
            members: people.map(place),
            time_ns: bond.time_ns,
            first,
            last,
            inputs: bond.inputs.into_iter().collect(),
        }
    };
    Company {
        pairs: bonds.into_iter().map(pair).collect(),
        members,
        left_out: [more_people, more_pairs],
        radius,
    }
}

/// Puts people into an order in which those who belong together are neighbours: beside the last one goes
/// whoever was with them longest.
fn around<'a>(people: &[&'a str], bonds: &[([&'a str; 2], Bond)]) -> Vec<&'a str> {
    let mut left: Vec<&str> = people.to_vec();
    let mut order: Vec<&str> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let next = order.last().and_then(|last| {
            // The strongest come first.
            bonds.iter().find_map(|([a, b], _)| {
                let other = if a == last {
                    b
                } else if b == last {
                    a
                } else {
                    return None;
                };
                left.iter().position(|person| person == other)
            })
        });
        order.push(left.remove(next.unwrap_or(0)));
    }
    order
}

/// The picture of the person's longest track.
fn thumbnail(inputs: &[(usize, &InputResults)], person: &str) -> Option<PathBuf> {
    let tracks = inputs.iter().flat_map(|(_, input)| {
        let theirs = |track: &&TrackSummary| track.person.as_deref() == Some(person);
        let tracks = input.summary.tracks.iter().filter(theirs);
        tracks.map(|track| (track, &input.folder))
    });
    let pictures = tracks.filter_map(|(track, folder)| {
        let path = Path::new(track.thumbnail.as_deref()?);
        // Only files in the folder of the results.
        let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
        inside.then(|| (track.screen_time_ns, track.track.frames, folder.join(path)))
    });
    // Of equals, the first.
    let longest = pictures.min_by_key(|(time, frames, _)| Reverse((*time, *frames)));
    longest.map(|(_, _, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Person, Summary, Together};

    fn input(name: &str, people: &[&str], together: &[(&str, &str, u64)]) -> InputResults {
        let person = |name: &&str| Person {
            name: (*name).to_owned(),
            ..Person::default()
        };
        InputResults {
            name: name.into(),
            folder: PathBuf::from("/results").join(name),
            summary: Summary {
                people: people.iter().map(person).collect(),
                together: together
                    .iter()
                    .map(|(a, b, seconds)| Together {
                        people: [a.to_string(), b.to_string()],
                        time_ns: seconds * 1_000_000_000,
                        first: 7,
                        last: 9,
                    })
                    .collect(),
                tracks: vec![TrackSummary {
                    person: people.first().map(|p| p.to_string()),
                    thumbnail: Some("thumbnails/1.jpg".into()),
                    ..TrackSummary::default()
                }],
                ..Summary::default()
            },
        }
    }

    fn labels(company: &Company) -> Vec<&str> {
        company.members.iter().map(|m| m.label.as_str()).collect()
    }

    #[test]
    fn pairs_are_added_up_over_inputs_and_strangers_are_not() {
        let films = [
            input(
                "a",
                &["ann", "bob"],
                &[("ann", "bob", 5), ("bob", "stranger-1", 60)],
            ),
            input(
                "b",
                &["ann", "bob", "cid"],
                &[("ann", "cid", 20), ("ann", "bob", 30), ("bob", "cid", 0)],
            ),
        ];
        let all: Vec<(usize, &InputResults)> = films.iter().enumerate().collect();
        let company = build(&all);
        assert_eq!(labels(&company), ["ann", "bob", "cid"]);
        let pairs: Vec<_> = company
            .pairs
            .iter()
            .map(|p| (p.members, p.time_ns / 1_000_000_000, p.inputs.as_slice()))
            .collect();
        assert_eq!(
            pairs,
            [
                ([0, 1], 35, &[0, 1][..]),
                ([0, 2], 20, &[1]),
                ([1, 2], 0, &[1])
            ]
        );
        assert_eq!(
            company.members[0].thumbnail.as_deref(),
            Some(Path::new("/results/a/thumbnails/1.jpg"))
        );
        let first = build(&all[..1]);
        assert_eq!(labels(&first), ["bob", "stranger-1", "ann"]);
        assert!(first.members[0].named && !first.members[1].named);
        assert_eq!(
            build(&[]),
            Company {
                radius: 90.0,
                ..Company::default()
            }
        );
    }

    #[test]
    fn of_many_people_the_strongest_are_shown_apart_from_each_other() {
        let names: Vec<String> = (0..60).map(|i| format!("p{i:02}")).collect();
        let together: Vec<(&str, &str, u64)> = (1..60)
            .map(|i| (names[0].as_str(), names[i].as_str(), i as u64))
            .collect();
        let film = input("a", &[], &together);
        let company = build(&[(0, &film)]);
        assert_eq!((company.members.len(), company.left_out), (40, [20, 20]));
        assert!(company.members.iter().any(|m| m.label == "p59"));
        for (i, a) in company.members.iter().enumerate() {
            for b in &company.members[i + 1..] {
                let distance = (a.place[0] - b.place[0]).hypot(a.place[1] - b.place[1]);
                assert!(distance > 80.0, "{distance}");
            }
        }
    }
}
