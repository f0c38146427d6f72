//! The files next to a summary, and whether they still are those that were written with it.

use std::collections::BTreeMap;
use std::path::Path;

use face_core::Error;
use face_core::file::sha256_of;
use serde::{Deserialize, Serialize};

use super::Summary;

/// The files that every result has.
const ALWAYS: [&str; 2] = ["faces.jsonl", "tracks.safetensors"];

/// A written file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub bytes: u64,
    pub sha256: String,
}

impl Written {
    fn read(path: &Path) -> Result<Self, Error> {
        let (bytes, sha256) = sha256_of(path)?;
        Ok(Self { bytes, sha256 })
    }
}

impl Summary {
    /// The names of the files that belong to the summary.
    fn names(&self) -> impl Iterator<Item = &str> {
        let thumbnails = self.tracks.iter().filter_map(|t| t.thumbnail.as_deref());
        ALWAYS.into_iter().chain(thumbnails)
    }

    /// Records the current files in `folder`. Call it whenever one of them was written or removed,
    /// before writing the summary itself.
    pub fn note_files(&mut self, folder: &Path) -> Result<(), Error> {
        let read = |name: &str| Ok((name.to_owned(), Written::read(&folder.join(name))?));
        let files = self.names().map(read);
        self.files = files.collect::<Result<BTreeMap<_, _>, Error>>()?;
        Ok(())
    }

    /// Records a file in `folder` that was written again.
    pub fn note_file(&mut self, folder: &Path, name: &str) -> Result<(), Error> {
        let written = Written::read(&folder.join(name))?;
        self.files.insert(name.to_owned(), written);
        Ok(())
    }

    /// Whether a file in `folder` is as recorded.
    pub fn is_intact(&self, folder: &Path, name: &str) -> bool {
        let found = Written::read(&folder.join(name));
        found.is_ok_and(|found| self.files.get(name) == Some(&found))
    }

    /// Why the files in `folder` differ from the recorded ones. `None` if they do not.
    pub fn damage(&self, folder: &Path) -> Option<String> {
        if self.removing.is_some() {
            return Some(format!(
                "`facepipe forget` was interrupted in {}",
                folder.display()
            ));
        }
        if self.renaming {
            return Some(format!(
                "`facepipe name` was interrupted in {}; run it again",
                folder.display()
            ));
        }
        self.names().find_map(|name| {
            let path = folder.join(name);
            let Some(known) = self.files.get(name) else {
                return Some(format!("the summary does not mention {}", path.display()));
            };
            // The length reveals most damage without reading the file.
            match std::fs::metadata(&path) {
                Ok(found) if found.len() != known.bytes => Some(format!(
                    "{} has {} bytes instead of {}",
                    path.display(),
                    found.len(),
                    known.bytes
                )),
                Ok(_) => match Written::read(&path) {
                    Ok(found) if found == *known => None,
                    Ok(_) => Some(format!("{} was changed", path.display())),
                    Err(error) => Some(error.to_string()),
                },
                Err(error) => Some(Error::reading(path, error).to_string()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::record::TrackSummary;

    #[test]
    fn every_damage_is_seen_and_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let names = ["faces.jsonl", "tracks.safetensors", "thumbnails/1.jpg"];
        fs::create_dir(folder.path().join("thumbnails")).expect("writable");
        let fill = || {
            for name in names {
                fs::write(folder.path().join(name), format!("of {name}")).expect("writable");
            }
        };
        fill();
        let mut summary = Summary {
            tracks: vec![TrackSummary {
                thumbnail: Some(names[2].into()),
                ..Default::default()
            }],
            ..Default::default()
        };
        let damage = |summary: &Summary| summary.damage(folder.path());
        assert!(damage(&summary).is_some(), "of an older version");
        summary.note_files(folder.path()).expect("readable");
        assert_eq!(damage(&summary), None);
        for name in names {
            let path = folder.path().join(name);
            let whole = fs::read(&path).expect("there");
            let mut changed = whole.clone();
            changed[0] ^= 1;
            for bytes in [None, Some(&whole[1..]), Some(b""), Some(&changed)] {
                match bytes {
                    None => fs::remove_file(&path).expect("there"),
                    Some(bytes) => fs::write(&path, bytes).expect("writable"),
                }
                let damage = damage(&summary).expect("damaged");
                assert!(damage.contains(name), "{damage}");
            }
            fill();
        }
        assert_eq!(damage(&summary), None);
        summary.removing = Some([1].into());
        assert!(damage(&summary).is_some_and(|damage| damage.contains("interrupted")));
    }
}
