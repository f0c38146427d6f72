//! The element `facedetector` and the decoders of its models.

mod close_up;
pub mod decoder;
pub mod detector;
mod facedetector;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    facedetector::register(plugin)
}

gst::plugin_define!(
    facedetect,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
