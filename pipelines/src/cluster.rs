//! `facepipe cluster`: the tracks of unknown people, grouped into persons.

mod group;
mod sheet;
mod tracks;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueHint;
use face_core::model::Model;
use ndarray::Array2;
use serde::Serialize;

use self::sheet::Tile;
use self::tracks::{Results, Track};
use crate::analyze::Lock;
use crate::enroll::read_image;
use crate::output::{Output, OutputFolder};
use crate::record::{Cluster, Clusters};
use crate::ui::{self, Progress};
use crate::{Outcome, interrupt};
pub use tracks::{Embeddings, LARGEST_FILE};

/// How far tracks may be apart, on average, to be one person: so much of the distance up to which the model
/// takes two faces for one. Less than all of it, as two people in one cluster cannot be told apart
/// later, while one person in two clusters is one again as soon as both have the same name.
const SHARE_OF_THRESHOLD: f64 = 0.85;

/// Group the faces that nobody has named into people
///
/// DIR is a folder that `facepipe analyze` has written into. Its tracks without a name, over all
/// inputs, become clusters, one a person: stranger-1 is the one longest on screen. Two who are on
/// screen at the same time are never taken for one person. Into DIR go
///
///   clusters.json            which tracks each stranger is
///   clusters/stranger-1.png  a contact sheet of each
///
/// Give names to those whom you know (where two sheets show one person, to both):
///
///   facepipe enroll --from-clusters DIR stranger-1=Anna stranger-2="Ben B." -o friends.safetensors
///
/// The next `facepipe analyze --gallery friends.safetensors` finds them by these.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The folder with the results of `facepipe analyze`
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,

    /// Group all tracks, also those with a name
    #[arg(long)]
    all: bool,

    /// Leave tracks of videos with fewer frames than this by themselves, a cluster each: short ones may
    /// be blurred, or no faces at all
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_frames: u64,

    /// The mean cosine distance up to which tracks are taken for one person; by default 0.85 of the
    /// model's own threshold for two faces. Greater joins more
    #[arg(long, value_name = "D", value_parser = crate::gallery::distance)]
    distance_threshold: Option<f64>,

    /// Print the table as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

/// What was found and written.
#[derive(Serialize)]
struct Report {
    file: PathBuf,
    model: Option<String>,
    /// `None` where nothing was to be compared.
    distance_threshold: Option<f64>,
    /// Tracks that are in the clusters.
    tracks: usize,
    clusters: Vec<Cluster>,
    /// Folders whose results cannot be read.
    left_out: Vec<LeftOut>,
}

#[derive(Serialize)]
struct LeftOut {
    folder: String,
    error: String,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let folder = &args.folder;
    ensure!(
        folder.is_dir(),
        "{} is no folder; name the one that `facepipe analyze -o` has written into",
        folder.display()
    );
    let _lock = Lock::take(folder)?;
    let mut results = tracks::read(folder)?;
    for (name, error) in &results.unreadable {
        tell!("cluster: {name} is left out: {error}");
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
        .retain(|track| args.all || track.is_unknown());
    if results.without_embedding > 0 {
        let tracks = ui::count(results.without_embedding as u64, "track");
        tell!("cluster: {tracks} without an embedding cannot be compared and are left out");
    }
    let threshold = match results.tracks.is_empty() {
        true => None,
        false => Some(threshold(args, &results)?),
    };
    let Some(groups) = group(args, &results.tracks, threshold.unwrap_or(0.0))? else {
        return Ok(stopped());
    };
    let clusters = rank(&results.tracks, groups);
    if !write(args, &results, &clusters)? {
        return Ok(stopped());
    }
    let outcome = match results.unreadable.is_empty() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    };
    let left_out = results.unreadable.into_iter();
    let report = Report {
        file: folder.join("clusters.json"),
        model: results.model.map(|model| model.name),
        distance_threshold: threshold,
        tracks: results.tracks.len(),
        clusters: clusters.into_iter().map(|(cluster, _)| cluster).collect(),
        left_out: left_out
            .map(|(folder, error)| LeftOut { folder, error })
            .collect(),
    };
    ui::print(&match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => readable(&report, folder),
    })?;
    Ok(outcome)
}

fn stopped() -> Outcome {
    tell!("cluster: stopped by Ctrl-C, nothing was written");
    Outcome::Interrupted
}

