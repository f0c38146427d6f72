//! Files that appear whole or not at all.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tempfile::TempPath;

/// Temporary files that a second Ctrl-C has to remove.
static TEMPORARIES: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporaries() -> std::sync::MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes the temporary files of all outputs; for an end without unwinding.
pub fn remove_temporaries() {
    for path in temporaries().drain(..) {
        let _ = match path.is_dir() {
            true => fs::remove_dir_all(path),
            false => fs::remove_file(path),
        };
    }
}

/// A file to be written: under a temporary name in the same folder until [`keep`](Self::keep)
/// gives it its own. Dropped before that, it leaves nothing behind.
pub struct Output {
    path: PathBuf,
    /// `None` for what cannot be replaced: a pipe, a device.
    temporary: Option<TempPath>,
}

impl Output {
    pub fn create(path: &Path) -> Result<Self> {
        // What the user's umask leaves of it, as for any new file.
        Self::with_mode(path, 0o666)
    }

    /// A file that only its owner may read and write, whoever could before: for what tells of people.
    pub fn create_private(path: &Path) -> Result<Self> {
        Self::with_mode(path, 0o600)
    }

    /// A file that takes the place of another one, and its mode.
    pub fn replace(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path);
        let metadata = metadata.with_context(|| format!("{} cannot be read", path.display()))?;
        let mode = metadata.permissions().mode() & 0o777;
        let output = Self::with_mode(path, mode)?;
        // The umask must not take from it either.
        fs::set_permissions(output.writable(), fs::Permissions::from_mode(mode))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(output)
    }

    fn with_mode(path: &Path, mode: u32) -> Result<Self> {
        check_folder(path)?;
        if fs::metadata(path).is_ok_and(|m| !m.is_file()) {
            return Ok(Self {
                path: path.to_owned(),
                temporary: None,
            });
        }
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let file = tempfile::Builder::new()
            .prefix(&prefix)
            .suffix(".part")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(folder(path))
            .with_context(|| format!("{} cannot be written", path.display()))?;
        let temporary = file.into_temp_path();
        temporaries().push(temporary.to_path_buf());
        Ok(Self {
            path: path.to_owned(),
            temporary: Some(temporary),
        })
    }

    /// Where to write.
    pub fn writable(&self) -> &Path {
        self.temporary.as_deref().unwrap_or(&self.path)
    }

    /// Gives the file, now whole, its name.
    pub fn keep(mut self) -> Result<PathBuf> {
        if let Some(temporary) = self.temporary.take() {
            let written = temporary.to_path_buf();
            temporary
                .persist(&self.path)
                .map_err(|e| e.error)
                .with_context(|| format!("{} cannot be written", self.path.display()))?;
            temporaries().retain(|path| *path != written);
        }
        Ok(self.path)
    }
}

/// A folder to be filled: like [`Output`] under a temporary name until it is kept. Only its owner may look
/// into it.
pub struct OutputFolder {
    path: PathBuf,
    temporary: PathBuf,
}

impl OutputFolder {
    /// What an earlier run left under the temporary name is removed: no two may write `path` at a
    /// time.
    pub fn create(path: &Path) -> Result<Self> {
        let temporary = beside(path, ".part");
        remove_folder(&temporary)?;
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&temporary)
            .with_context(|| format!("{} cannot be made", temporary.display()))?;
        temporaries().push(temporary.clone());
        Ok(Self {
            path: path.to_owned(),
            temporary,
        })
    }

    /// Where to write.
    pub fn writable(&self) -> &Path {
        &self.temporary
    }

    /// Gives the folder, now whole, its name; what had it is removed.
    pub fn keep(self) -> Result<PathBuf> {
        let old = beside(&self.path, ".old");
        remove_folder(&old)?;
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).with_context(|| format!("{} cannot be written", to.display()))
        };
        if self.path.exists() {
            rename(&self.path, &old)?;
        }
        rename(&self.temporary, &self.path)?;
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

/// A hidden name in the same folder.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(suffix);
    folder(path).join(name)
}

/// Whether a file or folder is called as what is being written is.
pub fn is_temporary(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".part")
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

/// The folder that `path` is in.
fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Fails unless `path` can name a file in an existing folder.
pub fn check_folder(path: &Path) -> Result<()> {
    let folder = folder(path);
    if path.is_dir() {
        bail!("{} is a folder; name a file to write", path.display());
    }
    if !folder.is_dir() {
        bail!(
            "{} cannot be written: there is no folder {}",
            path.display(),
            folder.display()
        );
    }
    Ok(())
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
        fs::write(output.writable(), "half").expect("writable");
        assert!(!path.exists());
        drop(output);
        assert_eq!(names(folder.path()), [""; 0], "nothing is left");

        let output = Output::create(&path).expect("writable");
        fs::write(output.writable(), "whole").expect("writable");
        output.keep().expect("renamed");
        assert_eq!(names(folder.path()), ["out.mp4"]);
    }

    #[test]
    fn a_folder_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("film");
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
    fn devices_are_written_to_directly() {
        let output = Output::create(Path::new("/dev/null")).expect("writable");
        assert_eq!(output.writable(), Path::new("/dev/null"));
        output.keep().expect("nothing to rename");
    }
}
