//! `facepipe analyze`: whole files, from the first frame to the last, with who is in them.

mod collect;
mod inputs;
mod job;
mod naming;
mod people;
pub mod tally;
mod write;

use std::ffi::OsStr;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueHint;
use face_core::file::{hex, sha256_of};
use serde::Serialize;
use sha2::{Digest, Sha256};

use self::inputs::Input;
pub use self::inputs::Lock;
use self::job::{Analyzer, Ended};
use self::naming::Smoothing;
use self::people::MainPersons;
use crate::live::secret;
use crate::output::OutputFolder;
use crate::record::{Person, Summary};
use crate::ui::{self, Board};
use crate::{Outcome, address, interrupt, record, stages};

/// Find out who is in videos and pictures, and when
///
/// Each input gets a folder of its own in DIR, named after it, with
///
///   faces.jsonl         one JSON object a line for each frame and each track
///   summary.json        who is on screen when, and for how long
///   tracks.safetensors  the embedding of each track
///   thumbnails/         the best picture of each track
///
/// As a file is known to its end, name, age and gender of a face are those of its whole track, also
/// on the track's first frame. What was analysed before is not analysed again, unless it has changed or
/// one of its files is gone or damaged.
/// Ctrl-C leaves the results of the inputs that are done; the same command goes on from there.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Videos, pictures, folders with videos and pictures in them, or URIs
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// The folder for the results; made if it is not there
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: PathBuf,

    /// What name, age and gender of a face on a frame are those of
    #[arg(long, value_enum, default_value_t = Smoothing::Track)]
    smoothing: Smoothing,

    /// Name only the main persons of each input: so many, those longest on screen (3), or those on
    /// screen for at least this share of it (5% or 0.05). All other tracks are named again among
    /// those, or Unknown
    #[arg(long, value_name = "N|SHARE", requires = "gallery")]
    main_persons: Option<MainPersons>,

    /// How many inputs are analysed at once
    #[arg(long, value_name = "N", default_value_t = default_jobs(),
          value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: u32,

    /// Analyse also what was analysed before
    #[arg(long)]
    force: bool,

    /// Print the table at the end as JSON, alone on standard output
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    stages: stages::Args,
}

fn default_jobs() -> u32 {
    thread::available_parallelism().map_or(1, NonZero::get) as u32
}

/// An input with a place for its results.
struct Task {
    input: Input,
    name: String,
    fingerprint: String,
}

/// What became of an input.
#[derive(Serialize)]
struct Report {
    input: String,
    #[serde(flatten)]
    state: State,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
enum State {
    Done(Headline),
    DoneBefore(Headline),
    Failed { error: String },
    Interrupted,
}

/// The summary of an input, without its tracks.
#[derive(Serialize)]
struct Headline {
    folder: PathBuf,
    frames: u64,
    duration_ns: u64,
    tracks: usize,
    /// Tracks that are nobody's.
    unknown_tracks: usize,
    people: Vec<Person>,
}

impl Headline {
    fn new(folder: PathBuf, summary: Summary) -> Self {
        let named: usize = summary.people.iter().map(|p| p.tracks.len()).sum();
        Self {
            folder,
            frames: summary.frames,
            duration_ns: summary.duration_ns,
            tracks: summary.tracks.len(),
            unknown_tracks: summary.tracks.len() - named,
            people: summary.people,
        }
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    let found = inputs::find(&args.inputs, &args.output)?;
    if found.others > 0 {
        let files = ui::count(found.others, "file");
        tell!("analyze: {files} skipped that are no video or picture by their names");
    }
    ensure!(!found.inputs.is_empty(), "there is nothing to analyse");
    ensure!(
        args.output != Path::new("-"),
        "the results are a folder and cannot go to standard output; name one by -o"
    );
    let _lock = Lock::take(&args.output)?;
    let analyzer = Analyzer::new(args)?;
    let settings = settings(args, analyzer.model_sha256())?;
    let earlier = inputs::earlier(&args.output)?;
    let names = inputs::names(&found.inputs, &args.output, &earlier);

    let mut reports = Vec::new();
    let mut tasks = Vec::new();
    for (input, name) in found.inputs.into_iter().zip(names) {
        let fingerprint = digest(&[&settings, &input.id, &input.state()]);
        let place = reports.len();
        let done = earlier.get(&name).filter(|e| e.fingerprint == fingerprint);
        let before = done.filter(|_| !args.force).and_then(|_| {
            let folder = args.output.join(&name);
            let summary: Summary = record::read(&folder.join("summary.json")).ok()?;
            let input = address::shown(&input.path);
            if let Some(damage) = summary.damage(&folder) {
                tell!("analyze: {input} is analysed again: {damage}");
                return None;
            }
            tell!("analyze: {input} was done before");
            Some(State::DoneBefore(Headline::new(folder, summary)))
        });
        let task = Task {
            input,
            name,
            fingerprint,
        };
        reports.push(Report {
            input: address::shown(&task.input.path),
            state: before.unwrap_or_else(|| {
                tasks.push((place, task));
                State::Interrupted
            }),
        });
    }
    if !tasks.is_empty() {
        work(args, &analyzer, tasks, &mut reports);
    }
    print(&reports, args.json)?;
    conclude(&reports)
}

/// How the command ends.
fn conclude(reports: &[Report]) -> Result<Outcome> {
    let failed = reports
        .iter()
        .filter(|r| matches!(r.state, State::Failed { .. }))
        .count();
    if interrupt::requested()
        && reports
            .iter()
            .any(|r| matches!(r.state, State::Interrupted))
    {
        tell!("analyze: stopped by Ctrl-C; the same command goes on from here");
        return Ok(Outcome::Interrupted);
    }
    if failed == reports.len() {
        bail!("nothing could be analysed");
    }
    Ok(match failed {
        0 => Outcome::Done,
        _ => Outcome::Incomplete,
    })
}

/// All that the results depend on besides the input.
fn settings(args: &Args, model_sha256: &str) -> Result<String> {
    let gallery = match &args.stages.gallery {
        Some(path) => sha256_of(path)?.1,
        None => String::new(),
    };
    Ok(format!(
        "1 {} {gallery} {:?} {:?} {model_sha256}",
        args.stages.fingerprint(),
        args.smoothing,
        args.main_persons
    ))
}

/// The sha256 of several texts, in hexadecimal.
fn digest(parts: &[&(impl AsRef<[u8]> + ?Sized)]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        let part = part.as_ref();
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Works on all tasks, several at once, and reports at their places.
fn work(args: &Args, analyzer: &Analyzer, tasks: Vec<(usize, Task)>, reports: &mut [Report]) {
    let board = Board::new("analyze", tasks.len() as u64);
    let jobs = (args.jobs as usize).min(tasks.len());
    let tasks = Mutex::new(tasks.into_iter());
    let reports = Mutex::new(reports);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !interrupt::requested() {
                    let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some((place, task)) = next else { break };
                    let result = one(args, analyzer, &task, &board);
                    reports.lock().unwrap_or_else(PoisonError::into_inner)[place].state = result;
                }
            });
        }
    });
}

