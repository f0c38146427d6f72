//! `facepipe forget`: removes a person from everything that the program wrote.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueHint;

use crate::Outcome;
use face_analysis::forget::{ForgottenPerson, Removed, Whereabouts, forget, headed};
use face_parts::tell;
use face_parts::ui;

/// Remove a person from galleries, results and JSON lines
///
/// Searches each PATH, including everything in folders, and removes the person from
///
///   galleries           rows and name
///   folders of results  (analyze) tracks, embeddings, pictures, names and faces; (cluster) tracks
///                       and the contact sheets that show them
///   JSON lines          (annotate, live; *.jsonl, also rotated) faces, tracks and events
///   strangers           (the file of `remember` in the configuration of live) embeddings and visits
///
/// Tracks that were enrolled with `enroll --from-clusters` are found through their rows in the gallery,
/// if it is in a PATH. A running `facepipe live` with a gallery or an output in a PATH is told first:
/// it drops what it was about to write, and from then on writes nothing with the name, until the person
/// is enrolled again. Other streams that use a gallery forget the person within a second.
///
/// Files that cannot be edited are listed: videos, reports, photos, and everything else that still
/// contains the name. Pictures cannot be searched, and copies elsewhere, such as backups, are yours to
/// find. Try it with --dry-run first.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The person to forget, as written in the gallery
    person: String,

    /// Galleries, folders of results, files of JSON lines, or folders that contain them
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,

    /// The configuration of a `facepipe live` that uses or used these files. Programs that leave
    /// notes next to them are found without it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Only show what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let whereabouts = Whereabouts {
        person: &args.person,
        paths: &args.paths,
        config: args.config.as_deref(),
        dry_run: args.dry_run,
    };
    let Some(forgotten) = forget(&whereabouts)? else {
        tell!("forget: stopped by Ctrl-C before the end; every file is intact");
        return Ok(Outcome::Interrupted);
    };
    let printed = ui::print(&match args.json {
        true => serde_json::to_string_pretty(&forgotten)? + "\n",
        false => readable(&forgotten),
    });
    for failed in &forgotten.failed {
        let path = failed.path.display().to_string();
        match failed.error.starts_with(&path) {
            true => tell!("forget: {}", failed.error),
            false => tell!("forget: {path}: {}", failed.error),
        }
    }
    let edited = !args.dry_run && !forgotten.edited.is_empty();
    ui::summary(printed, edited && forgotten.failed.is_empty())?;
    Ok(match forgotten.is_complete() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

/// The outcome as a table and lists.
fn readable(forgotten: &ForgottenPerson) -> String {
    let head = [
        "removed from",
        "rows",
        "tracks",
        "faces",
        "lines",
        "pictures",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut sum = Removed::default();
    let numbers = |r: &Removed| [r.rows, r.tracks, r.faces, r.lines, r.pictures];
    let row = |first: String, removed: &Removed| {
        let numbers = numbers(removed).map(|n| n.to_string());
        std::iter::once(first).chain(numbers).collect()
    };
    for edited in &forgotten.edited {
        rows.push(row(edited.path.display().to_string(), &edited.removed));
        sum.add(&edited.removed);
    }
    let places = ui::count(forgotten.edited.len() as u64, "place");
    rows.push(row(places, &sum));
    let mut text = match forgotten.edited.is_empty() {
        true => String::new(),
        false => ui::table(&rows),
    };
    if forgotten.dry_run {
        text += "nothing was changed: --dry-run\n";
    }
    for told in &forgotten.running {
        text += &format!(
            "told the running `facepipe live` of {}: {}\n",
            told.state.display(),
            told.cameras
                .iter()
                .chain(&told.strangers)
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    for (heading, left) in headed(&forgotten.left) {
        text += &format!("\n{heading}:\n");
        for left in left {
            text += &format!("  {}\n", left.path.display());
        }
    }
    let here = match forgotten.pictures {
        0 => String::new(),
        pictures => format!(" ({} there)", ui::count(pictures, "picture")),
    };
    text += &format!(
        "\npictures cannot be searched{here}: annotated ones, and copies of photos under other \
         names, may show the face or the name; so may copies elsewhere\n"
    );
    text
}
