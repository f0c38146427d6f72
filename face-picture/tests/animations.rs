use std::io::Cursor;
use std::time::Duration;

use face_picture::{animation, is_animated};
use image::codecs::gif::GifEncoder;
use image::{Delay, DynamicImage, Frame, ImageFormat};

use crate::{SIZE, assert_colors, colors, file, read};

/// A GIF of frames that stay for these times in milliseconds.
fn gif(delays: &[u32]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = GifEncoder::new(&mut bytes);
    encoder
        .set_repeat(image::codecs::gif::Repeat::Infinite)
        .expect("writable");
    for delay in delays {
        let picture = DynamicImage::from(colors()).into_rgba8();
        let delay = Delay::from_numer_denom_ms(*delay, 1);
        let frame = Frame::from_parts(picture, 0, 0, delay);
        encoder.encode_frame(frame).expect("writable");
    }
    drop(encoder);
    bytes.into_inner()
}

#[test]
fn an_animation_ends_after_its_last_frame() {
    let bytes = gif(&[200, 0, 10, 50]);
    let frames = animation(&bytes).expect("readable").expect("it moves");
    let mut times = Vec::new();
    for frame in frames {
        let frame = frame.expect("whole");
        assert_eq!(frame.image.dimensions(), SIZE);
        assert_colors(&frame.image, "a frame");
        times.push(frame.duration);
    }
    // Browsers show frames without a time for a tenth of a second.
    assert_eq!(times, [200, 100, 100, 50].map(Duration::from_millis));
    let still = read(&bytes, "x.gif").expect("readable");
    assert_eq!(still.notes, ["it moves; the first frame is used"]);
}

#[test]
fn stills_are_no_animations() {
    assert!(is_animated(&gif(&[100, 100])));
    assert!(!is_animated(&gif(&[100])));
    for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Jpeg] {
        let bytes = file(format);
        assert!(!is_animated(&bytes), "{format:?}");
        assert!(animation(&bytes).expect("readable").is_none(), "{format:?}");
    }
}

#[test]
fn an_animation_that_is_cut_short_ends_with_an_error() {
    let bytes = gif(&[100; 5]);
    let cut = &bytes[..bytes.len() * 7 / 10];
    let frames = animation(cut)
        .expect("its header is there")
        .expect("it moves");
    let frames: Vec<_> = frames.collect();
    assert!(frames.len() < 6 && frames.last().is_some_and(Result::is_err));
}
