//! Computes the content of the page from the results, without HTML and files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use super::company::{self, Company};
use super::load::{InputResults, Results};
use super::spans::union;
use crate::analyze::people::{name_of, stranger};
use crate::analyze::tally::{Mean, female, gender};
use crate::record::{ExpressionSpan, TrackSummary};

/// How many unknown tracks get their own row, per input; the others share one.
const MOST_SINGLES: usize = 100;
/// How many faces to show of one unknown person.
const MOST_FACES: usize = 6;

/// The subject of a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    Named(String),
    /// The id of a cluster.
    Stranger(String),
    /// An unknown person in one input, not yet compared with the other inputs: the name of its
    /// folder, and `stranger-N` there.
    Local(String, String),
    /// A track of nobody in particular.
    Track(u64),
    /// The number of tracks without their own row.
    Others(usize),
}

impl Identity {
    pub fn is_named(&self) -> bool {
        matches!(self, Self::Named(_))
    }

    pub fn label(&self) -> String {
        match self {
            Self::Named(name) => name.clone(),
            Self::Stranger(id) => id.clone(),
            Self::Local(input, id) => format!("{id} ({input})"),
            Self::Track(track) => format!("track {track}, unknown"),
            Self::Others(count) => format!("{count} other unknown tracks"),
        }
    }
}

/// The totals of someone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Totals {
    pub screen_time_ns: u64,
    /// The share of the duration of all videos, 0 to 1. `None` without videos.
    pub share: Option<f64>,
    pub tracks: usize,
    /// How sure the name is, 0 to 1.
    pub name_confidence: Option<f64>,
    pub age: Option<f64>,
    /// With its confidence, if known.
    pub gender: Option<(String, Option<f64>)>,
}

/// Someone in one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub identity: Identity,
    pub totals: Totals,
    /// When on screen: first and last time, in order, none touching.
    pub spans: Vec<[u64; 2]>,
    /// In order of their first times.
    pub expressions: Vec<ExpressionSpan>,
    pub thumbnail: Option<PathBuf>,
}

/// One input.
#[derive(Debug)]
pub struct Input {
    /// Its path or URI.
    pub source: String,
    pub width: u32,
    pub height: u32,
    pub frames: u64,
    /// 0 for a picture.
    pub duration_ns: u64,
    /// The end of the timeline.
    pub end_ns: u64,
    /// Named people, then groups of unknown ones, then single tracks.
    pub rows: Vec<Row>,
    pub company: Company,
}

/// Someone in all inputs.
#[derive(Debug)]
pub struct Ranked {
    pub identity: Identity,
    pub totals: Totals,
    /// Indices into [`Report::inputs`].
    pub inputs: Vec<usize>,
    pub thumbnail: Option<PathBuf>,
}

/// An unknown person in all inputs.
#[derive(Debug)]
pub struct Stranger {
    pub id: String,
    pub totals: Totals,
    pub inputs: Vec<usize>,
    /// From several tracks, the longest first.
    pub thumbnails: Vec<PathBuf>,
    /// The contact sheet.
    pub sheet: Option<PathBuf>,
}

#[derive(Debug)]
pub struct Report {
    pub inputs: Vec<Input>,
    /// Named and unknown people, longest on screen first.
    pub ranking: Vec<Ranked>,
    /// In the order of the clusters.
    pub strangers: Vec<Stranger>,
    /// Unknown people in no cluster.
    pub local: usize,
    /// Unknown tracks in no cluster that are not a person by themselves.
    pub loose: usize,
    pub has_clusters: bool,
    /// Who was with whom in all inputs. Strangers are included if they are grouped.
    pub company: Company,
}

impl Report {
    /// The number of people, with a name or without.
    pub fn people(&self) -> usize {
        self.ranking.len()
    }

    /// All pictures of faces on the page, without duplicates.
    pub fn thumbnails(&self) -> BTreeSet<PathBuf> {
        let rows = self.inputs.iter().flat_map(|input| &input.rows);
        let rows = rows.filter_map(|row| row.thumbnail.clone());
        let ranked = self.ranking.iter().filter_map(|r| r.thumbnail.clone());
        let strangers = self.strangers.iter().flat_map(|s| s.thumbnails.clone());
        let companies = self.inputs.iter().map(|input| &input.company);
        let companies = companies.chain([&self.company]).flat_map(|c| &c.members);
        let members = companies.filter_map(|member| member.thumbnail.clone());
        rows.chain(ranked).chain(strangers).chain(members).collect()
    }
}

/// A track of someone.
#[derive(Clone, Copy)]
struct Appearance<'a> {
    input: usize,
    folder: &'a Path,
    track: &'a TrackSummary,
}

impl Appearance<'_> {
    fn thumbnail(&self) -> Option<PathBuf> {
        let path = Path::new(self.track.thumbnail.as_deref()?);
        // Only files in the folder of the results.
        let inside = path.components().all(|c| matches!(c, Component::Normal(_)));
        inside.then(|| self.folder.join(path))
    }

    /// Longer ones first, then those on more frames.
    fn order(&self) -> Reverse<(u64, u64)> {
        Reverse((self.track.screen_time_ns, self.track.track.frames))
    }
}

