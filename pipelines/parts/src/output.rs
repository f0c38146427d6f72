//! Output, the same for all commands: files appear whole or not at all, and links are followed. `-`
//! is standard output. Pipes and devices are written directly. If standard output is a file, it is
//! appended to.

mod folder;
mod target;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tempfile::TempPath;

use crate::{interrupt, temporaries};
pub use folder::OutputFolder;
pub use target::Target;

/// An output: a file, standard output, a pipe or a device.
pub struct Output {
    /// As the user wrote it.
    path: PathBuf,
    to: To,
}

enum To {
    File(NewFile),
    Stream { file: File, is_stdout: bool },
}

/// Where an element writes an output.
pub enum Sink<'a> {
    Location(&'a Path),
    Descriptor(RawFd),
}

impl Output {
    /// Opens what `path` leads to. A file gets its name when it is whole, by [`keep`](Self::keep).
    /// Waits for the reader of a pipe.
    pub fn create(path: &Path) -> Result<Self> {
        Self::with_mode(path, PUBLIC)
    }

    /// The same, but only the owner may read and write the file, whatever the mode of the old one.
    /// For data about people.
    pub fn private(path: &Path) -> Result<Self> {
        Self::with_mode(path, PRIVATE)
    }

    fn with_mode(path: &Path, mode: u32) -> Result<Self> {
        let stream = |file, is_stdout| To::Stream { file, is_stdout };
        let to = match Target::of(path)? {
            Target::File(real) => NewFile::with_mode(path, real, mode).map(To::File),
            Target::Descriptor(number) => target::duplicate(number)
                .map(|file| stream(file, number == libc::STDOUT_FILENO))
                .with_context(|| format!("{} cannot be written", name(path))),
            Target::Stream(real) => target::open_stream(&real)
                .map(|file| stream(file, false))
                .with_context(|| format!("{} cannot be written", name(path))),
        };
        Ok(Self {
            path: path.to_owned(),
            to: to?,
        })
    }

    /// A file that only its owner may read and write; accepts nothing but files.
    pub fn create_private(path: &Path) -> Result<NewFile> {
        NewFile::with_mode(path, regular(path)?, PRIVATE)
    }

    /// A file that replaces another one and takes over its mode.
    pub fn replace(path: &Path) -> Result<NewFile> {
        let unwritable = || format!("{} cannot be written", path.display());
        let real = regular(path)?;
        let metadata = fs::metadata(&real);
        let metadata = metadata.with_context(|| format!("{} cannot be read", path.display()))?;
        let mode = metadata.permissions().mode() & 0o777;
        let file = NewFile::with_mode(path, real, mode)?;
        // Independent of the umask, too.
        fs::set_permissions(file.writable(), fs::Permissions::from_mode(mode))
            .with_context(unwritable)?;
        Ok(file)
    }

    /// Writes a complete document.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let written = self.writer().and_then(|mut to| to.write_all(bytes));
        written.with_context(|| format!("{} cannot be written", name(&self.path)))
    }

    /// Writes piece by piece, without a buffer.
    pub fn writer(&self) -> io::Result<Writer> {
        match &self.to {
            To::File(new) => Ok(Writer {
                file: File::create(new.writable())?,
                may_wait: false,
            }),
            To::Stream { file, .. } => Ok(Writer {
                file: file.try_clone()?,
                may_wait: true,
            }),
        }
    }

    /// Where an element should write. It stays open as long as this lives.
    pub fn sink(&self) -> Sink<'_> {
        match &self.to {
            To::File(new) => Sink::Location(new.writable()),
            To::Stream { file, .. } => Sink::Descriptor(file.as_raw_fd()),
        }
    }

    /// The name as users know it.
    pub fn name(&self) -> String {
        name(&self.path)
    }

    /// Whether it is a file that gets its name at the end.
    pub fn is_file(&self) -> bool {
        matches!(self.to, To::File(_))
    }

    /// Whether it is standard output. Then nothing else may be printed there.
    pub fn is_stdout(&self) -> bool {
        matches!(
            self.to,
            To::Stream {
                is_stdout: true,
                ..
            }
        )
    }

    /// Gives a finished file its name. Returns the output's name as users know it.
    pub fn keep(self) -> Result<String> {
        if let To::File(new) = self.to {
            new.keep()?;
        }
        Ok(name(&self.path))
    }
}

