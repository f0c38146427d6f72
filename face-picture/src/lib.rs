//! Reads pictures as people have them.
//!
//! [`read`] gives the picture upright and without alpha, [`decode`] as it is stored otherwise, and
//! [`animation`] the frames of one that moves. All hold the [limits](MOST_BYTES) before they take memory.
//! Files that are cut short or damaged are errors: no half of a picture is given out. [`Kind`] tells what a
//! file is.

mod animation;
mod error;
mod heif;
mod jpeg;
mod kind;
mod limits;
mod orientation;
mod pages;

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageReader, Rgb, RgbImage};

pub use animation::{Animation, Moment, animation, is_animated};
pub use error::Error;
pub use heif::is_available as has_libheif;
use jpeg::Fault;
pub use kind::{HEAD, Kind};
pub use limits::{MOST_BYTES, MOST_FRAMES, MOST_PIXELS_A_SIDE};

/// A picture as it was stored, but upright.
pub struct Decoded {
    pub image: DynamicImage,
    pub kind: Kind,
    /// What users may not expect, as in `2 pages; the first is used`.
    pub notes: Vec<String>,
}

/// An upright picture without alpha.
pub struct Picture {
    pub image: RgbImage,
    pub kind: Kind,
    /// What users may not expect, as in `2 pages; the first is used`.
    pub notes: Vec<String>,
}

/// Reads the picture at `path`.
///
/// # Errors
/// If it is no picture, is damaged, or exceeds the limits.
pub fn open(path: &Path) -> Result<Picture, Error> {
    read(&bytes(path)?, path)
}

/// The bytes of the file at `path`, which may be a pipe.
///
/// # Errors
/// If it cannot be read, or has more than [`MOST_BYTES`].
pub fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::reading(path, error);
    let file = File::open(path).map_err(failed)?;
    let said = file.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if said <= MOST_BYTES {
        // One byte more, so that reading to the end needs no second allocation.
        bytes
            .try_reserve_exact(said as usize + 1)
            .map_err(|_| Error::TooLong)?;
        let mut file = file.take(MOST_BYTES + 1);
        file.read_to_end(&mut bytes).map_err(failed)?;
    }
    match said.max(bytes.len() as u64) > MOST_BYTES {
        true => Err(Error::TooLong),
        false => Ok(bytes),
    }
}

/// Reads a picture. Its name, if there is one, tells what contents alone do not.
///
/// Pixels that are transparent are shown on grey.
///
/// # Errors
/// If it is no picture, is damaged, or exceeds the limits.
pub fn read(bytes: &[u8], name: &Path) -> Result<Picture, Error> {
    let Decoded { image, kind, notes } = decode(bytes, name)?;
    Ok(Picture {
        image: flatten(image),
        kind,
        notes,
    })
}

/// Reads a picture, with alpha if it has some. See [`read`].
///
/// # Errors
/// As of [`read`].
pub fn decode(bytes: &[u8], name: &Path) -> Result<Decoded, Error> {
    let kind = Kind::of(bytes).or_by_name(name);
    let bytes = match kind {
        Kind::Jpeg => &bytes[kind::prefix(bytes).unwrap_or(0)..],
        _ => bytes,
    };
    let image = match kind {
        Kind::Heic | Kind::Avif => heif::decode(bytes, kind)?,
        kind => raster(bytes, kind)?,
    };
    if image.width() == 0 || image.height() == 0 {
        return Err(Error::Damaged(kind, "it has no pixels".into()));
    }
    let mut notes = Vec::new();
    if kind == Kind::Tiff {
        let pages = pages::count(bytes);
        if pages > 1 {
            notes.push(format!("{pages} pages; the first is used"));
        }
    }
    if is_animated(bytes) {
        notes.push("it moves; the first frame is used".into());
    }
    Ok(Decoded { image, kind, notes })
}

/// Reads a picture of a format that `image` knows.
fn raster(bytes: &[u8], kind: Kind) -> Result<DynamicImage, Error> {
    let format = kind.format().ok_or(Error::not(kind))?;
    if kind == Kind::Jpeg {
        match jpeg::fault(bytes) {
            None => {}
            Some(Fault::CutShort) => return Err(Error::CutShort(kind)),
            Some(Fault::Damaged(how)) => return Err(Error::Damaged(kind, how.into())),
        }
    }
    if kind == Kind::WebP && is_shorter_than_it_says(bytes) {
        return Err(Error::CutShort(kind));
    }
    let failed = |size| move |error| Error::decoding(kind, &error, size);
    if kind == Kind::Png {
        let header = PngDecoder::with_limits(Cursor::new(bytes), limits::of_header(bytes.len()));
        return pixels(header.map_err(failed((0, 0)))?, kind, bytes);
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    // Without limits at first, as their errors do not tell the size.
    reader.no_limits();
    pixels(reader.into_decoder().map_err(failed((0, 0)))?, kind, bytes)
}

/// Decodes a picture whose header is read, upright.
fn pixels(mut decoder: impl ImageDecoder, kind: Kind, bytes: &[u8]) -> Result<DynamicImage, Error> {
    let failed = |size| move |error| Error::decoding(kind, &error, size);
    let size = decoder.dimensions();
    limits::check(size.0, size.1, decoder.total_bytes())?;
    decoder
        .set_limits(limits::of_decoder())
        .map_err(failed(size))?;
    let turn = orientation::of(&mut decoder, kind, bytes);
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed(size))?;
    image.apply_orientation(turn);
    Ok(image)
}

/// Whether a RIFF file ends before the length in its header.
fn is_shorter_than_it_says(bytes: &[u8]) -> bool {
    let length = bytes.get(4..).and_then(|rest| rest.first_chunk());
    length.is_some_and(|length| bytes.len() < u32::from_le_bytes(*length) as usize + 8)
}

/// What transparent pixels show: neither as dark nor as bright as most hidden colours.
const BACKGROUND: u8 = 128;

/// A picture without alpha.
fn flatten(image: DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let (width, height) = image.dimensions();
    let image = image.into_rgba8();
    let mut out = RgbImage::new(width, height);
    for (to, from) in out.pixels_mut().zip(image.pixels()) {
        let [r, g, b, alpha] = from.0.map(u32::from);
        let mix = |color: u32| {
            ((color * alpha + u32::from(BACKGROUND) * (255 - alpha) + 127) / 255) as u8
        };
        *to = Rgb([mix(r), mix(g), mix(b)]);
    }
    out
}
