//! Who is in an input: measures how long people are on screen, and chooses the main persons.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::str::FromStr;

use face_gallery::group::Nearness;

use super::stitch::{Look, within};
use serde::{Deserialize, Serialize};

use super::tally::{Mean, Span, covered, female, gender, tenths};
use super::together::together;
use crate::record::{Person, Summary, TrackSummary, UNKNOWN};

/// The people to whom names are restricted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
pub fn name_of(track: &TrackSummary) -> Option<&str> {
    let name = track.track.name.as_deref();
    name.filter(|name| *name != UNKNOWN)
}

/// The number of a stranger, if `person` is one.
pub fn stranger(person: &str) -> Option<u64> {
    let number = person.strip_prefix("stranger-")?;
    number.parse().ok().filter(|number| *number > 0)
}

/// Derives `people`, `strangers` and `together` from the tracks, after their names or persons have
/// changed.
///
/// A `person` on input says which tracks belong together; any text will do. On output it is the
/// name of one of the tracks, or `stranger-N`. Strangers keep their numbers. Others are numbered
/// after them, longest on screen first. Tracks with neither a name nor a `person` belong to nobody.
/// Tracks of one name are one person, and tracks without a name join it unless they were on screen
/// at the same time.
pub fn update(summary: &mut Summary) {
    assign(&mut summary.tracks, summary.shared_strangers);
    let mut groups: BTreeMap<&str, Vec<&TrackSummary>> = BTreeMap::new();
    for track in &summary.tracks {
        if let Some(person) = track.person.as_deref() {
            groups.entry(person).or_default().push(track);
        }
    }
    let mut ranked: Vec<(bool, u64, Person)> = groups
        .into_iter()
        .map(|(name, tracks)| {
            let frames = tracks.iter().map(|t| t.track.frames).sum();
            let named = tracks.iter().any(|track| name_of(track).is_some());
            (named, frames, person(name, &tracks, frames, summary))
        })
        .collect();
    // Stable sort: ties stay in the order of names.
    ranked.sort_by_key(|(_, frames, person)| Reverse((person.screen_time_ns, *frames)));
    let (named, others): (Vec<_>, Vec<_>) = ranked.into_iter().partition(|(named, ..)| *named);
    summary.people = named.into_iter().map(|(.., person)| person).collect();
    summary.strangers = others.into_iter().map(|(.., person)| person).collect();
    summary.together = together(&summary.tracks);
}

/// Finds out which tracks of an analysed input are one person, and lists the people. `look` returns
/// what is known of the face of a track, `None` if nothing is.
pub fn stitch(summary: &mut Summary, nearness: &Nearness, look: impl Fn(u64) -> Option<Look>) {
    let in_picture = summary.frames == 1;
    let seen = summary
        .tracks
        .iter()
        .filter_map(|track| Some((track, look(track.track.track)?)));
    let parts = within(0, in_picture, seen, nearness);
    let mut groups: HashMap<u64, usize> = HashMap::new();
    for (number, part) in parts.iter().enumerate().filter(|(_, part)| !part.poor) {
        groups.extend(part.tracks.iter().map(|track| (track.track.track, number)));
    }
    for track in &mut summary.tracks {
        let group = groups.get(&track.track.track);
        track.person = group.map(|number| format!("group {number}"));
    }
    update(summary);
}