/// Writes an output. A signal ends the program while it waits for a reader.
pub struct Writer {
    file: File,
    may_wait: bool,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _waiting = self.may_wait.then(interrupt::waiting);
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The name of an output as users know it.
fn name(path: &Path) -> String {
    match path == Path::new("-") {
        true => "standard output".into(),
        false => path.display().to_string(),
    }
}

/// The umask applies to it, as to any new file.
const PUBLIC: u32 = 0o666;

const PRIVATE: u32 = 0o600;

/// The regular file that `path` leads to, whether or not it exists.
fn regular(path: &Path) -> Result<PathBuf> {
    let Target::File(real) = Target::of(path)? else {
        bail!("{} is not a file that can be replaced", name(path));
    };
    Ok(real)
}

/// A file being written. It has a temporary name in the same folder until [`keep`](Self::keep)
/// renames it. If it is dropped before that, nothing remains.
pub struct NewFile {
    /// As the user wrote it.
    path: PathBuf,
    /// The same with all links resolved.
    real: PathBuf,
    temporary: Option<TempPath>,
}

impl NewFile {
    fn with_mode(path: &Path, real: PathBuf, mode: u32) -> Result<Self> {
        let mut prefix = OsString::from(".");
        prefix.push(short(real.file_name().unwrap_or_default()));
        prefix.push(".");
        // Registered before a signal can be handled.
        let mut temporaries = temporaries::lock();
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder(&real))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let temporary = file.into_temp_path();
        temporaries.push(temporary.to_path_buf());
        Ok(Self {
            path: path.to_owned(),
            real,
            temporary: Some(temporary),
        })
    }

    /// Where to write.
    pub fn writable(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.real)
    }

    /// Gives the finished file its name.
    pub fn keep(mut self) -> Result<PathBuf> {
        let path = std::mem::take(&mut self.path);
        let Some(temporary) = self.temporary.take() else {
            return Ok(path);
        };
        let unwritable = || format!("{} cannot be written", path.display());
        let written = temporary.to_path_buf();
        // Synced, so that after a power cut the file has either the old or the new content, and
        // from here on the new one.
        File::open(&written)
            .and_then(|file| file.sync_all())
            .with_context(unwritable)?;
        let mut temporaries = temporaries::lock();
        temporaries.retain(|path| *path != written);
        temporary
            .persist(&self.real)
            .map_err(|e| e.error)
            .with_context(unwritable)?;
        drop(temporaries);
        // Not every file system supports this.
        let _ = File::open(folder(&self.real)).and_then(|folder| folder.sync_all());
        Ok(path)
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            temporaries::lock().retain(|path| **path != *temporary);
        }
    }
}

/// A hidden name in the same folder. Long names are shortened, so that only their own length is
/// limited.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(short(path.file_name().unwrap_or_default()));
    name.push(suffix);
    folder(path).join(name)
}

/// Whether this is the name of an unfinished file or folder.
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".part")
}

/// The beginning of a name, leaving room for our additions. Two names may share one.
fn short(name: &OsStr) -> OsString {
    /// In bytes. File systems permit 255, or 143 where they encrypt names.
    const LONGEST: usize = 120;
    let Some(text) = name.to_str() else {
        return OsString::from_vec(name.as_bytes().iter().copied().take(LONGEST).collect());
    };
    let ends = (0..=LONGEST.min(text.len())).rev();
    let end = ends.into_iter().find(|&end| text.is_char_boundary(end));
    text[..end.unwrap_or(0)].into()
}

/// The folder that `path` is in.
fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Fails early, before any work is done, unless `path` can name an output.
pub fn check_folder(path: &Path) -> Result<()> {
    Target::of(path).map(drop)
}

