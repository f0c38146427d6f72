//! The element `facedetector`: finds the faces of each frame and adds a region and an entry in
//! `GstFaceMeta` for each. Pixels are only read.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facemetajson ! fdsink
//! ```

mod flight;
mod imp;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceDetector(ObjectSubclass<imp::FaceDetector>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

face_core::late_enum!("GstFaceDetectorLate");

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "facedetector",
        gst::Rank::NONE,
        FaceDetector::static_type(),
    )
}
