//! Stops a pipeline.

use gst::prelude::*;

/// Sets `pipeline` and everything in it to NULL.
///
/// A `decodebin` that fails during its start keeps what it has built, and its failure. Its bin
/// takes that for a failure to stop and stays in its state. `decodebin` itself aborts the program
/// when it is disposed of with blocked pads (GStreamer 1.22; `unblock_pads` releases a lock that is
/// not held). Starting it once more clears both.
pub fn stop(pipeline: &gst::Pipeline) {
    let stopped = pipeline.set_state(gst::State::Null).is_ok();
    let stuck = stuck(pipeline);
    if stopped && stuck.is_empty() {
        return;
    }
    tracing::debug!(
        stopped,
        stuck = stuck.len(),
        "stopping the pipeline's elements one by one"
    );
    let mut elements: Vec<gst::Element> =
        pipeline.iterate_recurse().into_iter().flatten().collect();
    // Stuck elements come last: by then nothing feeds them.
    elements.sort_by_key(|element| stuck.contains(element));
    for element in elements {
        if stuck.contains(&element) {
            let _ = element.set_state(gst::State::Paused);
        }
        let _ = element.set_state(gst::State::Null);
    }
    let _ = pipeline.set_state(gst::State::Null);
}

/// The `decodebin`s that stopped while elements that they added did not.
fn stuck(pipeline: &gst::Pipeline) -> Vec<gst::Element> {
    let elements = pipeline.iterate_recurse().into_iter().flatten();
    elements
        .filter(|element| {
            let bin = element.downcast_ref::<gst::Bin>();
            bin.is_some_and(|bin| bin.type_().name() == "GstDecodeBin" && bin.children().len() > 1)
        })
        .collect()
}
