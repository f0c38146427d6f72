//! A file of lines that is closed and begun anew by size and age, and never ends in half a line.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;

use super::dated::{Dated, private_folder};
use crate::live::config::Rotation;
use crate::output::{Target, is_same};

/// A path that leads to another file each time it is opened is written to after so many.
const ATTEMPTS: usize = 10;

/// See the module.
pub struct Rotated {
    path: PathBuf,
    /// And no pipe, device or standard output: it may be given another name and cut.
    is_ours: bool,
    rotation: Rotation,
    open: Option<Open>,
    dated: Dated,
    /// Oldest first: in the order in which they were closed, whatever the clock said.
    closed: VecDeque<PathBuf>,
}

struct Open {
    file: File,
    is_ours: bool,
    length: u64,
    /// When the file was begun; `None` is before the clock began.
    since: Option<Instant>,
}

impl Rotated {
    pub fn new(path: &Path, rotation: &Rotation) -> Self {
        let (path, is_ours) = match Target::of(path) {
            // Closed files lie beside the one that a link leads to, and the link stays.
            Ok(Target::File(file)) => (file, true),
            Ok(_) => (path.to_owned(), false),
            // Its folder may come.
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

    /// Writes `line`, which ends in a line break, whole or not at all. Waits while somebody else holds the
    /// file's lock: `facepipe forget`, when it puts another file in its place.
    pub fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let mut open = self.hold()?;
        if self.is_due(&open, line.len() as u64) {
            self.rotate(open)?;
            open = self.hold()?;
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
        // What cannot be taken back now is repaired when the file is opened again.
        let _ = open.file.set_len(open.length);
        written
    }

    /// Closes a file that is old enough, or that somebody took away.
    pub fn tick(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        open.lock();
        if !open.is_at(&self.path) {
            return Ok(());
        }
        if self.is_due(&open, 0) {
            return self.rotate(open);
        }
        open.release();
        self.open = Some(open);
        Ok(())
    }

    /// The file at the path, with its lock held: another one may have taken its place.
    fn hold(&mut self) -> io::Result<Open> {
        for _ in 0..ATTEMPTS {
            let open = match self.open.take() {
                Some(open) => {
                    open.lock();
                    open
                }
                None => Open::new(&self.path, self.is_ours)?,
            };
            if open.is_at(&self.path) {
                return Ok(open);
            }
        }
        Open::new(&self.path, self.is_ours)
    }

    /// Whether a file is to be closed before `more` bytes are written.
    fn is_due(&self, open: &Open, more: u64) -> bool {
        let young = |since: Instant| since.elapsed() < self.rotation.max_age;
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

/// Removes the first of `files` until `keep` are left.
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
    /// With its lock held.
    fn new(path: &Path, is_ours: bool) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            private_folder(folder)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        // A file system without locks has nobody to wait for.
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
        // Of an earlier run, as far as the clock and the file system tell.
        let age = metadata
            .created()
            .ok()
            .and_then(|created| SystemTime::now().duration_since(created).ok())
            .unwrap_or(Duration::ZERO);
        Ok(Self {
            is_ours,
            file,
            length: metadata.len() - torn,
            since: Instant::now().checked_sub(age),
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

/// The number of bytes behind the last line break of a file of `length` bytes.
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
            file.write(format!("line {i:04}\n").as_bytes())
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
        let mut file = Rotated::new(&path, &rotation(1000, Duration::from_millis(200), 0));
        file.write(b"1\n").expect("written");
        file.tick().expect("nothing to do");
        assert!(path.exists());
        std::thread::sleep(Duration::from_millis(220));
        file.tick().expect("closed");
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
            file.write(b"new\n").expect("written");
            assert_eq!(fs::read_to_string(&path).expect("readable"), after);
        }
    }

    #[test]
    fn a_file_that_was_taken_away_is_begun_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("door.jsonl");
        let mut file = Rotated::new(&path, &rotation(1000, DAY, 0));
        file.write(b"1\n").expect("written");
        fs::rename(&path, folder.path().join("elsewhere")).expect("renamed");
        file.write(b"2\n").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "2\n");
    }

    #[test]
    fn pipes_and_links_stay_what_they_are() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let pipe = std::ffi::CString::new(at("pipe").to_str().expect("UTF-8")).expect("no zero");
        // SAFETY: the path is a string that ends in zero.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        fs::create_dir(at("logs")).expect("writable");
        std::os::unix::fs::symlink("logs/door.jsonl", at("link")).expect("writable");
        for name in ["pipe", "link"] {
            let mut file = Rotated::new(&at(name), &rotation(5, DAY, 0));
            for _ in 0..3 {
                file.write(b"1234\n").expect("written");
            }
        }
        assert!(at("link").is_symlink());
        assert_eq!(fs::read_dir(at("logs")).expect("readable").count(), 3);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 3);
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_no_half_line() {
        let mut file = Rotated::new(Path::new("/dev/full"), &rotation(1000, DAY, 0));
        let error = file.write(b"1\n").expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
