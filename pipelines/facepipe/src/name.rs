//! `facepipe name`: gives analysed inputs the names of a changed gallery, and keeps names from tracks.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueHint;
use serde::Serialize;

use crate::Outcome;
use face_analysis::name::{self, Renamed, Renaming, Target};
use face_parts::tell;
use face_parts::ui;

/// Name the faces in analysed inputs again, without their videos
///
/// Each DIR is a folder that `facepipe analyze` has written into. All its tracks get the names of the
/// gallery from their stored embeddings, as if they were analysed with it. Names change in
/// summary.json and faces.jsonl; inputs in which no name changes keep their files.
///
///   facepipe enroll --from-clusters results stranger-1=Anna -o friends.safetensors
///   facepipe name results --gallery friends.safetensors
///
/// If a name is wrong, keep it from the track or from a stranger of `facepipe cluster`. They get the
/// next name that fits, or Unknown, and never that name again, also in later analyses:
///
///   facepipe name results --not party/3=Bob --not stranger-3=Bob
///
/// After a change of the gallery, `facepipe analyze` with the same inputs does the same by itself.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folders with the results of `facepipe analyze`
    #[arg(required = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    folders: Vec<PathBuf>,

    /// Name the faces after the people in this gallery; by default the one that named them last
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    gallery: Option<PathBuf>,

    /// Keep a name from a track, as FILM/TRACK=NAME with the name of the input's folder, or from all
    /// tracks of a stranger, as stranger-3=NAME or FILM/stranger-3=NAME; may be repeated
    #[arg(long, value_name = "WHO=NAME", value_parser = Target::parse)]
    not: Vec<Target>,

    /// Take back a --not; may be repeated
    #[arg(long, value_name = "WHO=NAME", value_parser = Target::parse)]
    allow: Vec<Target>,

    /// Only list which tracks are kept from which names
    #[arg(long, conflicts_with_all = ["gallery", "not", "allow", "dry_run"])]
    barred: bool,

    /// The share of strangers who may get a name; by default that of the analysis
    #[arg(long, value_name = "SHARE", value_parser = rate)]
    false_name_rate: Option<f64>,

    /// The cosine distance, 0 to 2, beyond which a face does not match a person; by default that of
    /// the analysis
    #[arg(long, value_name = "D", value_parser = crate::gallery::distance)]
    distance_threshold: Option<f64>,

    /// Let tracks that are on screen together have the same name
    #[arg(long)]
    repeated_names: bool,

    /// Print what would change; write nothing
    #[arg(long)]
    dry_run: bool,

    /// Print the changes as JSON, alone on standard output
    #[arg(long)]
    json: bool,
}

/// A share of strangers.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (1e-6..=1.0).contains(&value) => Ok(value),
        _ => {
            Err("expected a number from 0.000001 to 1, such as 0.001 for one in a thousand".into())
        }
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    if args.barred {
        return list(args);
    }
    let renamed = name::rename(&Renaming {
        folders: &args.folders,
        gallery: args.gallery.as_deref(),
        false_name_rate: args.false_name_rate,
        distance_threshold: args.distance_threshold,
        repeated_names: args.repeated_names,
        not: &args.not,
        allow: &args.allow,
        dry_run: args.dry_run,
    })?;
    let failed = renamed.inputs == 0 && !renamed.interrupted;
    if failed && let Some(first) = renamed.left_out.first() {
        let same = renamed
            .left_out
            .iter()
            .all(|other| other.error == first.error);
        if same {
            bail!("nothing could be named: {}", first.error);
        }
    }
    for left_out in &renamed.left_out {
        let path = left_out.path.display();
        tell!("name: left out {path}: {}", left_out.error);
    }
    if failed {
        bail!("nothing could be named");
    }
    let printed = ui::print(&match args.json {
        true => serde_json::to_string_pretty(&renamed)? + "\n",
        false => readable(&renamed),
    });
    ui::summary(printed, !args.dry_run && renamed.changed_inputs > 0)?;
    if renamed.interrupted {
        tell!("name: stopped by Ctrl-C; the same command continues from there");
        return Ok(Outcome::Interrupted);
    }
    Ok(match renamed.left_out.is_empty() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

/// The changes as a table.
fn readable(renamed: &Renamed) -> String {
    let head = ["input", "track", "name before", "name now", "person"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut several = renamed.changes.iter().map(|change| &change.results);
    let first = several.next();
    let is_one = several.all(|results| Some(results) == first);
    for change in &renamed.changes {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".into());
        let track = &change.change;
        rows.push(vec![
            match is_one {
                true => track.folder.clone(),
                false => change.results.join(&track.folder).display().to_string(),
            },
            track.track.to_string(),
            name(&track.from),
            name(&track.to),
            name(&track.person),
        ]);
    }
    let mut text = String::new();
    if !renamed.changes.is_empty() {
        rows.push(vec![
            ui::count(renamed.changed_inputs as u64, "input"),
            renamed.changes.len().to_string(),
        ]);
        text += &ui::table(&rows);
        text += "\n";
    }
    text += &format!(
        "{} in {}, {} with other names\n",
        ui::count(renamed.tracks as u64, "track"),
        ui::count(renamed.inputs as u64, "input"),
        renamed.changes.len()
    );
    if renamed.dry_run {
        text += "nothing was changed: --dry-run\n";
    }
    text
}

/// A track and a name that it must not get.
#[derive(Serialize)]
struct Barred<'a> {
    results: &'a Path,
    folder: &'a str,
    track: u64,
    not: &'a str,
}

fn list(args: &Args) -> Result<Outcome> {
    let found = name::barred(&args.folders)?;
    let barred: Vec<Barred> = found
        .iter()
        .map(|(results, bar)| Barred {
            results,
            folder: &bar.folder,
            track: bar.track,
            not: &bar.name,
        })
        .collect();
    ui::print(&match (args.json, barred.is_empty()) {
        (true, _) => serde_json::to_string_pretty(&barred)? + "\n",
        (false, true) => "no name is kept from any track\n".into(),
        (false, false) => {
            let head = ["input", "track", "not"];
            let mut rows = vec![head.map(String::from).to_vec()];
            rows.extend(barred.iter().map(|bar| {
                let input = bar.results.join(bar.folder).display().to_string();
                vec![input, bar.track.to_string(), bar.not.into()]
            }));
            rows.push(vec![String::new(), ui::count(barred.len() as u64, "track")]);
            ui::table(&rows)
        }
    })?;
    Ok(Outcome::Done)
}
