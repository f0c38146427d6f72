//! The edits of an ONNX graph, made before ONNX Runtime loads it.
#![no_main]

use face_core::model::Dimension;
use face_core::onnx::adapt;
use gstfacedetect::decoder::heads::{YUNET, merge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let shape = [
        Dimension::Fixed(1),
        Dimension::Fixed(3),
        Dimension::Symbol("H".into()),
        Dimension::Symbol("W".into()),
    ];
    for input in ["x", "input", ""] {
        if let Ok(adapted) = adapt(data, input, &shape) {
            // Nothing grows except the shape of the input.
            assert!(adapted.len() <= data.len() + 256);
            assert_eq!(adapt(&adapted, input, &shape).as_deref(), Ok(&*adapted));
            // A small graph has only the first head.
            for heads in [&YUNET[..1], &YUNET] {
                let merged = merge(&adapted, heads, str::to_owned);
                if let Some(merged) = merged.expect("it was taken apart before") {
                    // Two parts may share weights, which are then copied.
                    assert!(merged.len() <= 4 * adapted.len() + 1024 * heads.len());
                    assert_eq!(merge(&merged, heads, str::to_owned), Ok(None));
                }
            }
        }
    }
});
