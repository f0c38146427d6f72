//! Elements that use face metadata: `facemetajson` prints it, `facemetaoverlay` draws it, and
//! `facemetablur` hides the faces. And `facepicturedecoder`, which decodes pictures for all of them.

mod facemetablur;
mod facemetajson;
mod facemetaoverlay;
mod facepicturedecoder;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    facemetajson::register(plugin)?;
    facemetaoverlay::register(plugin)?;
    facemetablur::register(plugin)?;
    facepicturedecoder::register(plugin)
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
