//! File names that contain the time. They can be found again and sorted, and are never used twice.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use face_parts::output::beside;

/// Files `BEFORE` + UTC time + `AFTER` in a folder. If a second has several, they are called
/// `BEFORE20260131T235959Z-2AFTER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    folder: PathBuf,
    before: String,
    after: String,
    /// The time and number of the latest name.
    last: Option<(String, u64)>,
}

impl Dated {
    pub fn new(folder: impl Into<PathBuf>, before: String, after: String) -> Self {
        Self {
            folder: folder.into(),
            before,
            after,
            last: None,
        }
    }

    /// The names that `path` gets when it is closed: with the time before its extension.
    pub fn beside(path: &Path) -> Self {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let after = match text(path.extension()) {
            extension if extension.is_empty() => extension,
            extension => format!(".{extension}"),
        };
        Self::new(
            path.parent().unwrap_or(Path::new("")),
            format!("{}.", text(path.file_stem())),
            after,
        )
    }

    /// A free path that sorts after all others of its second, including removed ones.
    pub fn free(&mut self, time: Timestamp) -> PathBuf {
        let stamp = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let there = self.keys().into_iter().map(|(key, _)| key);
        let number = there
            .chain(self.last.take())
            .filter(|(other, _)| *other == stamp)
            .map(|(_, number)| number + 1)
            .max()
            .unwrap_or(0);
        let more = match number {
            0 => String::new(),
            number => format!("-{number}"),
        };
        let name = format!("{}{stamp}{more}{}", self.before, self.after);
        self.last = Some((stamp, number));
        self.folder.join(name)
    }

    /// The existing files, sorted by time.
    pub fn existing(&self) -> Vec<PathBuf> {
        let mut found = self.keys();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }

    /// The existing files with their times and numbers.
    fn keys(&self) -> Vec<((String, u64), PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return Vec::new();
        };
        let keyed = |entry: io::Result<fs::DirEntry>| {
            let path = entry.ok()?.path();
            let key = self.parse(path.file_name()?.to_str()?)?;
            Some((key, path))
        };
        entries.filter_map(keyed).collect()
    }

    /// The time and number in a file's name.
    fn parse(&self, name: &str) -> Option<(String, u64)> {
        let middle = name.strip_prefix(&self.before)?.strip_suffix(&self.after)?;
        let (stamp, number) = match middle.split_once('-') {
            Some((stamp, number)) => (stamp, number.parse().ok()?),
            None => (middle, 0),
        };
        let fits = stamp.len() == 16
            && stamp.bytes().enumerate().all(|(i, byte)| match i {
                8 => byte == b'T',
                15 => byte == b'Z',
                _ => byte.is_ascii_digit(),
            });
        fits.then(|| (stamp.to_owned(), number))
    }
}

/// Creates a folder and its parents, accessible only to the owner. Existing ones stay as they are.
pub fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Writes a file accessible only to the owner, then renames it into place. Returns it open at its end.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = beside(path, ".part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_again_in_order_and_given_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut dated = Dated::beside(&folder.path().join("door.jsonl"));
        let time: Timestamp = "2026-01-31T23:59:59.7Z".parse().expect("a time");
        let mut names = Vec::new();
        for _ in 0..12 {
            let path = dated.free(time);
            fs::write(&path, "").expect("writable");
            names.push(path);
        }
        assert!(names[0].ends_with("door.20260131T235959Z.jsonl"));
        assert!(names[11].ends_with("door.20260131T235959Z-11.jsonl"));
        for other in [
            "door.jsonl",
            "door.2.jsonl",
            "hall.20260131T235959Z.jsonl",
            "door.20260131T235959Z.mp4",
            "door.20260131T235959Z-x.jsonl",
        ] {
            fs::write(folder.path().join(other), "").expect("writable");
        }
        assert_eq!(dated.existing(), names);
        for name in names {
            fs::remove_file(name).expect("removed");
        }
        assert!(dated.free(time).ends_with("door.20260131T235959Z-12.jsonl"));
        assert!(
            Dated::beside(Path::new("/x/lines"))
                .free(time)
                .ends_with("lines.20260131T235959Z")
        );
    }
}
