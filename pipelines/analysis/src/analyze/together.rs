//! Who was on screen with whom.

use std::collections::{BTreeMap, HashMap};

use super::people::spans;
use super::tally::Span;
use crate::record::{Together, TrackSummary};

/// At most this many pairs of a film are kept: those longest together.
const MOST_PAIRS: usize = 10_000;

/// All pairs of people who were on one frame, longest together first, then in alphabetical order. People
/// who share only photos, which take no time, were together for 0 ns.
pub fn together(tracks: &[TrackSummary]) -> Vec<Together> {
    let mut stays: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for track in tracks {
        if let Some(person) = &track.person {
            stays.entry(person).or_default().extend(spans(track));
        }
    }
    let people: Vec<&str> = stays.keys().copied().collect();
    let mut events: Vec<(Span, usize)> = Vec::new();
    for (person, stays) in stays.into_values().enumerate() {
        events.extend(union(stays).into_iter().map(|stay| (stay, person)));
    }
    events.sort_unstable_by_key(|(stay, person)| (stay.first, stay.last, *person));
    let mut pairs: HashMap<(usize, usize), Together> = HashMap::new();
    // Those who may still be there.
    let mut present: Vec<(Span, usize)> = Vec::new();
    for (stay, person) in events {
        present.retain(|(other, _)| other.last >= stay.first);
        for &(other, with) in &present {
            let [a, b] = [person.min(with), person.max(with)];
            let last = stay.last.min(other.last);
            let pair = pairs.entry((a, b)).or_insert_with(|| Together {
                people: [people[a].to_owned(), people[b].to_owned()],
                first: stay.first,
                ..Together::default()
            });
            let time = stay.end.min(other.end).saturating_sub(stay.first);
            pair.time_ns = pair.time_ns.saturating_add(time);
            pair.last = pair.last.max(last);
        }
        present.push((stay, person));
    }
    let mut pairs: Vec<Together> = pairs.into_values().collect();
    pairs.sort_unstable_by(|a, b| {
        let by_time = b.time_ns.cmp(&a.time_ns);
        by_time.then_with(|| a.people.cmp(&b.people))
    });
    pairs.truncate(MOST_PAIRS);
    pairs
}

/// Joins what overlaps or touches.
fn union(mut stays: Vec<Span>) -> Vec<Span> {
    stays.sort_unstable_by_key(|stay| (stay.first, stay.last));
    let mut joined: Vec<Span> = Vec::new();
    for stay in stays {
        match joined.last_mut() {
            Some(before) if stay.first <= before.end => {
                before.last = before.last.max(stay.last);
                before.end = before.end.max(stay.end);
            }
            _ => joined.push(stay),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::Track;

    /// A track whose frames take 10 ns.
    fn track(id: u64, person: &str, appearances: &[[u64; 2]]) -> TrackSummary {
        TrackSummary {
            track: Track {
                track: id,
                ..Track::default()
            },
            person: (!person.is_empty()).then(|| person.to_owned()),
            screen_time_ns: appearances.iter().map(|[a, b]| b - a + 10).sum(),
            appearances: appearances.to_vec(),
            ..TrackSummary::default()
        }
    }

    fn found(tracks: &[TrackSummary]) -> Vec<(String, u64, u64, u64)> {
        let pairs = together(tracks).into_iter();
        pairs
            .map(|t| (t.people.join(" "), t.time_ns, t.first, t.last))
            .collect()
    }

    #[test]
    fn the_time_of_two_people_is_counted_once_over_all_their_tracks() {
        let tracks = [
            track(1, "bob", &[[0, 90], [200, 290]]),
            track(2, "ann", &[[50, 240]]),
            // Seen twice at the same time, in a mirror.
            track(3, "ann", &[[60, 100]]),
            track(4, "stranger-1", &[[280, 400]]),
            // Nobody knows who.
            track(5, "", &[[0, 500]]),
        ];
        assert_eq!(
            found(&tracks),
            [
                ("ann bob".into(), 100, 50, 240),
                ("bob stranger-1".into(), 20, 280, 290)
            ]
        );
    }

    #[test]
    fn one_frame_counts_and_less_does_not() {
        let tracks = [
            track(1, "a", &[[0, 100]]),
            track(2, "b", &[[100, 100]]),
            // Its first frame begins while a's last one is shown.
            track(3, "c", &[[105, 200]]),
        ];
        assert_eq!(found(&tracks)[0], ("a b".into(), 10, 100, 100));
        assert_eq!(found(&tracks).len(), 1);
        // A photo.
        let mut photo = [track(1, "b", &[[0, 0]]), track(2, "a", &[[0, 0]])];
        for track in &mut photo {
            track.screen_time_ns = 0;
        }
        assert_eq!(found(&photo), [("a b".into(), 0, 0, 0)]);
    }

    #[test]
    fn thousands_of_people_are_swept_over_and_hostile_times_do_no_harm() {
        let crowd: Vec<_> = (0..20_000u64)
            .map(|i| track(i, &format!("p{i}"), &[[i * 100, i * 100 + 150]]))
            .collect();
        // Each meets the next.
        assert_eq!(together(&crowd).len(), MOST_PAIRS);
        let mut odd = [track(1, "a", &[[0, 1]]), track(2, "b", &[[0, 1]])];
        for track in &mut odd {
            track.appearances = vec![[0, u64::MAX], [5, 2], [u64::MAX, u64::MAX]];
            track.screen_time_ns = u64::MAX;
        }
        assert_eq!(found(&odd), [("a b".into(), u64::MAX, 0, u64::MAX)]);
    }

    proptest! {
        /// The same as asking for every moment.
        #[test]
        fn it_agrees_with_looking_at_every_frame(
            spans in prop::collection::vec((0usize..4, 0u64..60, 0u64..12), 0..14),
        ) {
            let names = ["a", "b", "c", "d"];
            // On a grid of frames.
            let tracks: Vec<_> = spans.iter().zip(0..).map(|(&(person, first, length), id)| {
                track(id, names[person], &[[first * 10, (first + length) * 10]])
            }).collect();
            let there = |name: &str, frame: u64| spans.iter().any(|&(person, first, length)| {
                names[person] == name && (first..=first + length).contains(&frame)
            });
            let found = together(&tracks);
            for (i, a) in names.iter().enumerate() {
                for b in &names[i + 1..] {
                    let frames: Vec<u64> = (0..100).filter(|&f| there(a, f) && there(b, f)).collect();
                    let pair = found.iter().find(|t| t.people == [*a, *b]);
                    prop_assert_eq!(pair.is_some(), !frames.is_empty());
                    if let Some(pair) = pair {
                        prop_assert_eq!(pair.time_ns, frames.len() as u64 * 10);
                        prop_assert_eq!(Some(pair.first), frames.first().map(|f| f * 10));
                        prop_assert_eq!(Some(pair.last), frames.last().map(|f| f * 10));
                    }
                }
            }
        }
    }
}
