//! Finds the strangers in a folder of results: groups its tracks and writes the groups next to them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use face_core::model::Model;
use face_gallery::group;
use face_parts::output::{Output, OutputFolder};
use face_parts::tell;
use face_parts::ui::{self, DelayedProgress};
use ndarray::Array2;
use serde::Serialize;

use super::sheet::{self, Tile};
use super::tracks::{self, Results, Track};
use crate::analyze::Lock;
use crate::enroll::read_image;
use crate::record::{Cluster, Clusters};

/// The mean distance up to which tracks are one person, as a share of the model's threshold for two
/// faces. It is below 1 because two people in one cluster cannot be separated later, while one
/// person in two clusters is joined as soon as both get the same name.
const SHARE_OF_THRESHOLD: f64 = 0.85;

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
    let results = read(folder, grouping)?;
    let threshold = match results.tracks.is_empty() {
        true => None,
        false => Some(threshold(grouping, &results)?),
    };
    let Some(groups) = group(grouping, &results.tracks, threshold.unwrap_or(0.0))? else {
        return Ok(None);
    };
    let clusters = rank(&results.tracks, groups);
    if !write(folder, &results, &clusters)? {
        return Ok(None);
    }
    let left_out = results.unreadable.into_iter();
    Ok(Some(Clustering {
        file: folder.join("clusters.json"),
        model: results.model.map(|model| model.name),
        distance_threshold: threshold,
        tracks: results.tracks.len(),
        clusters: clusters.into_iter().map(|(cluster, _)| cluster).collect(),
        left_out: left_out
            .map(|(folder, error)| UnreadableFolder { folder, error })
            .collect(),
    }))
}

/// Reads the tracks to group, and warns about those left out.
fn read(folder: &Path, grouping: &Grouping) -> Result<Results> {
    let mut results = tracks::read(folder)?;
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
    results
        .tracks
        .retain(|track| grouping.all || track.is_unknown());
    if results.without_embedding > 0 {
        let tracks = ui::count(results.without_embedding as u64, "track");
        tell!("cluster: {tracks} without an embedding cannot be compared and are left out");
    }
    Ok(results)
}

/// The distance up to which tracks are one person.
fn threshold(grouping: &Grouping, results: &Results) -> Result<f64> {
    if let Some(threshold) = grouping.distance_threshold {
        return Ok(threshold);
    }
    let name = results.model.as_ref().map_or("", |model| &model.name);
    let model = Model::find(name).with_context(|| {
        format!("the threshold of the model `{name}` is unknown; give --distance-threshold")
    })?;
    let threshold = model.descriptor.distance_threshold.with_context(|| {
        format!("the model `{name}` has no distance threshold; give --distance-threshold")
    })?;
    Ok(SHARE_OF_THRESHOLD * threshold)
}

/// Groups tracks into lists of their indices. `None` if Ctrl-C came in between.
fn group(grouping: &Grouping, tracks: &[Track], threshold: f64) -> Result<Option<Vec<Vec<usize>>>> {
    let fits =
        |track: &Track| track.in_picture || track.summary.track.frames >= grouping.min_frames;
    let (compared, alone): (Vec<usize>, Vec<usize>) =
        (0..tracks.len()).partition(|&i| fits(&tracks[i]));
    ensure!(
        compared.len() <= group::MOST_TRACKS,
        "{} tracks are more than can be compared, {}; leave out short ones with --min-frames, or analyse \
         into several folders",
        compared.len(),
        group::MOST_TRACKS
    );
    let dimensions = compared.first().map_or(0, |&i| tracks[i].embedding.len());
    let numbers = compared.iter().flat_map(|&i| &tracks[i].embedding);
    let units = Array2::from_shape_vec((compared.len(), dimensions), numbers.copied().collect())?;
    let weights: Vec<f64> = compared.iter().map(|&i| tracks[i].rows as f64).collect();
    let mut progress = DelayedProgress::new("cluster", Some(2 * compared.len() as u64));
    let goes_on = |done: usize| progress.goes_on(done as u64);
    let apart = apart(&compared, tracks);
    let found = group::group(units.view(), &weights, &apart, threshold, goes_on);
    let number = |rows: Vec<usize>| rows.into_iter().map(|row| compared[row]).collect();
    Ok(found.map(|found| {
        let alone = alone.into_iter().map(|i| vec![i]);
        found.into_iter().map(number).chain(alone).collect()
    }))
}

/// Pairs of positions in `compared` whose tracks were on screen together. Tracks are in the order
/// of their folders.
fn apart(compared: &[usize], tracks: &[Track]) -> Vec<(usize, usize)> {
    let track = |place: usize| &tracks[compared[place]];
    let mut pairs = Vec::new();
    for a in 0..compared.len() {
        let others =
            (a + 1..compared.len()).take_while(|&b| track(b).key.folder == track(a).key.folder);
        pairs.extend(
            others
                .filter(|&b| track(a).was_seen_with(track(b)))
                .map(|b| (a, b)),
        );
    }
    pairs
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
