//! The element `facetracker` and its association algorithms.

mod bytetrack;
mod descriptor;
mod facetracker;
mod iou;
mod kalman;
mod ocsort;
mod sight;
pub mod tracker;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    facetracker::register(plugin)
}

gst::plugin_define!(
    facetrack,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
