//! The pipeline of a camera, which lives for one connection.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use gst::prelude::*;
use parking_lot::Mutex;

use super::config::Camera;
use super::forgotten::Forgotten;
use super::outputs::{CameraOutputs, Shared};
use super::recent::CameraTracks;
use super::telemetry::{self, CameraState};
use super::thinning::Thinner;
use super::threads::Thread;
use super::transport::{self, Protocol};
use face_parts::graph::{self, make, pad, set};
use face_parts::secret::Secret;
use face_parts::source;
use face_parts::stages;

/// How long the streams may take to end.
const END: Duration = Duration::from_millis(800);

/// How long a pipeline may take to disconnect from its camera: TEARDOWN waits for an answer, which
/// never comes from a dead network.
const SHUT_DOWN: Duration = Duration::from_millis(500);

/// How often to read the statistics of the stages.
const STATISTICS: Duration = Duration::from_millis(500);

/// Why a pipeline ended without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Asked,
    EndOfStream,
    Stalled,
}

pub struct Pipeline {
    pipeline: gst::Pipeline,
    /// The first pad after the source.
    entry: Arc<Entry>,
    /// The elements with statistics.
    stages: Vec<(String, gst::Element)>,
    undecodable: graph::Undecodable,
    forgotten: Arc<Forgotten>,
    gallery: Option<PathBuf>,
    telemetry: Arc<telemetry::Camera>,
    stall: Duration,
    polled: Instant,
    /// How the packets come, if the camera speaks RTSP.
    protocol: Option<Protocol>,
}

/// The pad to which the source is linked, if any yet.
#[derive(Default)]
struct Entry {
    pad: Mutex<Option<gst::Pad>>,
    failure: Mutex<Option<anyhow::Error>>,
}

impl Entry {
    fn pad(&self) -> Option<gst::Pad> {
        let pad = self.pad.lock();
        pad.clone()
    }

    fn failure(&self) -> Option<anyhow::Error> {
        let mut failure = self.failure.lock();
        failure.take()
    }
}

impl Pipeline {
    pub fn build(
        config: &Camera,
        shared: &Shared,
        telemetry: &Arc<telemetry::Camera>,
        outputs: &CameraOutputs,
        tracks: &Arc<CameraTracks>,
        first_track: u64,
        protocol: Protocol,
    ) -> Result<Self> {
        let pipeline = gst::Pipeline::with_name(&format!("camera-{}", config.name));
        let tee = make("tee")?;
        let extras = stages::Extras {
            embeddings: true,
            live: true,
            ..Default::default()
        };
        let args = config.stages.clone();
        let mut first = stages::build_with(&pipeline, &args, extras, &tee)?;
        // So that the stream can end even without outputs.
        let end = graph::free_sink("fakesink")?;
        pipeline.add(&end)?;
        tee.link(&end)?;
        if !is_live(&config.uri) {
            // Files play at the speed of a camera.
            let sync = make("clocksync")?;
            pipeline.add(&sync)?;
            sync.link(&first)?;
            first = sync;
        }
        let entry = Arc::new(Entry::default());
        add_source(
            &pipeline, config, protocol, shared, telemetry, &first, &entry,
        )?;
        telemetry.watch_input(&pad(&first, "sink")?);
        let last = pad(&tee, "sink")?;
        telemetry.watch_output(&last);
        let forgotten = shared.forgotten(&config.name);
        // Before anything else sees the names.
        forgotten.watch(&last);
        tracks.watch(&last);
        outputs.attach(&pipeline, &tee)?;
        // The gallery is read at the start, without a message.
        forgotten.look_at(config.stages.gallery.as_deref());
        let stages = stages::with_statistics(&pipeline);
        for (_, element) in stages.iter().filter(|(name, _)| name == "facetracker") {
            set(element, "first-track-id", first_track)?;
        }
        Ok(Self {
            pipeline,
            entry,
            stages,
            undecodable: graph::Undecodable::default(),
            forgotten,
            gallery: config.stages.gallery.clone(),
            telemetry: telemetry.clone(),
            stall: config.stall_timeout,
            polled: Instant::now(),
            protocol: config.uri.starts_with("rtsp").then_some(protocol),
        })
    }

