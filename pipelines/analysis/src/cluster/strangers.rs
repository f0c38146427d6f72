//! Finds the strangers in a folder of results: groups its tracks and writes the groups next to them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use face_core::model::Model;
use face_gallery::group::{self, Nearness};
use face_parts::output::{Output, OutputFolder};
use face_parts::tell;
use face_parts::ui::{self, DelayedProgress};
use serde::Serialize;

use super::people;
use super::sheet::{self, Tile};
use super::tracks::{self, Results, Track};
use crate::analyze::Lock;
use crate::analyze::people::name_of;
use crate::analyze::stitch::{Part, persons, within};
use crate::enroll::read_image;
use crate::record::{Cluster, Clusters};

/// Which tracks to group, and how.
pub struct Grouping {
    /// Group all tracks, including named ones.
    pub all: bool,
    /// Tracks of videos with fewer frames stay alone, in a cluster each.
    pub min_frames: u64,
    /// The mean distance up to which tracks are one person. `None` uses the model's.
    pub distance_threshold: Option<f64>,
}

/// The result of a grouping.
#[derive(Serialize)]
pub struct Clustering {
    pub file: PathBuf,
    pub model: Option<String>,
    /// `None` if there was nothing to compare.
    pub distance_threshold: Option<f64>,
    /// The number of tracks in the clusters.
    pub tracks: usize,
    /// Tracks too short or too poor to tell who they are.
    pub untold: usize,
    pub clusters: Vec<Cluster>,
    /// Folders whose results cannot be read.
    pub left_out: Vec<UnreadableFolder>,
}

/// A folder whose results are in no cluster.
#[derive(Serialize)]
pub struct UnreadableFolder {
    pub folder: String,
    pub error: String,
}

/// Groups the tracks of the results in `folder`, and writes `clusters.json` and the contact sheets
/// into it. `None` if Ctrl-C came earlier; then nothing was written.
pub fn find_strangers(folder: &Path, grouping: &Grouping) -> Result<Option<Clustering>> {
    ensure!(
        folder.is_dir(),
        "{} is not a folder; name the one that `facepipe analyze -o` has written into",
        folder.display()
    );
    let _lock = Lock::take(folder)?;
    let results = read(folder)?;
    let nearness = match results.tracks.is_empty() {
        true => None,
        false => Some(nearness(grouping, &results)?),
    };
    let groups = match &nearness {
        Some(nearness) => group(grouping, &results.tracks, nearness)?,
        None => Some(Groups::default()),
    };
    let Some(groups) = groups else {
        return Ok(None);
    };
    let clusters = rank(&results.tracks, groups.strangers);
    if !write(folder, &results, &clusters)? {
        return Ok(None);
    }
    people::write(folder, &results, &clusters, &groups.named)?;
    let left_out = results.unreadable.into_iter();
    Ok(Some(Clustering {
        file: folder.join("clusters.json"),
        model: results.model.map(|model| model.name),
        distance_threshold: groups.limit,
        tracks: clusters
            .iter()
            .map(|(cluster, _)| cluster.tracks.len())
            .sum(),
        untold: groups.untold,
        clusters: clusters.into_iter().map(|(cluster, _)| cluster).collect(),
        left_out: left_out
            .map(|(folder, error)| UnreadableFolder { folder, error })
            .collect(),
    }))
}

/// Reads the tracks to group, and warns about those left out.
fn read(folder: &Path) -> Result<Results> {
    let results = tracks::read(folder)?;
    for (name, error) in &results.unreadable {
        tell!("cluster: left out {name}: {error}");
    }
    if results.inputs.is_empty() {
        match results.unreadable.is_empty() {
            true => bail!(
                "there are no results of `facepipe analyze` in {}",
                folder.display()
            ),
            false => bail!("none of the results in {} can be read", folder.display()),
        }
    }
    if results.without_embedding > 0 {
        let tracks = ui::count(results.without_embedding as u64, "track");
        tell!("cluster: {tracks} without an embedding cannot be compared and are left out");
    }
    Ok(results)
}

