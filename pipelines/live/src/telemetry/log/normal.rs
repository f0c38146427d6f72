//! Lowers the level of some GStreamer messages. Its elements report everyday situations as errors
//! or warnings: a viewer who is asked for a password, a camera that is switched off, a stream that
//! ends.

use tracing::Level;

/// Messages of normal operation: a category, and a part of the text (empty: all messages).
const NORMAL: &[(&str, &str)] = &[
    // Problems of a camera are also on the bus, and its thread logs them once.
    ("rtspsrc", ""),
    ("default", "failed to connect: "),
    // A camera refuses the transport, which this calls a missing plug-in.
    ("uridecodebin", "gst_rtspsrc_setup_streams"),
    ("basesrc", "pad not activated yet"),
    // Every viewer is first refused, to be asked for the password. The restream server counts wrong
    // ones.
    ("rtspclient", "not authorized to see factory path"),
    // An earlier message gives the reason.
    ("rtspclient", ": no media"),
    ("rtspclient", ": can't create media"),
    // A viewer starts and leaves.
    ("rtpsession", "without knowing configured latency"),
    ("rtspmedia", "was not prepared"),
    // A keyframe is requested soon after another one.
    ("x264enc", "forced frame type"),
    // A decoder starts or ends between two keyframes.
    ("libav", "reference picture"),
    ("libav", "POC"),
    // A pipeline ends while data is under way.
    ("GST_PADS", "could not send sticky events"),
    // Parts of MP4 files that nobody needs.
    ("qtdemux", "unknown QuickTime node type"),
    ("qtdemux", "failed to find fragment defaults"),
];

/// The level of a message that GStreamer calls an error or a warning. Here none exceeds a warning:
/// an error that ends an element's pipeline is also on the bus, and is logged from there with its
/// consequences.
pub fn level(category: &str, level: Level, text: &str) -> Level {
    let is_normal = NORMAL
        .iter()
        .any(|(known, part)| category == *known && text.contains(part));
    match is_normal {
        true => level.max(Level::DEBUG),
        false => level.max(Level::WARN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_normal_is_no_warning_and_nothing_is_an_error() {
        for (category, text, expected) in [
            (
                "rtspclient",
                "client 0x562363560180: not authorized to see factory path /door",
                Level::DEBUG,
            ),
            (
                "rtspclient",
                "client 0x562363560180: no media",
                Level::DEBUG,
            ),
            (
                "rtspclient",
                "client 0x562363560180: no factory for path /none",
                Level::WARN,
            ),
            ("rtspsrc", "Could not connect to server.", Level::DEBUG),
            (
                "uridecodebin",
                "no suitable plugins found:\ngstrtspsrc.c(7894): gst_rtspsrc_setup_streams_start ()",
                Level::DEBUG,
            ),
            ("uridecodebin", "no suitable plugins found:", Level::WARN),
            ("v4l2", "no media", Level::WARN),
        ] {
            assert_eq!(level(category, Level::ERROR, text), expected, "{text}");
        }
        assert_eq!(level("any", Level::WARN, "x"), Level::WARN);
        assert_eq!(level("any", Level::INFO, "x"), Level::INFO);
        assert_eq!(level("rtspsrc", Level::TRACE, "x"), Level::TRACE);
    }
}
