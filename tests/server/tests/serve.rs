//! The server from a viewer's perspective.

use std::collections::BTreeSet;
use std::time::Instant;

use face_rtsp_server::{Options, Server};
use gst::prelude::*;

const CLIP: &str = "single_face.mp4,size=320x180,rate=15";
/// Longer than anything takes on a busy machine.
const PATIENCE: gst::ClockTime = gst::ClockTime::from_seconds(60);

/// A viewer of one stream, with decoded frames.
struct Viewer {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
}

impl Viewer {
    fn watch(url: &str, protocols: &str) -> Self {
        gst::init().expect("GStreamer starts");
        let pipeline = gst::parse::launch(&format!(
            "rtspsrc location={url} protocols={protocols} latency=100 user-id=u user-pw=secret ! \
             decodebin ! videoconvert ! video/x-raw,format=RGB ! appsink name=sink sync=false"
        ))
        .expect("a pipeline")
        .downcast::<gst::Pipeline>()
        .expect("a pipeline");
        let sink = pipeline.by_name("sink").and_downcast().expect("a sink");
        pipeline.set_state(gst::State::Playing).expect("starts");
        Self { pipeline, sink }
    }

    /// Time and width of the next frame. `None` if none comes.
    fn frame(&self) -> Option<(gst::ClockTime, i32)> {
        let sample = self.sink.try_pull_sample(PATIENCE)?;
        let buffer = sample.buffer()?;
        let pixels = buffer.map_readable().ok()?;
        let distinct: BTreeSet<u8> = pixels.iter().copied().collect();
        assert!(
            distinct.len() > 50,
            "a grey picture: {} values",
            distinct.len()
        );
        let width = sample.caps()?.structure(0)?.get("width").ok()?;
        Some((buffer.pts()?, width))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[test]
fn a_clip_goes_on_over_its_end_and_changes_its_size_meanwhile() {
    let mut server = Server::start(Options::new(&[&format!("a={CLIP}")])).expect("serves");
    for protocols in ["tcp", "udp"] {
        let viewer = Viewer::watch(&server.url("a"), protocols);
        let first = viewer.frame().expect("a frame").0;
        let mut last = first;
        // The clip is 2.4 s long.
        while last - first < gst::ClockTime::from_seconds(3) {
            let (pts, width) = viewer.frame().expect("a frame");
            assert_eq!(width, 320);
            // 67 ms on an idle machine. The end of the clip causes no jump in either direction.
            let step = pts.nseconds() as f64 - last.nseconds() as f64;
            let step = step / 1e6;
            assert!((1.0..5000.0).contains(&step), "{protocols}: {step} ms");
            last = pts;
        }
        server.command("set a size=160x90").expect("changes");
        let changed = (0..300).any(|_| viewer.frame().expect("a frame").1 == 160);
        assert!(changed, "{protocols}");
        server.command("set a size=320x180").expect("changes");
    }
    assert!(server.command("set b size=160x90").is_err());
}

#[test]
fn a_killed_server_comes_back_and_another_codec_cuts_off_its_viewers() {
    let mut options = Options::new(&[&format!("a={CLIP}"), &format!("b={CLIP}")]);
    options.credentials = Some(("u".into(), "secret".into()));
    let mut server = Server::start(options.clone()).expect("serves");
    let url = server.url("a");
    assert!(Viewer::watch(&url, "tcp").frame().is_some());

    let other = Viewer::watch(&server.url("b"), "tcp");
    let viewer = Viewer::watch(&url, "tcp");
    assert!(viewer.frame().is_some() && other.frame().is_some());
    server.command("set a codec=h265").expect("changes");
    let start = Instant::now();
    while viewer
        .sink
        .try_pull_sample(gst::ClockTime::SECOND)
        .is_some()
    {
        assert!(start.elapsed() < PATIENCE.into(), "cut off");
    }
    assert!(other.frame().is_some(), "not of this camera");
    drop(viewer);
    assert!(Viewer::watch(&url, "tcp").frame().is_some(), "as H.265");

    server.kill();
    server.restart().expect("the port is free again");
    assert_eq!(server.url("a"), url);
    assert!(Viewer::watch(&url, "udp").frame().is_some());
    server.kill();

    options.credentials = Some(("u".into(), "another".into()));
    options.port = server.port();
    let _server = Server::start(options).expect("serves");
    let refused = Viewer::watch(&url, "tcp");
    let bus = refused.pipeline.bus().expect("a bus");
    let message = bus.timed_pop_filtered(PATIENCE, &[gst::MessageType::Error]);
    assert!(message.is_some(), "refused");
}