/// Whether both belong to the same file, under whatever names.
pub fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Whether both name the same existing file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    match (fs::canonicalize(a), fs::canonicalize(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .expect("readable")
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("out.mp4");
        let output = Output::create(&path).expect("writable");
        output.write(b"half").expect("writable");
        assert!(!path.exists());
        drop(output);
        assert_eq!(names(folder.path()), [""; 0], "nothing is left");

        let output = Output::create(&path).expect("writable");
        output.write(b"whole").expect("writable");
        output.keep().expect("renamed");
        assert_eq!(names(folder.path()), ["out.mp4"]);
    }

    #[test]
    fn names_as_long_as_the_file_system_takes_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["n".repeat(255), "é".repeat(127), "n".repeat(120)] {
            let path = folder.path().join(&name);
            let output = Output::create(&path).expect("not too long");
            output.write(b"whole").expect("writable");
            output.keep().expect("renamed");
            assert!(path.is_file());
            assert!(beside(&path, ".lock").file_name().expect("a name").len() < 140);
        }
        assert_eq!(names(folder.path()).len(), 3, "nothing else is left");
    }

    #[test]
    fn links_stay_and_what_they_name_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink("real", at("link")).expect("writable");
        for text in ["new", "newer"] {
            let output = Output::private(&at("link")).expect("writable");
            output.write(text.as_bytes()).expect("writable");
            output.keep().expect("renamed");
            assert!(at("link").is_symlink());
            assert_eq!(fs::read_to_string(at("real")).expect("written"), text);
        }
        assert_eq!(names(folder.path()).len(), 2);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("film");
        fs::write(&path, "a file").expect("writable");
        assert!(OutputFolder::create(&path).is_err(), "is not replaced");
        fs::remove_file(&path).expect("there");
        let fill = |text: &str| {
            let output = OutputFolder::create(&path).expect("writable");
            fs::write(output.writable().join(text), "").expect("writable");
            output
        };
        drop(fill("half"));
        assert_eq!(names(folder.path()), [""; 0], "nothing is left");
        fill("whole").keep().expect("renamed");
        assert_eq!(names(&path), ["whole"]);
        // Left by a run that was killed.
        fs::create_dir_all(folder.path().join(".film.part/x")).expect("writable");
        fill("again").keep().expect("replaced");
        assert_eq!(names(&path), ["again"]);
        assert_eq!(names(folder.path()), ["film"]);
    }

    #[test]
    fn what_cannot_be_a_file_is_said_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = |path: &Path| check_folder(path).expect_err("no file").to_string();
        assert!(error(folder.path()).contains("is a folder"));
        assert!(error(&folder.path().join("none/out.mp4")).contains("no folder"));
        assert!(check_folder(Path::new("out.mp4")).is_ok());
    }

    #[test]
    fn what_tells_of_people_is_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("people");
        let mode = |path: &Path| {
            let metadata = fs::metadata(path).expect("there");
            metadata.permissions().mode() & 0o777
        };
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        fs::write(&path, "open").expect("writable");
        set(0o644).expect("its owner may");
        let output = Output::create_private(&path).expect("writable");
        assert_eq!(mode(output.writable()), 0o600, "before anything is in it");
        output.keep().expect("renamed");
        assert_eq!(mode(&path), 0o600);
        for kept in [0o640, 0o666] {
            set(kept).expect("its owner may");
            Output::replace(&path)
                .expect("writable")
                .keep()
                .expect("renamed");
            assert_eq!(mode(&path), kept);
        }
        let results = OutputFolder::create(&folder.path().join("film")).expect("writable");
        assert_eq!(mode(&results.keep().expect("renamed")), 0o700);
    }

    #[test]
    fn devices_are_written_to_and_stay() {
        let output = Output::create(Path::new("/dev/null")).expect("writable");
        output.write(b"gone").expect("taken");
        assert!(!output.is_stdout() && matches!(output.sink(), Sink::Descriptor(_)));
        assert_eq!(output.keep().expect("nothing to rename"), "/dev/null");
        let full = Output::private(Path::new("/dev/full")).expect("writable");
        let error = format!("{:#}", full.write(b"too much").expect_err("full"));
        assert!(
            error.starts_with("/dev/full cannot be written: No space"),
            "{error}"
        );
        assert!(Output::replace(Path::new("/dev/null")).is_err());
        assert!(Output::create_private(Path::new("-")).is_err());
    }
}
