//! The element `facemetablur`: hides the faces of the metadata in the picture.
//!
//! ```text
//! gst-launch-1.0 filesrc location=clip.mp4 ! decodebin ! facedetector ! facetracker ! \
//!     facemetablur ! videoconvert ! autovideosink
//! ```
//!
//! A detector misses faces, and if it examines only every Nth frame, it finds a new one some frames
//! late. So a face stays hidden for `hold` ms after its last box. With `look-back`, frames wait
//! that long, and a face that appears is already hidden on the frames that waited.
//!
//! The pixels are changed in place, in the frame's own format. Shared memory is copied first, and a
//! frame with nothing to hide passes untouched. Metadata and alpha stay.
//! before, and a frame with nothing to hide passes untouched. Metadata and alpha stay.

mod effect;
mod hider;
mod imp;
mod paint;
mod planes;
mod region;
mod selection;
mod settings;
mod timeline;
mod trust;

use glib::prelude::*;

glib::wrapper! {
    pub struct FaceMetaBlur(ObjectSubclass<imp::FaceMetaBlur>)
        @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

/// The property `mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstFaceMetaBlurMode")]
pub enum Mode {
    #[default]
    #[enum_value(name = "Blur", nick = "blur")]
    Blur,
    #[enum_value(name = "Blocks of one colour", nick = "pixelate")]
    Pixelate,
    #[enum_value(name = "Fill with a colour", nick = "fill")]
    Fill,
    #[enum_value(name = "Cover with a picture", nick = "picture")]
    Picture,
}

/// The property `target`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstFaceMetaBlurTarget")]
pub enum Target {
    #[default]
    #[enum_value(name = "Every face", nick = "all")]
    All,
    #[enum_value(
        name = "Faces without a name, and those not named yet",
        nick = "unknown"
    )]
    Unknown,
    #[enum_value(
        name = "All faces except the people in names (empty: except everybody with a name)",
        nick = "all-but-named"
    )]
    AllButNamed,
    #[enum_value(
        name = "The people in names (empty: everybody with a name), and faces not named yet",
        nick = "named"
    )]
    Named,
}

/// The property `shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstFaceMetaBlurShape")]
pub enum Shape {
    #[default]
    #[enum_value(name = "The box", nick = "rectangle")]
    Rectangle,
    #[enum_value(name = "The ellipse around the box", nick = "ellipse")]
    Ellipse,
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    #[cfg(feature = "doc")]
    {
        use gst::prelude::PluginApiExt as _;
        Mode::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        Target::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
        Shape::static_type().mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "facemetablur",
        gst::Rank::NONE,
        FaceMetaBlur::static_type(),
    )
}
