//! Analyses several inputs in parallel. Each has a folder for its results.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Result, ensure};
use face_core::file::hex;
use face_gallery::Gallery;
use face_parts::output::OutputFolder;
use face_parts::tell;
use face_parts::ui::{self, Board};
use face_parts::{address, interrupt, stages};
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::inputs::{self, Input};
use super::naming::Smoothing;
use super::{Analyzer, Ended, Lock, Marks, Options};
use crate::name::bars::Bars;
use crate::name::{Film, NamedBy, NamedGallery, Source};
use crate::record::{self, Person, Summary};
use crate::search;

/// What to analyse, and how.
pub struct Batch<'a> {
    /// Files, addresses, and folders of files.
    pub inputs: &'a [PathBuf],
    /// The folder for the results; created if it does not exist.
    pub output: &'a Path,
    /// How many inputs to analyse in parallel.
    pub jobs: u32,
    /// Analyse inputs again that were analysed before.
    pub force: bool,
    pub options: &'a Options,
}

/// An input and the folder for its results.
struct Task {
    input: Input,
    name: String,
    marks: Marks,
}

/// The outcome of an input.
#[derive(Serialize)]
pub struct AnalyzedInput {
    /// Without secrets.
    pub input: String,
    #[serde(flatten)]
    pub state: InputState,
}

#[derive(Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum InputState {
    Done(Headline),
    DoneBefore(Headline),
    Failed {
        error: String,
    },
    /// Ctrl-C came before its end.
    Interrupted,
}

/// The summary of an input, without its tracks.
#[derive(Serialize)]
pub struct Headline {
    pub folder: PathBuf,
    pub frames: u64,
    pub duration_ns: u64,
    pub tracks: usize,
    /// Tracks of nobody who has a name.
    pub unknown_tracks: usize,
    pub people: Vec<Person>,
    /// People without a name.
    pub strangers: Vec<Person>,
    /// What is missing of the input, in words, if it ends early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flaw: Option<String>,
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
            strangers: summary.strangers,
            flaw: summary.flaw,
        }
    }
}

/// Analyses the inputs of `batch`, several in parallel. Returns the outcomes in the order of the
/// inputs.
pub fn analyze_all(batch: &Batch) -> Result<Vec<AnalyzedInput>> {
    let found = inputs::find(batch.inputs, batch.output)?;
    if !found.others.is_empty() {
        tell!("analyze: skipped {}", found.others);
    }
    ensure!(!found.inputs.is_empty(), "there is nothing to analyse");
    ensure!(
        batch.output != Path::new("-"),
        "the results are a folder and cannot go to standard output; name one with -o"
    );
    let _lock = Lock::take(batch.output)?;
    let analyzer = Analyzer::new(batch.options)?;
    let settings = settings(batch, analyzer.model_sha256());
    let namer = Again::new(batch, &analyzer)?;
    let earlier = inputs::earlier(batch.output)?;
    let names = inputs::names(&found.inputs, batch.output, &earlier);

    let mut analyzed = Vec::new();
    let mut tasks = Vec::new();
    for (input, name) in found.inputs.into_iter().zip(names) {
        let fingerprint = digest(&[&settings, &input.id, &input.state()]);
        let place = analyzed.len();
        let done = earlier.get(&name).filter(|e| e.fingerprint == fingerprint);
        let before = done.filter(|_| !batch.force).and_then(|_| {
            let folder = batch.output.join(&name);
            let summary: Summary = record::read(&folder.join("summary.json")).ok()?;
            let input = address::shown(&input.path);
            if let Some(damage) = summary.damage(&folder) {
                tell!("analyze: {input} is analysed again: {damage}");
                return None;
            }
            let summary = match namer.is_current(&summary) {
                true => {
                    tell!("analyze: {input} was analysed before");
                    summary
                }
                false => namer.name(&input, &folder, summary)?,
            };
            if let Some(flaw) = &summary.flaw {
                tell!("analyze: {input}: {flaw}");
            }
            Some(InputState::DoneBefore(Headline::new(folder, summary)))
        });
        let task = Task {
            marks: Marks {
                fingerprint,
                naming: namer.naming(&input.id),
                bars: namer.bars.clone(),
            },
            input,
            name,
        };
        analyzed.push(AnalyzedInput {
            input: address::shown(&task.input.path),
            state: before.unwrap_or_else(|| {
                tasks.push((place, task));
                InputState::Interrupted
            }),
        });
    }
    if !tasks.is_empty() {
        work(batch, &analyzer, tasks, &mut analyzed);
        if let Err(error) = search::bring_up_to_date(batch.output) {
            tell!("analyze: {}", ui::causes(&error));
        }
    }
    Ok(analyzed)
}