/// The distances up to which tracks are one person.
fn nearness(grouping: &Grouping, results: &Results) -> Result<Nearness> {
    let name = results.model.as_ref().map_or("", |model| &model.name);
    let model = Model::find(name).map(|model| Nearness::of(&model.descriptor));
    let mut nearness = match (model, grouping.distance_threshold) {
        (Err(_), Some(_)) => Nearness::default(),
        (model, _) => model.with_context(|| {
            format!("the threshold of the model `{name}` is unknown; give --distance-threshold")
        })?,
    };
    nearness.fixed = grouping.distance_threshold;
    Ok(nearness)
}

/// Which tracks are whose, as lists of their indices.
#[derive(Default)]
struct Groups {
    strangers: Vec<Vec<usize>>,
    /// Tracks without a name that are one person with a named one, by that name.
    named: Vec<(usize, String)>,
    /// The number of tracks too short or too poor to tell.
    untold: usize,
    /// The distance up to which tracks of different inputs were one person. `None` if there were none.
    limit: Option<f64>,
}

/// Groups tracks, first those of each input, then the people of all. `None` if Ctrl-C came in between.
fn group(grouping: &Grouping, tracks: &[Track], nearness: &Nearness) -> Result<Option<Groups>> {
    ensure!(
        tracks.len() <= group::MOST_TRACKS,
        "{} tracks are more than can be compared, {}; analyse into several folders",
        tracks.len(),
        group::MOST_TRACKS
    );
    let compared =
        |track: &Track| track.in_picture || track.summary.track.frames >= grouping.min_frames;
    let mut groups = Groups::default();
    let mut parts: Vec<Part> = Vec::new();
    let mut places: HashMap<(usize, u64), usize> = HashMap::new();
    let inputs = tracks.chunk_by(|a, b| a.key.folder == b.key.folder);
    let mut place = 0;
    for (input, tracks) in inputs.enumerate() {
        let (some, others): (Vec<_>, Vec<_>) = (place..)
            .zip(tracks)
            .partition(|(_, track)| compared(track));
        place += tracks.len();
        let unnamed = |track: &Track| grouping.all || name_of(&track.summary).is_none();
        let alone = others.into_iter().filter(|(_, track)| unnamed(track));
        groups.strangers.extend(alone.map(|(place, _)| vec![place]));
        places.extend(some.iter().map(|(place, t)| ((input, t.key.track), *place)));
        let seen = some.iter().map(|(_, t)| (&t.summary, t.look.clone()));
        for part in within(input, tracks[0].in_picture, seen, nearness) {
            match part.name() {
                Some(name) if !grouping.all => {
                    let unnamed = part.tracks.iter().filter(|track| name_of(track).is_none());
                    let unnamed = unnamed.map(|track| places[&(input, track.track.track)]);
                    groups
                        .named
                        .extend(unnamed.map(|place| (place, name.to_owned())));
                }
                _ => parts.push(part),
            }
        }
    }
    groups.limit = (!parts.is_empty()).then(|| nearness.limit(parts.len()));
    let mut progress = DelayedProgress::new("cluster", Some(2 * parts.len() as u64));
    let goes_on = |done: usize| progress.goes_on(done as u64);
    let Some(found) = persons(&parts, nearness, goes_on) else {
        return Ok(None);
    };
    let members = |group: &Vec<usize>| -> Vec<usize> {
        let parts = group.iter().map(|&part| &parts[part]);
        parts
            .flat_map(|part| {
                part.tracks
                    .iter()
                    .map(|t| places[&(part.input, t.track.track)])
            })
            .collect()
    };
    groups.strangers.extend(found.large.iter().map(members));
    groups.untold = found.small.iter().map(|group| members(group).len()).sum();
    Ok(Some(groups))
}

