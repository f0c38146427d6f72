//! Pictures and videos among the files that people and programs leave in folders.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use face_parts::{picture, ui};
use face_picture::Kind;

use crate::enroll::visible_entries;

/// What a file is for the commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    Picture,
    Video,
    /// Something else, as a noun: `raw photo`, `.txt file`.
    Other(String),
}

impl Medium {
    /// What the file at `path` is: by its first bytes or, if they say nothing, by its name. A file that is
    /// not there is what its name says.
    pub fn of(path: &Path) -> Self {
        let by_name = Kind::by_name(path);
        match picture::kind(path) {
            Some(kind) if kind.is_picture() => Self::Picture,
            Some(Kind::Video) => Self::Video,
            Some(Kind::Raw) => Self::other(Kind::Raw),
            _ => match by_name {
                Some(kind) if kind.is_picture() => Self::Picture,
                Some(Kind::Video) => Self::Video,
                Some(kind) => Self::other(kind),
                None => Self::Other(extension(path)),
            },
        }
    }

    fn other(kind: Kind) -> Self {
        let noun = kind.to_string();
        let noun = noun.trim_start_matches("an ").trim_start_matches("a ");
        Self::Other(noun.to_owned())
    }
}

/// A kind of file by its name alone.
fn extension(path: &Path) -> String {
    match path.extension() {
        Some(extension) if extension.len() <= 12 => {
            format!(".{} file", extension.to_string_lossy().to_lowercase())
        }
        _ => "file of an unknown kind".to_owned(),
    }
}

/// Files that were passed over, by kind.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Others(BTreeMap<String, u64>);

impl Others {
    pub fn add(&mut self, kind: String) {
        *self.0.entry(kind).or_default() += 1;
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As in `2 raw photos, 1 .txt file`.
impl fmt::Display for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.0.iter().map(|(kind, count)| ui::count(*count, kind));
        f.write_str(&kinds.collect::<Vec<_>>().join(", "))
    }
}

/// The entries of a folder as of [`visible_entries`], without what other programs keep beside pictures.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = visible_entries(folder)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default();
        match path.is_dir() {
            true => !is_companion_folder(name),
            false => !is_companion(name),
        }
    });
    Ok(paths)
}

/// Whether a folder holds thumbnails or rubbish.
fn is_companion_folder(name: &OsStr) -> bool {
    const NAMES: [&str; 10] = [
        "@eadir",
        "@__thumb",
        "#recycle",
        "@recycle",
        "$recycle.bin",
        "recycler",
        "__macosx",
        "system volume information",
        "lost+found",
        "thumbnails.nobackup",
    ];
    let name = name.to_string_lossy().to_lowercase();
    NAMES.contains(&name.as_str())
}

/// Whether a file only goes with pictures or videos: edits, dates, thumbnails, and indexes of folders.
fn is_companion(name: &OsStr) -> bool {
    const NAMES: [&str; 7] = [
        "thumbs.db",
        "ehthumbs.db",
        "ehthumbs_vista.db",
        "desktop.ini",
        "picasa.ini",
        "zbthumbnail.info",
        "pspbrwse.jbf",
    ];
    // LRV: a small copy of a video, for the camera's own screen.
    const EXTENSIONS: [&str; 9] = [
        "aae", "xmp", "json", "thm", "lrv", "ctg", "pp3", "dop", "on1",
    ];
    let name = name.to_string_lossy().to_lowercase();
    let extension = Path::new(&name).extension().and_then(OsStr::to_str);
    NAMES.contains(&name.as_str()) || extension.is_some_and(|e| EXTENSIONS.contains(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_known_in_any_case() {
        for name in [
            "IMG_1.AAE",
            "IMG_1.jpg.xmp",
            "IMG_1.jpg.json",
            "Thumbs.DB",
            "ehthumbs.db",
            "Picasa.ini",
            "MVI_1.THM",
        ] {
            assert!(is_companion(OsStr::new(name)), "{name}");
        }
        assert!(!is_companion(OsStr::new("a.jpg")) && !is_companion(OsStr::new("a.txt")));
        for name in [
            "@eaDir",
            "$RECYCLE.BIN",
            "__MACOSX",
            "lost+found",
            "#recycle",
        ] {
            assert!(is_companion_folder(OsStr::new(name)), "{name}");
        }
        assert!(!is_companion_folder(OsStr::new("Ann")));
    }

    #[test]
    fn contents_decide_and_then_names() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let other = |kind: &str| Medium::Other(kind.to_owned());
        for (name, bytes, medium) in [
            ("photo.jpg_large", &b"\xff\xd8\xff\xe0"[..], Medium::Picture),
            ("noext", b"\xff\xd8\xff\xe0", Medium::Picture),
            ("sent.mp4", b"\x89PNG\r\n\x1a\n", Medium::Picture),
            ("sent.jpg", b"\0\0\0\x18ftypisom", Medium::Video),
            ("IMG_1.HEIC", b"", Medium::Picture),
            ("clip.MOD", b"?", Medium::Video),
            ("1.CR2", b"II*\0\x10\0\0\0CR\x02\0", other("raw photo")),
            ("1.nef", b"MM\0*", other("raw photo")),
            ("a.jp2", b"", other("JPEG 2000 picture")),
            ("notes.TXT", b"text", other(".txt file")),
            ("README", b"text", other("file of an unknown kind")),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("writable");
            assert_eq!(Medium::of(&path), medium, "{name}");
        }
        assert_eq!(Medium::of(Path::new("/gone.png")), Medium::Picture);
    }

    #[test]
    fn others_are_listed_by_kind() {
        let mut others = Others::default();
        for kind in ["raw photo", ".txt file", "raw photo"] {
            others.add(kind.into());
        }
        assert_eq!(others.to_string(), "1 .txt file, 2 raw photos");
    }
}
