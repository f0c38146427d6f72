//! The element `facepicturedecoder`: the bytes of a picture in, upright RGB video out.
//!
//! It reads what `facepipe enroll` and `facepipe analyze` read, and in the same way: JPEG, PNG, GIF, WebP,
//! TIFF and more, HEIC and AVIF if the system has libheif, upright by their EXIF or XMP orientation. A file
//! that is cut short or damaged is an error.
//!
//! ```text
//! gst-launch-1.0 filesrc location=group.jpg ! facepicturedecoder ! facedetector ! facemetajson ! fdsink
//! ```
//!
//! A stream of bytes is one picture. In a stream with times (`multifilesrc caps=…`), each buffer is one.
//! With `animation`, GIF, WebP and APNG give all their frames, once.

mod imp;

use glib::prelude::*;

glib::wrapper! {
    pub struct FacePictureDecoder(ObjectSubclass<imp::FacePictureDecoder>)
        @extends gst::Element, gst::Object;
}

/// Without a rank: `decodebin` goes on to choose other decoders.
pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "facepicturedecoder",
        gst::Rank::NONE,
        FacePictureDecoder::static_type(),
    )
}
