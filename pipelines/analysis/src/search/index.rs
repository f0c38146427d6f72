//! The index of a folder of results: an archive of the embeddings of all its tracks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufWriter;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use face_gallery::ModelId;
use face_gallery::archive::{Archive, BatchRef, Writer};
use face_gallery::evidence::{Embedded, Mean};
use face_parts::lock::FileLock;
use face_parts::output::Output;
use face_parts::tell;

use crate::cluster::Embeddings;
use crate::enroll::visible_entries;

/// The file in a folder of results.
pub const FILE: &str = "search.index";

/// If the index has more unused rows than used ones, and more than this, it is recreated.
const MOST_UNUSED: usize = 1000;

/// How many films are read before they are written.
const AT_ONCE: usize = 64;

/// An index that is up to date.
pub struct Shelf {
    pub folder: PathBuf,
    pub archive: Archive,
    /// Where the archive is, if it cannot be beside the results.
    _temporary: Option<tempfile::TempPath>,
}

impl Shelf {
    /// The folder of a film.
    pub fn film(&self, batch: usize) -> PathBuf {
        self.folder.join(&self.archive.batches()[batch].label)
    }
}

/// The folders of films, and what tells whether their embeddings have changed.
pub fn films(results: &Path) -> Result<BTreeMap<String, String>> {
    let mut films = BTreeMap::new();
    for path in visible_entries(results)? {
        let embeddings = std::fs::metadata(path.join("tracks.safetensors"));
        let (Some(name), Ok(data)) = (path.file_name().and_then(|n| n.to_str()), embeddings) else {
            continue;
        };
        if path.join("summary.json").is_file() {
            let stamp = format!("{} {} {}", data.size(), data.mtime(), data.mtime_nsec());
            films.insert(name.to_owned(), stamp);
        }
    }
    Ok(films)
}

/// Opens the index of a folder, and adds the films that it lacks. `problems` gets the films that cannot
/// be read.
pub fn open(results: &Path, problems: &mut Vec<String>) -> Result<Shelf> {
    let films = films(results)?;
    if films.is_empty() {
        bail!(
            "there are no results of `facepipe analyze` in {}",
            results.display()
        );
    }
    let path = results.join(FILE);
    let shelf = |archive, temporary| Shelf {
        folder: results.to_owned(),
        archive,
        _temporary: temporary,
    };
    if let Some(archive) = usable(&path, &films)
        && is_complete(&archive, &films)
    {
        return Ok(shelf(archive, None));
    }
    match update(&path, results, &films, problems) {
        Ok(archive) => Ok(shelf(archive, None)),
        Err(error) if is_read_only(&error) => {
            let file = tempfile::NamedTempFile::new().context("a temporary index")?;
            let temporary = file.into_temp_path();
            let archive = rebuild(&temporary, results, &films, problems)?;
            Ok(shelf(archive, Some(temporary)))
        }
        Err(error) => Err(error),
    }
}

/// Adds the films that the index of a folder lacks, if it has one.
pub fn bring_up_to_date(results: &Path) -> Result<()> {
    if !results.join(FILE).exists() {
        return Ok(());
    }
    let mut problems = Vec::new();
    open(results, &mut problems).map(drop)
}

fn is_read_only(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem
        )
    })
}

/// The index with only the rows of films as they are now. `None` if there is none, or it is damaged.
fn usable(path: &Path, films: &BTreeMap<String, String>) -> Option<Archive> {
    if !path.exists() {
        return None;
    }
    match Archive::open(path) {
        Ok(mut archive) => {
            let last: BTreeMap<String, usize> = archive
                .batches()
                .iter()
                .enumerate()
                .map(|(i, batch)| (batch.label.clone(), i))
                .collect();
            archive.retain(|i, batch| {
                films.get(&batch.label) == Some(&batch.stamp) && last[&batch.label] == i
            });
            Some(archive)
        }
        Err(error) => {
            tell!("search: {error}; it is made again");
            None
        }
    }
}

/// Whether the index has all films.
fn is_complete(archive: &Archive, films: &BTreeMap<String, String>) -> bool {
    archive.batches().len() == films.len() && archive.unused() <= archive.len().max(MOST_UNUSED)
}

