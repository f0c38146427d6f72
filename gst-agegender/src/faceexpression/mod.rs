//! The element `faceexpression`: tells the expression of each face. For tracks it reports the mean
//! over the last second.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     faceexpression ! facemetajson ! fdsink
//! ```

mod imp;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceExpression(ObjectSubclass<imp::FaceExpression>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

face_core::late_enum!("GstFaceExpressionLate");

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Late::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "faceexpression",
        gst::Rank::NONE,
        FaceExpression::static_type(),
    )
}
