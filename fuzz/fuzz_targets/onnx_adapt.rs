//! The edits of an ONNX graph, before ONNX Runtime sees it.
#![no_main]

use face_core::model::Dimension;
use face_core::onnx::adapt;
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
        }
    }
});