    /// Runs until the stream ends, stalls or fails, or until a stop is requested.
    pub fn run(&mut self, stopped: &mpsc::Receiver<()>, tick: Duration) -> Result<Ending> {
        graph::start(&self.pipeline)?;
        let bus = self.pipeline.bus().context("a pipeline has a bus")?;
        let before = self.telemetry.frames_sent();
        let mut heard = (before, Instant::now());
        let ending = loop {
            match stopped.try_recv() {
                Err(mpsc::TryRecvError::Empty) => {}
                Ok(()) | Err(mpsc::TryRecvError::Disconnected) => break Ok(Ending::Asked),
            }
            let wait = gst::ClockTime::try_from(tick).unwrap_or(gst::ClockTime::SECOND);
            if let Some(message) = bus.timed_pop(wait) {
                match self.handle(&message) {
                    Ok(false) => {}
                    Ok(true) => return Ok(Ending::EndOfStream),
                    Err(error) => break Err(error),
                }
            }
            if let Some(error) = self.entry.failure() {
                break Err(error);
            }
            let frames = self.telemetry.frames_sent();
            if frames != heard.0 {
                if heard.0 == before {
                    self.telemetry.set_state(CameraState::Running);
                    match self.protocol {
                        Some(protocol) => {
                            tracing::info!(transport = %protocol, "the stream has started");
                        }
                        None => tracing::info!("the stream has started"),
                    }
                }
                heard = (frames, Instant::now());
            } else if heard.1.elapsed() > self.stall {
                break Ok(Ending::Stalled);
            }
            if self.polled.elapsed() >= STATISTICS {
                self.read_statistics();
            }
        };
        self.finish(&bus);
        ending
    }

    fn read_statistics(&mut self) {
        self.polled = Instant::now();
        for (name, element) in &self.stages {
            let stats = element.property::<gst::Structure>(face_core::stats::PROPERTY);
            self.telemetry.observe(name, &stats);
        }
    }

    /// Returns `true` at the end of the stream.
    fn handle(&mut self, message: &gst::Message) -> Result<bool> {
        use gst::MessageView;
        match message.view() {
            MessageView::Eos(_) => return Ok(true),
            MessageView::Error(error) => {
                if let Some(protocol) = self.protocol
                    && transport::is_refusal(error)
                {
                    let both = false;
                    return Err(transport::Refused { protocol, both }.into());
                }
                let why = self
                    .undecodable
                    .explain(error, &self.pipeline, Path::new("the stream"));
                let refused = error.error().matches(gst::ResourceError::NotAuthorized);
                return Err(match refused {
                    true => why.context("check `username` and its password"),
                    false => why,
                });
            }
            MessageView::Warning(warning) => tracing::warn!("{}", graph::warning(warning)),
            MessageView::Element(element) => {
                self.undecodable.note(element);
                if element.has_name("face-gallery-changed") {
                    self.forgotten.look_at(self.gallery.as_deref());
                }
            }
            MessageView::Latency(_) => {
                let _ = self.pipeline.recalculate_latency();
            }
            _ => {}
        }
        Ok(false)
    }

    /// Ends the streams, so that all outputs receive everything.
    fn finish(&mut self, bus: &gst::Bus) {
        let Some(entry) = self.entry.pad() else {
            return;
        };
        let deadline = Instant::now() + END;
        entry.send_event(gst::event::Eos::new());
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let wait = gst::ClockTime::try_from(left).unwrap_or(gst::ClockTime::ZERO);
            // Errors of a source that failed anyway no longer matter.
            if bus
                .timed_pop_filtered(wait, &[gst::MessageType::Eos])
                .is_some()
            {
                return;
            }
        }
        tracing::debug!("the streams did not end in time");
    }

    /// The id that the next track would get.
    pub fn next_track(&mut self) -> Option<u64> {
        self.read_statistics();
        let (_, tracker) = self.stages.iter().find(|(name, _)| name == "facetracker")?;
        let stats = tracker.property::<gst::Structure>(face_core::stats::PROPERTY);
        stats.get("next-track-id").ok()
    }

    /// Stops everything. A separate thread waits for what hangs.
    pub fn shut_down(self) {
        let pipeline = self.pipeline.clone();
        let work = move || graph::stop(&pipeline);
        match Thread::start("shut-down", work) {
            Ok(thread) if thread.ends_within(SHUT_DOWN) => {}
            Ok(_) => {
                tracing::info!(
                    "the camera does not disconnect in time; its pipeline stops in the background"
                );
            }
            Err(_) => {
                // Without a thread, stopping takes its time.
                graph::stop(&self.pipeline);
            }
        }
    }
}

/// Whether frames arrive as they are captured, not on request.
fn is_live(uri: &str) -> bool {
    let scheme = uri.split("://").next().unwrap_or_default();
    !matches!(scheme, "file" | "http" | "https" | "data")
}

