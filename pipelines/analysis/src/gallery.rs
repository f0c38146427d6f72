//! Writes galleries like all other files.

use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use face_gallery::{Gallery, ModelId};
use face_parts::output::{Output, Target};

/// Whether there is a gallery to add to: a file, not something that only takes bytes.
pub fn is_there(path: &Path) -> Result<bool> {
    Ok(match Target::of(path)? {
        Target::File(file) => file.exists(),
        _ => false,
    })
}

/// Writes a gallery. A caller that has read it from there holds its lock.
pub fn write(gallery: &Gallery, path: &Path) -> Result<()> {
    save(gallery, Output::private(path)?).map(drop)
}

/// Writes a gallery. Returns the output's name as users know it.
pub fn save(gallery: &Gallery, output: Output) -> Result<String> {
    let mut writer = BufWriter::with_capacity(1 << 20, output.writer()?);
    gallery
        .write_to(&mut writer)
        .and_then(|()| writer.flush())
        .with_context(|| format!("{} cannot be written", output.name()))?;
    drop(writer);
    output.keep()
}

/// A model's name and the beginning of its sha256.
pub fn model(model: &ModelId) -> String {
    let short: String = model.sha256.chars().take(12).collect();
    format!("{} (sha256 {short}…)", model.name)
}
