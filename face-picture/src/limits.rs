//! What a picture may take.

/// The most bytes of a picture's file, and of its decoded form. (Fuzzing counts allocations.)
pub const MOST_BYTES: u64 = if cfg!(fuzzing) { 1 << 24 } else { 1 << 30 };

/// The largest width and height, in pixels: what GStreamer's converters take.
pub const MOST_PIXELS_A_SIDE: u32 = 32767;

/// The most frames of an animation.
pub const MOST_FRAMES: usize = 10_000;

/// What a decoder may take besides the picture. Some decode into a buffer of their own.
const MOST_MEMORY: u64 = 5 * MOST_BYTES / 2;

use image::Limits;

use crate::Error;

/// For decoders, once the size is checked.
pub(crate) fn of_decoder() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(MOST_MEMORY);
    limits
}

/// For reading the header of a PNG of this many bytes: its colour profile is unpacked at once.
pub(crate) fn of_header(bytes: usize) -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(bytes as u64 + (64 << 20));
    limits
}

/// Checks what a header claims, before memory is taken for it.
pub(crate) fn check(width: u32, height: u32, bytes: u64) -> Result<(), Error> {
    let most = MOST_PIXELS_A_SIDE;
    if width > most || height > most || bytes > MOST_BYTES {
        return Err(Error::TooLarge(width, height));
    }
    // A program that runs out of memory ends at once.
    let mut room: Vec<u8> = Vec::new();
    room.try_reserve_exact(bytes as usize)
        .map_err(|_| Error::Memory(width, height))
}
