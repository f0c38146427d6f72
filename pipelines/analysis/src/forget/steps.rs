//! Goes through everything that may contain a person, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use face_core::model::Model;
use face_gallery::Gallery;
use face_gallery::vote::Rule;
use face_live::control;
use face_live::strangers::file as strangers;
use face_parts::lock::FileLock;
use face_parts::output;
use face_parts::ui::{self, DelayedProgress};
use serde::Serialize;

use super::find::{self, Kind, Left, Why};
use super::names::Names;
use super::results::{self, ForgottenInput};
use super::running::{Running, Told};
use super::{Edited, Forgetting, Removed, lines};
use crate::analyze::Lock;
use crate::search;

/// How often to look for files that were closed while others were edited.
const MOST_ROUNDS: usize = 5;

const UNFINISHED: &str = "another facepipe is writing it, and may write the name; wait for it and try \
                          again, or delete it if that facepipe was killed";

/// Whom to forget, and where.
pub struct Whereabouts<'a> {
    /// In any Unicode form.
    pub person: &'a str,
    /// Galleries, folders of results, files of JSON lines, or folders with any of these.
    pub paths: &'a [PathBuf],
    /// The configuration of a `facepipe live` that uses these files. Programs that leave their
    /// notes next to them are found without it.
    pub config: Option<&'a Path>,
    /// Change nothing.
    pub dry_run: bool,
}

/// What was removed, and what is left.
#[derive(Serialize)]
pub struct ForgottenPerson {
    pub person: String,
    pub dry_run: bool,
    pub edited: Vec<Edited>,
    /// The running programs that forgot the person.
    pub running: Vec<Told>,
    /// Files that still contain the name or may show the face.
    pub left: Vec<Left>,
    /// Pictures below the paths that may show the face or the name. Their content cannot be checked.
    pub pictures: u64,
    pub failed: Vec<FailedFile>,
}

/// A file that could not be edited.
#[derive(Serialize)]
pub struct FailedFile {
    pub path: PathBuf,
    pub error: String,
}

impl ForgottenPerson {
    /// Whether nothing contains the name any more.
    pub fn is_complete(&self) -> bool {
        self.failed.is_empty() && !self.left.iter().any(Left::has_name)
    }

    fn edited(&mut self, path: &Path, removed: &Removed) {
        if *removed != Removed::default() {
            self.edited.push(Edited {
                path: path.to_owned(),
                removed: removed.clone(),
            });
        }
    }

    fn failed(&mut self, path: &Path, error: &anyhow::Error) {
        self.failed.push(FailedFile {
            path: path.to_owned(),
            error: ui::causes(error),
        });
    }

    fn note(&mut self, path: &Path, removed: Result<Removed>) {
        match removed {
            Ok(removed) => self.edited(path, &removed),
            Err(error) => self.failed(path, &error),
        }
    }
}

/// Removes a person from everything that can be edited. `None` if Ctrl-C came in between: then not
/// all is done, but every file is intact. Fails if the name is nowhere.
pub fn forget(whereabouts: &Whereabouts) -> Result<Option<ForgottenPerson>> {
    control::check_person(whereabouts.person)?;
    let whereabouts = Whereabouts {
        person: &face_meta::names::normal(whereabouts.person),
        ..*whereabouts
    };
    let mut walk = Walk::begin(&whereabouts)?;
    let mut progress = DelayedProgress::new("forget", Some(walk.found.len() as u64));
    let mut done = 0;
    let mut goes_on = || {
        done += 1;
        progress.goes_on(done)
    };
    walk.learn_galleries();
    let whole = walk.remove_indexes(&mut goes_on)
        && walk.edit_results(&mut goes_on)
        && walk.edit_clusters(&mut goes_on)
        && walk.edit_bars(&mut goes_on)
        && walk.edit_lines(&mut goes_on)?
        && walk.edit_strangers(&mut goes_on)
        && walk.edit_galleries(&mut goes_on);
    drop(progress);
    if !whole {
        return Ok(None);
    }
    walk.note_unfinished();
    if !walk.report.running.is_empty() {
        // They then see the galleries without the person, which tells them later that the name was
        // enrolled again.
        walk.tell_running();
    }
    walk.end().map(Some)
}