/// Adds the source of `config` and links its video to `first` when it appears.
fn add_source(
    pipeline: &gst::Pipeline,
    config: &Camera,
    protocol: Protocol,
    shared: &Shared,
    telemetry: &Arc<telemetry::Camera>,
    first: &gst::Element,
    entry: &Arc<Entry>,
) -> Result<()> {
    let decode = make("uridecodebin")?;
    thin(&decode, shared, telemetry)?;
    set(&decode, "uri", &config.uri)?;
    source::multipart::play(&decode);
    let camera = config.clone();
    decode.connect("source-setup", false, move |values| {
        let source = values.get(1)?.get::<gst::Element>().ok()?;
        if let Err(error) = set_up(&source, &camera, protocol) {
            tracing::warn!("{error:#}");
        }
        None
    });
    let (weak, first, entry) = (pipeline.downgrade(), first.clone(), entry.clone());
    decode.connect_pad_added(move |_, new| {
        let Some(pipeline) = weak.upgrade() else {
            return;
        };
        let caps = new.current_caps().unwrap_or_else(|| new.query_caps(None));
        let is_video = caps
            .structure(0)
            .is_some_and(|s| s.name().starts_with("video/"));
        if !is_video || entry.pad().is_some_and(|pad| pad.is_linked()) {
            return;
        }
        let linked = source::entry(&pipeline, &caps, &first).and_then(|pad| {
            new.link(&pad)
                .map_err(|error| anyhow!("the video cannot be linked: {error}"))?;
            Ok(pad)
        });
        match linked {
            Ok(pad) => *entry.pad.lock() = Some(pad),
            Err(error) => {
                let mut failure = entry.failure.lock();
                *failure = Some(error);
            }
        }
    });
    pipeline.add(&decode)?;
    Ok(())
}

/// Skips frames before the decoders in `decode` when decoding all of them is too much.
fn thin(decode: &gst::Element, shared: &Shared, telemetry: &Arc<telemetry::Camera>) -> Result<()> {
    let bin = decode.downcast_ref::<gst::Bin>();
    let bin = bin.context("uridecodebin is not a bin")?;
    let (all, camera) = (shared.telemetry.clone(), telemetry.clone());
    bin.connect_deep_element_added(move |_, _, element| {
        let is_decoder = element.factory().is_some_and(|factory| {
            let kind = factory.metadata(gst::ELEMENT_METADATA_KLASS);
            // JPEG decoders are in the class Image.
            let of_pictures = |kind: &str| kind.contains("Video") || kind.contains("Image");
            kind.is_some_and(|kind| kind.contains("Decoder") && of_pictures(kind))
        });
        // Decoder bins contain the actual decoder.
        let is_one = is_decoder && !element.is::<gst::Bin>();
        let Some(pad) = element.static_pad("sink").filter(|_| is_one) else {
            return;
        };
        let (all, camera) = (all.clone(), camera.clone());
        let thinner = Mutex::new(Thinner::default());
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let Some(buffer) = info.buffer() else {
                return gst::PadProbeReturn::Ok;
            };
            let is_delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
            let mut thinner = thinner.lock();
            let time = buffer.pts().map(gst::ClockTime::nseconds);
            if thinner.keeps(all.decoded.get(), is_delta, time) {
                return gst::PadProbeReturn::Ok;
            }
            camera.thin_out();
            gst::PadProbeReturn::Drop
        });
    });
    Ok(())
}

/// Configures the element that talks to the camera.
fn set_up(source: &gst::Element, config: &Camera, protocol: Protocol) -> Result<()> {
    match source.factory().map(|factory| factory.name()).as_deref() {
        Some("rtspsrc") => set_up_rtsp(source, config, protocol),
        Some("souphttpsrc") => {
            let timeout = config.stall_timeout.as_secs_f64().ceil();
            set(source, "timeout", timeout)?;
            set_credentials(source, config);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn set_credentials(source: &gst::Element, config: &Camera) {
    if let Some(username) = &config.username {
        source.set_property("user-id", username);
        source.set_property("user-pw", config.password.as_ref().map(Secret::reveal));
    }
}

fn set_up_rtsp(source: &gst::Element, config: &Camera, protocol: Protocol) -> Result<()> {
    // Without packets over UDP, the source itself would change to TCP.
    let timeout = match protocol {
        Protocol::Tcp => config.stall_timeout,
        Protocol::Udp => Duration::ZERO,
    };
    transport::set(source, protocol);
    set(source, "timeout", timeout.as_micros())?;
    set(source, "tcp-timeout", config.stall_timeout.as_micros())?;
    set(source, "latency", config.latency.as_millis())?;
    set(source, "drop-on-latency", true)?;
    set_credentials(source, config);
    // Decoding the camera's sound and metadata would be a waste.
    source.connect("select-stream", false, |values| {
        let caps = values.get(2)?.get::<gst::Caps>().ok()?;
        let media = caps.structure(0)?.get::<String>("media").ok();
        Some(media.is_none_or(|media| media == "video").to_value())
    });
    Ok(())
}