pub fn build(results: &Results) -> Report {
    let clusters = results.clusters.as_ref().map_or(&[][..], |c| &c.clusters);
    let cluster_of: HashMap<(&str, u64), &str> = clusters
        .iter()
        .flat_map(|cluster| cluster.tracks.iter().map(move |t| (t, cluster.id.as_str())))
        .map(|(t, id)| ((t.folder.as_str(), t.track), id))
        .collect();
    let whole: u64 = results
        .inputs
        .iter()
        .map(|input| input.summary.duration_ns)
        .fold(0, u64::saturating_add);

    let mut inputs = Vec::new();
    let mut everywhere: BTreeMap<Identity, Vec<Appearance>> = BTreeMap::new();
    // A person's time in each input, added up over the inputs.
    let mut times: BTreeMap<Identity, u64> = BTreeMap::new();
    let mut loose = 0;
    for (place, input) in results.inputs.iter().enumerate() {
        let mut groups: BTreeMap<Identity, Vec<Appearance>> = BTreeMap::new();
        for (identity, seen) in identified(place, input, &cluster_of) {
            groups.entry(identity).or_default().push(seen);
        }
        loose += groups
            .keys()
            .filter(|identity| matches!(identity, Identity::Track(_)))
            .count();
        let shown = rows(input, &groups);
        for row in &shown {
            let time = times.entry(row.identity.clone()).or_default();
            *time = time.saturating_add(row.totals.screen_time_ns);
        }
        for (identity, tracks) in groups {
            if !matches!(identity, Identity::Track(_)) {
                everywhere.entry(identity).or_default().extend(tracks);
            }
        }
        let company = company::build(&[(place, input)]);
        inputs.push(view(input, shown, company));
    }

    let mut ranking = Vec::new();
    let mut strangers: HashMap<String, Stranger> = HashMap::new();
    for (identity, mut tracks) in everywhere {
        tracks.sort_by_key(Appearance::order);
        let time = times.get(&identity).copied().unwrap_or(0);
        let totals = totals(&tracks, time, whole);
        let inputs: BTreeSet<usize> = tracks.iter().map(|seen| seen.input).collect();
        let inputs: Vec<usize> = inputs.into_iter().collect();
        let mut thumbnails: Vec<PathBuf> =
            tracks.iter().filter_map(Appearance::thumbnail).collect();
        thumbnails.truncate(MOST_FACES);
        ranking.push(Ranked {
            identity: identity.clone(),
            totals: totals.clone(),
            inputs: inputs.clone(),
            thumbnail: thumbnails.first().cloned(),
        });
        if let Identity::Stranger(id) = identity {
            let stranger = Stranger {
                id: id.clone(),
                totals,
                inputs,
                thumbnails,
                sheet: None,
            };
            strangers.insert(id, stranger);
        }
    }
    // Stable sort: ties stay in the order of names.
    ranking.sort_by_key(|r| Reverse((r.totals.screen_time_ns, r.inputs.len(), r.totals.tracks)));
    let strangers = clusters
        .iter()
        .filter_map(|cluster| {
            let mut stranger = strangers.remove(&cluster.id)?;
            let sheet = results.folder.join(&cluster.sheet);
            stranger.sheet = (!cluster.sheet.is_empty()).then_some(sheet);
            Some(stranger)
        })
        .collect();
    let local = |r: &&Ranked| matches!(r.identity, Identity::Local(..));
    Report {
        local: ranking.iter().filter(local).count(),
        inputs,
        ranking,
        strangers,
        loose,
        has_clusters: results.clusters.is_some(),
        company: company::build(&results.inputs.iter().enumerate().collect::<Vec<_>>()),
    }
}

/// Assigns the tracks of an input to identities.
fn identified<'a>(
    place: usize,
    input: &'a InputResults,
    cluster_of: &HashMap<(&str, u64), &str>,
) -> Vec<(Identity, Appearance<'a>)> {
    let people = input.summary.people.iter();
    let names: HashMap<u64, &str> = people
        .flat_map(|p| p.tracks.iter().map(|track| (*track, p.name.as_str())))
        .collect();
    // The numbers of strangers in an input that was analysed after the grouping are its own.
    let is_stranger = |track: &TrackSummary| track.person.as_deref().and_then(stranger);
    let shared = input.summary.shared_strangers;
    let is_grouped = shared > 0
        || !input
            .summary
            .tracks
            .iter()
            .any(|t| is_stranger(t).is_some());
    let tracks = input.summary.tracks.iter();
    tracks
        .map(|track| {
            let id = track.track.track;
            let key = (input.name.as_str(), id);
            let cluster = cluster_of.get(&key).filter(|_| is_grouped);
            let identity = match (names.get(&id), cluster, &track.person) {
                (Some(name), ..) => Identity::Named(name.to_string()),
                (None, Some(cluster), _) => Identity::Stranger(cluster.to_string()),
                (None, None, Some(person)) => Identity::Local(input.name.clone(), person.clone()),
                (None, None, None) => Identity::Track(id),
            };
            let seen = Appearance {
                input: place,
                folder: &input.folder,
                track,
            };
            (identity, seen)
        })
        .collect()
}

