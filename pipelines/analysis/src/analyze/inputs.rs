//! Finds the inputs in folders, names them, and compares them with earlier results.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::enroll::visible_entries;
use crate::media::{self, Medium, Others};
use crate::record;
use face_parts::address;
use face_parts::lock::FileLock;
use face_parts::{output, stages};

/// The limit in bytes for an input's folder name, which is derived from the input's.
const LONGEST_NAME: usize = 100;

/// Names in the output folder that others write.
const RESERVED: &[&str] = &["clusters", "clusters.json", "names.json", "search.index"];

/// One file or stream to analyse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// As the user wrote it.
    pub path: PathBuf,
    /// Its name in the summary: an absolute path, or the URI without its secrets.
    pub id: String,
    /// Whether it is a single picture.
    pub is_picture: bool,
}

impl Input {
    fn new(path: PathBuf) -> Result<Self> {
        let is_uri = !path.exists() && stages::uri(&path).is_ok();
        let id = match is_uri {
            true => address::shown(&path),
            false => std::path::absolute(&path)?.display().to_string(),
        };
        Ok(Self {
            is_picture: !is_uri && Medium::of(&path) == Medium::Picture,
            path,
            id,
        })
    }

    /// A text that changes with the input: a file's size and modification time.
    pub fn state(&self) -> String {
        let Ok(metadata) = fs::metadata(&self.path) else {
            return String::new();
        };
        let changed = metadata
            .modified()
            .ok()
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map_or(0, |time| time.as_nanos());
        format!("{} {changed}", metadata.len())
    }
}

/// The result of a search for inputs.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of the arguments, without duplicates. Inputs from a folder are sorted.
    pub inputs: Vec<Input>,
    /// Files in folders that are not media.
    pub others: Others,
}

/// Finds the inputs in `paths`. From folders it takes all media, recursively, but nothing in
/// `results`, the folder for the results.
pub fn find(paths: &[PathBuf], results: &Path) -> Result<Found> {
    let mut found = Found::default();
    for path in paths {
        if path.is_dir() {
            search(path, results, &mut found)?;
        } else {
            found.inputs.push(Input::new(path.clone())?);
        }
    }
    let mut known = BTreeSet::new();
    found.inputs.retain(|input| {
        // Two addresses may differ only in a secret.
        let address = input.id.contains("://").then(|| input.path.clone());
        known.insert((input.id.clone(), address))
    });
    Ok(found)
}

fn search(folder: &Path, results: &Path, found: &mut Found) -> Result<()> {
    if output::same_file(folder, results) {
        return Ok(());
    }
    for path in media::entries(folder)? {
        if path.is_dir() {
            // Links to folders may form cycles.
            if !path.is_symlink() {
                search(&path, results, found)?;
            }
            continue;
        }
        match Medium::of(&path) {
            Medium::Picture | Medium::Video => found.inputs.push(Input::new(path)?),
            Medium::Other(kind) => found.others.add(kind),
        }
    }
    Ok(())
}

/// The results of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Earlier {
    input: String,
    pub fingerprint: String,
}

/// Finds the results in a folder, by the names of their folders.
pub fn earlier(results: &Path) -> Result<BTreeMap<String, Earlier>> {
    let mut found = BTreeMap::new();
    for path in visible_entries(results)? {
        let summary = path.join("summary.json");
        let name = path.file_name().and_then(|n| n.to_str());
        if let Some(name) = name.filter(|_| summary.is_file()) {
            // An unreadable summary counts as missing.
            if let Ok(mut earlier) = record::read::<Earlier>(&summary) {
                if earlier.input.contains("://") {
                    earlier.input = address::whole(&earlier.input);
                }
                found.insert(name.to_owned(), earlier);
            }
        }
    }
    Ok(found)
}

/// Whether a folder contains the remains of a result whose summary is missing or damaged: it
/// contains nothing but what `analyze` writes. (Called only if no summary can be read.)
fn is_remains(folder: &Path) -> bool {
    let Ok(paths) = visible_entries(folder) else {
        return false;
    };
    let ours = ["summary.json", "faces.jsonl", "tracks.safetensors"];
    let is = |path: &PathBuf, names: &[&str]| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| names.contains(&name))
    };
    paths.iter().any(|path| is(path, &ours))
        && paths
            .iter()
            .all(|path| is(path, &ours) || is(path, &["thumbnails"]))
}

/// The folder name of each input: that of its earlier results, or a new one that is derived from
/// its file name and free in `results`.
pub fn names(inputs: &[Input], results: &Path, earlier: &BTreeMap<String, Earlier>) -> Vec<String> {
    let mut before: BTreeMap<&str, &str> = earlier
        .iter()
        .map(|(name, earlier)| (earlier.input.as_str(), name.as_str()))
        .collect();
    let mut taken: BTreeSet<String> = RESERVED.iter().map(|name| name.to_string()).collect();
    taken.extend(earlier.keys().map(|name| name.to_lowercase()));
    inputs
        .iter()
        .map(|input| {
            if let Some(name) = before.remove(input.id.as_str()) {
                return name.to_string();
            }
            let base = base_name(&input.path);
            let numbered = (2u64..).map(|n| format!("{base}-{n}"));
            let mut candidates = std::iter::once(base.clone()).chain(numbered);
            let is_free = |name: &String| {
                let folder = results.join(name);
                !taken.contains(&name.to_lowercase()) && (!folder.exists() || is_remains(&folder))
            };
            let name = candidates.find(is_free).unwrap_or(base.clone());
            taken.insert(name.to_lowercase());
            name
        })
        .collect()
}

