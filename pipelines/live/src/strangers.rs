//! People whom no gallery knows, told apart and known again while the program runs.
//!
//! A track of an unknown person is compared with the strangers seen before. Who it is, is decided by the
//! rule that decides names ([`face_gallery::vote`]): every stranger is one more chance to be wrong, so
//! the more are known, the more alike two faces must be. A stranger who is on a camera's screen at the
//! same time is somebody else. If nobody matches, the track becomes a new stranger, provided that its
//! faces are good enough to be known again.
//!
//! Time and embeddings come from outside. Memory is bounded in number and age.

pub mod file;
pub mod keeper;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use face_gallery::evidence::{Embedded, Mean};
use face_gallery::vote::{Rule, who, who_else};
use face_gallery::{Gallery, ModelId, Row};
use face_meta::names;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::outputs::in_millis;

/// How many tracks' embeddings a stranger keeps: the best.
const MOST_ROWS: usize = 6;

/// How many tracks a stranger's past lists: the latest.
const MOST_VISITS: usize = 100;

/// Embeddings of less weight say nothing: the face is small, blurred or turned away.
const LEAST_WEIGHT: f64 = 0.1;

/// The sum of weights with which a track is compared with others. One good face is enough, or a few
/// poor ones.
const COMPARED: f64 = 0.3;

/// The sum of weights, and the weight of the best face, with which a track becomes a new stranger. A
/// blurred face looks like many people: whoever comes next would be taken for it.
const FOUNDED: (f64, f64) = (0.8, 0.25);

/// How many to remember, and how long.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    pub most: usize,
    /// Strangers not seen for this long are forgotten.
    pub forget_after: Duration,
    /// A stranger not seen for this long has left. The next time is another visit.
    pub visit_gap: Duration,
}

/// The model that computed embeddings, and how alike strangers look to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub id: ModelId,
    pub dimensions: usize,
    pub rule: Rule,
}

/// A track of somebody unknown.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    pub sighting: Sighting<'a>,
    pub model: &'a Model,
    pub embeddings: &'a [Embedded],
}

/// Where and when a track was detected, in whole milliseconds. Camera, number and first time tell it from
/// all others: several may begin on one frame, and numbers begin again after a restart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sighting<'a> {
    pub camera: &'a str,
    pub track: u64,
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Who a track is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Who {
    /// `stranger-12`, or the name that the stranger was given.
    pub person: String,
    /// The number of visits, including this one.
    pub seen: u64,
    /// When the stranger was first seen.
    #[serde(serialize_with = "in_millis")]
    pub since: Timestamp,
}

/// A track of a stranger's past.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// The number of the visit, from 1. A visit may have several tracks, and several cameras.
    pub visit: u64,
    pub camera: String,
    pub track: u64,
    #[serde(serialize_with = "in_millis")]
    pub first: Timestamp,
    #[serde(serialize_with = "in_millis")]
    pub last: Timestamp,
}

impl Visit {
    fn is(&self, sighting: &Sighting) -> bool {
        self.camera == sighting.camera
            && self.track == sighting.track
            && self.first == sighting.first
    }

    /// Whether both were detected at one time by one camera.
    fn is_beside(&self, sighting: &Sighting) -> bool {
        self.camera == sighting.camera
            && self.first <= sighting.last
            && sighting.first <= self.last
            && !self.is(sighting)
    }
}

/// The embedding of a track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    camera: String,
    #[serde(serialize_with = "in_millis")]
    first: Timestamp,
    /// The sum of the weights behind it.
    weight: f64,
    embedding: Vec<f32>,
}

/// What is known of a stranger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stranger {
    number: u64,
    /// The name that the stranger was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    model: String,
    model_sha256: String,
    /// The number of visits.
    seen: u64,
    #[serde(serialize_with = "in_millis")]
    since: Timestamp,
    #[serde(serialize_with = "in_millis")]
    last: Timestamp,
    /// The latest, in the order in which they were noticed.
    visits: VecDeque<Visit>,
    rows: Vec<Kept>,
}

impl Stranger {
    /// `stranger-12`.
    fn id(&self) -> String {
        format!("stranger-{}", self.number)
    }

