//! The element `facetracker`: gives each face a track. It reads no pixels, so it accepts video of
//! any format in any memory.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector interval=4 ! \
//!     facetracker ! facemetajson ! fdsink
//! ```

mod imp;

use glib::prelude::*;

use crate::tracker;

glib::wrapper! {
    pub struct FaceTracker(ObjectSubclass<imp::FaceTracker>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// The property `algorithm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstFaceTrackerAlgorithm")]
pub enum Algorithm {
    #[default]
    #[enum_value(name = "OC-SORT: observation-centric Kalman tracking", nick = "ocsort")]
    OcSort,
    #[enum_value(
        name = "ByteTrack: confident faces first, then doubtful ones",
        nick = "bytetrack"
    )]
    ByteTrack,
    #[enum_value(
        name = "Overlap with the previous frame; a track ends at the first miss",
        nick = "iou"
    )]
    Iou,
}

impl From<Algorithm> for tracker::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::OcSort => Self::OcSort,
            Algorithm::ByteTrack => Self::ByteTrack,
            Algorithm::Iou => Self::Iou,
        }
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Algorithm::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "facetracker",
        gst::Rank::NONE,
        FaceTracker::static_type(),
    )
}
