//! Notices videos that are to be shown turned, and are not.

use gst::glib;
use gst::prelude::*;

/// The most elements to look at.
const FARTHEST: usize = 100;

/// How the stream before `pad` is to be turned, by its tags, if nothing there turns it.
pub fn untreated(tags: &gst::TagListRef, pad: &gst::Pad) -> Option<String> {
    let orientation = tags.get::<gst::tags::ImageOrientation>()?;
    let orientation = orientation.get();
    // videoflip of GStreamer 1.22 turns frames, but leaves the tag.
    (orientation != "rotate-0" && !is_turned(pad)).then(|| orientation.to_owned())
}

/// Whether an element before `pad` turns the video.
fn is_turned(pad: &gst::Pad) -> bool {
    let mut pad = pad.clone();
    for _ in 0..FARTHEST {
        let Some(element) = source(&pad).and_then(|pad| pad.parent_element()) else {
            return false;
        };
        if turns(&element) {
            return true;
        }
        let Some(sink) = element.sink_pads().into_iter().next() else {
            return false;
        };
        pad = sink;
    }
    false
}

/// The pad of the element before `pad`, through the walls of bins.
fn source(pad: &gst::Pad) -> Option<gst::Pad> {
    let mut peer = pad.peer()?;
    for _ in 0..FARTHEST {
        peer = match peer.downcast_ref::<gst::GhostPad>() {
            // Into a bin.
            Some(ghost) => ghost.target()?,
            // Out of a bin.
            None => match peer.parent().and_downcast::<gst::GhostPad>() {
                Some(ghost) => ghost.peer()?,
                None => return Some(peer),
            },
        };
    }
    None
}

/// Whether an element turns its video.
fn turns(element: &gst::Element) -> bool {
    let interface = glib::Type::from_name("GstVideoDirection");
    if !interface.is_some_and(|interface| element.type_().is_a(interface)) {
        return false;
    }
    let direction = element.property_value("video-direction");
    glib::EnumValue::from_value(&direction).is_none_or(|(_, value)| value.nick() != "identity")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(orientation: &str) -> gst::TagList {
        let mut tags = gst::TagList::new();
        tags.make_mut()
            .add::<gst::tags::ImageOrientation>(&orientation, gst::TagMergeMode::Replace);
        tags
    }

    /// What is untreated at the end of a pipeline.
    fn at_the_end(line: &str, orientation: &str) -> Option<String> {
        gst::init().expect("GStreamer starts");
        let line = format!("{line} ! fakesink name=end");
        let pipeline = gst::parse::launch(&line).expect("a valid line");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("a pipeline");
        let end = pipeline.by_name("end").expect("named above");
        let pad = end.static_pad("sink").expect("a sink has one");
        untreated(&tags(orientation), &pad)
    }

    #[test]
    fn a_turn_is_treated_by_an_element_before() {
        let line = "videotestsrc ! videoflip video-direction=auto ! queue";
        assert_eq!(at_the_end(line, "rotate-90"), None);
        for line in ["videotestsrc ! queue", "videotestsrc ! videoflip ! queue"] {
            assert_eq!(at_the_end(line, "rotate-0"), None, "{line}");
            let untreated = at_the_end(line, "rotate-90");
            assert_eq!(untreated.as_deref(), Some("rotate-90"), "{line}");
        }
    }
}