/// A removal under way. `goes_on` is called before each file; steps that it stops return `false`.
struct Walk<'a> {
    whereabouts: &'a Whereabouts<'a>,
    found: Vec<(PathBuf, Kind)>,
    running: Running,
    forgetting: Forgetting,
    locks: FolderLocks,
    /// The outcomes of the inputs, by the folders that contain them.
    inputs: BTreeMap<PathBuf, BTreeMap<String, ForgottenInput>>,
    report: ForgottenPerson,
}

impl<'a> Walk<'a> {
    /// Finds the files, and tells the running programs.
    fn begin(whereabouts: &'a Whereabouts) -> Result<Self> {
        let Whereabouts {
            person,
            paths,
            config,
            dry_run,
        } = *whereabouts;
        let found = find::find(paths)?;
        let mut report = ForgottenPerson {
            person: person.to_owned(),
            dry_run,
            edited: Vec::new(),
            running: Vec::new(),
            left: Vec::new(),
            pictures: 0,
            failed: Vec::new(),
        };
        let running = Running::find(paths, &found, config, |path, error| {
            report.failed(path, error);
        })?;
        let forgetting = Forgetting {
            person: person.to_owned(),
            dry_run,
            rows: Vec::new(),
            names: BTreeSet::new(),
            writers: BTreeSet::new(),
        };
        let mut walk = Self {
            whereabouts,
            found,
            running,
            forgetting,
            locks: FolderLocks::default(),
            inputs: BTreeMap::new(),
            report,
        };
        if !dry_run {
            walk.report.running = walk.tell_running();
        }
        let pids = walk.report.running.iter().map(|told| told.pid);
        walk.forgetting.writers.extend(pids);
        if !walk.report.running.is_empty() {
            // Includes what the programs wrote until then.
            walk.found = find::find(paths)?;
        }
        Ok(walk)
    }

    fn tell_running(&mut self) -> Vec<Told> {
        let Self {
            whereabouts,
            running,
            report,
            ..
        } = self;
        running.tell(whereabouts.person, |path, error| report.failed(path, error))
    }

    fn files(&self, kind: Kind) -> Vec<PathBuf> {
        let files = self.found.iter().filter(|(_, k)| *k == kind);
        files.map(|(path, _)| path.clone()).collect()
    }

    /// Collects the person's rows and all names from all galleries.
    fn learn_galleries(&mut self) {
        for path in self.files(Kind::Gallery) {
            // An unreadable gallery fails when it is edited.
            if let Ok(gallery) = Gallery::read_any_names(&path) {
                self.forgetting.learn(&gallery);
            }
        }
    }

    fn edit_results(&mut self, goes_on: &mut impl FnMut() -> bool) -> bool {
        for path in self.files(Kind::Results) {
            if !goes_on() {
                return false;
            }
            match self.edit_input(&path) {
                Ok(removed) => self.report.edited(&path, &removed),
                Err(error) => self.report.failed(&path, &error),
            }
        }
        true
    }

    fn edit_input(&mut self, path: &Path) -> Result<Removed> {
        let (folder, name) = place(path)?;
        // A dry run writes nothing, not even a lock.
        if !self.whereabouts.dry_run {
            self.locks.take(&folder)?;
        }
        // Before, because an interrupted run leaves nothing by which the next one would find the person
        // in the index. It may also have inputs that were deleted.
        self.remove_index(&folder)?;
        let forgotten = results::input(path, &mut self.forgetting)?;
        let removed = forgotten.removed.clone();
        if removed != Removed::default() {
            // A search may have made it again meanwhile.
            self.remove_index(&folder)?;
        }
        self.inputs
            .entry(folder)
            .or_default()
            .insert(name, forgotten);
        Ok(removed)
    }