/// Gives all tracks of one person the same `person`. Numbers up to `shared` are not given to anybody
/// new.
fn assign(tracks: &mut [TrackSummary], shared: u64) {
    let mut present: BTreeMap<String, Presence> = BTreeMap::new();
    // The names in each group, with their times on screen.
    let mut names: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for track in tracks.iter_mut() {
        let Some(name) = name_of(track).map(str::to_owned) else {
            continue;
        };
        present.entry(name.clone()).or_default().add(track);
        if let Some(group) = track.person.replace(name.clone()) {
            let time = names.entry(group).or_default().entry(name).or_default();
            *time += track.screen_time_ns;
        }
    }
    let longest = |names: &BTreeMap<String, u64>| {
        let longest = names.iter().max_by_key(|(_, time)| **time);
        longest.map(|(name, _)| name.clone())
    };
    let mut unnamed: Vec<&mut TrackSummary> =
        tracks.iter_mut().filter(|t| name_of(t).is_none()).collect();
    unnamed.sort_by_key(|track| Reverse((track.screen_time_ns, track.track.frames)));
    let mut last = shared;
    // Tracks that were not with anybody who has a name or a number, by their former groups.
    let mut left: BTreeMap<String, Vec<(Presence, Vec<&mut TrackSummary>)>> = BTreeMap::new();
    for track in unnamed {
        let Some(group) = track.person.take() else {
            continue;
        };
        let number = stranger(&group);
        last = last.max(number.unwrap_or(0));
        let person = match (present.contains_key(&group), names.get(&group)) {
            (false, Some(names)) => longest(names),
            (false, None) if number.is_none() => None,
            _ => Some(group.clone()),
        };
        if let Some(person) = person {
            let presence = present.entry(person.clone()).or_default();
            if !presence.meets(track) {
                presence.add(track);
                track.person = Some(person);
                continue;
            }
        }
        let parts = left.entry(group).or_default();
        match parts
            .iter_mut()
            .find(|(presence, _)| !presence.meets(track))
        {
            Some((presence, tracks)) => {
                presence.add(track);
                tracks.push(track);
            }
            None => {
                let mut presence = Presence::default();
                presence.add(track);
                parts.push((presence, vec![track]));
            }
        }
    }
    let mut new: Vec<(Presence, Vec<&mut TrackSummary>)> = left.into_values().flatten().collect();
    new.sort_by_key(|(presence, tracks)| {
        let frames: u64 = tracks.iter().map(|t| t.track.frames).sum();
        let first = tracks.iter().map(|t| t.track.track).min();
        (Reverse((presence.time(), frames)), first)
    });
    for (number, (_, tracks)) in (last + 1..).zip(new) {
        for track in tracks {
            track.person = Some(format!("stranger-{number}"));
        }
    }
}

/// When somebody was on screen.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    /// By their first times: the last time, and when the last frame ends. They do not overlap,
    /// unless tracks of one name do.
    spans: BTreeMap<u64, Span>,
}

impl Presence {
    pub fn add(&mut self, track: &TrackSummary) {
        spans(track).for_each(|span| self.cover(span));
    }

    pub fn join(&mut self, other: Self) {
        other.spans.into_values().for_each(|span| self.cover(span));
    }

    fn cover(&mut self, mut span: Span) {
        // Joins whatever it overlaps.
        while let Some(other) = self.overlapping(&span) {
            self.spans.remove(&other.first);
            span = Span {
                first: span.first.min(other.first),
                last: span.last.max(other.last),
                end: span.end.max(other.end),
            };
        }
        self.spans.insert(span.first, span);
    }

    fn overlapping(&self, span: &Span) -> Option<Span> {
        let (_, before) = self.spans.range(..=span.last).next_back()?;
        (before.last >= span.first).then_some(*before)
    }

    pub fn meets(&self, track: &TrackSummary) -> bool {
        spans(track).any(|span| self.overlapping(&span).is_some())
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        let (few, many) = match self.spans.len() <= other.spans.len() {
            true => (self, other),
            false => (other, self),
        };
        let mut spans = few.spans.values();
        spans.any(|span| many.overlapping(span).is_some())
    }

    fn time(&self) -> u64 {
        covered(self.spans.values())
    }
}

/// The appearances of a track. Their last frames last equally long, and as long as its screen time
/// says.
pub(super) fn spans(track: &TrackSummary) -> impl Iterator<Item = Span> {
    let between = |[first, last]: &[u64; 2]| last.saturating_sub(*first);
    let without_last: u64 = track.appearances.iter().map(between).sum();
    let count = track.appearances.len().max(1) as u64;
    let frame = track.screen_time_ns.saturating_sub(without_last) / count;
    track.appearances.iter().map(move |&[first, last]| Span {
        first,
        last,
        end: last.saturating_add(frame),
    })
}

fn person(name: &str, tracks: &[&TrackSummary], frames: u64, input: &Summary) -> Person {
    let spans: Vec<Span> = tracks.iter().flat_map(|track| spans(track)).collect();
    let screen_time_ns = covered(&spans);
    let (part, whole) = match input.duration_ns {
        // A picture, or frames without times.
        0 => (frames, input.frames),
        duration => (screen_time_ns, duration),
    };
    let (mut age, mut women) = (Mean::default(), Mean::default());
    let lines = || tracks.iter().map(|t| &t.track);
    for track in lines() {
        let weight = track.frames as f64;
        if let Some(years) = track.age {
            age.add(years, weight);
        }
        if let Some(female) = female(&track.gender, track.gender_confidence) {
            women.add(female, weight);
        }
    }
    let (gender, gender_confidence) = women.value().map(gender).unzip();
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
        first_stream_time: spans.iter().map(|s| s.first).min(),
        last_stream_time: spans.iter().map(|s| s.last).max(),
        tracks: lines().map(|t| t.track).collect(),
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
mod tests;
