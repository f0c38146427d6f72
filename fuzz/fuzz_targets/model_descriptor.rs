//! The descriptor of a model.
#![no_main]

use face_core::model::{Alignment, Descriptor};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    if let Ok(descriptor) = Descriptor::parse(text) {
        if let Some((height, width)) = descriptor.fixed_size() {
            assert!(height * width <= face_core::model::MOST_INPUT_PIXELS);
        }
        descriptor.output("heatmap");
        if let Some(Alignment::Template(template)) = &descriptor.alignment {
            assert!(template.points().len() >= 2);
        }
    }
});
