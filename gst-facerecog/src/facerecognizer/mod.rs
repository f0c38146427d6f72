//! The element `facerecognizer`: names each face after a person in a gallery. Tracks are named by all of
//! their embeddings together.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     facerecognizer gallery=friends.safetensors ! facemetajson ! fdsink
//! ```

mod galleries;
mod imp;
mod look;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceRecognizer(ObjectSubclass<imp::FaceRecognizer>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

face_core::late_enum!("GstFaceRecognizerLate");

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Late::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "facerecognizer",
        gst::Rank::NONE,
        FaceRecognizer::static_type(),
    )
}
