//! The elements `faceagegender` and `faceexpression`, and their estimators.

mod classes;
pub mod estimator;
pub mod expression;
mod faceagegender;
mod faceexpression;
mod quality;
pub mod summary;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    faceagegender::register(plugin)?;
    faceexpression::register(plugin)
}

gst::plugin_define!(
    agegender,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