    fn who(&self) -> Who {
        Who {
            person: self.name.clone().unwrap_or_else(|| self.id()),
            seen: self.seen,
            since: self.since,
        }
    }

    /// Whether somebody means this stranger by `person`.
    fn is_called(&self, person: &str) -> bool {
        self.name.as_deref() == Some(person) || self.id() == person
    }

    /// Adds a track, or the news about one that is known.
    fn add(&mut self, sighting: &Sighting, gap: Duration) {
        if let Some(known) = self.visits.iter_mut().rev().find(|v| v.is(sighting)) {
            known.last = known.last.max(sighting.last);
        } else {
            // The track may have begun long before it could be told, or before the clock was put back.
            let away = sighting.first.duration_since(self.last);
            let away = away.max(self.last.duration_since(sighting.last));
            if self.seen == 0 || (away.is_positive() && away.unsigned_abs() > gap) {
                self.seen += 1;
            }
            if self.visits.len() >= MOST_VISITS {
                self.visits.pop_front();
            }
            self.visits.push_back(Visit {
                visit: self.seen,
                camera: sighting.camera.to_owned(),
                track: sighting.track,
                first: sighting.first,
                last: sighting.last,
            });
        }
        self.since = self.since.min(sighting.first);
        self.last = self.last.max(sighting.last);
    }

    /// Keeps a track's embedding if it is among the best.
    fn keep(&mut self, row: Kept) {
        let known = |kept: &Kept| kept.camera == row.camera && kept.first == row.first;
        self.rows.retain(|kept| !known(kept));
        self.rows.push(row);
        if self.rows.len() > MOST_ROWS {
            let weights = self.rows.iter().map(|row| row.weight).enumerate();
            if let Some((lightest, _)) = weights.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
                self.rows.remove(lightest);
            }
        }
    }

    /// The mean of the embeddings.
    fn mean(&self) -> Option<Vec<f32>> {
        let rows: Vec<Embedded> = self.rows.iter().map(Kept::embedded).collect();
        Mean::of(&rows).unit()
    }
}

impl Kept {
    fn embedded(&self) -> Embedded {
        Embedded {
            embedding: self.embedding.as_slice().into(),
            weight: self.weight,
        }
    }
}

/// A stranger in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Listed {
    /// `stranger-12`.
    pub person: String,
    /// The name that the stranger was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub seen: u64,
    #[serde(serialize_with = "in_millis")]
    pub since: Timestamp,
    #[serde(serialize_with = "in_millis")]
    pub last_seen: Timestamp,
    /// Where, latest first.
    pub cameras: Vec<String>,
}

/// The embeddings of a stranger, best first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Known {
    pub model: String,
    pub model_sha256: String,
    pub rows: Vec<Vec<f32>>,
    /// Of these rows: camera and track where it was seen.
    pub sources: Vec<String>,
    /// Where the stranger was seen last.
    pub camera: String,
}

/// All strangers.
#[derive(Debug)]
pub struct Strangers {
    limits: Limits,
    /// The number of the next one. Numbers are never given twice.
    next: u64,
    known: BTreeMap<u64, Stranger>,
    /// The embeddings by model, to search; missing if they have changed.
    galleries: BTreeMap<String, Gallery>,
}

impl Strangers {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 1,
            known: BTreeMap::new(),
            galleries: BTreeMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Who a track is. `None` while that cannot be told. Returns the stranger's number for
    /// [`again`](Self::again).
    pub fn see(&mut self, look: &Look) -> Option<(u64, Who)> {
        self.forget_old(look.sighting.last);
        let row = evidence(look)?;
        if row.weight < COMPARED {
            return None;
        }
        let number = match self.find(look, &row.embedding) {
            Some(number) => number,
            None if is_good(look, row.weight) => self.found(look),
            None => return None,
        };
        let gap = self.limits.visit_gap;
        let stranger = self.known.get_mut(&number)?;
        stranger.add(&look.sighting, gap);
        stranger.keep(row);
        let who = stranger.who();
        self.galleries.remove(&look.model.id.sha256);
        Some((number, who))
    }

