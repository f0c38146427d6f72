//! `facepipe strangers`: lists the strangers whom a running `facepipe live` tells apart.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueHint;
use face_analysis::enroll::{Listed, live_strangers};
use face_parts::ui;

use crate::Outcome;

/// List the strangers whom a running `facepipe live` tells apart
///
/// The latest come first. Name one with
///
///   facepipe enroll --from-live stranger-12=Anna
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration of the running `facepipe live`, if it sets `state`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result<Outcome> {
    let strangers = live_strangers(args.config.as_deref())?;
    let printed = ui::print(&match args.json {
        true => serde_json::to_string_pretty(&strangers)? + "\n",
        false => table(&strangers),
    });
    ui::summary(printed, false)?;
    Ok(Outcome::Done)
}

/// One row per stranger, and one for all.
fn table(strangers: &[Listed]) -> String {
    if strangers.is_empty() {
        return "no strangers yet\n".into();
    }
    let head = ["stranger", "name", "seen", "since", "last seen", "cameras"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(strangers.iter().map(|stranger| {
        vec![
            stranger.person.clone(),
            stranger.name.clone().unwrap_or_else(|| "-".into()),
            stranger.seen.to_string(),
            format!("{:.0}", stranger.since),
            format!("{:.0}", stranger.last_seen),
            stranger.cameras.join(", "),
        ]
    }));
    let none = || "-".to_owned();
    let visits: u64 = strangers.iter().map(|stranger| stranger.seen).sum();
    rows.push(vec![
        ui::count(strangers.len() as u64, "stranger"),
        none(),
        visits.to_string(),
        none(),
        none(),
        none(),
    ]);
    ui::table(&rows)
}
