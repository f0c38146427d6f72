//! Folders that appear whole or not at all.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{beside, temporaries};

/// A folder to be filled: like [`Output`](super::Output) under a temporary name until it is kept. Only its
/// owner may look into it.
pub struct OutputFolder {
    /// As it was named.
    path: PathBuf,
    /// The same behind all links.
    real: PathBuf,
    temporary: PathBuf,
}

impl OutputFolder {
    /// What an earlier run left under the temporary name is removed: no two may write `path` at a
    /// time.
    pub fn create(path: &Path) -> Result<Self> {
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        ensure!(
            real.is_dir() || fs::symlink_metadata(&real).is_err(),
            "{} is no folder, and is not replaced by one",
            path.display()
        );
        let temporary = beside(&real, ".part");
        remove_folder(&temporary)?;
        let mut temporaries = temporaries();
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .with_context(|| format!("{} cannot be made", temporary.display()))?;
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

    /// Gives the folder, now whole, its name; what had it is removed.
    pub fn keep(self) -> Result<PathBuf> {
        let old = beside(&self.real, ".old");
        remove_folder(&old)?;
        let unwritable = || format!("{} cannot be written", self.path.display());
        {
            // A signal does not end the program between both.
            let _temporaries = temporaries();
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
        temporaries().retain(|path| *path != self.temporary);
    }
}

/// Removes a folder, if it is there.
fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}
