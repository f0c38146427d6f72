//! Motion JPEG over HTTP, `multipart/x-mixed-replace`, as many cameras send it.

use std::sync::{Mutex, PoisonError};

use gst::prelude::*;

/// Has `uridecodebin` play such streams. By itself it waits for the end of one, which has none, to know that no
/// other pictures come beside them; and the pictures carry no time.
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

/// Gives each picture the time at which it came.
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
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        // There is no time before the pipeline plays.
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
