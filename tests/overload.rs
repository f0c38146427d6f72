//! A live RTSP stream that never ends, and stages that cannot keep up with it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use glib::MainLoop;
use gst::prelude::*;
use gst_rtsp_server::prelude::*;

use crate::{Running, init, media};

/// A compressed frame, and its time since the beginning of the clip.
struct Unit {
    data: gst::Buffer,
    pts: u64,
    dts: u64,
}

/// The H.264 stream of a clip, as in the file.
fn units(clip: &str) -> Result<(gst::Caps, Vec<Unit>)> {
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse config-interval=-1 ! \
         video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out sync=false",
        media(clip).display()
    ))?;
    running.play()?;
    let frames = running.collect()?;
    let caps = frames.first().and_then(|f| f.sample.caps_owned());
    let units: Option<Vec<Unit>> = frames
        .iter()
        .map(|frame| {
            let data = frame.sample.buffer_owned()?;
            let (pts, dts) = (data.pts()?.nseconds(), data.dts_or_pts()?.nseconds());
            Some(Unit { data, pts, dts })
        })
        .collect();
    Ok((caps.context("no caps")?, units.context("no times")?))
}

/// An RTSP server that repeats a clip for ever, with continuing timestamps.
pub struct Camera {
    port: i32,
    /// The time between two frames.
    pub frame: Duration,
    main_loop: MainLoop,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Camera {
    /// Serves an H.264 clip of the media on loopback, at `overload` times the rate at which one
    /// [`detector`] on this machine can currently work.
    pub fn new(clip: &str, overload: u32) -> Result<Self> {
        init();
        let (caps, mut units) = units(clip)?;
        let last = units.iter().map(|u| u.pts).max().context("no frames")?;
        let wanted = detection(clip)?.as_nanos() as u64 / u64::from(overload);
        let frame = last / (units.len() as u64 - 1).max(1);
        for unit in &mut units {
            for time in [&mut unit.pts, &mut unit.dts] {
                *time = (u128::from(*time) * u128::from(wanted) / u128::from(frame)) as u64;
            }
        }
        let first = units.iter().map(|u| u.pts).min().context("no frames")?;
        let last = units.iter().map(|u| u.pts).max().context("no frames")?;
        let frame = (last - first) / (units.len() as u64 - 1).max(1);
        let length = last - first + frame;
        let context = glib::MainContext::new();
        let main_loop = MainLoop::new(Some(&context), false);
        let factory = gst_rtsp_server::RTSPMediaFactory::new();
        factory.set_launch(
            "( appsrc name=in format=time block=true max-bytes=200000 ! h264parse ! \
             rtph264pay name=pay0 pt=96 config-interval=-1 )",
        );
        let stop = Arc::new(AtomicBool::new(false));
        let units = Arc::new(units);
        let ended = stop.clone();
        factory.connect_media_configure(move |_, media| {
            let source = media
                .element()
                .downcast::<gst::Bin>()
                .ok()
                .and_then(|bin| bin.by_name_recurse_up("in"))
                .and_then(|source| source.downcast::<gst_app::AppSrc>().ok());
            let Some(source) = source else { return };
            source.set_caps(Some(&caps));
            let (units, ended) = (units.clone(), ended.clone());
            std::thread::spawn(move || {
                for offset in (0..).map(|round| round * length) {
                    for unit in units.iter() {
                        let mut data = unit.data.copy();
                        let at = |time: u64| gst::ClockTime::from_nseconds(time + offset - first);
                        let buffer = data.make_mut();
                        buffer.set_pts(at(unit.pts));
                        buffer.set_dts(at(unit.dts.max(first)));
                        if ended.load(Ordering::Relaxed) || source.push_buffer(data).is_err() {
                            return;
                        }
                    }
                }
            });
        });
        let server = gst_rtsp_server::RTSPServer::new();
        server.set_address("127.0.0.1");
        server.set_service("0");
        let mounts = server.mount_points().context("no mount points")?;
        mounts.add_factory("/camera", factory);
        // The server ends with its context.
        server.attach(Some(&context))?;
        let port = server.bound_port();
        let thread = std::thread::spawn({
            let main_loop = main_loop.clone();
            move || {
                main_loop.run();
                drop(server);
            }
        });
        Ok(Self {
            port,
            frame: Duration::from_nanos(frame),
            main_loop,
            stop,
            thread: Some(thread),
        })
    }

    pub fn url(&self) -> String {
        format!("rtsp://127.0.0.1:{}/camera", self.port)
    }
}

impl Drop for Camera {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.main_loop.quit();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A frame that left the pipeline.
#[derive(Debug, Clone)]
pub struct Passed {
    /// Running time, in ns.
    pub time: u64,
    /// How long after that time it left, in ns: the latency plus a constant.
    pub lag: i64,
    pub examined: bool,
    pub faces: usize,
}

/// The results of a stream.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The running times of the frames before the first stage.
    pub came: Vec<u64>,
    pub passed: Vec<Passed>,
    pub tracks: BTreeSet<u64>,
    pub names: BTreeSet<String>,
}

impl Outcome {
    /// The latency at the start: the smallest of the first second.
    pub fn start(&self) -> i64 {
        let second = self.passed.iter().take(25).map(|p| p.lag);
        second.min().unwrap_or_default()
    }

