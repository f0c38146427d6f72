//! A gallery on its way to the disk.

use std::path::{Path, PathBuf};

use anyhow::Result;
use face_gallery::Gallery;
use face_parts::lock::FileLock;
use face_parts::output::Output;

use super::Enrolment;
use crate::gallery;

/// A gallery to which people were added, but which is not yet written. Nobody else changes it
/// meanwhile.
pub struct GrownGallery {
    pub(super) path: PathBuf,
    pub(super) gallery: Gallery,
    pub(super) enrolment: Enrolment,
    /// The locks of the gallery and of the people's source.
    pub(super) locks: Vec<FileLock>,
}

impl GrownGallery {
    /// Its destination.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// Writes it. Returns the outcome for each person.
    pub fn write(mut self, output: Output) -> Result<Enrolment> {
        self.enrolment.gallery = Some(gallery::save(&self.gallery, output)?);
        drop(self.locks);
        Ok(self.enrolment)
    }
}
