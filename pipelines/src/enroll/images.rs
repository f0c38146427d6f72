//! Reading photos.

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use anyhow::{Error, Result};
use face_core::file::read_at_most;
use image::imageops;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Rgb, RgbImage};

/// Reads the photos on a thread of its own, in order, a little ahead of who takes them.
pub fn read_ahead(photos: Vec<PathBuf>) -> Receiver<Result<RgbImage, String>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        for photo in photos {
            // Fails when nobody waits any more, after Ctrl-C or an error.
            if sender
                .send(read_image(&photo).map_err(|e| e.to_string()))
                .is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// The largest file of a picture, in bytes. Decoded, none may have more either.
const LARGEST: u64 = 512 << 20;

/// Reads an image of any format, upright.
pub fn read_image(path: &Path) -> Result<RgbImage> {
    decode(path).map_err(|error| match error.is::<image::ImageError>() {
        // It says its causes itself, and some end a line.
        true => Error::msg(error.to_string().trim_end().to_owned()),
        false => error,
    })
}

fn decode(path: &Path) -> Result<RgbImage> {
    let mut reader = ImageReader::new(Cursor::new(read_at_most(path, LARGEST)?));
    // For what does not say what it is.
    if let Ok(format) = ImageFormat::from_path(path) {
        reader.set_format(format);
    }
    let mut decoder = reader.with_guessed_format()?.into_decoder()?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// A tight crop with space around it: half of its size on each side, in grey. Made smaller first
/// where it is large, as a face that fills the image is large enough then, too.
pub fn padded(image: &RgbImage) -> RgbImage {
    const LONGEST: u32 = 800;
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    let small;
    let image = if longest > LONGEST {
        let scale = |side: u32| (u64::from(side) * u64::from(LONGEST) / u64::from(longest)) as u32;
        small = imageops::thumbnail(image, scale(width).max(1), scale(height).max(1));
        &small
    } else {
        image
    };
    let (width, height) = image.dimensions();
    let mut out = RgbImage::from_pixel(2 * width, 2 * height, Rgb([128; 3]));
    imageops::replace(&mut out, image, (width / 2).into(), (height / 2).into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_doubles_the_size_and_limits_it() {
        let small = padded(&RgbImage::from_pixel(101, 51, Rgb([1, 2, 3])));
        assert_eq!(small.dimensions(), (202, 102));
        assert_eq!(
            (small.get_pixel(0, 0).0, small.get_pixel(101, 51).0),
            ([128; 3], [1, 2, 3])
        );
        assert_eq!(padded(&RgbImage::new(4000, 2000)).dimensions(), (1600, 800));
        assert_eq!(padded(&RgbImage::new(3000, 1)).dimensions(), (1600, 2));
    }
}
