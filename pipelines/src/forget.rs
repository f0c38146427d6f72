//! `facepipe forget`: a person removed from all that the program wrote.

mod find;
pub mod lines;
mod names;
mod results;
mod running;
mod writers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueHint;
use gstfacerecog::gallery::Gallery;
use serde::Serialize;

use crate::analyze::Lock;
use crate::gallery::{self, edit};
use crate::lock::FileLock;
use crate::output::Output;
use crate::record::UNKNOWN;
use crate::ui::{self, Progress};
use crate::{Outcome, interrupt};
use find::{Kind, Left, Why};
use names::Names;
use running::{Running, Told};

/// Files that are closed while others are edited are looked for so many times.
const MOST_ROUNDS: usize = 5;

const UNFINISHED: &str = "another facepipe is writing it, and may write the name; wait for it and do it \
                          again, or delete it if that was killed";

/// Remove a person from galleries, results and JSON lines
///
/// Looks through each PATH, folders with all that is in them, and removes the person from
///
///   galleries           rows and name
///   folders of results  (analyze) tracks, embeddings, pictures, names and faces; (cluster) tracks
///                       and the contact sheets that show them
///   JSON lines          (annotate, live; *.jsonl, also rotated) their faces, tracks and events
///
/// Tracks that were enrolled by `enroll --from-clusters` are found by the rows that came of them, if
/// that gallery is in a PATH. A `facepipe live` that runs with a gallery or an output in a PATH is told
/// first: it drops what it was to write, and what it writes afterwards is without the name, until the
/// person is enrolled again. Other streams that run with a gallery forget the person within a second.
///
/// What cannot be edited is listed: videos, reports, photos, and all else that still has the name.
/// Pictures cannot be looked into, and copies elsewhere, as in backups, are yours to find. Look at it
/// first with --dry-run.
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// Whom to forget, as written in the gallery
    person: String,

    /// Galleries, folders of results, files of JSON lines, or folders with such
    #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,

    /// The configuration of a `facepipe live` that runs, or ran, with these files; programs that leave
    /// their notes beside them are found without it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Print what was done as JSON
    #[arg(long)]
    json: bool,
}

/// What is gone of a file or a folder of results.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Rows of a gallery, embeddings of tracks.
    rows: u64,
    tracks: u64,
    /// Faces out of lines, and whole lines.
    faces: u64,
    lines: u64,
    pictures: u64,
}

impl Removed {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tracks += other.tracks;
        self.faces += other.faces;
        self.lines += other.lines;
        self.pictures += other.pictures;
    }
}

/// A file, or a folder of results, that the person was in.
#[derive(Serialize)]
struct Edited {
    path: PathBuf,
    #[serde(flatten)]
    removed: Removed,
}

/// A file that could not be edited.
#[derive(Serialize)]
struct Failed {
    path: PathBuf,
    error: String,
}

#[derive(Serialize)]
struct Report<'a> {
    person: &'a str,
    dry_run: bool,
    edited: Vec<Edited>,
    /// The running programs that forgot the person.
    running: Vec<Told>,
    /// What still has the name, or may show the face.
    left: Vec<Left>,
    /// Pictures below the paths that may show the face, or the name: they cannot be looked into.
    pictures: u64,
    failed: Vec<Failed>,
}

/// What is known on the way through the files.
pub struct Forgetting {
    person: String,
    dry_run: bool,
    /// The person's rows in all galleries.
    rows: Vec<Vec<f32>>,
    /// Everybody's names.
    names: BTreeSet<String>,
    /// The processes that see when a file is exchanged.
    writers: BTreeSet<u32>,
}

