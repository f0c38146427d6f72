//! A file of lines that is rotated by size and age, and never ends in half a line.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::dated::{Dated, private_folder};
use crate::config::Rotation;
use face_parts::output::{Target, is_same};

/// How often to retry if the path leads to another file each time it is opened.
const ATTEMPTS: usize = 10;

/// See the module.
pub struct Rotated {
    path: PathBuf,
    /// Not a pipe, a device or standard output, so the file may be renamed and truncated.
    is_ours: bool,
    rotation: Rotation,
    open: Option<Open>,
    dated: Dated,
    /// Oldest first, in the order of closing, whatever the clock said.
    closed: VecDeque<PathBuf>,
}

struct Open {
    file: File,
    is_ours: bool,
    length: u64,
    /// When the file was started; `None` is before the start of the clock.
    since: Option<Instant>,
}

impl Rotated {
    pub fn new(path: &Path, rotation: &Rotation) -> Self {
        let (path, is_ours) = match Target::of(path) {
            // Closed files go next to the target of a link, and the link stays.
            Ok(Target::File(file)) => (file, true),
            Ok(_) => (path.to_owned(), false),
            // Its folder may still be created.
            Err(_) => (path.to_owned(), true),
        };
        let dated = Dated::beside(&path);
        Self {
            path,
            is_ours,
            rotation: rotation.clone(),
            open: None,
            closed: dated.existing().into(),
            dated,
        }
    }

    /// Writes `line`, which ends in a line break, whole or not at all, at the time `now`. Waits
    /// while another process holds the file's lock, such as `facepipe forget`, which replaces the
    /// file.
    pub fn write(&mut self, line: &[u8], now: Instant) -> io::Result<()> {
        let mut open = self.hold(now)?;
        if self.is_due(&open, line.len() as u64, now) {
            self.rotate(open)?;
            open = self.hold(now)?;
        }
        if !open.is_ours {
            let written = open.file.write_all(line);
            open.release();
            self.open = Some(open);
            return written;
        }
        let written = match open.file.write(line) {
            Ok(n) if n == line.len() => {
                open.length += n as u64;
                open.release();
                self.open = Some(open);
                return Ok(());
            }
            Ok(_) => Err(io::ErrorKind::StorageFull.into()),
            Err(error) => Err(error),
        };
        // If truncating fails now, the file is repaired when it is opened again.
        let _ = open.file.set_len(open.length);
        written
    }

    /// Closes the file if it is old enough at the time `now`, or if somebody moved it away.
    pub fn tick(&mut self, now: Instant) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        open.lock();
        if !open.is_at(&self.path) {
            return Ok(());
        }
        if self.is_due(&open, 0, now) {
            return self.rotate(open);
        }
        open.release();
        self.open = Some(open);
        Ok(())
    }

    /// Returns the file at the path with its lock held. Another file may have replaced it.
    fn hold(&mut self, now: Instant) -> io::Result<Open> {
        for _ in 0..ATTEMPTS {
            let open = match self.open.take() {
                Some(open) => {
                    open.lock();
                    open
                }
                None => Open::new(&self.path, self.is_ours, now)?,
            };
            if open.is_at(&self.path) {
                return Ok(open);
            }
        }
        Open::new(&self.path, self.is_ours, now)
    }

    /// Whether to close the file before writing `more` bytes.
    fn is_due(&self, open: &Open, more: u64, now: Instant) -> bool {
        let young = |since: Instant| now.saturating_duration_since(since) < self.rotation.max_age;
        let full = more > 0 && open.length + more > self.rotation.max_size;
        open.is_ours && open.length > 0 && (full || !open.since.is_some_and(young))
    }

    /// Closes a file that is at the path and whose lock is held.
    fn rotate(&mut self, open: Open) -> io::Result<()> {
        let to = self.dated.free(Timestamp::now());
        fs::rename(&self.path, &to)?;
        drop(open);
        self.closed.push_back(to);
        if self.rotation.keep > 0 {
            remove_oldest(&mut self.closed, self.rotation.keep);
        }
        Ok(())
    }
}

/// Removes files from the front of `files` until `keep` are left.
pub fn remove_oldest(files: &mut VecDeque<PathBuf>, keep: usize) {
    while files.len() > keep {
        let Some(oldest) = files.pop_front() else {
            return;
        };
        if let Err(error) = fs::remove_file(&oldest)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} cannot be removed: {error}", oldest.display());
        }
    }
}

