//! Removes a person from files.

mod find;
mod lines;
mod names;
mod results;
mod running;
mod steps;
mod writers;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use face_gallery::{Gallery, edit};
use face_parts::lock::FileLock;
use face_parts::output::Output;
use serde::Serialize;

use self::names::Names;
use crate::gallery;

pub use find::{Left, Why, headed};
pub use running::Told;
pub use steps::{FailedFile, ForgottenPerson, Whereabouts, forget};

/// The data removed from a file or a folder of results.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Rows of a gallery, and embeddings of tracks.
    pub rows: u64,
    pub tracks: u64,
    /// Faces removed from lines, and whole lines.
    pub faces: u64,
    pub lines: u64,
    pub pictures: u64,
}

impl Removed {
    pub fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.tracks += other.tracks;
        self.faces += other.faces;
        self.lines += other.lines;
        self.pictures += other.pictures;
    }
}

/// A file or a folder of results that contained the person.
#[derive(Serialize)]
pub struct Edited {
    pub path: PathBuf,
    #[serde(flatten)]
    pub removed: Removed,
}

/// The knowledge collected while going through the files.
struct Forgetting {
    /// In its normal form, as galleries have it. Other files may have other forms.
    person: String,
    dry_run: bool,
    /// The person's rows in all galleries.
    rows: Vec<Vec<f32>>,
    /// The names of all people.
    names: BTreeSet<String>,
    /// The processes that notice when a file is replaced.
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

    /// Removes the file `name` in `folder`, if it exists and `name` does not lead elsewhere.
    /// Returns whether it existed.
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
        let unnamed = self.unnamed(&gallery);
        let is_there = gallery.people().contains(&self.person);
        if !is_there && unnamed.is_empty() {
            return Ok(removed);
        }
        let mut left = match is_there {
            true => edit::remove(&gallery, std::slice::from_ref(&self.person), &[])?,
            false => gallery.clone(),
        };
        if !unnamed.is_empty() {
            left.remove_strangers(&unnamed)?;
        }
        let count = |gallery: &Gallery| (gallery.len() + gallery.strangers().len()) as u64;
        removed.rows = count(&gallery) - count(&left);
        if !self.dry_run {
            gallery::write(&left, path)?;
        }
        Ok(removed)
    }

    /// The sources of the faces that are not to be named, but show the person: by the name of the
    /// photo, or because the face is one of theirs.
    fn unnamed(&self, gallery: &Gallery) -> Vec<String> {
        let names = Names::new(&self.person, &self.names);
        let is_theirs = |number: usize| {
            let mut rows = self.rows.iter();
            let stranger = gallery.stranger(number);
            rows.any(|row| {
                row.len() == stranger.len() && edit::distance(row, stranger) <= edit::IDENTICAL
            })
        };
        let sources = gallery.strangers().iter().enumerate();
        sources
            .filter(|(number, source)| names.are_in_text(source.as_bytes()) || is_theirs(*number))
            .map(|(_, source)| source.clone())
            .collect()
    }
}
