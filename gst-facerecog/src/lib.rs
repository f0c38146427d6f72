//! The element `facerecognizer`, its gallery, and its votes.

mod evidence;
mod facerecognizer;
pub mod gallery;
pub mod quality;
pub mod recognizer;
pub mod vote;

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
