//! `facepipe cluster`: groups the tracks of unknown people into persons.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueHint;

use crate::Outcome;
use face_analysis::cluster::{Clustering, Grouping, find_strangers};
use face_parts::tell;
use face_parts::ui;

/// Group unnamed faces into people
///
/// DIR is a folder that `facepipe analyze` has written into. Its tracks without a name, from all
/// inputs, become clusters, one per person: stranger-1 is the one longest on screen. Two people on
/// screen at the same time are never taken for one person. A track of a video with fewer than 5 frames,
/// or only poor ones, joins the person it resembles, and is left out if there is none. The command
/// writes into DIR
///
///   clusters.json            which tracks belong to each stranger
///   clusters/stranger-1.png  a contact sheet of each
///   NAME/summary.json        from now on, stranger-1 is the same person in all inputs
///
/// Name the people whom you know. If two sheets show one person, give both the same name:
///
///   facepipe enroll --from-clusters DIR stranger-1=Anna stranger-2="Ben B." -o friends.safetensors
///
/// The next `facepipe analyze --gallery friends.safetensors` recognises them.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The folder with the results of `facepipe analyze`
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,

    /// Group all tracks, including those with a name
    #[arg(long)]
    all: bool,

    /// Leave tracks of videos with fewer frames than this ungrouped, each in its own cluster: short
    /// ones may be blurred, or no faces at all
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_frames: u64,

    /// The mean cosine distance up to which tracks count as one person. By default, it is the model's
    /// own threshold for two faces if there are few tracks, and down to 0.85 of it if there are many.
    /// Larger values join more
    #[arg(long, value_name = "D", value_parser = crate::gallery::distance)]
    distance_threshold: Option<f64>,

    /// Print the table as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let grouping = Grouping {
        all: args.all,
        min_frames: args.min_frames,
        distance_threshold: args.distance_threshold,
    };
    let Some(found) = find_strangers(&args.folder, &grouping)? else {
        tell!("cluster: stopped by Ctrl-C, nothing was written");
        return Ok(Outcome::Interrupted);
    };
    let printed = ui::print(&match args.json {
        true => serde_json::to_string_pretty(&found)? + "\n",
        false => readable(&found, &args.folder),
    });
    ui::summary(printed, true)?;
    Ok(match found.left_out.is_empty() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

fn clock(ns: u64) -> String {
    ui::clock(Duration::from_nanos(ns))
}

/// The clusters as a table, and what to do next.
fn readable(found: &Clustering, folder: &Path) -> String {
    let head = ["stranger", "tracks", "inputs", "on screen", "seen in"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut all = BTreeSet::new();
    for cluster in &found.clusters {
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
    let untold = match found.untold {
        0 => String::new(),
        count => format!(
            "{} too short or too poor to tell whose, left out\n",
            ui::count(count as u64, "track")
        ),
    };
    if found.clusters.is_empty() {
        return match found.untold {
            0 => "all tracks have a name\n".into(),
            _ => untold,
        };
    }
    rows.push(vec![
        ui::count(found.clusters.len() as u64, "stranger"),
        found.tracks.to_string(),
        all.len().to_string(),
        clock(found.clusters.iter().map(|c| c.screen_time_ns).sum()),
    ]);
    let name = folder.display();
    let sheets = folder.join("clusters");
    ui::table(&rows)
        + &untold
        + &format!(
            "\npictures: {}\nto name them: facepipe enroll --from-clusters {name} stranger-1=NAME -o \
             friends.safetensors\n",
            sheets.display()
        )
}
