//! Gives analysed inputs the names of a changed gallery, from the stored embeddings of their tracks, and
//! keeps names from tracks.

pub mod bars;
mod film;
mod target;
pub mod tracks;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use face_core::file::sha256_of;
use face_gallery::Gallery;
use face_parts::{interrupt, ui};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::analyze::Lock;
use crate::analyze::naming::Smoothing;
use crate::analyze::people::MainPersons;
use crate::enroll::visible_entries;

use bars::{Bar, Bars};
pub use film::{Change, Film, Loaded, Source};
pub use target::Target;

/// Where the names in a summary come from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NamedBy {
    /// `None` if nobody was to be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gallery: Option<NamedGallery>,
    #[serde(default)]
    pub smoothing: Smoothing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub false_name_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distance_threshold: Option<f64>,
    #[serde(default)]
    pub repeated_names: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_persons: Option<MainPersons>,
    /// Changes with the names that tracks must not get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bars: Option<String>,
}

/// The gallery that gave names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NamedGallery {
    /// Absolute.
    pub path: PathBuf,
    pub sha256: String,
}

/// Equal if the content is.
impl PartialEq for NamedGallery {
    fn eq(&self, other: &Self) -> bool {
        self.sha256 == other.sha256
    }
}

impl NamedGallery {
    pub fn of(path: &Path) -> Result<Self> {
        Ok(Self {
            path: std::path::absolute(path)?,
            sha256: sha256_of(path)?.1,
        })
    }
}

/// What to name, and how. Options that are `None` are those of the analysis.
#[derive(Debug, Default)]
pub struct Renaming<'a> {
    /// Folders of results.
    pub folders: &'a [PathBuf],
    /// `None` uses the gallery that named an input last.
    pub gallery: Option<&'a Path>,
    pub false_name_rate: Option<f64>,
    pub distance_threshold: Option<f64>,
    pub repeated_names: bool,
    /// Names to keep from tracks.
    pub not: &'a [Target],
    /// Names to allow again.
    pub allow: &'a [Target],
    /// Write nothing.
    pub dry_run: bool,
}

/// The names that have changed.
#[derive(Debug, Default, Serialize)]
pub struct Renamed {
    /// All inputs and tracks that were named.
    pub inputs: usize,
    pub tracks: usize,
    /// Inputs in which a name has changed.
    pub changed_inputs: usize,
    pub changes: Vec<FolderChange>,
    /// Inputs that could not be named, with the reasons.
    pub left_out: Vec<LeftOut>,
    pub dry_run: bool,
    /// Ctrl-C came before the end.
    pub interrupted: bool,
}

#[derive(Debug, Serialize)]
pub struct FolderChange {
    /// The folder of results.
    pub results: PathBuf,
    #[serde(flatten)]
    pub change: Change,
}

#[derive(Debug, Serialize)]
pub struct LeftOut {
    /// The input's folder.
    pub path: PathBuf,
    pub error: String,
}

/// Names everything again. Inputs that cannot be named are left out.
///
/// # Errors
/// If there are no results, a gallery cannot be read, or a target does not exist; then nothing was written.
pub fn rename(renaming: &Renaming) -> Result<Renamed> {
    let mut renamed = Renamed {
        dry_run: renaming.dry_run,
        ..Renamed::default()
    };
    for folder in renaming.folders {
        check_folder(folder)?;
    }
    let chosen = distinct(renaming.folders)?;
    let mut locks = Vec::new();
    if !renaming.dry_run {
        // In one order, so that two programs never wait for each other.
        let mut sorted = chosen
            .iter()
            .map(std::fs::canonicalize)
            .collect::<Result<Vec<_>, _>>()?;
        sorted.sort();
        for folder in &sorted {
            locks.push(Lock::take(folder)?);
        }
    }
    let given = renaming.gallery.map(load).transpose()?;
    let mut folders = Vec::new();
    for folder in &chosen {
        folders.push(read(folder, &mut renamed)?);
    }
    let changed = target::change(&mut folders, renaming.not, renaming.allow)?;
    // Those that inputs remember, read once each.
    let mut known: BTreeMap<PathBuf, Result<Loaded, String>> = BTreeMap::new();
    if given.is_none() {
        let films = folders.iter().flat_map(|folder| &folder.films);
        let paths =
            films.filter_map(|film| Some(&film.summary.naming.as_ref()?.gallery.as_ref()?.path));
        for path in paths {
            if !known.contains_key(path) {
                let loaded = load(path).map_err(|error| ui::causes(&error));
                known.insert(path.clone(), loaded);
            }
        }
        ensure!(
            !known.is_empty() || changed > 0,
            "the results were analysed without a gallery; name one with --gallery"
        );
    }
    for mut folder in folders {
        let writes = !renaming.dry_run && folder.bars_changed;
        let (path, named) = (folder.path.clone(), renamed.inputs);
        let before = writes.then(|| Bars::read(&path)).transpose()?;
        if writes {
            // First, so that an interrupted command has at least kept what the user said.
            folder.bars.write(&path)?;
        }
        name_folder(folder, renaming, given.as_ref(), &known, &mut renamed);
        if let Some(mut before) = before
            && renamed.inputs == named
            && !renamed.interrupted
        {
            // A command that fails writes nothing.
            before.write(&path)?;
        }
    }
    drop(locks);
    Ok(renamed)
}