/// The rows of an input: named people, longest on screen first, then unknown ones.
fn rows(input: &InputResults, groups: &BTreeMap<Identity, Vec<Appearance>>) -> Vec<Row> {
    let summary = &input.summary;
    let mut rows: Vec<(u64, Row)> = Vec::new();
    for (identity, tracks) in groups {
        let mut tracks = tracks.clone();
        tracks.sort_by_key(Appearance::order);
        let mut row = row(identity.clone(), &tracks, summary.duration_ns);
        if let Identity::Named(name) = identity
            && let Some(person) = summary.people.iter().find(|p| p.name == *name)
        {
            // From `analyze`, which knows each frame.
            row.totals.screen_time_ns = person.screen_time_ns;
            row.totals.share = (summary.duration_ns > 0).then_some(person.share);
            row.totals.age = person.age;
            let confidence = person.gender_confidence;
            row.totals.gender = person.gender.clone().map(|g| (g, confidence));
        }
        rows.push((tracks.iter().map(|t| t.track.track.frames).sum(), row));
    }
    rows.sort_by_key(|(frames, row)| {
        let rank = match row.identity {
            Identity::Named(_) => 0,
            Identity::Stranger(_) | Identity::Local(..) => 1,
            Identity::Track(_) | Identity::Others(_) => 2,
        };
        (rank, Reverse((row.totals.screen_time_ns, *frames)))
    });
    let mut rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    let singles = |row: &&Row| matches!(row.identity, Identity::Track(_));
    let count = rows.iter().filter(singles).count();
    if count > MOST_SINGLES {
        let rest = rows.split_off(rows.len() - (count - MOST_SINGLES));
        let rest: Vec<Appearance> = rest
            .iter()
            .filter_map(|row| groups.get(&row.identity))
            .flatten()
            .copied()
            .collect();
        let mut row = row(Identity::Others(rest.len()), &rest, summary.duration_ns);
        // They are not one person.
        row.thumbnail = None;
        row.expressions = Vec::new();
        row.totals.age = None;
        row.totals.gender = None;
        rows.push(row);
    }
    rows
}

/// `tracks` is sorted, the longest first.
fn row(identity: Identity, tracks: &[Appearance], duration_ns: u64) -> Row {
    let time = tracks
        .iter()
        .map(|seen| seen.track.screen_time_ns)
        .fold(0, u64::saturating_add);
    let spans = tracks.iter().flat_map(|t| t.track.appearances.clone());
    Row {
        identity,
        // Two tracks may be on screen at once, but the total is at most the input's duration.
        totals: totals(tracks, time.min(duration_ns), duration_ns),
        spans: union(spans, duration_ns),
        expressions: expressions(tracks),
        thumbnail: tracks.iter().find_map(Appearance::thumbnail),
    }
}

fn expressions(tracks: &[Appearance]) -> Vec<ExpressionSpan> {
    let mut found: Vec<_> = tracks
        .iter()
        .flat_map(|seen| seen.track.expressions.iter().cloned())
        .collect();
    found.sort_by_key(|span| span.first);
    found
}

fn totals(tracks: &[Appearance], screen_time_ns: u64, duration_ns: u64) -> Totals {
    let [mut age, mut women, mut sure] = [(); 3].map(|()| Mean::default());
    // The confidence of tracks without a name is that they are nobody's.
    let has_name = |seen: &&Appearance| name_of(seen.track).is_some();
    let named = tracks.iter().any(|seen| has_name(&seen));
    let namesakes = tracks.iter().filter(|seen| !named || has_name(seen));
    for confidence in namesakes
        .filter_map(|seen| Some((seen.track.track.name_confidence?, seen.track.track.frames)))
    {
        sure.add(confidence.0, confidence.1 as f64);
    }
    for track in tracks.iter().map(|seen| &seen.track.track) {
        let weight = track.frames as f64;
        if let Some(years) = track.age {
            age.add(years, weight);
        }
        if let Some(female) = female(&track.gender, track.gender_confidence) {
            women.add(female, weight);
        }
    }
    Totals {
        screen_time_ns,
        share: (duration_ns > 0).then(|| screen_time_ns as f64 / duration_ns as f64),
        tracks: tracks.len(),
        name_confidence: sure.value(),
        age: age.value(),
        gender: women.value().map(|female| {
            let (gender, confidence) = gender(female);
            (gender, Some(confidence))
        }),
    }
}

fn view(input: &InputResults, rows: Vec<Row>, company: Company) -> Input {
    let summary = &input.summary;
    let last = rows.iter().filter_map(|row| row.spans.last());
    let last = last.map(|span| span[1]).max().unwrap_or(0);
    Input {
        source: summary.input.clone(),
        width: summary.width,
        height: summary.height,
        frames: summary.frames,
        duration_ns: summary.duration_ns,
        end_ns: summary.duration_ns.max(last),
        rows,
        company,
    }
}

#[cfg(test)]
mod tests;
