//! `facepipe analyze`: analyses whole files and reports who is in them.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueHint;

use crate::Outcome;
use face_analysis::analyze::{AnalyzedInput, Batch, InputState, Options, analyze_all};
use face_analysis::record;
use face_parts::interrupt;
use face_parts::tell;
use face_parts::ui;

/// Find out who is in videos and pictures, and when
///
/// Each input gets its own folder in DIR, named after it, with
///
///   faces.jsonl         one JSON object per line, for each frame and each track
///   summary.json        who is on screen when, and for how long
///   tracks.safetensors  the embedding of each track
///   thumbnails/         the best picture of each track
///
/// Because a file is known to its end, the name, age and gender of a face are those of its whole track,
/// even on the track's first frame. Inputs that were analysed before are skipped, unless they have
/// changed or one of their result files is missing or damaged.
/// Ctrl-C keeps the results of finished inputs; the same command continues from there.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Videos, pictures, folders that contain them, or URIs
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// The folder for the results; created if it does not exist
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: PathBuf,

    /// How many inputs to analyse in parallel; by default one per core
    #[arg(long, value_name = "N", default_value_t = default_jobs(), hide_default_value = true,
          value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,

    /// Also analyse inputs that were analysed before
    #[arg(long)]
    force: bool,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    options: Options,
}

fn default_jobs() -> u32 {
    thread::available_parallelism().map_or(1, NonZero::get) as u32
}

pub fn run(args: &Args) -> Result<Outcome> {
    let analyzed = analyze_all(&Batch {
        inputs: &args.inputs,
        output: &args.output,
        jobs: args.jobs,
        force: args.force,
        options: &args.options,
    })?;
    let printed = print(&analyzed, args.json);
    let is_done = |input: &AnalyzedInput| {
        matches!(input.state, InputState::Done(_) | InputState::DoneBefore(_))
    };
    ui::summary(printed, analyzed.iter().all(is_done))?;
    conclude(&analyzed)
}

/// The outcome of the command.
fn conclude(analyzed: &[AnalyzedInput]) -> Result<Outcome> {
    let failed = analyzed
        .iter()
        .filter(|r| matches!(r.state, InputState::Failed { .. }))
        .count();
    if interrupt::requested()
        && analyzed
            .iter()
            .any(|r| matches!(r.state, InputState::Interrupted))
    {
        tell!("analyze: stopped by Ctrl-C; the same command continues from here");
        return Ok(Outcome::Interrupted);
    }
    if failed == analyzed.len() {
        bail!("nothing could be analysed");
    }
    let is_cut = |input: &AnalyzedInput| match &input.state {
        InputState::Done(found) | InputState::DoneBefore(found) => found.flaw.is_some(),
        _ => false,
    };
    Ok(match failed == 0 && !analyzed.iter().any(is_cut) {
        true => Outcome::Done,
        false => Outcome::Incomplete,
    })
}

/// Prints the results to standard output.
fn print(analyzed: &[AnalyzedInput], json: bool) -> Result<()> {
    let text = match json {
        true => serde_json::to_string_pretty(analyzed)? + "\n",
        false => readable(analyzed),
    };
    ui::print(&text)
}

/// Who is in which input, as a table.
fn readable(analyzed: &[AnalyzedInput]) -> String {
    let head = [
        "input",
        "length",
        "tracks",
        "person",
        "on screen",
        "share",
        "first",
        "last",
    ];
    let mut rows = vec![head.map(String::from).to_vec()];
    let clock = |ns: u64| ui::clock(Duration::from_nanos(ns));
    let (mut inputs, mut tracks, mut strangers) = (0, 0, 0);
    let mut named = BTreeSet::new();
    for input in analyzed {
        let (InputState::Done(found) | InputState::DoneBefore(found)) = &input.state else {
            continue;
        };
        inputs += 1;
        tracks += found.tracks;
        let name = found.folder.file_name().unwrap_or_default();
        let mut cells = vec![
            name.to_string_lossy().into_owned(),
            clock(found.duration_ns),
        ];
        for person in found.people.iter().chain(first_few(&found.strangers)) {
            let [first, last] = person.shown();
            cells.extend([
                person.tracks.len().to_string(),
                person.name.clone(),
                clock(person.screen_time_ns),
                format!("{:.0} %", 100.0 * person.share),
                clock(first),
                clock(last),
            ]);
            rows.push(std::mem::replace(&mut cells, vec![String::new(); 2]));
        }
        let others = &found.strangers[first_few(&found.strangers).len()..];
        if !others.is_empty() {
            let tracks: usize = others.iter().map(|person| person.tracks.len()).sum();
            cells.extend([
                tracks.to_string(),
                ui::count(others.len() as u64, "other stranger"),
            ]);
            rows.push(std::mem::replace(&mut cells, vec![String::new(); 2]));
        }
        let people = found.people.iter().chain(&found.strangers);
        let theirs: usize = people.map(|person| person.tracks.len()).sum();
        if found.tracks > theirs || found.tracks == 0 {
            let nobody = match found.tracks {
                0 => "-",
                // Too short or too poor to be somebody.
                _ => record::UNKNOWN,
            };
            cells.extend([(found.tracks - theirs).to_string(), nobody.into()]);
            rows.push(cells);
        }
        named.extend(found.people.iter().map(|person| &person.name));
        strangers += found.strangers.len();
    }
    if inputs == 0 {
        return String::new();
    }
    rows.push(vec![
        ui::count(inputs, "input"),
        String::new(),
        tracks.to_string(),
        people(named.len(), strangers),
    ]);
    ui::table(&rows)
}

/// `2 people, 3 strangers`.
fn people(named: usize, strangers: usize) -> String {
    let count = |number: usize, what| ui::count(number as u64, what);
    match (named, strangers) {
        (0, _) => count(strangers, "stranger"),
        (_, 0) => count(named, "person"),
        _ => format!(
            "{}, {}",
            count(named, "person"),
            count(strangers, "stranger")
        ),
    }
}

/// The strangers of an input with a line each: those longest on screen.
fn first_few(strangers: &[record::Person]) -> &[record::Person] {
    const FEW: usize = 12;
    &strangers[..strangers.len().min(FEW)]
}
