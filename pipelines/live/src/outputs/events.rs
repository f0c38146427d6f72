//! Derives from a camera's frames over time who came and who left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

use super::moment::{Moment, in_millis};
use crate::strangers::{Visit, Who};
use face_meta::names::UNKNOWN;
use face_meta::record::{Face, Frame, Line, Track};

/// A name is believed once its track has had it for this long. The first recognitions of a face may
/// be wrong, and there are two per second. If a track ends earlier, its final name is believed.
const BELIEVED_AFTER: Duration = Duration::from_millis(600);

/// At most this much time between two frames counts as watched. Nobody knows what happens while the
/// camera is away: people seen before count as present when it returns, until they are watched to
/// be gone.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Happening {
    /// A known person is present who was not before.
    Appeared {
        name: String,
        track: u64,
        /// The probability that the name is right.
        #[serde(skip_serializing_if = "Option::is_none")]
        confidence: Option<f64>,
    },
    /// The person is gone.
    Left {
        name: String,
        /// When the person appeared, and when they were last seen.
        #[serde(serialize_with = "in_millis")]
        since: Timestamp,
        #[serde(serialize_with = "in_millis")]
        last_seen: Timestamp,
        /// Between the two, in seconds.
        duration: f64,
    },
    /// A track that matches nobody.
    Stranger {
        track: u64,
        /// Which stranger it is, if that can be told yet.
        #[serde(flatten)]
        who: Option<Who>,
    },
    /// A track was reported as a stranger before, and now it can be told which one.
    StrangerIdentified {
        track: u64,
        #[serde(flatten)]
        who: Who,
    },
    /// A stranger was given a name. These are the tracks that this camera saw of them.
    StrangerNamed {
        /// Such as `stranger-12`.
        person: String,
        name: String,
        visits: Vec<Visit>,
    },
    CameraLost,
    CameraBack,
}

/// The scene of one camera.
pub struct Scene {
    left_after: Duration,
    stranger_after: Duration,
    /// How long frames have been watched, and when the last one arrived.
    watched: Duration,
    last: Option<Instant>,
    lost: bool,
    people: BTreeMap<String, Presence>,
    tracks: BTreeMap<u64, NamedTrack>,
}

struct Presence {
    first: Moment,
    last: Moment,
    /// `last` in watched time.
    seen: Duration,
}

/// A track, and when it got its name.
struct NamedTrack {
    name: String,
    /// In watched time.
    since: Duration,
    reported: bool,
    /// The first frame with the name since the person left; `None` while away.
    first: Option<Moment>,
}

impl Scene {
    /// People have left when not seen for `left_after`. Tracks are strangers when unknown for
    /// `stranger_after`.
    pub fn new(left_after: Duration, stranger_after: Duration) -> Self {
        Self {
            left_after,
            stranger_after,
            watched: Duration::ZERO,
            last: None,
            lost: false,
            people: BTreeMap::new(),
            tracks: BTreeMap::new(),
        }
    }

    /// Returns the news in `line`, from a frame taken at `moment`.
    pub fn line(&mut self, line: &Line, moment: Moment) -> Vec<Happening> {
        match line {
            Line::Frame(frame) => self.frame(frame, moment),
            Line::Track(track) => self.track_ended(track, moment),
        }
    }

    /// The camera is away. Reported once until it is back.
    pub fn camera_lost(&mut self) -> Option<Happening> {
        let first = !std::mem::replace(&mut self.lost, true);
        self.tracks.clear();
        first.then_some(Happening::CameraLost)
    }

    /// Nobody of this name is present any more, without having left. Tracks of the name count as new.
    pub fn forget(&mut self, person: &str) {
        self.people.remove(person);
        self.tracks.retain(|_, track| track.name != person);
    }

    fn frame(&mut self, frame: &Frame, moment: Moment) -> Vec<Happening> {
        let mut happenings = Vec::new();
        if std::mem::take(&mut self.lost) {
            happenings.push(Happening::CameraBack);
        }
        if let Some(last) = self.last {
            let gap = moment.instant.saturating_duration_since(last);
            self.watched += gap.min(LONGEST_GAP);
        }
        self.last = Some(moment.instant);
        for face in frame.faces.iter().filter(|face| !face.predicted) {
            happenings.extend(self.face(face, moment));
        }
        self.leave(&mut happenings);
        happenings
    }

    fn face(&mut self, face: &Face, moment: Moment) -> Option<Happening> {
        let (track, name) = (face.track?, face.name.as_deref()?);
        let watched = self.watched;
        let fresh = || NamedTrack {
            name: name.to_owned(),
            since: watched,
            reported: false,
            first: None,
        };
        let state = self.tracks.entry(track).or_insert_with(fresh);
        if state.name != name {
            *state = fresh();
        }
        let held = watched - state.since;
        let first = *state.first.get_or_insert(moment);
        if name == UNKNOWN {
            let new = held >= self.stranger_after && !std::mem::replace(&mut state.reported, true);
            return new.then_some(Happening::Stranger { track, who: None });
        }
        if let Some(presence) = self.people.get_mut(name) {
            presence.last = moment;
            presence.seen = watched;
            return None;
        }
        (held >= BELIEVED_AFTER).then(|| {
            self.appear(name, first, moment);
            Happening::Appeared {
                name: name.to_owned(),
                track,
                confidence: face.name_confidence,
            }
        })
    }

    /// A track that was too short for its name to be believed during its life.
    fn track_ended(&mut self, track: &Track, moment: Moment) -> Vec<Happening> {
        let state = self.tracks.remove(&track.track);
        let (Some(state), Some(name)) = (state, track.name.as_deref()) else {
            return Vec::new();
        };
        let Some(first) = state.first else {
            return Vec::new();
        };
        if name == UNKNOWN || state.name != name || self.people.contains_key(name) {
            return Vec::new();
        }
        self.appear(name, first, moment);
        vec![Happening::Appeared {
            name: name.to_owned(),
            track: track.track,
            confidence: track.name_confidence,
        }]
    }

    fn appear(&mut self, name: &str, first: Moment, last: Moment) {
        let seen = self.watched;
        self.people
            .insert(name.to_owned(), Presence { first, last, seen });
    }

    fn leave(&mut self, happenings: &mut Vec<Happening>) {
        let (watched, left_after) = (self.watched, self.left_after);
        let tracks = &mut self.tracks;
        self.people.retain(|name, presence| {
            let there = watched - presence.seen <= left_after;
            if !there {
                for track in tracks.values_mut().filter(|track| track.name == *name) {
                    track.first = None;
                }
                let stay = presence
                    .last
                    .instant
                    .saturating_duration_since(presence.first.instant);
                happenings.push(Happening::Left {
                    name: name.clone(),
                    since: presence.first.time,
                    last_seen: presence.last.time,
                    duration: (stay.as_secs_f64() * 1000.0).round() / 1000.0,
                });
            }
            there
        });
    }
}

#[cfg(test)]
mod tests;
