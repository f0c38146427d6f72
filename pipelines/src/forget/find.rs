//! What there is to forget somebody in, and what still has the name afterwards.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use super::Edited;

/// What can be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Gallery,
    /// A folder with a `summary.json`.
    Results,
    Clusters,
    Lines,
}

/// Calls `each` with every file below `path`, or with `path` itself; links are not followed, except
/// `path` itself.
fn walk(path: &Path, each: &mut impl FnMut(&Path)) -> Result<()> {
    let unreadable = || format!("{} cannot be read", path.display());
    if !fs::metadata(path).with_context(unreadable)?.is_dir() {
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

/// What can be edited below the paths, each once.
pub fn find(paths: &[PathBuf]) -> Result<Vec<(PathBuf, Kind)>> {
    let mut found: BTreeMap<PathBuf, (PathBuf, Kind)> = BTreeMap::new();
    for path in paths {
        walk(path, &mut |path| {
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

/// What a file is; one of the files of an input's results is not by itself.
fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?;
    let beside = |name: &str| path.with_file_name(name).is_file();
    match name {
        "summary.json" if is_summary(path) => Some(Kind::Results),
        "clusters.json" => Some(Kind::Clusters),
        "faces.jsonl" | "tracks.safetensors" if beside("summary.json") => None,
        _ if has_extension(path, &["safetensors"]) || is_gallery(path) => {
            is_gallery(path).then_some(Kind::Gallery)
        }
        // Rotated ones may have a number behind it.
        _ if name.contains(".jsonl") || is_lines(path) => Some(Kind::Lines),
        _ => None,
    }
}

fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    extensions.iter().any(|e| extension.eq_ignore_ascii_case(e))
}

/// The first bytes of a file.
fn start(path: &Path, length: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What cannot be read begins with nothing.
    if let Ok(file) = File::open(path) {
        let _ = file.take(length).read_to_end(&mut bytes);
    }
    bytes
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn is_gallery(path: &Path) -> bool {
    let start = start(path, 4096);
    start.get(8) == Some(&b'{') && contains(&start, b"gst-face-gallery")
}

fn is_summary(path: &Path) -> bool {
    contains(&start(path, 65536), b"\"fingerprint\"")
}

/// Whether a file begins with a line as `annotate --json` writes them, whatever it is called.
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
    /// The name is in it.
    HasName,
    /// The name is in its path.
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

const VIDEOS: [&str; 9] = [
    "mp4", "m4v", "mov", "mkv", "webm", "avi", "ts", "m4s", "m3u8",
];

/// What below the paths still has the name, or may show the face. In a dry run what would be edited is
/// left out.
pub fn left(
    paths: &[PathBuf],
    person: &str,
    dry_run: bool,
    edited: &[Edited],
) -> Result<Vec<Left>> {
    let mut left = BTreeMap::new();
    let needles = needles(person);
    for root in paths {
        walk(root, &mut |path| {
            let to_be_edited = dry_run
                && edited.iter().any(|edited| {
                    path == edited.path || path.parent() == Some(edited.path.as_path())
                });
            let below = path.strip_prefix(root).unwrap_or(path);
            let why = if !to_be_edited && needles.iter().any(|needle| has(path, needle)) {
                Why::HasName
            } else if below.components().any(|c| is_named(c.as_os_str(), person)) {
                Why::IsNamed
            } else if has_extension(path, &VIDEOS) {
                Why::MayShow
            } else {
                return;
            };
            left.insert(path.to_owned(), why);
        })?;
    }
    Ok(left
        .into_iter()
        .map(|(path, why)| Left { path, why })
        .collect())
}

/// The lists with what stands above them.
pub fn headed(left: &[Left]) -> Vec<(&'static str, Vec<&Left>)> {
    [
        (Why::HasName, "the name is still in (make anew, or delete)"),
        (
            Why::IsNamed,
            "called by the name (yours to delete or rename)",
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

/// Whether a file or folder is called by the name, with or without what is behind a dot.
fn is_named(component: &OsStr, person: &str) -> bool {
    let stem = Path::new(component).file_stem();
    [Some(component), stem].contains(&Some(OsStr::new(person)))
}

/// How a name is written in a text: as it is, in JSON, in HTML.
fn needles(person: &str) -> Vec<Vec<u8>> {
    let json = serde_json::Value::from(person).to_string();
    // Without its quotes.
    let json = &json[1..json.len() - 1];
    let ascii: String = json
        .chars()
        .flat_map(|c| match c.is_ascii() {
            true => vec![c.to_string()],
            false => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .map(|u| format!("\\u{u:04x}"))
                .collect(),
        })
        .collect();
    let html = person
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let mut needles = vec![
        person.to_owned(),
        json.to_owned(),
        // A document in a string of another one.
        json.replace('\\', "\\\\").replace('"', "\\\""),
        ascii,
        html.replace('"', "&quot;"),
        html.replace('"', "&#34;").replace('\'', "&#39;"),
    ];
    needles.sort_unstable();
    needles.dedup();
    needles.into_iter().map(String::into_bytes).collect()
}

/// Whether a text has `needle` as a word. Files that are no text have none, but for the headers of
/// safetensors.
fn has(path: &Path, needle: &[u8]) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    let first = start(path, 4096);
    let header = match has_extension(path, &["safetensors"]) || is_gallery(path) {
        true => first
            .first_chunk::<8>()
            .map(|length| u64::from_le_bytes(*length).saturating_add(8)),
        false => None,
    };
    if header.is_none() && first.contains(&0) {
        return false;
    }
    let mut reader = BufReader::with_capacity(1 << 20, file.take(header.unwrap_or(u64::MAX)));
    // What was read, and before it what may be the beginning of the word and the byte before that.
    let mut text: Vec<u8> = b" ".to_vec();
    loop {
        let new = match reader.fill_buf() {
            Ok(new) => new,
            Err(_) => return false,
        };
        let (length, ended) = (new.len(), new.is_empty());
        text.extend_from_slice(new);
        reader.consume(length);
        let letter = |at: Option<&u8>| at.is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
        let found = text[1..].windows(needle.len()).zip(1..).any(|(window, i)| {
            let end = i + needle.len();
            window == needle
                && (ended || end < text.len())
                && !letter(text.get(i - 1))
                && !letter(text.get(end))
        });
        if found || ended {
            return found;
        }
        let keep = text.len().saturating_sub(needle.len() + 1);
        text.drain(..keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_as_a_word_however_it_is_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("text");
        let found = |text: &[u8], person: &str| {
            fs::write(&path, text).expect("writable");
            needles(person).iter().any(|needle| has(&path, needle))
        };
        for text in ["Ann", "by Ann.", "\"name\":\"Ann\"", "x/Ann/1.jpg\n"] {
            assert!(found(text.as_bytes(), "Ann"), "{text}");
        }
        for text in ["", "An", "Anna", "Joann Ann3", "ann", "\0Ann"] {
            assert!(!found(text.as_bytes(), "Ann"), "{text}");
        }
        let name = "Zoë \"Z\" & Co";
        for text in [
            r#"{"name":"Zoë \"Z\" & Co"}"#,
            r#"{"name":"Zo\u00eb \"Z\" & Co"}"#,
            "<b>Zoë &quot;Z&quot; &amp; Co</b>",
            "<b>Zoë &#34;Z&#34; &amp; Co</b>",
        ] {
            assert!(found(text.as_bytes(), name), "{text}");
        }
        // Over the border of what is read at a time.
        for before in (1 << 20) - 6..(1 << 20) + 3 {
            for (word, is_whole) in [("Ann b", true), ("JoAnn b", false)] {
                let text = [vec![b' '; before], word.into()].concat();
                fs::write(&path, text).expect("writable");
                assert_eq!(has(&path, b"Ann"), is_whole, "{before} {word}");
            }
        }
    }

    #[test]
    fn a_path_is_called_by_a_name() {
        assert!(is_named("Ann".as_ref(), "Ann") && is_named("Ann.jpg".as_ref(), "Ann"));
        assert!(!is_named("Anna.jpg".as_ref(), "Ann"));
    }
}
