//! Names the tracks of an input from one embedding each.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use face_gallery::Gallery;
use face_gallery::evidence::Embedded;
use face_gallery::vote::Rule;

use super::bars::{Barred, hold};
use crate::analyze::naming::{Namer, Restriction, restrict, set_name, settle};
use crate::analyze::people::{self, MainPersons, name_of};
use crate::analyze::tally::{Span, WholeTrack};
use crate::record::{Summary, TrackSummary};

/// How to name tracks.
pub struct Names<'a> {
    /// `None` takes all names away.
    pub gallery: Option<&'a Gallery>,
    pub rule: Rule,
    /// Whether tracks that are seen together may have one name.
    pub repeated_names: bool,
    /// Those to whom names are restricted.
    pub main_persons: Option<MainPersons>,
}

impl Names<'_> {
    /// Names the tracks in `summary` and lists the people. Returns whose names the lines may keep, and
    /// the tracks with other names than before. If there are none, nothing has changed: neither
    /// have confidences and distances.
    pub fn apply(
        &self,
        summary: &mut Summary,
        embeddings: &HashMap<u64, Vec<Embedded>>,
        barred: &Barred,
    ) -> Restriction {
        let before: BTreeMap<u64, (Option<String>, Option<String>)> = summary
            .tracks
            .iter()
            .map(|track| (track.track.track, names(track)))
            .collect();
        let mut named = summary.clone();
        let main = match self.gallery {
            Some(gallery) => self.name(gallery, &mut named, embeddings, barred),
            None => {
                for track in &mut named.tracks {
                    track.track.name = None;
                    track.track.name_confidence = None;
                    track.distance = None;
                }
                BTreeSet::new()
            }
        };
        people::update(&mut named);
        hold(&mut named, barred);
        let is_changed =
            |track: &&TrackSummary| before.get(&track.track.track) != Some(&names(track));
        let changed = named.tracks.iter().filter(is_changed);
        let renamed: BTreeSet<u64> = changed.map(|track| track.track.track).collect();
        if !renamed.is_empty() {
            *summary = named;
        }
        Restriction { main, renamed }
    }

    /// Returns the people whose names are given.
    fn name(
        &self,
        gallery: &Gallery,
        summary: &mut Summary,
        embeddings: &HashMap<u64, Vec<Embedded>>,
        barred: &Barred,
    ) -> BTreeSet<String> {
        let namer = Namer {
            gallery,
            rule: self.rule,
            repeated_names: self.repeated_names,
            barred,
        };
        let find = |id: u64| embeddings.get(&id).map_or(&[][..], Vec::as_slice);
        let mut tracks: Vec<WholeTrack> = summary.tracks.drain(..).map(whole).collect();
        for track in &mut tracks {
            let id = track.summary.track.track;
            if !find(id).is_empty() {
                set_name(&mut track.summary, namer.name(id, find(id)));
            }
        }
        settle(&mut tracks, &namer, find);
        let Some(which) = self.main_persons else {
            summary.tracks = tracks.into_iter().map(|t| t.summary).collect();
            return gallery.people().iter().cloned().collect();
        };
        let mut ranked = Summary {
            tracks: tracks.iter().map(|t| t.summary.clone()).collect(),
            ..summary.clone()
        };
        people::update(&mut ranked);
        hold(&mut ranked, barred);
        let main = people::choose(&ranked.people, which);
        restrict(&mut tracks, &main, &namer, find);
        summary.tracks = tracks.into_iter().map(|t| t.summary).collect();
        main
    }
}

fn names(track: &TrackSummary) -> (Option<String>, Option<String>) {
    // Who a stranger is, is not a name. A track without any name may still be told that it has none.
    let person = track
        .person
        .clone()
        .filter(|p| people::stranger(p).is_none());
    (track.track.name.clone(), person)
}

/// With the times at which it was on screen.
fn whole(summary: TrackSummary) -> WholeTrack {
    let spans = summary.appearances.iter();
    let spans = spans.map(|&[first, last]| Span {
        first,
        last,
        end: last,
    });
    WholeTrack {
        spans: spans.collect(),
        summary,
    }
}

/// The name that users see.
pub fn shown(track: &TrackSummary) -> Option<String> {
    name_of(track).map(str::to_owned)
}
