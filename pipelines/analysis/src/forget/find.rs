//! Finds the files in which to forget somebody, and those that still contain the name afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use face_meta::names::same;
use serde::Serialize;

use super::Edited;
use super::names::Names;
use crate::name::bars;
use crate::search;
use face_live::marker;
use face_live::strangers::file as strangers;
use face_parts::output;
use face_picture::Kind as Named;

/// A kind of file that can be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gallery,
    /// A folder with a `summary.json`.
    Results,
    Clusters,
    /// The index of a folder of results.
    Index,
    /// Names that tracks must not get.
    Bars,
    Lines,
    /// The strangers whom a `facepipe live` remembers.
    Strangers,
    /// A note left by a running `facepipe live`.
    Marker,
    /// A file that a running facepipe is writing, or that a killed one left.
    Unfinished,
}

/// Calls `each` with every file below `path`, or with `path` itself. Follows no links, except
/// `path` itself.
fn walk(path: &Path, each: &mut impl FnMut(&Path)) -> Result<()> {
    let unreadable = || format!("{} cannot be read", path.display());
    let kind = fs::metadata(path).with_context(unreadable)?;
    if !kind.is_dir() {
        // A pipe or a device cannot be edited, and reading it may take for ever.
        ensure!(kind.is_file(), "{} is not a regular file", path.display());
        each(path);
        return Ok(());
    }
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let unreadable = || format!("{} cannot be read", folder.display());
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let kind = entry.file_type().with_context(unreadable)?;
            paths.push((entry.path(), kind));
        }
        paths.sort_by(|(a, _), (b, _)| a.cmp(b));
        for (path, kind) in paths {
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                each(&path);
            }
        }
    }
    Ok(())
}

/// The editable files below the paths, without duplicates.
pub fn find(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Kind)>> {
    let mut found: BTreeMap<PathBuf, (PathBuf, Kind)> = BTreeMap::new();
    for root in paths {
        walk(root, &mut |path| {
            let below = path.strip_prefix(root).unwrap_or(path);
            let mut parts = below.components();
            if let Some(part) = parts.position(|part| output::is_temporary(part.as_os_str())) {
                let place: PathBuf =
                    root.join(below.components().take(part + 1).collect::<PathBuf>());
                let key = fs::canonicalize(&place).unwrap_or_else(|_| place.clone());
                found.entry(key).or_insert((place, Kind::Unfinished));
                return;
            }
            let (place, kind) = match kind(path) {
                Some(Kind::Results) => (path.parent().unwrap_or(Path::new(".")), Kind::Results),
                Some(kind) => (path, kind),
                None => return,
            };
            let key = fs::canonicalize(place).unwrap_or_else(|_| place.to_owned());
            found.entry(key).or_insert((place.to_owned(), kind));
        })?;
    }
    Ok(found.into_values().collect())
}

/// The kind of a file. The files that belong to an input's results have none.
fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let beside = |name: &str| path.with_file_name(name).is_file();
    match name {
        _ if marker::is_marker(path) => Some(Kind::Marker),
        "summary.json" if is_summary(path) => Some(Kind::Results),
        "clusters.json" => Some(Kind::Clusters),
        search::FILE => Some(Kind::Index),
        bars::FILE if contains(&start(path, 4096), b"\"bars\"") => Some(Kind::Bars),
        "faces.jsonl" | "tracks.safetensors" if beside("summary.json") => None,
        _ if has_extension(path, &["safetensors"]) || is_gallery(path) => {
            is_gallery(path).then_some(Kind::Gallery)
        }
        _ if strangers::is_one(path) => Some(Kind::Strangers),
        // Rotated files may have a number after the extension.
        _ if name.contains(".jsonl") || is_lines(path) => Some(Kind::Lines),
        _ => None,
    }
}

