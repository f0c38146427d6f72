//! The file in which strangers wait for the next start. It is written only if the configuration names it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use face_core::file::read_at_most;
use face_gallery::Gallery;
use face_gallery::vote::Rule;
use face_parts::output::Output;
use serde::{Deserialize, Serialize};

use super::{Limits, Stranger, Strangers};

/// The largest file. Twenty thousand strangers fit, also with 512 numbers in each embedding.
const LARGEST: u64 = 1 << 30;

/// How files of this format begin.
const START: &[u8] = b"{\"format\":\"facepipe-strangers\"";

#[derive(Serialize, Deserialize)]
struct Document {
    format: String,
    /// Of the format: 1.
    version: u32,
    /// The number of the next stranger.
    next: u64,
    strangers: Vec<Stranger>,
}

/// What is written.
pub struct Snapshot(Document);

/// Rounds as far as cosine distances to three digits allow. Shorter numbers make the file half as
/// large.
fn rounded(value: f32) -> f32 {
    (value * 1e5).round() / 1e5
}

impl Strangers {
    /// A copy to write.
    pub fn snapshot(&self) -> Snapshot {
        let mut strangers: Vec<Stranger> = self.known.values().cloned().collect();
        let rows = strangers.iter_mut().flat_map(|s| &mut s.rows);
        rows.flat_map(|row| &mut row.embedding)
            .for_each(|value| *value = rounded(*value));
        Snapshot(Document {
            format: "facepipe-strangers".into(),
            version: 1,
            next: self.next,
            strangers,
        })
    }

    /// Reads a file. Without one, there are no strangers.
    pub fn read(path: &Path, limits: Limits) -> Result<Self> {
        let mut all = Self::new(limits);
        if !path.exists() {
            return Ok(all);
        }
        let document: Document = serde_json::from_slice(&read_at_most(path, LARGEST)?)
            .with_context(|| {
                format!(
                    "{} is not a file of strangers; remove it or name another",
                    path.display()
                )
            })?;
        ensure!(
            document.format == "facepipe-strangers",
            "{} is not a file of strangers; remove it or name another",
            path.display()
        );
        ensure!(
            document.version == 1,
            "{} has version {}; this program supports only version 1",
            path.display(),
            document.version
        );
        for stranger in document.strangers {
            all.next = all.next.max(stranger.number.saturating_add(1));
            all.known.insert(stranger.number, stranger);
        }
        all.next = all.next.max(document.next);
        Ok(all)
    }
}

impl Snapshot {
    /// Writes it whole, readable only by the owner.
    pub fn write(&self, path: &Path) -> Result<()> {
        let output = Output::create_private(path)?;
        let unwritable = || format!("{} cannot be written", path.display());
        let text = serde_json::to_vec(&self.0)?;
        fs::write(output.writable(), text).with_context(unwritable)?;
        if let Ok(before) = fs::metadata(path) {
            // Its program, which may be another user's, keeps its access.
            chown(output.writable(), Some(before.uid()), Some(before.gid()))
                .with_context(unwritable)?;
        }
        output.keep().map(drop)
    }
}

/// Removes a person from a file, see [`Strangers::forget`], unless it is a `trial`. Returns the number of
/// embeddings removed.
pub fn forget(
    path: &Path,
    person: &str,
    galleries: &[(Gallery, Rule)],
    trial: bool,
) -> Result<usize> {
    let mut all = Strangers::read(
        path,
        Limits {
            most: usize::MAX,
            forget_after: Duration::MAX,
            visit_gap: Duration::MAX,
        },
    )?;
    let rows = |all: &Strangers| all.known.values().map(|s| s.rows.len()).sum::<usize>();
    let before = rows(&all);
    let forgotten = all.forget(person, galleries);
    if !forgotten.is_empty() && !trial {
        all.snapshot().write(path)?;
    }
    Ok(before - rows(&all))
}

/// Whether a file is of this format.
pub fn is_one(path: &Path) -> bool {
    let mut start = Vec::new();
    let read =
        fs::File::open(path).map(|file| file.take(START.len() as u64).read_to_end(&mut start));
    matches!(read, Ok(Ok(_))) && start == START
}