fn update(
    path: &Path,
    results: &Path,
    films: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> Result<Archive> {
    let _lock = FileLock::take(path)?;
    // Somebody else may have done it meanwhile.
    let Some(mut archive) = usable(path, films) else {
        return rebuild(path, results, films, problems);
    };
    if archive.unused() > archive.len().max(MOST_UNUSED) {
        return rebuild(path, results, films, problems);
    }
    let known: BTreeSet<&str> = archive.batches().iter().map(|b| b.label.as_str()).collect();
    let missing: Vec<String> = films
        .keys()
        .filter(|film| !known.contains(film.as_str()))
        .cloned()
        .collect();
    for some in missing.chunks(AT_ONCE) {
        let read = some
            .iter()
            .filter_map(|film| film_of(results, film, films, problems));
        let read: Vec<Film> = read.collect();
        if let Some(other) = read.iter().find(|film| !film.fits(&archive)) {
            // Films of another model than the index: those that are there decide.
            tell!(
                "search: {} was analysed with another model than the index; it is made again",
                other.label
            );
            return rebuild(path, results, films, problems);
        }
        let batches: Vec<BatchRef> = read.iter().map(Film::batch).collect();
        archive
            .append(path, &batches)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    usable(path, films).with_context(|| format!("{} cannot be read", path.display()))
}

/// The tracks of a film.
struct Film {
    label: String,
    stamp: String,
    model: ModelId,
    dimensions: usize,
    /// One embedding for each track.
    rows: Vec<(u64, Vec<f32>)>,
}

impl Film {
    fn read(results: &Path, label: &str, stamp: &str) -> Result<Self> {
        let embeddings = Embeddings::read(&results.join(label))?;
        let mean = |rows: Vec<Vec<f32>>| {
            let rows: Vec<Embedded> = rows
                .into_iter()
                .map(|row| Embedded {
                    embedding: row.into(),
                    weight: 1.0,
                })
                .collect();
            Mean::of(&rows).unit()
        };
        let rows = embeddings.rows.into_iter();
        Ok(Self {
            label: label.to_owned(),
            stamp: stamp.to_owned(),
            model: embeddings.model,
            dimensions: embeddings.dimensions,
            rows: rows
                .filter_map(|(id, rows)| Some((id, mean(rows)?)))
                .collect(),
        })
    }

    fn fits(&self, archive: &Archive) -> bool {
        self.rows.is_empty()
            || (self.model.sha256 == archive.model.sha256
                && self.dimensions == archive.dimensions())
    }

    fn batch(&self) -> BatchRef<'_> {
        BatchRef {
            label: &self.label,
            stamp: &self.stamp,
            rows: &self.rows,
        }
    }
}

/// Reads a film. One that cannot be read is a problem, and no film.
fn film_of(
    results: &Path,
    film: &str,
    films: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> Option<Film> {
    match Film::read(results, film, films.get(film)?) {
        Ok(film) => Some(film),
        Err(error) => {
            problems.push(format!(
                "left out {film}: {}",
                face_parts::ui::causes(&error)
            ));
            None
        }
    }
}

/// Writes a whole index of all films.
fn rebuild(
    path: &Path,
    results: &Path,
    films: &BTreeMap<String, String>,
    problems: &mut Vec<String>,
) -> Result<Archive> {
    problems.clear();
    let output = Output::create_private(path)?;
    let unwritten = || format!("{} cannot be written", path.display());
    let file = std::fs::File::create(output.writable()).with_context(unwritten)?;
    let mut file = Some(BufWriter::new(file));
    let mut writer: Option<(Writer<_>, Film)> = None;
    let mut empty = Vec::new();
    for label in films.keys().cloned().collect::<Vec<_>>() {
        let Some(film) = film_of(results, &label, films, problems) else {
            continue;
        };
        if film.rows.is_empty() {
            empty.push(film);
            continue;
        }
        match &mut writer {
            Some((writer, first)) => {
                anyhow::ensure!(
                    first.model.sha256 == film.model.sha256 && first.dimensions == film.dimensions,
                    "{} was analysed with the model {}, {} with {}: their embeddings cannot be \
                     compared; analyse all with one model",
                    first.label,
                    crate::gallery::model(&first.model),
                    film.label,
                    crate::gallery::model(&film.model)
                );
                writer.add(&film.batch()).with_context(unwritten)?;
            }
            None => {
                let to = file.take().context("there is one writer")?;
                let mut new =
                    Writer::create(to, &film.model, film.dimensions).with_context(unwritten)?;
                new.add(&film.batch()).with_context(unwritten)?;
                writer = Some((new, film));
            }
        }
    }
    let Some((mut writer, _)) = writer else {
        match problems.first() {
            Some(problem) => bail!(
                "no film in {} can be searched: {problem}",
                results.display()
            ),
            None => bail!("no face in {} can be compared", results.display()),
        }
    };
    for film in &empty {
        writer.add(&film.batch()).with_context(unwritten)?;
    }
    let file = writer.into_inner().into_inner().map_err(|e| e.into_error());
    file.and_then(|file| file.sync_data())
        .with_context(unwritten)?;
    output.keep()?;
    usable(path, films).with_context(|| format!("{} cannot be read", path.display()))
}
