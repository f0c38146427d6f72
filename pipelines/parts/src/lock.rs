//! Locks between processes. A process that reads a file, changes it and writes it back holds the
//! file's lock throughout.
//!
//! A lock is a system lock (`flock`) on an empty file `.NAME.lock` next to the file, as each change
//! replaces the file itself. It ends with the process, however that ends. The holder removes the
//! lock's file; a process that waited for it notices and creates another.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::interrupt;
use crate::output::{Target, beside, is_same};

/// How long to wait for a lock, unless [`PATIENCE_ENV`] is set.
const PATIENCE: Duration = Duration::from_secs(60);

/// The environment variable with the seconds to wait for a lock.
const PATIENCE_ENV: &str = "FACEPIPE_LOCK_TIMEOUT";

/// After this wait, a message says what the program waits for.
const SILENCE: Duration = Duration::from_secs(1);

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// The file whose lock protects a folder of results.
const FOLDER_LOCK: &str = ".facepipe.lock";

/// Held until it is dropped.
pub struct FileLock(Option<Held>);

struct Held {
    path: PathBuf,
    /// Closing it releases the lock.
    _file: File,
}

impl FileLock {
    /// Takes the lock of the file that `path` leads to, whether or not it exists. Waits while
    /// others hold it; a signal ends the program meanwhile. Only regular files need one.
    pub fn take(path: &Path) -> Result<Self> {
        let Target::File(file) = Target::of(path)? else {
            return Ok(Self(None));
        };
        Self::wait(&beside(&file, ".lock"), path, patience())
            .with_context(|| format!("{} cannot be changed", path.display()))
    }

    /// Takes the lock of everything in a folder.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        Self::of_folder_within(folder, patience())
    }

    /// The same; fails after `patience`.
    pub fn of_folder_within(folder: &Path, patience: Duration) -> Result<Self> {
        Self::wait(&folder.join(FOLDER_LOCK), folder, patience)
            .with_context(|| format!("{} cannot be changed", folder.display()))
    }

    /// Takes the lock of a folder to read its files. A folder that is not writable has none, as
    /// nobody else changes it either.
    pub fn of_folder_to_read(folder: &Path) -> Result<Self> {
        let read_only = |error: &anyhow::Error| {
            let cause = error.root_cause().downcast_ref::<io::Error>();
            cause.is_some_and(|cause| {
                matches!(
                    cause.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                )
            })
        };
        match Self::of_folder(folder) {
            Err(error) if read_only(&error) => Ok(Self(None)),
            lock => lock,
        }
    }

    /// Locks the file `lock`, which stands for `path`.
    fn wait(lock: &Path, path: &Path, patience: Duration) -> Result<Self> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut told = false;
        let _waiting = interrupt::waiting();
        loop {
            let file = open(lock)
                .with_context(|| format!("its lock {} cannot be created", lock.display()))?;
            match file.try_lock() {
                Ok(()) if is_at(&file, lock) => {
                    return Ok(Self(Some(Held {
                        path: lock.to_owned(),
                        _file: file,
                    })));
                }
                // The previous holder removed it.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) if has_no_locks(&error) => {
                    tell!(
                        "facepipe: warning: the file system of {} has no locks ({error}); make \
                         sure that nobody else changes it now",
                        path.display()
                    );
                    let _ = fs::remove_file(lock);
                    return Ok(Self(None));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error)
                        .with_context(|| format!("{} cannot be locked", lock.display()));
                }
            }
            let waited = begun.elapsed();
            if waited >= patience {
                return Err(anyhow!(
                    "another facepipe has been changing it for {:.0} s; wait for it to end and try \
                     again",
                    waited.as_secs_f64()
                ));
            }
            if waited >= SILENCE && !told {
                told = true;
                tell!(
                    "facepipe: waiting for another facepipe that is changing {}",
                    path.display()
                );
            }
            interrupt::pause(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if let Some(held) = &self.0 {
            // While it is still locked, so that no other process's file is removed.
            let _ = fs::remove_file(&held.path);
        }
    }
}

fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE_ENV)
        .ok()
        .and_then(|s| s.parse().ok());
    seconds.map_or(PATIENCE, Duration::from_secs)
}

/// Opens a lock's file for writing, because network file systems lock no others. Never follows a
/// link or opens a pipe of that name.
pub fn open(lock: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(lock)
}

/// Whether an open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(own), Ok(there)) => is_same(&own, &there),
        _ => false,
    }
}

/// Whether an error says that the file system has no locks.
pub fn has_no_locks(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Unsupported
        || matches!(
            error.raw_os_error(),
            Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP)
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_at_a_time_and_nothing_is_left() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("count");
        fs::write(&path, "0").expect("writable");
        let inside = AtomicUsize::new(0);
        // Each thread opens its own file, so threads exclude each other like processes.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let _lock = FileLock::take(&path).expect("free in time");
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        let count: u32 = fs::read_to_string(&path)
                            .expect("readable")
                            .parse()
                            .expect("a number");
                        fs::write(&path, (count + 1).to_string()).expect("writable");
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&path).expect("readable"), "200");
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn a_lock_is_that_of_the_file_behind_links_and_waited_for_in_vain() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::os::unix::fs::symlink("real", &link).expect("writable");
        let lock = beside(&real, ".lock");
        let held = FileLock::take(&link).expect("free");
        assert!(lock.is_file(), "also of a file that is to be made");
        let error = FileLock::wait(&lock, &real, Duration::ZERO).map(drop);
        let error = error.expect_err("held").to_string();
        assert!(error.contains("another facepipe"), "{error}");
        drop(held);
        // Left by a process that was killed.
        fs::write(&lock, "").expect("writable");
        drop(FileLock::take(&real).expect("free"));
        assert!(!lock.exists());
        assert!(
            FileLock::take(Path::new("/dev/null"))
                .expect("none")
                .0
                .is_none()
        );
        std::os::unix::fs::symlink("elsewhere", &lock).expect("writable");
        assert!(FileLock::take(&real).is_err(), "a link is not followed");
    }
}
