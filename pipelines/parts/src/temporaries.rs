//! Tracks temporary files and folders, which a process that ends early must remove.

use std::fs;
use std::path::PathBuf;

use parking_lot::{Mutex, MutexGuard};

static ALL: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Held during renaming, so that nobody ends the process in between.
pub fn lock() -> MutexGuard<'static, Vec<PathBuf>> {
    ALL.lock()
}

/// Removes all of them, for an end without unwinding.
pub fn remove() {
    let mut all = lock();
    for path in all.drain(..) {
        let _ = match path.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
    }
    // Keeps the lock, so that no other one is created before the process ends.
    std::mem::forget(all);
}
