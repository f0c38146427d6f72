//! The elements that consume face metadata: `facemetajson` prints it, `facemetaoverlay` draws it,
//! `facemetablur` hides the faces.

use std::sync::{Mutex, MutexGuard, PoisonError};

mod facemetablur;
mod facemetajson;
mod facemetaoverlay;

/// Locks; what a thread that panicked left behind is used as it is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    facemetajson::register(plugin)?;
    facemetaoverlay::register(plugin)?;
    facemetablur::register(plugin)
}

gst::plugin_define!(
    facemeta,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_REPOSITORY"),
    env!("BUILD_REL_DATE")
);
