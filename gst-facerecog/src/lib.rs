//! The element `facerecognizer`.

mod facerecognizer;
pub mod recognizer;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    facerecognizer::register(plugin)
}

gst::plugin_define!(
    facerecog,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
