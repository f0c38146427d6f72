//! Thumbnails small enough for a page with hundreds of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use image::DynamicImage;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;

use crate::enroll::read_image;
use face_parts::ui;

/// The side on the page, in pixels. It is shown at about half of it, as many screens have two
/// pixels per point.
const SIDE: u32 = 88;
const QUALITY: u8 = 72;

/// Thumbnails as `data:` URIs, by their paths.
#[derive(Default)]
pub struct Thumbnails {
    uris: BTreeMap<PathBuf, String>,
    failures: Vec<String>,
}

impl Thumbnails {
    /// Reads the picture at `path`. An unreadable one is left out.
    pub fn add(&mut self, path: &Path) {
        match encode(path) {
            Ok(uri) => {
                self.uris.insert(path.to_owned(), uri);
            }
            Err(error) => self.failures.push(format!("{error:#}")),
        }
    }

    pub fn get(&self, path: Option<&PathBuf>) -> Option<&str> {
        self.uris.get(path?).map(String::as_str)
    }

    /// Describes the unreadable pictures.
    pub fn problem(&self) -> Option<String> {
        let first = self.failures.first()?;
        let faces = ui::count(self.failures.len() as u64, "face");
        Some(format!("no picture of {faces}: {first}"))
    }
}

fn encode(path: &Path) -> Result<String> {
    let unreadable = || format!("{} cannot be read", path.display());
    let image = DynamicImage::from(read_image(path).with_context(unreadable)?);
    let image = image
        .resize_to_fill(SIDE, SIDE, FilterType::CatmullRom)
        .into_rgb8();
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY)
        .encode_image(&image)
        .with_context(unreadable)?;
    Ok(format!(
        "data:image/jpeg;base64,{}",
        glib::base64_encode(&jpeg)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thumbnail_is_small_and_a_broken_one_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let picture = folder.path().join("1.jpg");
        image::RgbImage::from_fn(160, 120, |x, y| image::Rgb([x as u8, y as u8, 0]))
            .save(&picture)
            .expect("writable");
        let broken = folder.path().join("2.jpg");
        std::fs::write(&broken, "no picture").expect("writable");

        let mut thumbnails = Thumbnails::default();
        thumbnails.add(&picture);
        thumbnails.add(&broken);
        let uri = thumbnails.get(Some(&picture)).expect("read");
        let base64 = uri
            .strip_prefix("data:image/jpeg;base64,")
            .expect("a data URI");
        let image = image::load_from_memory(&glib::base64_decode(base64)).expect("a picture");
        assert_eq!((image.width(), image.height()), (SIDE, SIDE));
        assert_eq!(thumbnails.get(Some(&broken)), None);
        assert!(thumbnails.problem().expect("one").contains("2.jpg"));
    }
}