    /// Removes the index of a folder of results. The next search makes it again. Its lock keeps a search
    /// from writing what it has read before.
    fn remove_index(&self, folder: &Path) -> Result<()> {
        let index = folder.join(search::FILE);
        if !self.whereabouts.dry_run && index.is_file() {
            let _lock = FileLock::take(&index)?;
            self.forgetting.remove_file(folder, search::FILE)?;
        }
        Ok(())
    }

    /// Also those of folders whose inputs were all deleted.
    fn remove_indexes(&mut self, goes_on: &mut impl FnMut() -> bool) -> bool {
        for path in self.files(Kind::Index) {
            if !goes_on() {
                return false;
            }
            if let Err(error) = self.remove_index(path.parent().unwrap_or(Path::new("."))) {
                self.report.failed(&path, &error);
            }
        }
        true
    }

    fn edit_clusters(&mut self, goes_on: &mut impl FnMut() -> bool) -> bool {
        for path in self.files(Kind::Clusters) {
            if !goes_on() {
                return false;
            }
            // A link to clusters elsewhere is found through their folder.
            let Ok((folder, _)) = place(&path) else {
                continue;
            };
            if let Some(inputs) = self.inputs.get(&folder) {
                let removed = results::clusters(&folder, inputs, &mut self.forgetting);
                self.report.note(&path, removed);
            }
        }
        true
    }

    fn edit_bars(&mut self, goes_on: &mut impl FnMut() -> bool) -> bool {
        for path in self.files(Kind::Bars) {
            if !goes_on() {
                return false;
            }
            let removed = self.edit_bars_at(&path);
            self.report.note(&path, removed);
        }
        true
    }

    fn edit_bars_at(&mut self, path: &Path) -> Result<Removed> {
        let (folder, _) = place(path)?;
        if !self.whereabouts.dry_run {
            self.locks.take(&folder)?;
        }
        let none = BTreeMap::new();
        let inputs = self.inputs.get(&folder).unwrap_or(&none);
        results::bars(&folder, inputs, &self.forgetting)
    }

    /// Files that running programs close meanwhile have new names, so this repeats until there are
    /// no more.
    fn edit_lines(&mut self, goes_on: &mut impl FnMut() -> bool) -> Result<bool> {
        let mut new: BTreeSet<PathBuf> = self.files(Kind::Lines).into_iter().collect();
        let mut done = BTreeSet::new();
        for _ in 0..MOST_ROUNDS {
            for path in &new {
                if !goes_on() {
                    return Ok(false);
                }
                match lines::file(path, &mut self.forgetting) {
                    // It was closed and has another name now.
                    Err(_) if !path.exists() => {}
                    removed => self.report.note(path, removed),
                }
            }
            done.append(&mut new);
            if self.report.running.is_empty() {
                break;
            }
            let found = find::find(self.whereabouts.paths)?.into_iter();
            let found = found.filter(|(path, kind)| *kind == Kind::Lines && !done.contains(path));
            new.extend(found.map(|(path, _)| path));
        }
        Ok(true)
    }

    /// Somebody may have been a stranger before they were enrolled: the galleries tell.
    fn edit_strangers(&mut self, goes_on: &mut impl FnMut() -> bool) -> bool {
        let files = self.files(Kind::Strangers);
        let galleries = match files.is_empty() {
            true => Vec::new(),
            false => self.galleries(),
        };
        for path in files {
            if !goes_on() {
                return false;
            }
            let Whereabouts {
                person, dry_run, ..
            } = *self.whereabouts;
            let removed = strangers::forget(&path, person, &galleries, dry_run);
            let removed = removed.map(|rows| Removed {
                rows: rows as u64,
                ..Removed::default()
            });
            self.report.note(&path, removed);
        }
        true
    }