impl Forgetting {
    fn write_json(&self, path: &Path, document: &impl Serialize) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        let output = Output::replace(path)?;
        let text = serde_json::to_string_pretty(document)? + "\n";
        fs::write(output.writable(), text)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        output.keep().map(drop)
    }

    /// Removes the file `name` in `folder`, if it is there and not elsewhere. Whether it was.
    fn remove_file(&self, folder: &Path, name: &str) -> Result<bool> {
        let path = folder.join(name);
        let inside = Path::new(name)
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        if !inside || !path.is_file() {
            return Ok(false);
        }
        if !self.dry_run {
            fs::remove_file(&path)
                .with_context(|| format!("{} cannot be removed", path.display()))?;
        }
        Ok(true)
    }

    /// Remembers the person's rows in a gallery.
    fn learn(&mut self, gallery: &Gallery) {
        self.names.extend(gallery.people().iter().cloned());
        let rows = (0..gallery.len())
            .filter(|&row| gallery.person_name(gallery.person_of(row)) == self.person);
        self.rows
            .extend(rows.map(|row| gallery.embedding(row).into_owned()));
    }

    /// Removes the person from a gallery.
    fn gallery(&self, path: &Path) -> Result<Removed> {
        let _lock = match self.dry_run {
            true => None,
            false => Some(FileLock::take(path)?),
        };
        let gallery = Gallery::read_any_names(path)?;
        let mut removed = Removed::default();
        if gallery.people().contains(&self.person) {
            let left = edit::remove(&gallery, std::slice::from_ref(&self.person), &[])?;
            removed.rows = (gallery.len() - left.len()) as u64;
            if !self.dry_run {
                gallery::write(&left, path)?;
            }
        }
        Ok(removed)
    }
}

/// Fails for what is no person: everybody whom no gallery knows is called [`UNKNOWN`].
pub fn check_person(person: &str) -> Result<()> {
    ensure!(!person.trim().is_empty(), "the person's name is empty");
    ensure!(
        !person.trim().eq_ignore_ascii_case(UNKNOWN),
        "{person:?} is what all strangers are called, so they would all be removed; if a gallery has a \
         person of that name, use `facepipe gallery remove GALLERY {person:?}`"
    );
    Ok(())
}

