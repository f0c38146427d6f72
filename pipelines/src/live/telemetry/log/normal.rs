//! What GStreamer's messages are worth. Its elements call an error, or a warning, what is part of every day: a viewer
//! who is asked for a password, a camera that is switched off, a stream that ends.

use tracing::Level;

/// Messages of normal operation: a category, and a part of the text (empty: all of it).
const NORMAL: &[(&str, &str)] = &[
    // What is wrong with a camera is on the bus, too, and said once by its thread.
    ("rtspsrc", ""),
    ("default", "failed to connect: "),
    ("basesrc", "pad not activated yet"),
    // Every viewer is asked for the password by a refusal; wrong ones are counted by the restream server.
    ("rtspclient", "not authorized to see factory path"),
    // Why there is none is said before it.
    ("rtspclient", ": no media"),
    ("rtspclient", ": can't create media"),
    // A viewer begins, and goes.
    ("rtpsession", "without knowing configured latency"),
    ("rtspmedia", "was not prepared"),
    // A key frame is asked for soon after another one.
    ("x264enc", "forced frame type"),
    // A decoder begins or ends between two key frames.
    ("libav", "reference picture"),
    ("libav", "POC"),
    // A pipeline ends while data is on its way.
    ("GST_PADS", "could not send sticky events"),
    // Parts of MP4 files that nobody needs.
    ("qtdemux", "unknown QuickTime node type"),
    ("qtdemux", "failed to find fragment defaults"),
];

/// The level of a message that GStreamer calls an error or a warning. An error of an element that ends its
/// pipeline is on the bus, and said from there with what follows from it; so none is more than a warning
/// here.
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
            ("v4l2", "no media", Level::WARN),
        ] {
            assert_eq!(level(category, Level::ERROR, text), expected, "{text}");
        }
        assert_eq!(level("any", Level::WARN, "x"), Level::WARN);
        assert_eq!(level("any", Level::INFO, "x"), Level::INFO);
        assert_eq!(level("rtspsrc", Level::TRACE, "x"), Level::TRACE);
    }
}