/// Numbers the clusters, the longest on screen first. Returns each with its tracks, longest on
/// screen first.
fn rank(tracks: &[Track], groups: Vec<Vec<usize>>) -> Vec<(Cluster, Vec<&Track>)> {
    let time = |track: &Track| track.summary.screen_time_ns;
    let mut clusters: Vec<(Cluster, Vec<&Track>)> = groups
        .into_iter()
        .map(|group| {
            let mut members: Vec<&Track> = group.into_iter().map(|i| &tracks[i]).collect();
            members.sort_by(|a, b| a.key.cmp(&b.key));
            let cluster = Cluster {
                tracks: members.iter().map(|track| track.key.clone()).collect(),
                screen_time_ns: members.iter().map(|track| time(track)).sum(),
                ..Default::default()
            };
            members.sort_by_key(|track| std::cmp::Reverse(time(track)));
            (cluster, members)
        })
        .collect();
    clusters.sort_by(|(a, _), (b, _)| {
        let size = |c: &Cluster| (c.screen_time_ns, c.tracks.len());
        size(b).cmp(&size(a)).then_with(|| a.tracks.cmp(&b.tracks))
    });
    for (number, (cluster, _)) in (1..).zip(&mut clusters) {
        cluster.id = format!("stranger-{number}");
        cluster.sheet = format!("clusters/{}.png", cluster.id);
    }
    clusters
}

/// Writes `clusters.json` and the contact sheets. Returns `false` if Ctrl-C came before the end.
fn write(folder: &Path, results: &Results, clusters: &[(Cluster, Vec<&Track>)]) -> Result<bool> {
    let sheets = OutputFolder::create(&folder.join("clusters"))?;
    let mut progress = DelayedProgress::new("contact sheets", Some(clusters.len() as u64));
    for (done, (cluster, members)) in clusters.iter().enumerate() {
        if !progress.goes_on(done as u64) {
            return Ok(false);
        }
        let path = sheets.writable().join(format!("{}.png", cluster.id));
        let tiles: Vec<Tile> = members
            .iter()
            .take(sheet::MOST_TILES)
            .map(|track| tile(folder, track))
            .collect();
        sheet::write(&head(cluster), &tiles, &path)?;
    }
    let list = Output::create(&folder.join("clusters.json"))?;
    let clusters = Clusters {
        version: 1,
        inputs: results.inputs.clone(),
        clusters: clusters
            .iter()
            .map(|(cluster, _)| cluster.clone())
            .collect(),
    };
    list.write((serde_json::to_string_pretty(&clusters)? + "\n").as_bytes())?;
    // Both are complete now.
    sheets.keep()?;
    list.keep()?;
    Ok(true)
}

/// The heading above the pictures: `stranger-1: 3 tracks, 01:02 on screen`.
fn head(cluster: &Cluster) -> String {
    let tracks = cluster.tracks.len();
    let shown = match tracks > sheet::MOST_TILES {
        true => format!(" ({} shown)", sheet::MOST_TILES),
        false => String::new(),
    };
    let time = on_screen(cluster.screen_time_ns);
    format!(
        "{}: {}{shown}, {time}",
        cluster.id,
        ui::count(tracks as u64, "track")
    )
}

/// `01:02 on screen`; a picture takes no time.
fn on_screen(time_ns: u64) -> String {
    match time_ns {
        0 => "in pictures only".into(),
        time => format!("{} on screen", clock(time)),
    }
}

fn clock(ns: u64) -> String {
    ui::clock(Duration::from_nanos(ns))
}

/// A track's picture, if it has a readable one, and its origin.
fn tile(folder: &Path, track: &Track) -> Tile {
    let thumbnail = track.summary.thumbnail.as_ref();
    let picture =
        thumbnail.and_then(|name| read_image(&folder.join(&track.key.folder).join(name)).ok());
    let id = track.key.track;
    let seen = &track.summary.track;
    let second = match (seen.first().shown(), seen.last().shown()) {
        (Some(first), Some(last)) if !track.in_picture => {
            format!("{} – {}, track {id}", clock(first), clock(last))
        }
        _ => format!("track {id}"),
    };
    Tile {
        picture,
        lines: [track.key.folder.clone(), second],
    }
}