pub fn run(args: &Args) -> Result<Outcome> {
    check_person(&args.person)?;
    let found = find::find(&args.paths)?;
    let mut forgetting = Forgetting {
        person: args.person.clone(),
        dry_run: args.dry_run,
        rows: Vec::new(),
        names: BTreeSet::new(),
        writers: BTreeSet::new(),
    };
    let mut report = Report {
        person: &args.person,
        dry_run: args.dry_run,
        edited: Vec::new(),
        running: Vec::new(),
        left: Vec::new(),
        pictures: 0,
        failed: Vec::new(),
    };
    let running = Running::find(
        &args.paths,
        &found,
        args.config.as_deref(),
        |path, error| {
            report.failed(path, error);
        },
    )?;
    let tell = |report: &mut Report| {
        let mut failed = Vec::new();
        let told = running.tell(&args.person, |path, error| {
            failed.push((path.to_owned(), format!("{error:#}")))
        });
        for (path, error) in failed {
            report.failed(&path, &anyhow::Error::msg(error));
        }
        told
    };
    if !args.dry_run {
        report.running = tell(&mut report);
    }
    let pids = report.running.iter().map(|told| told.pid);
    forgetting.writers.extend(pids);
    // What the programs wrote until then.
    let found = match report.running.is_empty() {
        true => found,
        false => find::find(&args.paths)?,
    };
    let files = |kind| {
        found
            .iter()
            .filter(move |(_, k)| *k == kind)
            .map(|(path, _)| path)
    };
    let total = found.len() as u64;
    let begin = Instant::now();
    let mut progress = None;
    let mut done = 0;
    let mut goes_on = || {
        done += 1;
        let elapsed = begin.elapsed();
        if elapsed.as_secs() >= 1 {
            progress
                .get_or_insert_with(|| Progress::new("forget", Some(total)))
                .update(done, &ui::steps_left(done, total, elapsed));
        }
        !interrupt::requested()
    };
    // Whom the tracks are is known by all galleries.
    for path in files(Kind::Gallery) {
        // One that cannot be read fails below.
        if let Ok(gallery) = Gallery::read_any_names(path) {
            forgetting.learn(&gallery);
        }
    }
    let mut whole = true;
    // By folder of inputs.
    let mut inputs: BTreeMap<PathBuf, BTreeMap<String, results::Forgotten>> = BTreeMap::new();
    let mut locks = Locks::default();
    for path in files(Kind::Results) {
        whole = whole && goes_on();
        if !whole {
            break;
        }
        let forgotten = place(path).and_then(|(folder, name)| {
            // A trial writes nothing, not even a lock.
            if !args.dry_run {
                locks.take(&folder)?;
            }
            let forgotten = results::input(path, &mut forgetting)?;
            Ok((folder, name, forgotten))
        });
        match forgotten {
            Ok((folder, name, forgotten)) => {
                report.edited(path, &forgotten.removed);
                inputs.entry(folder).or_default().insert(name, forgotten);
            }
            Err(error) => report.failed(path, &error),
        }
    }
    for path in files(Kind::Clusters) {
        whole = whole && goes_on();
        // A link to clusters elsewhere is found by the folder that those are in.
        let Ok((folder, _)) = place(path) else {
            continue;
        };
        if let Some(inputs) = inputs.get(&folder).filter(|_| whole) {
            match results::clusters(&folder, inputs, &mut forgetting) {
                Ok(removed) => report.edited(path, &removed),
                Err(error) => report.failed(path, &error),
            }
        }
    }
    let mut lines = files(Kind::Lines).cloned().collect::<BTreeSet<_>>();
    let mut done = BTreeSet::new();
    for _ in 0..MOST_ROUNDS {
        for path in &lines {
            whole = whole && goes_on();
            if whole {
                match lines::file(path, &mut forgetting) {
                    Ok(removed) => report.edited(path, &removed),
                    // It was closed and has another name now.
                    Err(_) if !path.exists() => {}
                    Err(error) => report.failed(path, &error),
                }
            }
        }
        done.append(&mut lines);
        if report.running.is_empty() || !whole {
            break;
        }
        let found = find::find(&args.paths)?.into_iter();
        let found = found.filter(|(path, kind)| *kind == Kind::Lines && !done.contains(path));
        lines.extend(found.map(|(path, _)| path));
    }
    // Last, so that what was interrupted knows the rows when it is done again.
    for path in files(Kind::Gallery) {
        whole = whole && goes_on();
        if whole {
            match forgetting.gallery(path) {
                Ok(removed) => report.edited(path, &removed),
                Err(error) => report.failed(path, &error),
            }
        }
    }
    drop(progress);
    if !whole {
        tell!("forget: stopped by Ctrl-C, not all is done; every file is whole");
        return Ok(Outcome::Interrupted);
    }
    // What was being written may be whole by now.
    for path in files(Kind::Unfinished).filter(|path| path.exists()) {
        report.failed(path, &anyhow::anyhow!(UNFINISHED));
    }
    if !report.running.is_empty() {
        // They see the galleries without the person, so that they know it when the name is enrolled again.
        tell(&mut report);
    }
    let names = Names::new(&args.person, &forgetting.names);
    (report.left, report.pictures) = find::left(
        &args.paths,
        &args.person,
        &names,
        args.dry_run,
        &report.edited,
    )?;
    report.left_galleries(&names);
    if report.edited.is_empty()
        && report.failed.is_empty()
        && !report.left.iter().any(Left::has_name)
    {
        let names: Vec<String> = forgetting.names.into_iter().collect();
        let near = match edit::near(&names, &args.person) {
            near if near.is_empty() => String::new(),
            near => format!("; similar: {}", near.join(", ")),
        };
        anyhow::bail!("nobody is called {:?} in there{near}", args.person);
    }
    report.print(args.json)
}

/// The folder that a file or folder is in, and its name there, whatever path leads to it.
fn place(path: &Path) -> Result<(PathBuf, String)> {
    let unreadable = || format!("{} cannot be read", path.display());
    let real = fs::canonicalize(path).with_context(unreadable)?;
    let folder = real.parent().with_context(unreadable)?;
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    Ok((folder.to_owned(), name.into_owned()))
}

