//! The element `faceagegender`: estimates age and gender of each face. For tracks it reports the
//! mean age and the majority gender over the track.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     faceagegender ! facemetajson ! fdsink
//! ```

mod imp;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceAgeGender(ObjectSubclass<imp::FaceAgeGender>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

face_core::late_enum!("GstFaceAgeGenderLate");

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Late::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "faceagegender",
        gst::Rank::NONE,
        FaceAgeGender::static_type(),
    )
}