pub fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    extensions.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// The first bytes of a file.
pub fn start(path: &Path, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A file that cannot be read begins with nothing.
    if let Ok(file) = File::open(path) {
        let _ = file.take(length).read_to_end(&mut bytes);
    }
    bytes
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

pub fn is_gallery(path: &Path) -> bool {
    let start = start(path, 4096);
    start.get(8) == Some(&b'{') && contains(&start, b"gst-face-gallery")
}

fn is_summary(path: &Path) -> bool {
    contains(&start(path, 65536), b"\"fingerprint\"")
}

/// Whether a file begins with a line in the format of `annotate --json`, whatever its name.
fn is_lines(path: &Path) -> bool {
    let start = start(path, 64);
    [&b"{\"type\":\"frame\""[..], b"{\"type\":\"track\""]
        .iter()
        .any(|head| start.starts_with(head))
}

/// Why a file is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// It contains the name.
    HasName,
    /// Its path contains the name.
    IsNamed,
    /// It is a video, which may show the face or the name.
    MayShow,
}

#[derive(Debug, Serialize)]
pub struct Left {
    pub path: PathBuf,
    pub why: Why,
}

impl Left {
    pub fn has_name(&self) -> bool {
        self.why != Why::MayShow
    }
}

/// Parts of videos, which are none alone.
const PARTS: [&str; 2] = ["m4s", "m3u8"];

/// Lists the files below the paths that still contain the name or may show the face, and counts the
/// pictures whose content is unknown. A dry run omits files that would be edited.
pub fn left(
    paths: &[PathBuf],
    person: &str,
    names: &Names,
    dry_run: bool,
    edited: &[Edited],
) -> Result<(Vec<Left>, u64)> {
    let mut left = BTreeMap::new();
    let mut pictures = BTreeSet::new();
    for root in paths {
        walk(root, &mut |path| {
            if marker::is_marker(path) {
                return;
            }
            let to_be_edited = dry_run
                && edited.iter().any(|edited| {
                    path == edited.path || path.parent() == Some(edited.path.as_path())
                });
            let below = path.strip_prefix(root).unwrap_or(path);
            let named = Named::by_name(path);
            let may_be_picture = named.is_some_and(|kind| kind != Named::Video);
            let why = if !to_be_edited && names.are_in(path) {
                Why::HasName
            } else if below.components().any(|c| is_named(c.as_os_str(), person)) {
                Why::IsNamed
            } else if named == Some(Named::Video) || has_extension(path, &PARTS) {
                Why::MayShow
            } else if may_be_picture && !is_of_results(path) {
                pictures.insert(path.to_owned());
                return;
            } else {
                return;
            };
            left.insert(path.to_owned(), why);
        })?;
    }
    let left = left.into_iter().map(|(path, why)| Left { path, why });
    Ok((left.collect(), pictures.len() as u64))
}

/// Whether a picture is one of those removed together with their tracks.
fn is_of_results(path: &Path) -> bool {
    let in_folder = |folder: &str, beside: &str| {
        let parent = path.parent().filter(|p| p.ends_with(folder));
        parent.is_some_and(|p| p.with_file_name(beside).is_file())
    };
    in_folder("thumbnails", "summary.json") || in_folder("clusters", "clusters.json")
}

/// The lists with their headings.
pub fn headed(left: &[Left]) -> Vec<(&'static str, Vec<&Left>)> {
    [
        (
            Why::HasName,
            "files that still contain the name (recreate or delete them)",
        ),
        (
            Why::IsNamed,
            "files and folders with the name (yours to delete or rename)",
        ),
        (
            Why::MayShow,
            "videos, which may show the face, and the name if they are annotated",
        ),
    ]
    .into_iter()
    .map(|(why, heading)| (heading, left.iter().filter(|l| l.why == why).collect()))
    .filter(|(_, left): &(_, Vec<_>)| !left.is_empty())
    .collect()
}

/// Whether a file or folder has the person's name, with or without an extension.
fn is_named(component: &OsStr, person: &str) -> bool {
    let stem = Path::new(component).file_stem();
    let mut names = [Some(component), stem].into_iter().flatten();
    names.any(|name| name.to_str().is_some_and(|name| same(name, person)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_called_by_a_name() {
        assert!(is_named("Ann".as_ref(), "Ann") && is_named("Ann.jpg".as_ref(), "Ann"));
        assert!(!is_named("Anna.jpg".as_ref(), "Ann"));
        assert!(is_named("Zoe\u{308}.jpg".as_ref(), "Zo\u{eb}"));
    }
}