/// Keep runs of `facepipe analyze` out of folders of results; by their canonical paths, with why one
/// could not be had.
#[derive(Default)]
struct Locks(BTreeMap<PathBuf, Result<Lock, String>>);

impl Locks {
    /// Takes the lock of a folder, once: who waited in vain does not wait again.
    fn take(&mut self, folder: &Path) -> Result<()> {
        let lock = self.0.entry(folder.to_owned()).or_insert_with(|| {
            let lock = Lock::take(folder);
            lock.map_err(|error| format!("{error:#}"))
        });
        lock.as_ref().map(drop).map_err(|error| anyhow!("{error}"))
    }
}

impl Report<'_> {
    fn edited(&mut self, path: &Path, removed: &Removed) {
        if *removed != Removed::default() {
            self.edited.push(Edited {
                path: path.to_owned(),
                removed: removed.clone(),
            });
        }
    }

    fn failed(&mut self, path: &Path, error: &anyhow::Error) {
        self.failed.push(Failed {
            path: path.to_owned(),
            error: format!("{error:#}"),
        });
    }

    /// Lists the galleries elsewhere by which running programs know the person.
    fn left_galleries(&mut self, names: &Names) {
        let galleries = self.running.iter().flat_map(|told| &told.galleries);
        let listed = |path: &PathBuf| {
            let mut left = self.left.iter();
            left.any(|left| crate::output::same_file(&left.path, path))
        };
        let left: BTreeSet<PathBuf> = galleries
            .filter(|path| names.are_in(path) && !listed(path))
            .cloned()
            .collect();
        self.left.extend(left.into_iter().map(|path| Left {
            path,
            why: Why::HasName,
        }));
    }

    fn print(&self, json: bool) -> Result<Outcome> {
        let text = match json {
            true => serde_json::to_string_pretty(self)? + "\n",
            false => self.readable(),
        };
        ui::print(&text)?;
        for failed in &self.failed {
            let path = failed.path.display().to_string();
            match failed.error.starts_with(&path) {
                true => tell!("forget: {}", failed.error),
                false => tell!("forget: {path}: {}", failed.error),
            }
        }
        let clean = self.failed.is_empty() && !self.left.iter().any(Left::has_name);
        Ok(match clean {
            true => Outcome::Done,
            false => Outcome::Incomplete,
        })
    }

    fn readable(&self) -> String {
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
        for edited in &self.edited {
            rows.push(row(edited.path.display().to_string(), &edited.removed));
            sum.add(&edited.removed);
        }
        let places = ui::count(self.edited.len() as u64, "place");
        rows.push(row(places, &sum));
        let mut text = match self.edited.is_empty() {
            true => String::new(),
            false => ui::table(&rows),
        };
        if self.dry_run {
            text += "nothing was changed: --dry-run\n";
        }
        for told in &self.running {
            text += &format!(
                "told the running `facepipe live` of {}: {}\n",
                told.state.display(),
                told.cameras.join(", ")
            );
        }
        for (heading, left) in find::headed(&self.left) {
            text += &format!("\n{heading}:\n");
            for left in left {
                text += &format!("  {}\n", left.path.display());
            }
        }
        let here = match self.pictures {
            0 => String::new(),
            pictures => format!(" ({} in there)", ui::count(pictures, "picture")),
        };
        text += &format!(
            "\npictures cannot be looked into{here}: annotated ones, and copies of photos under other \
             names, may show the face or the name; so may copies elsewhere\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_by_every_path_and_its_lock_refused_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("there");
        fs::create_dir_all(root.join("out/a")).expect("writable");
        for path in ["out/a", "out/./a", "out/a/.", "out/a/../a"] {
            let found = place(&root.join(path)).expect("there");
            assert_eq!(found, (root.join("out"), "a".into()));
        }
        let path = root.join("results");
        fs::write(&path, "no folder").expect("writable");
        let mut locks = Locks::default();
        let mut refused = || format!("{:#}", locks.take(&path).expect_err("refused"));
        let first = refused();
        assert!(first.contains("results"), "{first}");
        fs::remove_file(&path).expect("there");
        assert_eq!(refused(), first, "it is not tried again");
    }
}
