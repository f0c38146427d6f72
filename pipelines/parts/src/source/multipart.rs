//! Motion JPEG over HTTP, `multipart/x-mixed-replace`, which many cameras send.

use gst::prelude::*;
use parking_lot::Mutex;

/// Makes `uridecodebin` play such streams. Otherwise it waits for the end of a stream, which never
/// comes, to be sure that no other kind of picture follows. The pictures also carry no time.
pub fn play(decode: &gst::Element) {
    let Some(bin) = decode.downcast_ref::<gst::Bin>() else {
        return;
    };
    bin.connect_deep_element_added(|_, _, element| {
        let factory = element.factory();
        if factory.is_some_and(|factory| factory.name() == "multipartdemux") {
            element.set_property("single-stream", true);
            element.connect_pad_added(stamp);
        }
    });
}

/// Stamps each picture with its time of arrival.
fn stamp(demux: &gst::Element, pad: &gst::Pad) {
    let demux = demux.downgrade();
    let last: Mutex<Option<gst::ClockTime>> = Mutex::default();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let (Some(demux), Some(buffer)) = (demux.upgrade(), info.buffer_mut()) else {
            return gst::PadProbeReturn::Ok;
        };
        if buffer.pts().is_some() {
            return gst::PadProbeReturn::Ok;
        }
        let mut last = last.lock();
        // There is no running time before the pipeline plays.
        let now = demux.current_running_time().unwrap_or_default();
        let time = match *last {
            Some(last) => now.max(last + gst::ClockTime::from_useconds(1)),
            None => now,
        };
        *last = Some(time);
        let buffer = buffer.make_mut();
        buffer.set_pts(time);
        buffer.set_dts(time);
        gst::PadProbeReturn::Ok
    });
}
