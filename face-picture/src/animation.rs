//! Pictures that move: GIF, WebP and APNG.

use std::io::Cursor;
use std::time::Duration;

use image::codecs::gif::GifDecoder;
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::{AnimationDecoder, DynamicImage, Frames, ImageDecoder, ImageResult, RgbImage};

use crate::limits::{self, MOST_FRAMES};
use crate::{Error, Kind, flatten};

/// For frames that stay for less than [`SHORTEST`], as browsers do.
const USUAL: Duration = Duration::from_millis(100);
const SHORTEST: Duration = Duration::from_millis(11);

/// The frames of an animation, shown once. It ends after the first error.
pub struct Animation<'a> {
    kind: Kind,
    size: (u32, u32),
    frames: Frames<'a>,
    left: usize,
}

/// A frame of an animation, and how long it stays.
pub struct Moment {
    pub image: RgbImage,
    pub duration: Duration,
}

/// The frames of a picture that moves. `None` for all others.
///
/// # Errors
/// If the header is damaged, or claims more than the limits.
pub fn animation(bytes: &[u8]) -> Result<Option<Animation<'_>>, Error> {
    let kind = Kind::of(bytes);
    let mut size = (0, 0);
    let frames = frames(kind, bytes, &mut size).map_err(|e| Error::decoding(kind, &e, size))?;
    let Some(frames) = frames else {
        return Ok(None);
    };
    // Frames are composed with alpha.
    let bytes = 4 * u64::from(size.0) * u64::from(size.1);
    limits::check(size.0, size.1, bytes)?;
    Ok(Some(Animation {
        kind,
        size,
        frames,
        left: MOST_FRAMES,
    }))
}

/// Whether a picture has more than one frame.
pub fn is_animated(bytes: &[u8]) -> bool {
    match animation(bytes) {
        Ok(Some(animation)) => animation.take(2).filter(Result::is_ok).count() == 2,
        _ => false,
    }
}

fn frames<'a>(
    kind: Kind,
    bytes: &'a [u8],
    size: &mut (u32, u32),
) -> ImageResult<Option<Frames<'a>>> {
    let length = bytes.len();
    let bytes = Cursor::new(bytes);
    // A frame may claim to be larger than the picture.
    let most = limits::of_decoder();
    Ok(match kind {
        Kind::Gif => {
            let mut decoder = GifDecoder::new(bytes)?;
            decoder.set_limits(most)?;
            *size = decoder.dimensions();
            Some(decoder.into_frames())
        }
        Kind::WebP => {
            let mut decoder = WebPDecoder::new(bytes)?;
            decoder.set_limits(most)?;
            *size = decoder.dimensions();
            decoder.has_animation().then(|| decoder.into_frames())
        }
        Kind::Png => {
            let mut decoder = PngDecoder::with_limits(bytes, limits::of_header(length))?;
            decoder.set_limits(most)?;
            *size = decoder.dimensions();
            match decoder.is_apng()? {
                true => Some(decoder.apng()?.into_frames()),
                false => None,
            }
        }
        _ => None,
    })
}

impl Iterator for Animation<'_> {
    type Item = Result<Moment, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let frame = match self.frames.next()? {
            Ok(frame) => frame,
            Err(error) => {
                self.left = 0;
                return Some(Err(Error::decoding(self.kind, &error, self.size)));
            }
        };
        let delay = Duration::from(frame.delay());
        Some(Ok(Moment {
            image: flatten(DynamicImage::from(frame.into_buffer())),
            duration: if delay < SHORTEST { USUAL } else { delay },
        }))
    }
}
