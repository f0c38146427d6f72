//! Pictures made here, in all formats: as they should be, and broken.

mod animations;
mod broken;
mod heif;
mod kinds;

use std::io::Cursor;
use std::path::Path;

use face_picture::{Error, Picture};
use image::{DynamicImage, ImageFormat, Rgb, RgbImage};

/// The formats that can be written here.
const FORMATS: [ImageFormat; 9] = [
    ImageFormat::Jpeg,
    ImageFormat::Png,
    ImageFormat::Gif,
    ImageFormat::WebP,
    ImageFormat::Tiff,
    ImageFormat::Bmp,
    ImageFormat::Tga,
    ImageFormat::Pnm,
    ImageFormat::Qoi,
];

const SIZE: (u32, u32) = (48, 32);

const RED: [u8; 3] = [200, 30, 30];
const GREEN: [u8; 3] = [30, 180, 40];
const BLUE: [u8; 3] = [20, 40, 200];

/// Red, with a green quarter on the right at the top and a blue one on the left at the bottom.
fn colors() -> RgbImage {
    RgbImage::from_fn(SIZE.0, SIZE.1, |x, y| match (x < 24, y < 16) {
        (false, true) => Rgb(GREEN),
        (true, false) => Rgb(BLUE),
        _ => Rgb(RED),
    })
}

/// Fails unless a picture looks like [`colors`].
#[track_caller]
fn assert_colors(picture: &RgbImage, what: &str) {
    assert_eq!(picture.dimensions(), SIZE, "{what}");
    for (x, y, expected) in [(8, 8, RED), (40, 8, GREEN), (8, 24, BLUE), (40, 24, RED)] {
        let found = picture.get_pixel(x, y).0;
        let differs = (0..3).any(|i| found[i].abs_diff(expected[i]) > 40);
        assert!(!differs, "{what}: {found:?} at {x}, {y}");
    }
}

fn write(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = picture.write_to(&mut Cursor::new(&mut bytes), format);
    written.expect("this format has an encoder");
    bytes
}

/// [`colors`] as a file.
fn file(format: ImageFormat) -> Vec<u8> {
    write(&colors().into(), format)
}

/// A picture with enough in it that a cut is a cut.
fn noise(format: ImageFormat) -> Vec<u8> {
    let mut seed = 1_u32;
    let noise = RgbImage::from_fn(96, 64, |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Rgb((seed >> 8).to_le_bytes()[..3]
            .try_into()
            .expect("three of four"))
    });
    write(&noise.into(), format)
}

/// A name with the right suffix.
fn name(format: ImageFormat) -> String {
    format!("photo.{}", format.extensions_str()[0])
}

fn read(bytes: &[u8], name: &str) -> Result<Picture, Error> {
    face_picture::read(bytes, Path::new(name))
}
