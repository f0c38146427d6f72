//! Labels in CVAT XML, as `facepipe evaluate` reads them.
#![no_main]

use std::collections::HashMap;

use face_analysis::evaluate::cvat;
use gst_face_fuzz::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(truth) = cvat::read(data, &HashMap::new()) {
        check(&truth);
    }
});