/// Reads the bars of the folders: each with the folder.
pub fn barred(folders: &[PathBuf]) -> Result<Vec<(PathBuf, Bar)>> {
    let mut found = Vec::new();
    for folder in folders {
        check_folder(folder)?;
        let bars = Bars::read(folder)?.bars.into_iter();
        found.extend(bars.map(|bar| (folder.clone(), bar)));
    }
    Ok(found)
}

/// A folder of results.
pub(crate) struct Folder {
    path: PathBuf,
    films: Vec<Film>,
    bars: Bars,
    bars_changed: bool,
}

/// The folders without those that were named twice, in order.
pub(crate) fn distinct(folders: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut known = BTreeSet::new();
    let mut left = Vec::new();
    for folder in folders {
        let place = std::fs::canonicalize(folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        if known.insert(place) {
            left.push(folder.clone());
        }
    }
    Ok(left)
}

fn check_folder(folder: &Path) -> Result<()> {
    ensure!(
        folder.is_dir(),
        "{} is not a folder; name the one that `facepipe analyze -o` has written into",
        folder.display()
    );
    Ok(())
}

fn load(path: &Path) -> Result<Loaded> {
    // In this order: if somebody replaces the file in between, it counts as changed.
    let named = NamedGallery::of(path)?;
    Ok(Loaded {
        gallery: Gallery::read(path)?,
        named,
    })
}

fn read(folder: &Path, renamed: &mut Renamed) -> Result<Folder> {
    let entries = visible_entries(folder)?.into_iter();
    let inputs: Vec<PathBuf> = entries
        .filter(|path| path.join("summary.json").is_file())
        .collect();
    ensure!(
        !inputs.is_empty(),
        "there are no results of `facepipe analyze` in {}",
        folder.display()
    );
    let mut films = Vec::new();
    for (path, film) in parallel(inputs, |path| (path.clone(), Film::read(path))) {
        match film {
            Ok(film) => films.push(film),
            Err(error) => renamed.left_out.push(LeftOut {
                path,
                error: ui::causes(&error),
            }),
        }
    }
    Ok(Folder {
        path: folder.to_owned(),
        films,
        bars: Bars::read(folder)?,
        bars_changed: false,
    })
}

/// Names the inputs of a folder, several in parallel.
fn name_folder(
    folder: Folder,
    renaming: &Renaming,
    given: Option<&Loaded>,
    known: &BTreeMap<PathBuf, Result<Loaded, String>>,
    renamed: &mut Renamed,
) {
    let bars = &folder.bars;
    let outcomes = parallel(folder.films, |mut film| {
        if interrupt::requested() {
            return (film.folder, None);
        }
        let outcome = one(&mut film, renaming, given, known, bars);
        let outcome = outcome.map(|changes| (film.summary.tracks.len(), changes));
        (film.folder, Some(outcome))
    });
    for (path, outcome) in outcomes {
        match outcome {
            None => renamed.interrupted = true,
            Some(Ok((tracks, changes))) => {
                renamed.inputs += 1;
                renamed.tracks += tracks;
                renamed.changed_inputs += usize::from(!changes.is_empty());
                let changes = changes.into_iter().map(|change| FolderChange {
                    results: folder.path.clone(),
                    change,
                });
                renamed.changes.extend(changes);
            }
            Some(Err(error)) => renamed.left_out.push(LeftOut {
                path,
                error: ui::causes(&error),
            }),
        }
    }
}

fn one(
    film: &mut Film,
    renaming: &Renaming,
    given: Option<&Loaded>,
    known: &BTreeMap<PathBuf, Result<Loaded, String>>,
    bars: &Bars,
) -> Result<Vec<Change>> {
    let mut naming = film.summary.naming.clone().unwrap_or_default();
    let remembered = naming.gallery.as_ref().and_then(|g| known.get(&g.path));
    let gallery = match (given, remembered) {
        (Some(given), _) => Some(given.source()),
        (None, Some(Ok(loaded))) => Some(loaded.source()),
        (None, Some(Err(error))) => bail!(
            "its gallery is needed to choose other names, but {error}; name one with --gallery"
        ),
        (None, None) => None,
    };
    if renaming.false_name_rate.is_some() || renaming.distance_threshold.is_some() {
        naming.false_name_rate = renaming.false_name_rate;
        naming.distance_threshold = renaming.distance_threshold;
    }
    naming.repeated_names |= renaming.repeated_names;
    film.rename(&naming, gallery, bars, renaming.dry_run)
}

/// Calls `work` for each item, on all cores. The results are in the order of the items.
fn parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let jobs = thread::available_parallelism().map_or(1, NonZero::get);
    let jobs = jobs.min(items.len());
    let items = Mutex::new(items.into_iter().enumerate());
    let results = Mutex::new(HashMap::new());
    let next = || items.lock().next();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some((place, item)) = next() {
                    let result = work(item);
                    results.lock().insert(place, result);
                }
            });
        }
    });
    let mut results: Vec<(usize, R)> = results.into_inner().into_iter().collect();
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}