    /// The galleries that can be read, with the rule for their models.
    fn galleries(&self) -> Vec<(Gallery, Rule)> {
        let read = |path: &PathBuf| {
            let gallery = Gallery::read_any_names(path).ok()?;
            let model = Model::find(&gallery.model.name).ok()?;
            Some((gallery, Rule::of(&model.descriptor)))
        };
        self.files(Kind::Gallery).iter().filter_map(read).collect()
    }

    /// Last, so that a repeated run after an interruption still knows the rows.
    fn edit_galleries(&mut self, goes_on: &mut impl FnMut() -> bool) -> bool {
        for path in self.files(Kind::Gallery) {
            if !goes_on() {
                return false;
            }
            self.report.note(&path, self.forgetting.gallery(&path));
        }
        true
    }

    /// Unfinished files may be complete by now.
    fn note_unfinished(&mut self) {
        for path in self.files(Kind::Unfinished) {
            if path.exists() {
                self.report.failed(&path, &anyhow!(UNFINISHED));
            }
        }
    }

    /// Looks for what is left.
    fn end(mut self) -> Result<ForgottenPerson> {
        let Whereabouts {
            person,
            paths,
            dry_run,
            ..
        } = *self.whereabouts;
        let report = &mut self.report;
        let names = Names::new(person, &self.forgetting.names);
        (report.left, report.pictures) =
            find::left(paths, person, &names, dry_run, &report.edited)?;
        let elsewhere = galleries_elsewhere(report, &names);
        report.left.extend(elsewhere);
        if report.edited.is_empty() && report.is_complete() {
            let names: Vec<String> = self.forgetting.names.into_iter().collect();
            let near = match face_meta::names::near(&names, person) {
                near if near.is_empty() => String::new(),
                near => format!("; similar: {}", near.join(", ")),
            };
            anyhow::bail!("nobody there is called {person:?}{near}");
        }
        Ok(self.report)
    }
}

/// The galleries outside the paths from which running programs know the person.
fn galleries_elsewhere(report: &ForgottenPerson, names: &Names) -> Vec<Left> {
    let galleries = report.running.iter().flat_map(|told| &told.galleries);
    let listed = |path: &PathBuf| {
        let mut left = report.left.iter();
        left.any(|left| output::same_file(&left.path, path))
    };
    let left: BTreeSet<PathBuf> = galleries
        .filter(|path| names.are_in(path) && !listed(path))
        .cloned()
        .collect();
    let why = Why::HasName;
    left.into_iter().map(|path| Left { path, why }).collect()
}

/// The folder of a file or folder and its name there, whatever path leads to it.
fn place(path: &Path) -> Result<(PathBuf, String)> {
    let unreadable = || format!("{} cannot be read", path.display());
    let real = fs::canonicalize(path).with_context(unreadable)?;
    let folder = real.parent().with_context(unreadable)?;
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    Ok((folder.to_owned(), name.into_owned()))
}

/// Locks that keep `facepipe analyze` out of folders of results. By their canonical paths, with the
/// reason if a lock is not available.
#[derive(Default)]
struct FolderLocks(BTreeMap<PathBuf, Result<Lock, String>>);

impl FolderLocks {
    /// Takes the lock of a folder, once: after a timeout it does not wait again.
    fn take(&mut self, folder: &Path) -> Result<()> {
        let lock = self.0.entry(folder.to_owned()).or_insert_with(|| {
            let lock = Lock::take(folder);
            lock.map_err(|error| ui::causes(&error))
        });
        lock.as_ref().map(drop).map_err(|error| anyhow!("{error}"))
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
        let mut locks = FolderLocks::default();
        let mut refused = || format!("{:#}", locks.take(&path).expect_err("refused"));
        let first = refused();
        assert!(first.contains("results"), "{first}");
        fs::remove_file(&path).expect("there");
        assert_eq!(refused(), first, "it is not tried again");
    }
}
