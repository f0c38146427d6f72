//! The element `facemetaoverlay`: draws each face's metadata. Every track has its own colour;
//! predicted boxes are dashed.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     facemetaoverlay ! videoconvert ! autovideosink
//! ```
//!
//! If downstream composes overlays itself (`meta:GstVideoOverlayComposition` in its caps and in its
//! answer to the allocation query), the drawing travels as metadata next to the picture, in any
//! memory. Otherwise it is blended into the picture, which must then be in system memory. A frame
//! without faces passes untouched.

mod blend;
mod color;
mod draw;
mod imp;
mod label;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceMetaOverlay(ObjectSubclass<imp::FaceMetaOverlay>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "facemetaoverlay",
        gst::Rank::NONE,
        FaceMetaOverlay::static_type(),
    )
}
