//! Measures how long people are on screen, and chooses the main persons.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use super::tally::{Mean, Overview, WholeTrack, covered, female, gender, tenths};
use crate::record::{Person, UNKNOWN};

/// The people to whom names are restricted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MainPersons {
    /// This many, longest on screen.
    Count(usize),
    /// Those on screen for at least this share of the input, 0 to 1.
    Share(f64),
}

impl FromStr for MainPersons {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|p| p / 100.0).ok(),
            None => match text.parse::<usize>() {
                Ok(count) if count > 0 => return Ok(Self::Count(count)),
                Ok(_) => None,
                // A share of 1 would be a count.
                Err(_) => text.parse::<f64>().ok().filter(|share| *share < 1.0),
            },
        };
        match share {
            Some(share) if share > 0.0 && share <= 1.0 => Ok(Self::Share(share)),
            _ => Err("expected a number of people such as 3, or a share such as 5% or 0.05".into()),
        }
    }
}

/// The name of a track, if it is somebody's.
pub fn name_of(track: &WholeTrack) -> Option<&str> {
    let name = track.summary.track.name.as_deref();
    name.filter(|name| *name != UNKNOWN)
}

/// The named people, longest on screen first. If there are no times, those on most frames come first.
pub fn rank(input: &Overview) -> Vec<Person> {
    let mut tracks: BTreeMap<&str, Vec<&WholeTrack>> = BTreeMap::new();
    for track in &input.tracks {
        if let Some(name) = name_of(track) {
            tracks.entry(name).or_default().push(track);
        }
    }
    let mut people: Vec<(u64, Person)> = tracks
        .into_iter()
        .map(|(name, tracks)| {
            let frames = tracks.iter().map(|t| t.summary.track.frames).sum();
            (frames, person(name, &tracks, frames, input))
        })
        .collect();
    // Stable sort: ties stay in the order of names.
    people.sort_by_key(|(frames, person)| std::cmp::Reverse((person.screen_time_ns, *frames)));
    people.into_iter().map(|(_, person)| person).collect()
}

fn person(name: &str, tracks: &[&WholeTrack], frames: u64, input: &Overview) -> Person {
    let spans = || tracks.iter().flat_map(|t| &t.spans);
    let screen_time_ns = covered(spans());
    let (part, whole) = match input.duration_ns {
        // A picture, or frames without times.
        0 => (frames, input.frames),
        duration => (screen_time_ns, duration),
    };
    let (mut age, mut women) = (Mean::default(), Mean::default());
    for track in tracks.iter().map(|t| &t.summary.track) {
        let weight = track.frames as f64;
        if let Some(years) = track.age {
            age.add(years, weight);
        }
        if let Some(female) = female(&track.gender, track.gender_confidence) {
            women.add(female, weight);
        }
    }
    let (gender, gender_confidence) = women.value().map(gender).unzip();
    let first = spans().map(|s| s.first).min();
    let last = spans().map(|s| s.last).max();
    let lines = || tracks.iter().map(|t| &t.summary.track);
    Person {
        name: name.to_owned(),
        screen_time_ns,
        share: if whole > 0 {
            (part as f64 / whole as f64).min(1.0)
        } else {
            0.0
        },
        first_pts: lines().filter_map(|t| t.first_pts).min().unwrap_or(0),
        last_pts: lines().filter_map(|t| t.last_pts).max().unwrap_or(0),
        first_stream_time: first,
        last_stream_time: last,
        tracks: tracks.iter().map(|t| t.summary.track.track).collect(),
        age: age.value().map(tenths),
        gender,
        gender_confidence,
    }
}

/// The names of the main persons. `people` is ranked.
pub fn choose(people: &[Person], which: MainPersons) -> BTreeSet<String> {
    let is_main = |(rank, person): (usize, &Person)| {
        let main = match which {
            MainPersons::Count(count) => rank < count,
            MainPersons::Share(share) => person.share >= share,
        };
        main.then(|| person.name.clone())
    };
    people.iter().enumerate().filter_map(is_main).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tally::Span;
    use super::*;
    use crate::record::{Track, TrackSummary};

    fn track(id: u64, name: Option<&str>, spans: &[(u64, u64)]) -> WholeTrack {
        let spans = spans.iter().map(|&(first, end)| Span {
            first,
            last: end - 1,
            end,
        });
        WholeTrack {
            summary: TrackSummary {
                track: Track {
                    track: id,
                    first_pts: spans.clone().map(|s| 1000 + s.first).min(),
                    last_pts: spans.clone().map(|s| 1000 + s.last).max(),
                    frames: 2,
                    name: name.map(Into::into),
                    age: Some(20.0 + id as f64),
                    ..Track::default()
                },
                ..TrackSummary::default()
            },
            spans: spans.collect(),
        }
    }

    fn film() -> Overview {
        Overview {
            frames: 100,
            duration_ns: 1000,
            tracks: vec![
                track(1, Some("bob"), &[(0, 100)]),
                track(2, Some("ann"), &[(50, 300)]),
                track(3, Some(UNKNOWN), &[(0, 1000)]),
                track(4, None, &[(0, 1000)]),
                // Partly on screen twice at the same time.
                track(5, Some("ann"), &[(200, 400), (900, 950)]),
            ],
            ..Overview::default()
        }
    }

    #[test]
    fn people_are_ranked_by_their_time_on_screen() {
        let people = rank(&film());
        let names: Vec<_> = people.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["ann", "bob"]);
        let ann = &people[0];
        assert_eq!((ann.screen_time_ns, ann.share), (400, 0.4));
        assert_eq!((ann.first_pts, ann.last_pts), (1050, 1949));
        assert_eq!(ann.shown(), [50, 949]);
        assert_eq!(ann.tracks, [2, 5]);
        assert_eq!((ann.age, &ann.gender), (Some(23.5), &None));
    }

    #[test]
    fn without_times_frames_are_counted() {
        let mut picture = film();
        (picture.frames, picture.duration_ns) = (1, 0);
        for track in &mut picture.tracks {
            track.summary.track.frames = 1;
            track.spans.clear();
        }
        let people = rank(&picture);
        assert_eq!(people[0].name, "ann", "on two tracks");
        assert!(
            people
                .iter()
                .all(|p| p.share == 1.0 && p.first_stream_time.is_none())
        );
        assert!(rank(&Overview::default()).is_empty());
    }

    #[test]
    fn main_persons_are_so_many_or_those_long_enough_on_screen() {
        let people = rank(&film());
        let chosen = |text: &str| -> Vec<String> {
            let which = text.parse().expect("valid");
            choose(&people, which).into_iter().collect()
        };
        assert_eq!(chosen("1"), ["ann"]);
        assert_eq!(chosen("9"), ["ann", "bob"]);
        assert_eq!(chosen("40%"), ["ann"]);
        assert_eq!(chosen("0.1"), ["ann", "bob"]);
        assert!(chosen("41 %").is_empty());
        for bad in ["0", "-1", "0%", "101%", "1.5", "", "NaN", "inf", "x"] {
            assert!(bad.parse::<MainPersons>().is_err(), "{bad}");
        }
    }
}
