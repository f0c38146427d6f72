//! Decides which tracks are one person: by their embeddings, their names and when they were on
//! screen.

use std::collections::BTreeMap;

use face_gallery::evidence::Embedded;
use face_gallery::group::{Absorbed, Bonds, Nearness, absorb, group};
use ndarray::Array2;

use super::people::{Presence, name_of};
use crate::record::TrackSummary;

/// A track of a video on fewer frames than this may be a blur, or no face at all. It is somebody if
/// it resembles one person on other tracks, and is not counted otherwise.
pub const FEW_FRAMES: u64 = 5;

/// The same for a track whose embeddings weigh less together: one good look weighs about 0.5.
const POOR: f64 = 0.5;

/// The evidence with half the weight of very much: one good look, or some poor ones. More of the same
/// film adds little.
const HALF: f64 = 0.5;

/// How much farther than two tracks a poor look may be from the mean of the person it joins. It has to
/// be much nearer to that person than to all others, too ([`absorb`]), so this is not what decides:
/// on eight made street scenes, 0.7 instead of 0.64 brought home five more tracks, and one to the
/// wrong person.
const REACH: f64 = 1.1;

/// The embeddings of a track in one.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// Their weighted mean, of length 1.
    pub unit: Vec<f32>,
    /// The sum of their weights.
    pub weight: f64,
}

impl Look {
    /// `None` if the mean has no direction.
    pub fn of(embeddings: &[Embedded]) -> Option<Self> {
        Some(Self {
            unit: face_gallery::evidence::Mean::of(embeddings).unit()?,
            weight: embeddings.iter().map(|e| e.weight).sum(),
        })
    }
}

/// Tracks of one person in one input, as far as is known before comparing with others.
#[derive(Debug)]
pub struct Part<'a> {
    /// The number of the input.
    pub input: usize,
    pub tracks: Vec<&'a TrackSummary>,
    pub look: Look,
    /// Whether it is too little to be a person by itself.
    pub poor: bool,
}

impl<'a> Part<'a> {
    /// A single track.
    pub fn of(input: usize, in_picture: bool, track: &'a TrackSummary, look: Look) -> Self {
        let poor = track.track.frames < FEW_FRAMES || look.weight < POOR;
        Self {
            input,
            poor: poor && !in_picture && name_of(track).is_none(),
            tracks: vec![track],
            look,
        }
    }

    /// Several parts that are one person. `None` without any.
    pub fn joined(parts: impl IntoIterator<Item = Self>) -> Option<Self> {
        let mut parts = parts.into_iter();
        let mut whole = parts.next()?;
        let mut sum: Vec<f32> = scaled(&whole.look).collect();
        for part in parts {
            sum.iter_mut()
                .zip(scaled(&part.look))
                .for_each(|(sum, number)| *sum += number);
            whole.look.weight += part.look.weight;
            whole.poor &= part.poor;
            whole.tracks.extend(part.tracks);
        }
        if let Some(unit) = face_gallery::normalised(&sum) {
            whole.look.unit = unit;
        }
        Some(whole)
    }

    pub fn name(&self) -> Option<&'a str> {
        self.tracks.iter().find_map(|track| name_of(track))
    }
}

fn scaled(look: &Look) -> impl Iterator<Item = f32> {
    let weight = look.weight as f32;
    look.unit.iter().map(move |number| weight * number)
}

/// Groups parts into people: lists of their indices. Those `small` are too little to be a person. Two
/// parts with different names, or on screen at the same time, are never one person. `goes_on` is that
/// of [`group`].
pub fn persons(
    parts: &[Part],
    nearness: &Nearness,
    goes_on: impl FnMut(usize) -> bool,
) -> Option<Absorbed> {
    let length = parts.first().map_or(0, |part| part.look.unit.len());
    let mut units = Array2::zeros((parts.len(), length));
    for (mut row, part) in units.rows_mut().into_iter().zip(parts) {
        row.iter_mut()
            .zip(&part.look.unit)
            .for_each(|(to, from)| *to = *from);
    }
    let weights = parts.iter().map(|part| part.look.weight.max(0.01));
    let weights: Vec<f64> = weights.map(|weight| weight / (weight + HALF)).collect();
    let mut company = Company::of(parts);
    let limit = nearness.limit(parts.len());
    let clusters = group(units.view(), &weights, &mut company, limit, goes_on)?;
    let small = |members: &[usize]| members.iter().all(|&part| parts[part].poor);
    // As if there were no chance of a coincidence.
    let limit = REACH * nearness.limit(1);
    Some(absorb(
        units.view(),
        &weights,
        clusters,
        small,
        &mut company,
        limit,
    ))
}

/// The parts of an input after joining those that are one person. `tracks` are those to join, with
/// what is known of them.
pub fn within<'a>(
    input: usize,
    in_picture: bool,
    tracks: impl IntoIterator<Item = (&'a TrackSummary, Look)>,
    nearness: &Nearness,
) -> Vec<Part<'a>> {
    let mut named: BTreeMap<&str, Vec<Part>> = BTreeMap::new();
    let mut parts = Vec::new();
    for (track, look) in tracks {
        let part = Part::of(input, in_picture, track, look);
        match part.name() {
            Some(name) => named.entry(name).or_default().push(part),
            None => parts.push(part),
        }
    }
    parts.extend(named.into_values().filter_map(Part::joined));
    let found = persons(&parts, nearness, |_| true).unwrap_or_default();
    let mut parts: Vec<Option<Part>> = parts.into_iter().map(Some).collect();
    let groups = found.large.into_iter().chain(found.small);
    groups
        .filter_map(|group| {
            let members = group.into_iter().filter_map(|part| parts[part].take());
            Part::joined(members.collect::<Vec<_>>())
        })
        .collect()
}

/// What is known of clusters besides their embeddings, by their first parts.
struct Company<'a> {
    names: Vec<Option<&'a str>>,
    /// By input.
    present: Vec<BTreeMap<usize, Presence>>,
}

impl<'a> Company<'a> {
    fn of(parts: &[Part<'a>]) -> Self {
        let present = |part: &Part| {
            let mut presence = Presence::default();
            part.tracks.iter().for_each(|track| presence.add(track));
            BTreeMap::from([(part.input, presence)])
        };
        Self {
            names: parts.iter().map(Part::name).collect(),
            present: parts.iter().map(present).collect(),
        }
    }
}

impl Bonds for Company<'_> {
    fn may_join(&self, a: usize, b: usize) -> bool {
        if let (Some(one), Some(other)) = (self.names[a], self.names[b])
            && one != other
        {
            return false;
        }
        let (few, many) = match self.present[a].len() <= self.present[b].len() {
            true => (&self.present[a], &self.present[b]),
            false => (&self.present[b], &self.present[a]),
        };
        let meet = |(input, own): (&usize, &Presence)| {
            many.get(input).is_some_and(|other| own.overlaps(other))
        };
        !few.iter().any(meet)
    }

    fn join(&mut self, into: usize, from: usize) {
        let name = self.names[from];
        self.names[into] = self.names[into].or(name);
        for (input, presence) in std::mem::take(&mut self.present[from]) {
            self.present[into].entry(input).or_default().join(presence);
        }
    }
}

#[cfg(test)]
mod tests;
