//! `facepipe names`: who is in which input from when to when.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueHint;

use crate::Outcome;
use face_analysis::names::{self, Appearances, Selection};
use face_parts::tell;
use face_parts::ui;

/// List who is in which input from when to when
///
/// Each DIR is a folder that `facepipe analyze` has written into. There is one line for each time that
/// a person is on screen, over all of their tracks. People without a name are stranger-1, stranger-2,
/// and so on: others in each input, until `facepipe cluster` has grouped those of the folder.
///
///   facepipe names results
///   facepipe names results --csv > who.csv
///   facepipe names results --person Anna --person stranger-2
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Folders with the results of `facepipe analyze`
    #[arg(required = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    folders: Vec<PathBuf>,

    /// Only this person: a name, or the number of a stranger, such as stranger-2; may be repeated
    #[arg(long = "person", value_name = "NAME")]
    people: Vec<String>,

    /// Only people with a name
    #[arg(long)]
    named: bool,

    /// Absences up to this many seconds do not end an appearance
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    gap: f64,

    /// Print a table for spreadsheets: comma-separated values, times in seconds
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Print the appearances as JSON, times in nanoseconds
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1e9).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds from 0 on".into()),
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    let found = names::list(
        &args.folders,
        &Selection {
            people: args.people.clone(),
            named: args.named,
            gap_ns: (args.gap * 1e9) as u64,
        },
    )?;
    for problem in &found.problems {
        tell!("names: {problem}");
    }
    if found.nobody > 0 && !args.named && args.people.is_empty() {
        let tracks = ui::count(found.nobody as u64, "track");
        tell!("names: left out {tracks} that are too short or too poor to tell who it is");
    }
    ui::print(&if args.json {
        serde_json::to_string_pretty(&found.appearances)? + "\n"
    } else if args.csv {
        let mut text = Vec::new();
        names::csv(&found.appearances, &mut text)?;
        String::from_utf8(text)?
    } else {
        readable(&found, args)
    })?;
    Ok(match found.problems.is_empty() {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

fn readable(found: &Appearances, args: &Args) -> String {
    if found.appearances.is_empty() {
        return match args.people.is_empty() {
            true => "nobody\n".into(),
            false => format!("{} is in none of the inputs\n", args.people.join(", ")),
        };
    }
    let head = ["input", "person", "first", "last", "tracks"];
    let mut rows = vec![head.map(String::from).to_vec()];
    let mut people = std::collections::BTreeSet::new();
    let mut inputs = std::collections::BTreeSet::new();
    for appearance in &found.appearances {
        let time = |time: Option<u64>| time.map_or("-".into(), clock);
        let ids: Vec<String> = appearance.tracks.iter().map(u64::to_string).collect();
        let folder = match args.folders.len() {
            1 => appearance.folder.clone(),
            _ => appearance
                .results
                .join(&appearance.folder)
                .display()
                .to_string(),
        };
        people.insert(&appearance.person);
        inputs.insert((&appearance.results, &appearance.folder));
        rows.push(vec![
            folder,
            appearance.person.clone(),
            time(appearance.first),
            time(appearance.last),
            ids.join(" "),
        ]);
    }
    rows.push(vec![
        ui::count(inputs.len() as u64, "input"),
        ui::count(people.len() as u64, "person"),
        ui::count(found.appearances.len() as u64, "appearance"),
    ]);
    ui::table(&rows)
}

/// `1:02:03.456`
fn clock(time: u64) -> String {
    let milliseconds = time.saturating_add(500_000) / 1_000_000;
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{hours}:{minutes:02}:{:02}.{rest:03}", seconds % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_time_is_read_as_a_player_shows_it() {
        let clock = super::clock;
        assert_eq!(clock(0), "0:00:00.000");
        assert_eq!(clock(3_723_456_500_000), "1:02:03.457");
        assert_eq!(clock(36_000_000_000_000), "10:00:00.000");
    }
}
