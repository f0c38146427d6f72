use std::str::FromStr;

use gst::PadDirection::{Sink, Src};

use super::*;

fn check(caps: &str, direction: gst::PadDirection, declined: bool, expected: &str) {
    gst::init().expect("GStreamer starts");
    let caps = gst::Caps::from_str(caps).expect("is caps");
    let other = transform(&caps, direction, declined);
    let expected = if expected == "EMPTY" {
        gst::Caps::new_empty()
    } else {
        gst::Caps::from_str(expected).expect("is caps")
    };
    assert!(
        other.is_strictly_equal(&expected),
        "{other} instead of {expected}"
    );
}

#[test]
fn plain_pictures_may_get_the_meta() {
    let plain = "video/x-raw, format=I420, width=4, height=4, framerate=25/1";
    let both = "video/x-raw(memory:SystemMemory, meta:GstVideoOverlayComposition), format=I420, width=4, height=4, framerate=25/1; \
                video/x-raw, format=I420, width=4, height=4, framerate=25/1";
    let meta = "video/x-raw(memory:SystemMemory, meta:GstVideoOverlayComposition), format=I420, width=4, height=4, framerate=25/1";
    check(plain, Sink, false, both);
    check(plain, Sink, true, plain);
    check(meta, Sink, false, meta);
    check(plain, Src, false, plain);
}

#[test]
fn other_memory_needs_the_meta() {
    let plain = "video/x-raw(memory:GLMemory), format=RGBA";
    let meta = "video/x-raw(memory:GLMemory, meta:GstVideoOverlayComposition), format=RGBA";
    check(plain, Sink, false, meta);
    check(plain, Sink, true, meta);
    check(plain, Src, false, "EMPTY");
    let both = format!("{plain}; {meta}");
    check(meta, Src, false, &both);
}

#[test]
fn settings_reach_the_toggles() {
    let mut settings = Settings::default();
    for toggle in &TOGGLES {
        let before = *(toggle.of)(&mut settings);
        *(toggle.of)(&mut settings) = !before;
    }
    assert!(settings.parts.track && !settings.outline && !settings.predicted);
}
