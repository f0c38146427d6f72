//! Makes up for what GStreamer's demuxers and decoders do not tell or get wrong.
//!
//! Of local files, the headers are read before ([`super::container`]). Then the source
//! hands the demuxer corrected bytes, and the demuxer's streams get the tag that it left out.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gst::prelude::*;

use super::container::{self, Correction, Kind, Overview};

/// Watches all sources and demuxers of `pipeline`, also later ones.
pub fn mend(pipeline: &gst::Pipeline) {
    pipeline.connect_deep_element_added(|_, _, element| look_at(element));
    for element in pipeline.iterate_recurse().into_iter().flatten() {
        look_at(&element);
    }
}

fn look_at(element: &gst::Element) {
    let Some(factory) = element.factory() else {
        return;
    };
    match factory.name().as_str() {
        "filesrc" => correct(element),
        "qtdemux" | "matroskademux" => {
            element.connect_pad_added(complete);
        }
        "avidemux" => {
            element.connect_pad_added(|_, pad| square(pad));
        }
        name if name.starts_with("avdec_") => render_rare_formats(element),
        _ => {}
    }
}

/// Leaves out a pixel aspect ratio that cannot be, which `avidemux` has for files without one: -1/1.
fn square(pad: &gst::Pad) {
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, |_, info| {
        if let Some(gst::EventView::Caps(event)) = info.event().map(|event| event.view())
            && let Some(structure) = event.caps().structure(0)
            && let Ok(ratio) = structure.get::<gst::Fraction>("pixel-aspect-ratio")
            && (ratio.numer() <= 0 || ratio.denom() <= 0)
        {
            let mut caps = event.caps_owned();
            if let Some(structure) = caps.make_mut().structure_mut(0) {
                structure.remove_field("pixel-aspect-ratio");
            }
            info.data = Some(gst::PadProbeData::Event(gst::event::Caps::new(&caps)));
        }
        gst::PadProbeReturn::Ok
    });
}

/// Makes a decoder of FFmpeg fail instead of crash where its pictures have a format that GStreamer
/// 1.22 does not know: grey of 10 bits. It crashes while it decodes into GStreamer's memory.
fn render_rare_formats(decoder: &gst::Element) {
    const DIRECT: &str = "direct-rendering";
    let Some(pad) = decoder.static_pad("sink") else {
        return;
    };
    if decoder.find_property(DIRECT).is_none() {
        return;
    }
    let decoder = decoder.downgrade();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let Some(gst::EventView::Caps(event)) = info.event().map(|event| event.view())
            && event.caps().structure(0).is_some_and(may_be_rare)
            && let Some(decoder) = decoder.upgrade()
        {
            decoder.set_property(DIRECT, false);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether a decoder of a stream with these caps may give pictures of a rare format.
fn may_be_rare(caps: &gst::StructureRef) -> bool {
    let is_grey = caps.get::<&str>("chroma-format") == Ok("4:0:0");
    let is_deep = caps.get::<u32>("bit-depth-luma").is_ok_and(|bits| bits > 8);
    caps.name() == "video/x-ffv" || is_grey && is_deep
}

/// The file of an address.
pub fn file(uri: &str) -> Option<PathBuf> {
    glib::filename_from_uri(uri).ok().map(|(path, _)| path)
}

/// The file that a `filesrc` reads. (Its property `location` may hold a name that is not UTF-8.)
pub fn location(source: &gst::Element) -> Option<PathBuf> {
    file(&source.dynamic_cast_ref::<gst::URIHandler>()?.uri()?)
}

/// What is missing of a file by its headers, in words for the user.
pub fn flaw(path: &Path) -> Option<String> {
    let length = path.metadata().ok()?.len();
    Overview::of(path)?.flaw(length)
}

/// Hands on the bytes of a file with its corrections.
fn correct(source: &gst::Element) {
    let Some(pad) = source.static_pad("src") else {
        return;
    };
    let source = source.downgrade();
    let corrections: OnceLock<Vec<Correction>> = OnceLock::new();
    let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::PUSH | gst::PadProbeType::PULL;
    pad.add_probe(mask, move |_, info| {
        let corrections = corrections.get_or_init(|| {
            let path = source.upgrade().as_ref().and_then(location);
            let overview = path.and_then(|path| Overview::of(&path));
            overview.unwrap_or_default().corrections
        });
        if corrections.is_empty() {
            return gst::PadProbeReturn::Remove;
        }
        if let Some(buffer) = info.buffer_mut()
            && container::concerns(buffer.offset(), buffer.size() as u64, corrections)
        {
            let offset = buffer.offset();
            if let Ok(mut map) = buffer.make_mut().map_writable() {
                container::correct(&mut map, offset, corrections);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Completes what a demuxer says about a stream.
fn complete(demuxer: &gst::Element, pad: &gst::Pad) {
    let mut query = gst::query::Uri::new();
    let sink = demuxer.static_pad("sink");
    if !sink.is_some_and(|sink| sink.peer_query(&mut query)) {
        return;
    }
    let Some(overview) = query.uri().and_then(|uri| Overview::of(&file(&uri)?)) else {
        return;
    };
    if let Some(duration) = overview.duration_ns {
        answer(pad, gst::ClockTime::from_nseconds(duration));
    }
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, _| {
        if let Some(tag) = orientation(pad, &overview) {
            let mut tags = gst::TagList::new();
            tags.make_mut()
                .add::<gst::tags::ImageOrientation>(&tag, gst::TagMergeMode::Replace);
            pad.push_event(gst::event::Tag::new(tags));
        }
        gst::PadProbeReturn::Remove
    });
}

/// How the video of `pad` is to be shown, if the demuxer did not say it.
fn orientation(pad: &gst::Pad, overview: &Overview) -> Option<&'static str> {
    let id = track_id(&pad.stream_id()?)?;
    let mut tracks = overview.tracks.iter();
    let track = tracks.find(|track| track.id == id && track.kind == Kind::Video)?;
    let mut tags = (0..).map_while(|index| pad.sticky_event::<gst::event::Tag>(index));
    let is_said = tags.any(|event| event.tag().get::<gst::tags::ImageOrientation>().is_some());
    (!is_said && !track.orientation.is_upright()).then(|| track.orientation.tag())
}

/// The number of a stream in its file, from the demuxer's id: `HASH/001` or `HASH/001:12345`.
fn track_id(stream: &str) -> Option<u64> {
    let (_, last) = stream.rsplit_once('/')?;
    last.split(':').next()?.parse().ok()
}

/// Answers queries for the duration: the demuxer knows the corrected one.
fn answer(pad: &gst::Pad, duration: gst::ClockTime) {
    pad.add_probe(gst::PadProbeType::QUERY_UPSTREAM, move |_, info| {
        if let Some(gst::QueryViewMut::Duration(query)) = info.query_mut().map(|q| q.view_mut())
            && query.format() == gst::Format::Time
        {
            query.set(Some(duration));
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_ends_with_the_number_in_the_file() {
        assert_eq!(track_id("f00d/002"), Some(2));
        assert_eq!(track_id("f00d/012:9876543210"), Some(12));
        assert_eq!(track_id("f00d"), None);
        assert_eq!(track_id("f00d/video"), None);
    }
}