/// A folder name for a path or URI: the last part without its extension, reduced to characters that
/// are safe in file names everywhere.
fn base_name(path: &Path) -> String {
    let text = address::shown(path);
    let path = match text.contains("://") {
        true => Path::new(text.split(['?', '#']).next().unwrap_or_default()),
        false => path,
    };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let safe = |c: char| match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | ' ' => c,
        c if c.is_alphanumeric() => c,
        _ => '_',
    };
    let mut name = String::new();
    for c in stem.chars().map(safe) {
        if name.len() + c.len_utf8() > LONGEST_NAME {
            break;
        }
        name.push(c);
    }
    match name.trim_matches(['.', ' ']) {
        "" => "input".into(),
        name => name.to_owned(),
    }
}

/// An exclusive hold on the folder of results: two runs must not write into it.
pub struct Lock {
    _lock: FileLock,
}

impl Lock {
    /// Creates the folder if it does not exist, and waits for other processes that write into it.
    pub fn take(results: &Path) -> Result<Self> {
        let name = results.display();
        fs::create_dir_all(results)
            .with_context(|| format!("the folder {name} cannot be created"))?;
        Ok(Self {
            _lock: FileLock::of_folder(results)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("in a folder")).expect("writable");
        fs::write(path, "").expect("writable");
    }

    #[test]
    fn media_are_found_in_folders_once_and_results_are_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let results = folder.path().join("out");
        for name in [
            "b.MP4",
            "a/x.jpeg",
            "notes.txt",
            ".hidden.mp4",
            "a/x.jpeg.xmp",
            "a/@eaDir/x.jpeg/thumb.jpg",
            "$RECYCLE.BIN/old.mp4",
            "out/x/thumbnails/1.jpg",
        ] {
            touch(&folder.path().join(name));
        }
        let paths = [
            folder.path().join("b.MP4"),
            folder.path().to_owned(),
            "rtsp://cam/1".into(),
            "gone.jpg".into(),
        ];
        let found = find(&paths, &results).expect("readable");
        let names: Vec<_> = found
            .inputs
            .iter()
            .map(|i| {
                (
                    i.path.file_name().expect("a name").to_string_lossy(),
                    i.is_picture,
                )
            })
            .collect();
        let expected = [
            ("b.MP4", false),
            ("x.jpeg", true),
            ("1", false),
            ("gone.jpg", true),
        ];
        assert_eq!(
            names,
            expected.map(|(name, picture)| (name.into(), picture))
        );
        assert_eq!(found.others.to_string(), "1 .txt file");
        assert_eq!(found.inputs[2].id, "rtsp://cam/1");
        assert!(Path::new(&found.inputs[3].id).is_absolute());
    }

    #[test]
    fn names_of_folders_are_safe_unique_and_stay() {
        let results = tempfile::tempdir().expect("a temporary folder");
        touch(&results.path().join("mine/notes.txt"));
        let input = |path: &str| Input::new(path.into()).expect("a path");
        let inputs = [
            input("/a/film.mp4"),
            input("/b/Film.mkv"),
            input("/b/..mp4"),
            input("/b/mine.mp4"),
            input("/b/clusters.mp4"),
            input("rtsp://cam/a:b?pass=1"),
            input("/c/名前 1.mp4"),
        ];
        let empty = BTreeMap::new();
        let names = super::names(&inputs, results.path(), &empty);
        let expected = [
            "film",
            "Film-2",
            "input",
            "mine-2",
            "clusters-2",
            "a_b",
            "名前 1",
        ];
        assert_eq!(names, expected);

        let summary = format!(r#"{{"input":{:?},"fingerprint":"x"}}"#, inputs[1].id);
        let folder = results.path().join("Film-2");
        touch(&folder.join("summary.json"));
        fs::write(folder.join("summary.json"), summary).expect("writable");
        let earlier = earlier(results.path()).expect("readable");
        assert_eq!(earlier["Film-2"].fingerprint, "x");
        let again = super::names(&inputs[1..2], results.path(), &earlier);
        assert_eq!(again, ["Film-2"], "not the free `Film`");
    }

    #[test]
    fn long_names_are_cut() {
        let long = format!("/{}.mp4", "é".repeat(80));
        assert_eq!(base_name(Path::new(&long)), "é".repeat(50));
    }

    #[test]
    fn two_runs_do_not_share_a_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let results = folder.path().join("new/out");
        let lock = Lock::take(&results).expect("free");
        let second = || FileLock::of_folder_within(&results, Duration::ZERO);
        assert!(second().is_err());
        drop(lock);
        assert!(second().is_ok());
    }
}