    /// A track that is known to be a stranger is still there.
    pub fn again(&mut self, number: u64, sighting: &Sighting) {
        if let Some(stranger) = self.known.get_mut(&number) {
            stranger.add(sighting, self.limits.visit_gap);
        }
    }

    /// A track that is known to be a stranger has ended, and this is all that was seen of it.
    pub fn complete(&mut self, number: u64, look: &Look) {
        self.again(number, &look.sighting);
        let Some(row) = evidence(look) else { return };
        if let Some(stranger) = self.known.get_mut(&number)
            && stranger.model_sha256 == look.model.id.sha256
        {
            stranger.keep(row);
            self.galleries.remove(&look.model.id.sha256);
        }
    }

    /// A track that was taken for a stranger turned out to be `name`, whom the gallery knows. That is no
    /// news if the stranger was given this name.
    pub fn withdraw(&mut self, number: u64, sighting: &Sighting, name: &str) {
        let stranger = self.known.get_mut(&number);
        let Some(stranger) = stranger.filter(|s| s.name.as_deref() != Some(name)) else {
            return;
        };
        stranger.visits.retain(|visit| !visit.is(sighting));
        let latest = stranger.visits.iter().map(|visit| visit.visit).max();
        stranger.seen = latest.unwrap_or(0);
        let theirs = |row: &Kept| row.camera == sighting.camera && row.first == sighting.first;
        stranger.rows.retain(|row| !theirs(row));
        self.galleries.remove(&stranger.model_sha256);
        if stranger.rows.is_empty() || stranger.visits.is_empty() {
            self.known.remove(&number);
        }
    }

    /// The stranger whom a track matches.
    fn find(&mut self, look: &Look, embedding: &[f32]) -> Option<u64> {
        let model = look.model;
        let key = &model.id.sha256;
        if !self.galleries.contains_key(key) {
            let gallery = self.gallery(model);
            self.galleries.insert(key.clone(), gallery);
        }
        let gallery = self.galleries.get(key)?;
        let beside: BTreeSet<String> = self
            .known
            .values()
            .filter(|s| s.visits.iter().any(|v| v.is_beside(&look.sighting)))
            .map(|s| s.number.to_string())
            .collect();
        let verdict = who_else(gallery, embedding, &model.rule, &beside);
        verdict.person?.parse().ok()
    }

    /// The strangers of a model; their names are their numbers.
    fn gallery(&self, model: &Model) -> Gallery {
        let mut gallery = Gallery::new(model.id.clone(), model.dimensions);
        let theirs = self.known.values();
        for stranger in theirs.filter(|s| s.model_sha256 == model.id.sha256) {
            for (i, kept) in stranger.rows.iter().enumerate() {
                let row = Row {
                    person: stranger.number.to_string(),
                    source: i.to_string(),
                };
                gallery.push(row, &kept.embedding);
            }
        }
        gallery
    }

    /// Adds a stranger without visits, and forgets the one not seen for longest if there are too many.
    fn found(&mut self, look: &Look) -> u64 {
        while self.known.len() >= self.limits.most.max(1) {
            let oldest = self.known.values().min_by_key(|s| (s.last, s.number));
            let Some(number) = oldest.map(|s| s.number) else {
                break;
            };
            self.remove(number);
        }
        let number = self.next;
        self.next += 1;
        let Sighting { first, last, .. } = look.sighting;
        let stranger = Stranger {
            number,
            name: None,
            model: look.model.id.name.clone(),
            model_sha256: look.model.id.sha256.clone(),
            seen: 0,
            since: first,
            last,
            visits: VecDeque::new(),
            rows: Vec::new(),
        };
        self.known.insert(number, stranger);
        number
    }

    fn remove(&mut self, number: u64) {
        if let Some(stranger) = self.known.remove(&number) {
            self.galleries.remove(&stranger.model_sha256);
        }
    }

    /// Forgets those not seen for too long. Returns whether there were any.
    pub fn forget_old(&mut self, now: Timestamp) -> bool {
        let limit = self.limits.forget_after;
        let old = |s: &&Stranger| {
            let gone = now.duration_since(s.last);
            gone.is_positive() && gone.unsigned_abs() > limit
        };
        let old: Vec<u64> = self.known.values().filter(old).map(|s| s.number).collect();
        let any = !old.is_empty();
        old.into_iter().for_each(|number| self.remove(number));
        any
    }