    /// How far above that the frames were, in ms, ascending.
    pub fn above(&self) -> Vec<f64> {
        let start = self.start();
        let mut above: Vec<f64> = self
            .passed
            .iter()
            .map(|p| (p.lag - start) as f64 / 1e6)
            .collect();
        above.sort_by(f64::total_cmp);
        above
    }

    /// The number of frames that were examined.
    pub fn examined(&self) -> usize {
        self.passed.iter().filter(|p| p.examined).count()
    }

    /// For each frame that left, the time in ns of the stream since the last examined frame.
    pub fn since_examined(&self) -> Vec<u64> {
        let mut last = None;
        let since = self.passed.iter().map(|p| {
            if p.examined {
                last = Some(p.time);
            }
            p.time.saturating_sub(last.unwrap_or(0))
        });
        since.collect()
    }

    /// Frames that arrived and did not leave, or that left out of order, except one in transit.
    pub fn lost(&self) -> usize {
        let left = self.passed.iter().map(|p| p.time);
        let same = self
            .came
            .iter()
            .zip(left)
            .filter(|(a, b)| **a == *b)
            .count();
        (self.came.len() - same).saturating_sub(1)
    }

    /// The longest time between two arriving frames, in frames.
    pub fn longest_gap(&self, frame: Duration) -> f64 {
        let gaps = self.came.windows(2).map(|w| w[1].abs_diff(w[0]));
        gaps.max().unwrap_or_default() as f64 / frame.as_nanos() as f64
    }
}

/// The running time of the clock, and of a buffer on a pad.
fn times(pad: &gst::Pad, buffer: &gst::BufferRef) -> Option<(u64, u64)> {
    let now = pad.parent_element()?.current_running_time()?;
    let event = pad.sticky_event::<gst::event::Segment>(0)?;
    let segment = event.segment().downcast_ref::<gst::ClockTime>()?.clone();
    let time = segment.to_running_time(buffer.pts())?;
    Some((now.nseconds(), time.nseconds()))
}

/// A line of stages after a camera.
pub struct Line {
    pub running: Running,
    outcome: Arc<Mutex<Outcome>>,
}

impl Line {
    /// `rtspsrc ! decoder ! STAGES ! fakesink`, playing. The element before the stages is called
    /// `first`.
    pub fn new(camera: &Camera, stages: &str) -> Result<Self> {
        let running = Running::new(&format!(
            "rtspsrc location={} protocols=tcp latency=100 ! rtph264depay ! avdec_h264 ! \
             identity name=first silent=true ! {stages} ! fakesink name=sink sync=false async=false",
            camera.url()
        ))?;
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        let pad = |element: &str| running.element(element).static_pad("sink");
        let came = outcome.clone();
        pad("first")
            .context("no pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let Some((_, time)) = info.buffer().and_then(|b| times(pad, b)) {
                    came.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .came
                        .push(time);
                }
                gst::PadProbeReturn::Ok
            });
        let passed = outcome.clone();
        pad("sink")
            .context("no pad")?
            .add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
                if let Some((buffer, (now, time))) =
                    info.buffer().and_then(|b| Some((b, times(pad, b)?)))
                {
                    let faces = face_meta::read(buffer);
                    let mut outcome = passed.lock().unwrap_or_else(PoisonError::into_inner);
                    outcome.passed.push(Passed {
                        time,
                        lag: now as i64 - time as i64,
                        examined: face_meta::examined(buffer).unwrap_or(true),
                        faces: faces.len(),
                    });
                    let tracks = faces.iter().filter_map(|f| Some(f.track?.id));
                    outcome.tracks.extend(tracks);
                    let names = faces.iter().filter_map(|f| f.recognition.clone());
                    outcome.names.extend(names.map(|r| r.name));
                }
                gst::PadProbeReturn::Ok
            });
        running.play()?;
        Ok(Self { running, outcome })
    }

    /// Passes the results so far to `at`.
    pub fn look<T>(&self, at: impl FnOnce(&Outcome) -> T) -> T {
        at(&self.outcome.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Stops the stream.
    pub fn stop(self) -> Outcome {
        let Self { running, outcome } = self;
        drop(running);
        std::mem::take(&mut outcome.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads a number from an element's `stats`.
    pub fn stat(&self, element: &str, field: &str) -> u64 {
        let stats: gst::Structure = self.running.element(element).property("stats");
        stats.get(field).expect("a field of `stats`")
    }
}

/// How long the [`detector`] takes for a frame of the clip.
fn detection(clip: &str) -> Result<Duration> {
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! qtdemux ! h264parse ! avdec_h264 ! identity eos-after=25 ! \
         {} name=d ! fakesink sync=false",
        media(clip).display(),
        detector()
    ))?;
    running.play()?;
    running.wait()?;
    let stats: gst::Structure = running.element("d").property("stats");
    let (total, frames): (u64, u64) = (stats.get("time-total")?, stats.get("frames")?);
    Ok(Duration::from_nanos(total / frames.max(1)))
}

/// A detector whose model is heavy enough for any machine.
pub fn detector() -> &'static str {
    "facedetector model=centerface"
}