impl Open {
    /// Opens the file and takes its lock.
    fn new(path: &Path, is_ours: bool, now: Instant) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        // On a file system without locks there is nobody to wait for.
        let _ = file.lock();
        let metadata = file.metadata()?;
        let is_ours = is_ours && metadata.is_file();
        let torn = match is_ours {
            true => torn(&mut file, metadata.len())?,
            false => 0,
        };
        if torn > 0 {
            file.set_len(metadata.len() - torn)?;
            tracing::warn!(
                bytes = torn,
                "{}: half a line at the end was cut off",
                path.display()
            );
        }
        // Started by an earlier run, as far as the clock and the file system know.
        let age = metadata
            .created()
            .ok()
            .and_then(|created| SystemTime::now().duration_since(created).ok())
            .unwrap_or(Duration::ZERO);
        Ok(Self {
            is_ours,
            file,
            length: metadata.len() - torn,
            since: now.checked_sub(age),
        })
    }

    fn lock(&self) {
        let _ = self.file.lock();
    }

    fn release(&self) {
        let _ = self.file.unlock();
    }

    fn is_at(&self, path: &Path) -> bool {
        match (self.file.metadata(), fs::metadata(path)) {
            (Ok(own), Ok(there)) => is_same(&own, &there),
            _ => false,
        }
    }
}

/// The number of bytes after the last line break in a file of `length` bytes.
fn torn(file: &mut File, length: u64) -> io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut end = length;
    let mut bytes = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        bytes.clear();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut bytes)?;
        if let Some(at) = bytes.iter().rposition(|&byte| byte == b'\n') {
            return Ok(length - (start + at as u64 + 1));
        }
        end = start;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn rotation(max_size: u64, max_age: Duration, keep: usize) -> Rotation {
        Rotation {
            max_size,
            max_age,
            keep,
        }
    }

    const DAY: Duration = Duration::from_secs(86400);

    #[test]
    fn files_are_closed_by_size_and_the_oldest_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("new/door.jsonl");
        let mut file = Rotated::new(&path, &rotation(25, DAY, 3));
        for i in 0..11 {
            file.write(format!("line {i:04}\n").as_bytes(), Instant::now())
                .expect("written");
        }
        let closed = Dated::beside(&path).existing();
        let read = |path: &Path| fs::read_to_string(path).expect("readable");
        assert_eq!(closed.len(), 3, "{closed:?}");
        assert_eq!(read(&closed[0]), "line 0004\nline 0005\n");
        assert_eq!(read(&closed[2]), "line 0008\nline 0009\n");
        assert_eq!(read(&path), "line 0010\n");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&folder.path().join("new")), 0o700);
    }

    #[test]
    fn files_are_closed_by_age() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("door.jsonl");
        let mut file = Rotated::new(&path, &rotation(1000, DAY, 0));
        let begin = Instant::now();
        file.write(b"1\n", begin).expect("written");
        file.tick(begin + DAY / 2).expect("nothing to do");
        assert!(path.exists());
        file.tick(begin + DAY).expect("closed");
        assert!(!path.exists());
        assert_eq!(Dated::beside(&path).existing().len(), 1);
    }

    #[test]
    fn half_a_line_is_cut_off_and_a_whole_one_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("door.jsonl");
        let long = "x".repeat(200_000);
        for (before, after) in [
            ("", "new\n".to_owned()),
            ("one\ntwo\n", "one\ntwo\nnew\n".to_owned()),
            ("one\ntw", "one\nnew\n".to_owned()),
            ("torn", "new\n".to_owned()),
            (&format!("one\n{long}"), "one\nnew\n".to_owned()),
        ] {
            fs::write(&path, before).expect("writable");
            let mut file = Rotated::new(&path, &rotation(1 << 30, DAY, 0));
            file.write(b"new\n", Instant::now()).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("readable"), after);
        }
    }

    #[test]
    fn a_file_that_was_taken_away_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("door.jsonl");
        let mut file = Rotated::new(&path, &rotation(1000, DAY, 0));
        file.write(b"1\n", Instant::now()).expect("written");
        fs::rename(&path, folder.path().join("elsewhere")).expect("renamed");
        file.write(b"2\n", Instant::now()).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "2\n");
    }

    #[test]
    fn pipes_and_links_stay_what_they_are() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let pipe = std::ffi::CString::new(at("pipe").to_str().expect("UTF-8")).expect("no zero");
        // SAFETY: the path is a null-terminated string.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        fs::create_dir(at("logs")).expect("writable");
        std::os::unix::fs::symlink("logs/door.jsonl", at("link")).expect("writable");
        for name in ["pipe", "link"] {
            let mut file = Rotated::new(&at(name), &rotation(5, DAY, 0));
            for _ in 0..3 {
                file.write(b"1234\n", Instant::now()).expect("written");
            }
        }
        assert!(at("link").is_symlink());
        assert_eq!(fs::read_dir(at("logs")).expect("readable").count(), 3);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 3);
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_no_half_line() {
        let mut file = Rotated::new(Path::new("/dev/full"), &rotation(1000, DAY, 0));
        let error = file.write(b"1\n", Instant::now()).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
