//! The edits of an ONNX graph, before ONNX Runtime sees it.
#![no_main]

use face_core::model::Dimension;
use face_core::onnx::adapt;
use face_core::onnx::heads::{YUNET, merge};
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
            // Nothing grows but the shape of the one input.
            assert!(adapted.len() <= data.len() + 256);
            assert_eq!(adapt(&adapted, input, &shape).as_deref(), Ok(&*adapted));
            // The first alone is as much as a small graph has.
            for heads in [&YUNET[..1], &YUNET] {
                let merged = merge(&adapted, heads, str::to_owned);
                if let Some(merged) = merged.expect("it was taken apart before") {
                    // Two parts may share their weights, which are copied then.
                    assert!(merged.len() <= 4 * adapted.len() + 1024 * heads.len());
                    assert_eq!(merge(&merged, heads, str::to_owned), Ok(None));
                }
            }
        }
    }
});
