//! Pictures of any kind, as `enroll`, `analyze` and `facepicturedecoder` read them. Without HEIC and AVIF,
//! which the system's libheif reads.
#![no_main]

use std::path::Path;

use face_picture::{Kind, MOST_PIXELS_A_SIDE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if matches!(Kind::of(data), Kind::Heic | Kind::Avif) {
        return;
    }
    // The name counts where contents tell nothing.
    for name in ["photo.jpg", "photo.tga"] {
        if let Ok(picture) = face_picture::read(data, Path::new(name)) {
            let (width, height) = picture.image.dimensions();
            assert!(width > 0 && width <= MOST_PIXELS_A_SIDE);
            assert!(height > 0 && height <= MOST_PIXELS_A_SIDE);
        }
    }
    if let Ok(Some(frames)) = face_picture::animation(data) {
        for frame in frames.take(10) {
            let Ok(frame) = frame else { break };
            assert!(!frame.duration.is_zero());
        }
    }
});