/// Works on one task.
fn one(args: &Args, analyzer: &Analyzer, task: &Task, board: &Arc<Board>) -> State {
    let started = Instant::now();
    let input = &task.input;
    let shown = address::shown(&input.path);
    let label = Path::new(&shown).file_name().map(OsStr::to_string_lossy);
    let mut progress = board.input(&label.unwrap_or(shown.as_str().into()));
    let mut whole = || -> Result<Option<Headline>> {
        let output = OutputFolder::create(&args.output.join(&task.name))?;
        let fingerprint = task.fingerprint.clone();
        let ended = analyzer.analyze(input, fingerprint, output.writable(), &mut progress)?;
        Ok(match ended {
            Ended::Whole(summary) => Some(Headline::new(output.keep()?, *summary)),
            Ended::Interrupted => None,
        })
    };
    let result = whole();
    drop(progress);
    match result {
        Ok(Some(done)) => {
            let elapsed = started.elapsed();
            board.note(&format!(
                "{shown}: {} in {:.1} s, {:.1} fps; wrote {}",
                ui::count(done.frames, "frame"),
                elapsed.as_secs_f64(),
                ui::rate(done.frames as f64, elapsed),
                done.folder.display()
            ));
            State::Done(done)
        }
        Ok(None) => State::Interrupted,
        Err(error) => {
            let error = secret::redact(&format!("{error:#}"));
            board.note(&format!("error: {error}"));
            State::Failed { error }
        }
    }
}

/// Prints what was found, to standard output.
fn print(reports: &[Report], json: bool) -> Result<()> {
    let text = match json {
        true => serde_json::to_string_pretty(reports)? + "\n",
        false => readable(reports),
    };
    ui::print(&text)
}

/// Who is in which input, as a table.
fn readable(reports: &[Report]) -> String {
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
    let (mut inputs, mut tracks) = (0, 0);
    for report in reports {
        let (State::Done(found) | State::DoneBefore(found)) = &report.state else {
            continue;
        };
        inputs += 1;
        tracks += found.tracks;
        let name = found.folder.file_name().unwrap_or_default();
        let mut cells = vec![
            name.to_string_lossy().into_owned(),
            clock(found.duration_ns),
        ];
        for person in &found.people {
            cells.extend([
                person.tracks.len().to_string(),
                person.name.clone(),
                clock(person.screen_time_ns),
                format!("{:.0} %", 100.0 * person.share),
                clock(person.first_pts),
                clock(person.last_pts),
            ]);
            rows.push(std::mem::replace(&mut cells, vec![String::new(); 2]));
        }
        if found.unknown_tracks > 0 || found.people.is_empty() {
            let unknown = if found.unknown_tracks > 0 {
                record::UNKNOWN
            } else {
                "-"
            };
            cells.extend([found.unknown_tracks.to_string(), unknown.into()]);
            rows.push(cells);
        }
    }
    if inputs == 0 {
        return String::new();
    }
    rows.push(vec![
        ui::count(inputs, "input"),
        String::new(),
        tracks.to_string(),
    ]);
    ui::table(&rows)
}