/// The distance up to which tracks are one person.
fn threshold(args: &Args, results: &Results) -> Result<f64> {
    if let Some(threshold) = args.distance_threshold {
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

/// A bar that appears if `total` steps take more than a moment; says whether to go on.
fn watched(task: &'static str, total: u64) -> impl FnMut(usize) -> bool {
    let begin = Instant::now();
    let mut progress = None;
    move |done| {
        let elapsed = begin.elapsed();
        if elapsed > Duration::from_secs(1) {
            progress
                .get_or_insert_with(|| Progress::new(task, Some(total)))
                .update(done as u64, &ui::steps_left(done as u64, total, elapsed));
        }
        !interrupt::requested()
    }
}

/// Groups tracks by their numbers; `None` if Ctrl-C came in between.
fn group(args: &Args, tracks: &[Track], threshold: f64) -> Result<Option<Vec<Vec<usize>>>> {
    let fits = |track: &Track| track.in_picture || track.summary.track.frames >= args.min_frames;
    let (compared, alone): (Vec<usize>, Vec<usize>) =
        (0..tracks.len()).partition(|&i| fits(&tracks[i]));
    ensure!(
        compared.len() <= group::MOST_TRACKS,
        "{} tracks are more than can be compared, {}; leave out short ones by --min-frames, or analyse \
         into several folders",
        compared.len(),
        group::MOST_TRACKS
    );
    let dimensions = compared.first().map_or(0, |&i| tracks[i].embedding.len());
    let numbers = compared.iter().flat_map(|&i| &tracks[i].embedding);
    let units = Array2::from_shape_vec((compared.len(), dimensions), numbers.copied().collect())?;
    let weights: Vec<f64> = compared.iter().map(|&i| tracks[i].rows as f64).collect();
    let goes_on = watched("cluster", 2 * compared.len() as u64);
    let apart = apart(&compared, tracks);
    let found = group::group(units.view(), &weights, &apart, threshold, goes_on);
    let number = |rows: Vec<usize>| rows.into_iter().map(|row| compared[row]).collect();
    Ok(found.map(|found| {
        let alone = alone.into_iter().map(|i| vec![i]);
        found.into_iter().map(number).chain(alone).collect()
    }))
}

/// Pairs of those in `compared`, by their places in it, that were on screen together. Tracks are in the
/// order of their folders.
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

/// Names the clusters, the one longest on screen first; beside each its tracks, longest on screen
/// first.
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

/// Writes `clusters.json` and the contact sheets; `false` if Ctrl-C came before all were done.
fn write(args: &Args, results: &Results, clusters: &[(Cluster, Vec<&Track>)]) -> Result<bool> {
    let sheets = OutputFolder::create(&args.folder.join("clusters"))?;
    let mut goes_on = watched("contact sheets", clusters.len() as u64);
    for (done, (cluster, members)) in clusters.iter().enumerate() {
        if !goes_on(done) {
            return Ok(false);
        }
        let path = sheets.writable().join(format!("{}.png", cluster.id));
        let tiles: Vec<Tile> = members
            .iter()
            .take(sheet::MOST_TILES)
            .map(|track| tile(&args.folder, track))
            .collect();
        sheet::write(&head(cluster), &tiles, &path)?;
    }
    let list = Output::create(&args.folder.join("clusters.json"))?;
    let clusters = Clusters {
        version: 1,
        inputs: results.inputs.clone(),
        clusters: clusters
            .iter()
            .map(|(cluster, _)| cluster.clone())
            .collect(),
    };
    list.write((serde_json::to_string_pretty(&clusters)? + "\n").as_bytes())?;
    // Both are whole now.
    sheets.keep()?;
    list.keep()?;
    Ok(true)
}

/// What stands above the pictures: `stranger-1: 3 tracks, 01:02 on screen`.
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

/// The picture of a track, if it has one that can be read, and where it is from.
fn tile(folder: &Path, track: &Track) -> Tile {
    let thumbnail = track.summary.thumbnail.as_ref();
    let picture =
        thumbnail.and_then(|name| read_image(&folder.join(&track.key.folder).join(name)).ok());
    let id = track.key.track;
    let times = (track.summary.track.first_pts, track.summary.track.last_pts);
    let second = match times {
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

/// The clusters as a table, and what can be done with them.
fn readable(report: &Report, folder: &Path) -> String {
    let head = ["stranger", "tracks", "inputs", "on screen", "seen in"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut all = BTreeSet::new();
    for cluster in &report.clusters {
        let mut inputs: BTreeMap<&str, usize> = BTreeMap::new();
        for track in &cluster.tracks {
            *inputs.entry(&track.folder).or_default() += 1;
        }
        all.extend(inputs.keys().copied());
        let first = cluster.tracks.first().map_or("", |track| &track.folder);
        let more = match inputs.len() {
            0 | 1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        rows.push(vec![
            cluster.id.clone(),
            cluster.tracks.len().to_string(),
            inputs.len().to_string(),
            match cluster.screen_time_ns {
                0 => "-".into(),
                time => clock(time),
            },
            format!("{first}{more}"),
        ]);
    }
    if report.clusters.is_empty() {
        return "no track is without a name\n".into();
    }
    rows.push(vec![
        ui::count(report.clusters.len() as u64, "stranger"),
        report.tracks.to_string(),
        all.len().to_string(),
        clock(report.clusters.iter().map(|c| c.screen_time_ns).sum()),
    ]);
    let name = folder.display();
    let sheets = folder.join("clusters");
    ui::table(&rows)
        + &format!(
            "\npictures: {}\nto name them: facepipe enroll --from-clusters {name} stranger-1=NAME -o \
             friends.safetensors\n",
            sheets.display()
        )
}
