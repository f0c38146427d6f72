//! Labels in MOTChallenge text, and the file of names, as `facepipe evaluate` reads them.
#![no_main]

use std::collections::HashMap;

use face_analysis::evaluate::truth::{Truth, read_names};
use gst_face_fuzz::check;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let names = str::from_utf8(data)
        .ok()
        .and_then(|text| read_names(text).ok());
    if let Ok(truth) = Truth::read(data, &names.unwrap_or_else(HashMap::new)) {
        check(&truth);
    }
});
