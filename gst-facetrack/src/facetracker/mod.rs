//! The element `facetracker`: gives each face a track. It accepts video of any format in any memory, and
//! looks at the pixels of raw video in system memory.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector interval=4 ! \
//!     facetracker ! facemetajson ! fdsink
//! ```

mod eyes;
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

/// The property `appearance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstFaceTrackerAppearance")]
pub enum Appearance {
    #[default]
    #[enum_value(name = "Where the places of faces leave a doubt", nick = "auto")]
    Auto,
    #[enum_value(name = "Never; no pixel is read", nick = "none")]
    None,
    #[enum_value(name = "On every frame", nick = "always")]
    Always,
}

impl From<Appearance> for tracker::Appearance {
    fn from(appearance: Appearance) -> Self {
        match appearance {
            Appearance::Auto => Self::Auto,
            Appearance::None => Self::None,
            Appearance::Always => Self::Always,
        }
    }
}

impl From<tracker::Appearance> for Appearance {
    fn from(appearance: tracker::Appearance) -> Self {
        match appearance {
            tracker::Appearance::Auto => Self::Auto,
            tracker::Appearance::None => Self::None,
            tracker::Appearance::Always => Self::Always,
        }
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Algorithm::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        Appearance::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "facetracker",
        gst::Rank::NONE,
        FaceTracker::static_type(),
    )
}