/// Everything besides the input that affects the results, apart from the names of tracks.
fn settings(batch: &Batch, model_sha256: &str) -> String {
    let stages = stages::Options {
        false_name_rate: None,
        distance_threshold: None,
        repeated_names: false,
        ..batch.options.stages.clone()
    };
    // The number counts changes of what the same settings give.
    format!(
        "5 {} {:?} {model_sha256}",
        stages.fingerprint(),
        batch.options.smoothing
    )
}

/// Names inputs again that were analysed before, if nothing else has changed.
struct Again<'a> {
    options: &'a Options,
    gallery: Option<&'a Gallery>,
    named: Option<NamedGallery>,
    bars: Arc<Bars>,
}

impl<'a> Again<'a> {
    fn new(batch: &'a Batch, analyzer: &'a Analyzer) -> Result<Self> {
        let path = batch.options.stages.gallery.as_ref();
        Ok(Self {
            options: batch.options,
            gallery: analyzer.gallery(),
            named: path.map(|path| NamedGallery::of(path)).transpose()?,
            bars: Arc::new(Bars::read(batch.output)?),
        })
    }

    /// How the tracks of an input are named.
    fn naming(&self, input: &str) -> NamedBy {
        let stages = &self.options.stages;
        NamedBy {
            gallery: self.named.clone(),
            smoothing: self.options.smoothing,
            false_name_rate: stages.false_name_rate,
            distance_threshold: stages.distance_threshold,
            repeated_names: stages.repeated_names,
            main_persons: self.options.main_persons,
            bars: self.bars.digest(input),
        }
    }

    fn is_current(&self, summary: &Summary) -> bool {
        summary.naming.as_ref() == Some(&self.naming(&summary.input))
    }

    /// `None` if the input has to be analysed again.
    fn name(&self, input: &str, folder: &Path, summary: Summary) -> Option<Summary> {
        // Names of single frames are not stored.
        if self.options.smoothing != Smoothing::Track {
            return None;
        }
        let naming = self.naming(&summary.input);
        let source = self.gallery.zip(self.named.as_ref());
        let source = source.map(|(gallery, named)| Source { gallery, named });
        let mut film = Film::new(folder.to_owned(), summary);
        match film.rename(&naming, source, &self.bars, false) {
            Ok(changes) => {
                let tracks = ui::count(changes.len() as u64, "track");
                tell!("analyze: {input} was analysed before; named again, {tracks} changed");
                Some(film.summary)
            }
            Err(error) => {
                tell!("analyze: {input} is analysed again: {}", ui::causes(&error));
                None
            }
        }
    }
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

/// Works on all tasks, several in parallel, and stores the outcomes in their places.
fn work(
    batch: &Batch,
    analyzer: &Analyzer,
    tasks: Vec<(usize, Task)>,
    analyzed: &mut [AnalyzedInput],
) {
    let board = Board::new("analyze", tasks.len() as u64);
    let jobs = (batch.jobs as usize).min(tasks.len());
    let tasks = Mutex::new(tasks.into_iter());
    let analyzed = Mutex::new(analyzed);
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while !interrupt::requested() {
                    let next = tasks.lock().next();
                    let Some((place, task)) = next else { break };
                    let result = one(batch, analyzer, &task, &board);
                    analyzed.lock()[place].state = result;
                }
            });
        }
    });
}

/// Works on one task.
fn one(batch: &Batch, analyzer: &Analyzer, task: &Task, board: &Arc<Board>) -> InputState {
    let started = Instant::now();
    let input = &task.input;
    let shown = address::shown(&input.path);
    let label = Path::new(&shown).file_name().map(OsStr::to_string_lossy);
    let mut progress = board.input(&label.unwrap_or(shown.as_str().into()));
    let mut whole = || -> Result<Option<Headline>> {
        let output = OutputFolder::create(&batch.output.join(&task.name))?;
        let ended = analyzer.analyze(input, &task.marks, output.writable(), &mut progress)?;
        Ok(match ended {
            Ended::Whole(summary, complaints) => {
                for complaint in complaints.iter().chain(&summary.flaw) {
                    board.note(&format!("{shown}: {complaint}"));
                }
                Some(Headline::new(output.keep()?, *summary))
            }
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
            InputState::Done(done)
        }
        Ok(None) => InputState::Interrupted,
        Err(error) => {
            let error = address::redact(&ui::causes(&error));
            board.note(&format!("error: {error}"));
            InputState::Failed { error }
        }
    }
}
