//! Finds errors that `decodebin` loses.
//!
//! While `decodebin` connects an element, it keeps that element's errors to itself: if one does not
//! start, another kind replaces it. A demuxer that reads on its own thread may have started well
//! and failed within that moment, at the first bytes of a broken file. Then its error is gone, its
//! thread has ended, and the pipeline waits for ever.

use std::time::Duration;

use gst::glib;
use gst::prelude::*;

/// By then, an error that was not lost has ended the pipeline, and a rejected element is gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes lost errors appear on the bus of `pipeline` a moment later.
pub fn find(pipeline: &gst::Pipeline) {
    let weak = pipeline.downgrade();
    pipeline.connect_deep_element_added(move |_, bin, element| {
        if bin.type_().name() == "GstDecodeBin" && !element.is::<gst::Bin>() {
            listen(weak.clone(), element);
        }
    });
}

/// Puts a bus between an element and the bin to which it was just added.
fn listen(pipeline: glib::WeakRef<gst::Pipeline>, element: &gst::Element) {
    let Some(bin) = element.bus() else {
        return;
    };
    let between = gst::Bus::new();
    between.set_sync_handler(move |_, message| {
        if message.type_() == gst::MessageType::Error {
            say_again(pipeline.clone(), message);
        }
        let _ = bin.post(message.clone());
        gst::BusSyncReply::Drop
    });
    element.set_bus(Some(&between));
}

fn say_again(pipeline: glib::WeakRef<gst::Pipeline>, message: &gst::Message) {
    if !element(message).is_some_and(reads_by_itself) {
        return;
    }
    let message = message.clone();
    let later = move || {
        std::thread::sleep(PATIENCE);
        let bus = pipeline.upgrade().and_then(|pipeline| pipeline.bus());
        if let Some(bus) = bus
            && element(&message).is_some_and(has_stopped)
        {
            let _ = bus.post(message);
        }
    };
    // Without a thread this check is missing, but a signal still ends the program.
    let _ = std::thread::Builder::new().name("lost".into()).spawn(later);
}

fn element(message: &gst::Message) -> Option<&gst::Element> {
    message.src()?.downcast_ref()
}

fn reads_by_itself(element: &gst::Element) -> bool {
    let mut pads = element.sink_pads().into_iter();
    pads.any(|pad| pad.mode() == gst::PadMode::Pull)
}

/// Whether an element is still in use but no longer reads.
fn has_stopped(element: &gst::Element) -> bool {
    let mut pads = element.sink_pads().into_iter();
    element.parent().is_some()
        && element.current_state() >= gst::State::Paused
        && pads.any(|pad| {
            pad.mode() == gst::PadMode::Pull && pad.task_state() != gst::TaskState::Started
        })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn an_error_while_decodebin_connects_is_not_lost() {
        gst::init().expect("GStreamer starts");
        let mut broken = tempfile::NamedTempFile::new().expect("a temporary file");
        let bytes = b"\0\0\0\x1cftypmp42\0\0\0\x01isommp41mp42\x0c\0\0\x0c.moo";
        std::io::Write::write_all(&mut broken, bytes).expect("writable");
        let line = format!("filesrc location={} ! decodebin", broken.path().display());
        let pipeline = gst::parse::launch(&line).expect("a valid pipeline");
        let pipeline = pipeline.downcast::<gst::Pipeline>().expect("two elements");
        let bus = pipeline.bus().expect("a pipeline has a bus");
        // Blocks decodebin on its thread until the demuxer has failed.
        bus.set_sync_handler(|_, message| {
            let demuxer = element(message).filter(|e| e.name().starts_with("qtdemux"));
            if let (gst::MessageView::StateChanged(change), Some(demuxer)) =
                (message.view(), demuxer)
                && change.current() == gst::State::Paused
            {
                let begun = Instant::now();
                while !has_stopped(demuxer) && begun.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            gst::BusSyncReply::Pass
        });
        crate::graph::start(&pipeline).expect("starts");
        let error =
            bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Error]);
        pipeline.set_state(gst::State::Null).expect("stops");
        assert!(error.is_some());
    }
}
