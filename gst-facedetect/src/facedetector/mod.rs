//! The element `facedetector`: finds the faces of each frame and adds a region and an entry in
//! `GstFaceMeta` for each. Pixels are only read.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! videoconvert ! \
//!     videoflip video-direction=auto ! facedetector ! facemetajson ! fdsink
//! ```

mod flight;
mod imp;
mod task;
mod upright;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceDetector(ObjectSubclass<imp::FaceDetector>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

face_core::late_enum!("GstFaceDetectorLate");

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Late::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "facedetector",
        gst::Rank::NONE,
        FaceDetector::static_type(),
    )
}
