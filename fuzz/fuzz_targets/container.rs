//! The headers of MP4 and Matroska files, which `facepipe` reads before GStreamer does.
#![no_main]

use std::io::Cursor;

use face_parts::source::container::{Overview, concerns, correct};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let length = data.len() as u64;
    let Ok(Some(overview)) = Overview::read(&mut Cursor::new(data)) else {
        return;
    };
    assert!(overview.promised.is_none_or(|promised| promised > length));
    let _ = overview.flaw(length);
    for correction in &overview.corrections {
        // Corrections replace what was read.
        assert!(correction.offset + correction.bytes.len() as u64 <= length);
    }
    let mut corrected = data.to_vec();
    let changed = correct(&mut corrected, 0, &overview.corrections);
    assert!(!changed || concerns(0, length, &overview.corrections));
    // In any blocks, the same comes out.
    let mut blocks = data.to_vec();
    for (index, block) in blocks.chunks_mut(7).enumerate() {
        correct(block, 7 * index as u64, &overview.corrections);
    }
    assert_eq!(corrected, blocks);
});
