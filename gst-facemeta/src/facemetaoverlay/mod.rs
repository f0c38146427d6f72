//! The element `facemetaoverlay`: draws what the metadata says of each face. Every track has a
//! colour of its own; predicted boxes are dashed.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     facemetaoverlay ! videoconvert ! autovideosink
//! ```
//!
//! Where downstream composes overlays by itself (`meta:GstVideoOverlayComposition` in its caps and
//! in its answer to the allocation query), the drawing travels beside the picture, in whatever
//! memory that is. Otherwise it is blended into the picture, which then must be in system memory.
//! A frame without faces passes untouched.

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
