//! The overlay as metadata, for elements that blend it themselves.

use super::*;

const COMPOSITION: &str = "meta:GstVideoOverlayComposition";

/// Makes downstream answer the allocation query with support for the metadata.
fn want_meta(harness: &Harness) {
    let pad = harness.sinkpad().expect("there is a pad");
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        match info.query_mut().map(|q| q.view_mut()) {
            Some(gst::QueryViewMut::Allocation(query)) => {
                query.add_allocation_meta::<VideoOverlayCompositionMeta>(None);
                gst::PadProbeReturn::Handled
            }
            _ => gst::PadProbeReturn::Ok,
        }
    });
}

#[test]
fn the_meta_goes_where_it_is_wanted() {
    let info = info(VideoFormat::I420, 320, 240);
    let mut harness = harness(&info);
    want_meta(&harness);
    let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
    harness.push(buffer.clone()).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(changed(&info, &buffer, &out).is_empty(), "pixels stay");
    let meta = out.meta::<VideoOverlayCompositionMeta>().expect("is there");
    assert_eq!(meta.overlay().n_rectangles(), 2, "a box and a label");
    for rectangle in meta.overlay().iter() {
        let (x, y, w, h) = rectangle.render_rectangle();
        assert!(x >= 0 && y >= 0 && x as u32 + w <= 320 && y as u32 + h <= 240);
    }
    let caps = harness.sinkpad().and_then(|p| p.current_caps());
    assert!(caps.expect("caps came").to_string().contains(COMPOSITION));
}

#[test]
fn plain_caps_where_the_meta_is_not_wanted() {
    let info = info(VideoFormat::I420, 320, 240);
    let mut harness = harness(&info);
    for n in 0..3 {
        let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
        harness.push(buffer.clone()).expect("is taken");
        let out = harness.pull().expect("a frame came");
        assert!(!changed(&info, &buffer, &out).is_empty());
        let caps = harness.sinkpad().and_then(|p| p.current_caps());
        assert_eq!(caps, info.to_caps().ok());
        if n == 1 {
            // Downstream asks again.
            harness.push_upstream_event(gst::event::Reconfigure::new());
        }
    }
    let events = std::iter::from_fn(|| harness.try_pull_event());
    let caps = events.filter(|e| e.type_() == gst::EventType::Caps).count();
    assert!(caps <= 4, "{caps} caps events");
}

#[test]
fn compositions_from_upstream_are_kept() {
    let info = info(VideoFormat::Rgba, 320, 240);
    let mut harness = Harness::new("facemetaoverlay");
    let mut caps = info.to_caps().expect("has caps");
    caps.make_mut()
        .set_features_simple(Some(gst::CapsFeatures::new([
            "memory:SystemMemory",
            COMPOSITION,
        ])));
    harness.set_src_caps(caps);
    let mut buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);
    let mut pixels = gst::Buffer::with_size(16 * 4).expect("memory");
    gst_video::VideoMeta::add(
        pixels.get_mut().expect("writable"),
        gst_video::VideoFrameFlags::empty(),
        VideoFormat::Bgra,
        4,
        4,
    )
    .expect("is a frame");
    let other = gst_video::VideoOverlayRectangle::new_raw(
        &pixels,
        7,
        9,
        4,
        4,
        gst_video::VideoOverlayFormatFlags::empty(),
    );
    let composition = gst_video::VideoOverlayComposition::new([&other]).expect("composes");
    VideoOverlayCompositionMeta::add(buffer.get_mut().expect("writable"), &composition);
    harness.push(buffer).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert_eq!(out.iter_meta::<VideoOverlayCompositionMeta>().count(), 1);
    let meta = out.meta::<VideoOverlayCompositionMeta>().expect("is there");
    let places: Vec<_> = meta
        .overlay()
        .iter()
        .map(|r| r.render_rectangle())
        .collect();
    assert_eq!(places.len(), 3);
    assert_eq!(places[0], (7, 9, 4, 4));
}

/// Runs a pipeline with a face on each buffer at the overlay's sink pad. Returns the last sample.
fn pipeline(description: &str) -> Result<gst::Sample, String> {
    init();
    let pipeline = gst::parse::launch(description)
        .expect("parses")
        .downcast::<gst::Pipeline>()
        .expect("is a pipeline");
    let overlay = pipeline.by_name("overlay").expect("there is an overlay");
    let pad = overlay.static_pad("sink").expect("has a sink");
    pad.add_probe(gst::PadProbeType::BUFFER, |_, info| {
        if let Some(buffer) = info.buffer_mut() {
            let buffer = buffer.make_mut();
            face_meta::add(
                buffer,
                (320, 240),
                &penny(Rect::new(100.0, 100.0, 60.0, 70.0)),
            );
        }
        gst::PadProbeReturn::Ok
    });
    let sink = pipeline
        .by_name("out")
        .and_downcast::<gst_app::AppSink>()
        .expect("there is an appsink");
    let mut last = Err("no sample".to_owned());
    if pipeline.set_state(gst::State::Playing).is_ok() {
        while let Ok(sample) = sink.pull_sample() {
            last = Ok(sample);
        }
    }
    let bus = pipeline.bus().expect("a pipeline has a bus");
    if let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        last = Err(format!("{message:?}"));
    }
    pipeline.set_state(gst::State::Null).expect("stops");
    last
}

fn has_meta(sample: &gst::Sample) -> bool {
    let buffer = sample.buffer().expect("a sample has a buffer");
    buffer.meta::<VideoOverlayCompositionMeta>().is_some()
}

#[test]
fn caps_may_insist_on_the_meta_or_refuse_it() {
    let src = "videotestsrc num-buffers=3 ! video/x-raw,format=I420,width=320,height=240 ! \
               facemetaoverlay name=overlay";
    let sink = "appsink name=out sync=false";
    let sample = pipeline(&format!(
        "{src} ! video/x-raw(memory:SystemMemory,{COMPOSITION}) ! {sink}"
    ));
    assert!(has_meta(&sample.expect("runs")));
    let sample = pipeline(&format!("{src} ! video/x-raw ! {sink}")).expect("runs");
    assert!(!has_meta(&sample));
    let sample = pipeline(&format!("{src} ! queue ! videoconvert ! {sink}")).expect("runs");
    assert!(!has_meta(&sample));
    assert!(
        !sample
            .caps()
            .expect("has caps")
            .to_string()
            .contains(COMPOSITION)
    );
    // A tee answers for all its branches.
    let sample = pipeline(&format!(
        "{src} ! tee name=t ! queue ! fakesink  t. ! queue ! {sink}"
    ));
    assert!(!has_meta(&sample.expect("runs")));
}

#[test]
fn other_memory_needs_the_meta() {
    let info = info(VideoFormat::Rgba, 320, 240);
    let mut caps = info.to_caps().expect("has caps");
    caps.make_mut()
        .set_features_simple(Some(gst::CapsFeatures::new(["memory:Foreign"])));
    let buffer = frame(&info, &[penny(Rect::new(100.0, 100.0, 60.0, 70.0))]);

    let mut harness = Harness::new("facemetaoverlay");
    harness.set_src_caps(caps.clone());
    harness.push(buffer.clone()).expect("is taken");
    let out = harness.pull().expect("a frame came");
    assert!(out.meta::<VideoOverlayCompositionMeta>().is_some());
    assert!(changed(&info, &buffer, &out).is_empty());

    let mut harness = Harness::new("facemetaoverlay");
    harness.set_caps(caps.clone(), caps);
    assert_eq!(harness.push(buffer), Err(gst::FlowError::NotNegotiated));
}
