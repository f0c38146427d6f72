//! Resolves the path of an output.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::folder;
use crate::interrupt;

/// The number of successive links to follow, as in the kernel.
const MOST_LINKS: usize = 40;

/// After this wait for a reader, a message says so.
const SILENCE: Duration = Duration::from_secs(1);

/// How to write an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A regular file, existing or not, with all links resolved. It is replaced as a whole.
    File(PathBuf),
    /// A descriptor that this process has open, mostly standard output. Written where it stands; a
    /// file is appended to.
    Descriptor(RawFd),
    /// A pipe or a device. It is opened and written to.
    Stream(PathBuf),
}

impl Target {
    /// Resolves `path`: `-` is standard output, and links are followed. Fails if it cannot be written.
    pub fn of(path: &Path) -> Result<Self> {
        if path == Path::new("-") {
            return Ok(Self::Descriptor(libc::STDOUT_FILENO));
        }
        ensure!(
            !path.as_os_str().is_empty(),
            "the name of an output is empty"
        );
        let mut next = path.to_owned();
        for _ in 0..MOST_LINKS {
            let unwritable = || format!("{} cannot be written", path.display());
            if next.is_dir() {
                bail!("{} is a folder; name a file to write", path.display());
            }
            let above = folder(&next);
            if !above.is_dir() {
                bail!(
                    "{} cannot be written: there is no folder {}",
                    path.display(),
                    above.display()
                );
            }
            let above = fs::canonicalize(above).with_context(unwritable)?;
            let name = next.file_name().with_context(unwritable)?;
            let full = above.join(name);
            match open_files_of(&above) {
                Some(Process::Own) => {
                    let number = name.to_str().and_then(|n| n.parse().ok());
                    return number.map(Self::Descriptor).with_context(unwritable);
                }
                Some(Process::Other) => return Ok(Self::Stream(full)),
                None => {}
            }
            match fs::read_link(&full) {
                Ok(to) => next = above.join(to),
                Err(_) => return Self::at(full).with_context(unwritable),
            }
        }
        bail!("{} is a circular link", path.display())
    }

    /// The target at `full`, which is not a link.
    fn at(full: PathBuf) -> Result<Self> {
        let kind = match fs::symlink_metadata(&full) {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::File(full)),
            Err(error) => return Err(error.into()),
        };
        if kind.is_fifo() || kind.is_char_device() {
            return Ok(Self::Stream(full));
        }
        ensure!(
            kind.is_file(),
            "it is neither a file nor a pipe nor a terminal"
        );
        Ok(Self::File(full))
    }
}

enum Process {
    Own,
    Other,
}

/// The process whose open files the folder lists: `/proc/PID/fd` or `/proc/PID/task/TID/fd`.
fn open_files_of(folder: &Path) -> Option<Process> {
    let parts: Vec<&str> = folder
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .map(|part| part.as_os_str().to_str().unwrap_or_default())
        .collect();
    match parts.as_slice() {
        ["proc", process, "fd"] | ["proc", process, "task", _, "fd"] => {
            let own = process.parse() == Ok(std::process::id());
            Some(if own { Process::Own } else { Process::Other })
        }
        _ => None,
    }
}

/// Duplicates a descriptor of this process. If it is a regular file, all who share the descriptor
/// append to it from now on.
pub fn duplicate(descriptor: RawFd) -> io::Result<File> {
    // SAFETY: passes only numbers; a descriptor that is not open is an error.
    let copy = unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 0) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else owns it.
    let file = unsafe { File::from_raw_fd(copy) };
    if file.metadata()?.is_file() {
        set_flags(&file, |flags| flags | libc::O_APPEND)?;
    }
    Ok(file)
}

fn set_flags(file: &File, change: impl FnOnce(i32) -> i32) -> io::Result<()> {
    // SAFETY: the descriptor is open, and both calls pass only numbers.
    let done = unsafe {
        let flags = libc::fcntl(file.as_raw_fd(), libc::F_GETFL);
        flags >= 0 && libc::fcntl(file.as_raw_fd(), libc::F_SETFL, change(flags)) >= 0
    };
    match done {
        true => Ok(()),
        false => Err(io::Error::last_os_error()),
    }
}

/// Opens a pipe or a device. Waits for a pipe's reader; a signal ends the program meanwhile.
pub fn open_stream(path: &Path) -> io::Result<File> {
    let _waiting = interrupt::waiting();
    let begun = Instant::now();
    let mut told = false;
    loop {
        let opened = OpenOptions::new()
            .append(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path);
        match opened {
            Ok(file) => {
                set_flags(&file, |flags| flags & !libc::O_NONBLOCK)?;
                return Ok(file);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) && is_pipe(path) => {}
            Err(error) => return Err(error),
        }
        if begun.elapsed() >= SILENCE && !told {
            told = true;
            tell!("facepipe: waiting for a reader of {}", path.display());
        }
        interrupt::pause(Duration::from_millis(20));
    }
}

fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.file_type().is_fifo())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_and_dashes_lead_somewhere() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = fs::canonicalize(folder.path()).expect("there");
        let at = |name: &str| root.join(name);
        let of = |path: &Path| Target::of(path).map_err(|e| format!("{e:#}"));
        let file = |name: &str| Ok(Target::File(at(name)));
        fs::create_dir(at("sub")).expect("writable");
        for (from, to) in [
            ("sub/real", "sub/link"),
            ("sub/link", "chain"),
            ("circle", "circle"),
            ("/dev/stdout", "out"),
            ("/dev/null", "null"),
            ("none/file", "nowhere"),
            ("sub", "folder"),
        ] {
            let from = match from.starts_with("sub/r") {
                true => "real",
                false => from,
            };
            symlink(from, at(to)).expect("writable");
        }
        assert_eq!(of(&at("new")), file("new"));
        assert_eq!(of(&at("chain")), file("sub/real"), "which is not there yet");
        fs::write(at("sub/real"), "").expect("writable");
        assert_eq!(of(&at("folder/link")), file("sub/real"));
        for standard in ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
            assert_eq!(of(Path::new(standard)), Ok(Target::Descriptor(1)));
        }
        assert_eq!(of(&at("out")), Ok(Target::Descriptor(1)));
        assert_eq!(
            of(Path::new("./-")).map(|t| matches!(t, Target::File(_))),
            Ok(true)
        );
        assert_eq!(of(&at("null")), Ok(Target::Stream("/dev/null".into())));
        for (path, cause) in [
            (at("circle"), "circle"),
            (at("nowhere"), "no folder"),
            (at("folder"), "is a folder"),
            (at(&"x".repeat(256)), "File name too long"),
            (PathBuf::new(), "empty"),
        ] {
            let error = of(&path).expect_err("cannot be written");
            assert!(error.contains(cause), "{error}");
        }
    }

    #[test]
    fn what_is_open_already_is_appended_to() {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(b"before").expect("writable");
        file.rewind().expect("a file");
        let mut copy = duplicate(file.as_raw_fd()).expect("open");
        copy.write_all(b", after").expect("writable");
        file.write_all(b", then").expect("writable");
        file.rewind().expect("a file");
        let text = io::read_to_string(&file).expect("readable");
        assert_eq!(text, "before, after, then");
        assert!(duplicate(-1).is_err());
    }
}
