//! Notes that a running `facepipe live` leaves in the folders that it writes to and reads galleries
//! from. `facepipe forget` finds the program by them. A note counts while its file is locked, so
//! the note of a killed process does not count.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PREFIX: &str = ".facepipe-live-";

/// Our notes are shorter.
const MOST: u64 = 16 << 10;

/// Readers of a note hold its lock for a moment.
const PATIENCE: Duration = Duration::from_millis(200);

/// The content of a note: whom to ask.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Note {
    /// The folder that contains the control socket.
    pub state: PathBuf,
    pub pid: u32,
}

/// A note, removed when this is dropped.
pub struct Marker {
    path: PathBuf,
    _locked: File,
}

impl Marker {
    /// Leaves a note in `folder` that this process runs with the state folder `state`.
    pub fn leave(folder: &Path, state: &Path) -> io::Result<Self> {
        let hash: String = Sha256::digest(state.as_os_str().as_encoded_bytes())[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let path = folder.join(format!("{PREFIX}{hash}.json"));
        let mut file = face_parts::lock::open(&path)?;
        let begun = Instant::now();
        while let Err(error) = file.try_lock() {
            if matches!(error, TryLockError::Error(_)) || begun.elapsed() >= PATIENCE {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        file.set_len(0)?;
        let note = Note {
            state: state.to_owned(),
            pid: std::process::id(),
        };
        file.write_all(&serde_json::to_vec(&note)?)?;
        Ok(Self {
            path,
            _locked: file,
        })
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Whether a file has the name of a note.
pub fn is_marker(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(PREFIX) && name.ends_with(".json")
}

/// Reads a note. `None` if its process is gone.
pub fn read(path: &Path) -> io::Result<Option<Note>> {
    let file = File::open(path)?;
    match file.try_lock_shared() {
        Ok(()) => return Ok(None),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let mut text = String::new();
    file.take(MOST).read_to_string(&mut text)?;
    Ok(Some(serde_json::from_str(&text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_counts_while_its_process_lives() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let marker = Marker::leave(folder.path(), &state).expect("writable");
        let path = marker.path.clone();
        assert!(is_marker(&path) && !is_marker(&state));
        let note = read(&path).expect("readable").expect("locked");
        assert_eq!((note.state, note.pid), (state.clone(), std::process::id()));
        drop(marker);
        assert!(!path.exists());
        // Left by a process that was killed.
        std::fs::write(&path, "{}").expect("writable");
        assert_eq!(read(&path).expect("readable"), None);
        drop(Marker::leave(folder.path(), &state).expect("taken over"));
        std::os::unix::fs::symlink("elsewhere", &path).expect("writable");
        assert!(Marker::leave(folder.path(), &state).is_err(), "no link");
    }
}