    /// All strangers, the latest first.
    pub fn list(&self) -> Vec<Listed> {
        let mut strangers: Vec<&Stranger> = self.known.values().collect();
        strangers.sort_by_key(|s| std::cmp::Reverse((s.last, s.number)));
        let listed = strangers.into_iter().map(|s| {
            let mut cameras: Vec<String> = Vec::new();
            for visit in s.visits.iter().rev() {
                if !cameras.contains(&visit.camera) {
                    cameras.push(visit.camera.clone());
                }
            }
            Listed {
                person: s.id(),
                name: s.name.clone(),
                seen: s.seen,
                since: s.since,
                last_seen: s.last,
                cameras,
            }
        });
        listed.collect()
    }

    /// What to put into a gallery for `person`, such as `stranger-12`.
    pub fn embeddings(&self, person: &str) -> Option<Known> {
        let stranger = self.known.values().find(|s| s.id() == person)?;
        let mut rows: Vec<&Kept> = stranger.rows.iter().collect();
        rows.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let source = |row: &&Kept| {
            let mut visits = stranger.visits.iter();
            let visit = visits.find(|v| v.camera == row.camera && v.first == row.first);
            match visit {
                Some(visit) => format!("{} track {}", row.camera, visit.track),
                None => format!("{} {person}", row.camera),
            }
        };
        Some(Known {
            model: stranger.model.clone(),
            model_sha256: stranger.model_sha256.clone(),
            sources: rows.iter().map(source).collect(),
            rows: rows.iter().map(|row| row.embedding.clone()).collect(),
            camera: stranger.visits.back()?.camera.clone(),
        })
    }

    /// Gives a stranger a name. Returns the past, by camera; `None` if there is no such stranger.
    pub fn name(&mut self, person: &str, name: &str) -> Option<BTreeMap<String, Vec<Visit>>> {
        let stranger = self.known.values_mut().find(|s| s.id() == person)?;
        stranger.name = Some(name.to_owned());
        let mut past: BTreeMap<String, Vec<Visit>> = BTreeMap::new();
        for visit in &stranger.visits {
            let camera = past.entry(visit.camera.clone()).or_default();
            camera.push(visit.clone());
        }
        Some(past)
    }

    /// Forgets those who are called `person`, and those whom one of `galleries` takes for them.
    /// Returns their ids.
    pub fn forget(&mut self, person: &str, galleries: &[(Gallery, Rule)]) -> Vec<String> {
        let is_theirs = |s: &Stranger| {
            s.is_called(person)
                || galleries.iter().any(|(gallery, rule)| {
                    let mean = s.mean().filter(|_| gallery.model.sha256 == s.model_sha256);
                    mean.is_some_and(|mean| {
                        who(gallery, &mean, rule)
                            .person
                            .is_some_and(|found| names::same(&found, person))
                    })
                })
        };
        let theirs = self.known.values().filter(|s| is_theirs(s));
        let theirs: Vec<(u64, String)> = theirs.map(|s| (s.number, s.id())).collect();
        theirs.iter().for_each(|(number, _)| self.remove(*number));
        theirs.into_iter().map(|(_, id)| id).collect()
    }
}

/// The evidence of a track in one. `None` if its faces are too poor.
fn evidence(look: &Look) -> Option<Kept> {
    let fits =
        |e: &&Embedded| e.weight >= LEAST_WEIGHT && e.embedding.len() == look.model.dimensions;
    let good: Vec<&Embedded> = look.embeddings.iter().filter(fits).collect();
    Some(Kept {
        camera: look.sighting.camera.to_owned(),
        first: look.sighting.first,
        weight: good.iter().map(|e| e.weight).sum(),
        embedding: Mean::of(good).unit()?,
    })
}

/// Whether a track can be known again.
fn is_good(look: &Look, weight: f64) -> bool {
    let best = look.embeddings.iter().map(|e| e.weight).fold(0.0, f64::max);
    weight >= FOUNDED.0 && best >= FOUNDED.1
}

#[cfg(test)]
mod tests;
