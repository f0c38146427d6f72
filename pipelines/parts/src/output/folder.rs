//! Folders that appear whole or not at all.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::beside;
use crate::temporaries;

/// A folder being filled. Like [`Output`](super::Output), it has a temporary name until it is kept.
/// Only its owner may look into it.
pub struct OutputFolder {
    /// As the user wrote it.
    path: PathBuf,
    /// The same with all links resolved.
    real: PathBuf,
    temporary: PathBuf,
}

impl OutputFolder {
    /// Removes what an earlier run left under the temporary name, as only one run may write `path`
    /// at a time.
    pub fn create(path: &Path) -> Result<Self> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        ensure!(
            real.is_dir() || fs::symlink_metadata(&real).is_err(),
            "{} is not a folder, and is not replaced by one",
            path.display()
        );
        let temporary = beside(&real, ".part");
        remove_folder(&temporary)?;
        let mut temporaries = temporaries::lock();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .with_context(|| format!("{} cannot be created", temporary.display()))?;
        temporaries.push(temporary.clone());
        Ok(Self {
            path: path.to_owned(),
            real,
            temporary,
        })
    }

    /// Where to write.
    pub fn writable(&self) -> &Path {
        &self.temporary
    }

    /// Gives the finished folder its name. A folder with this name is removed.
    pub fn keep(self) -> Result<PathBuf> {
        let old = beside(&self.real, ".old");
        remove_folder(&old)?;
        let unwritable = || format!("{} cannot be written", self.path.display());
        {
            // No signal ends the program between the two steps.
            let _temporaries = temporaries::lock();
            let exists = self.real.exists();
            if exists {
                fs::rename(&self.real, &old).with_context(unwritable)?;
            }
            if let Err(error) = fs::rename(&self.temporary, &self.real) {
                if exists {
                    let _ = fs::rename(&old, &self.real);
                }
                return Err(error).with_context(unwritable);
            }
        }
        remove_folder(&old)?;
        Ok(self.path.clone())
    }
}

impl Drop for OutputFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.temporary);
        temporaries::lock().retain(|path| *path != self.temporary);
    }
}

/// Removes a folder if it exists.
fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
