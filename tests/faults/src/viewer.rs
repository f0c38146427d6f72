//! Viewers of the annotated streams.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;

use crate::live::PASSWORD;

/// A viewer that decodes its stream.
pub struct Viewer {
    pipeline: gst::Pipeline,
    sink: gst_app::AppSink,
}

impl Viewer {
    pub fn watch(port: u16, camera: &str, protocols: &str) -> Result<Self> {
        gst::init()?;
        let pipeline = gst::parse::launch(&format!(
            "rtspsrc location=rtsp://127.0.0.1:{port}/{camera} protocols={protocols} latency=0 \
             user-id=viewer user-pw={PASSWORD} ! decodebin ! appsink name=sink sync=false \
             max-buffers=2 drop=true"
        ))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| anyhow!("not a pipeline"))?;
        let sink = pipeline.by_name("sink").and_downcast().context("no sink")?;
        pipeline.set_state(gst::State::Playing)?;
        Ok(Self { pipeline, sink })
    }

    /// Whether a frame arrives within `patience`.
    pub fn sees(&self, patience: Duration) -> bool {
        let patience = gst::ClockTime::try_from(patience).unwrap_or(gst::ClockTime::SECOND);
        self.sink.try_pull_sample(patience).is_some()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// Connects, requests `camera`, and hangs up in the middle of the conversation.
pub fn hang_up(port: u16, camera: &str) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "OPTIONS rtsp://127.0.0.1:{port}/{camera} RTSP/1.0\r\nCSeq: 1\r\n\r\n\
         DESCRIBE rtsp://127.0.0.1:{port}/{camera} RTSP/1.0\r\nCSeq: 2\r\n"
    )?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    anyhow::ensure!(length > 0, "no answer");
    Ok(())
}
