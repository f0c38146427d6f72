//! Two cameras on separate servers. Faults happen to one; the other must not be affected.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use face_rtsp_server::{Options, Server};
use serde_json::Value;
use tempfile::TempDir;

use crate::lines::Lines;
use crate::live::{self, Live, START, Site};
use crate::metrics::Metrics;
use crate::report::Row;

/// Twenty seconds of one face, always in view.
pub const CLIP: &str = "WolfgangLanger_Pexels.mp4";

/// The camera to which faults happen.
pub const VICTIM: &str = "victim";

/// The other one.
pub const OTHER: &str = "other";

/// The longest pause that the other camera may have. [`Trial::limit`] scales it.
const UNTOUCHED: Duration = Duration::from_secs(3);

/// The longest time that an end by SIGTERM may take. [`Trial::limit`] scales it.
const END: Duration = Duration::from_millis(2500);

/// The context of all trials.
pub struct Trial {
    /// Seconds without a frame after which facepipe reconnects to a camera.
    pub stall: u64,
    pub seed: u64,
    /// Shorter, for tests.
    pub quick: bool,
    pub gallery: PathBuf,
    _folder: TempDir,
}

impl Trial {
    pub fn new(stall: u64, seed: u64, quick: bool) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        Ok(Self {
            stall,
            seed,
            quick,
            gallery: live::enroll(folder.path(), "anna")?,
            _folder: folder,
        })
    }

    /// Returns one of two durations, in seconds.
    pub fn seconds(&self, full: u64, quick: u64) -> Duration {
        Duration::from_secs(if self.quick { quick } else { full })
    }

    /// Scales a limit for an idle machine, since tests may run on a busy one.
    fn limit(&self, limit: Duration) -> Duration {
        limit * if self.quick { 5 } else { 1 }
    }
}

pub struct Scene {
    pub victim: Server,
    pub site: Site,
    pub live: Live,
    pub lines: Lines,
    /// Whether facepipe was killed in the course of the trial.
    pub killed: bool,
    _other: Server,
    steady: Steady,
    /// How long the other camera may pause, and how long an end may take.
    limits: (Duration, Duration),
    /// The other camera's longest pause, once facepipe has ended.
    ended: Option<Duration>,
}

/// Changes the site before it starts.
pub type Prepare<'a> = &'a mut dyn FnMut(&mut Site) -> Result<()>;

impl Scene {
    /// Starts the servers and facepipe, and waits until both cameras are good.
    pub fn start(context: &Trial, victim: Options, transport: &str) -> Result<Self> {
        Self::prepared(context, victim, transport, &mut |_| Ok(()))
    }

    pub fn prepared(
        context: &Trial,
        victim: Options,
        transport: &str,
        prepare: Prepare,
    ) -> Result<Self> {
        let victim = Server::start(victim)?;
        Self::with_server(context, victim, transport, prepare)
    }

    pub fn with_server(
        context: &Trial,
        victim: Server,
        transport: &str,
        prepare: Prepare,
    ) -> Result<Self> {
        let other = Server::start(Options::new(&[&format!("{OTHER}={CLIP},rate=15")]))?;
        let mut site = Site::new(context.stall, Some(&context.gallery))?;
        let more = format!("transport = \"{transport}\"");
        site.camera(VICTIM, &victim.url(VICTIM), &more);
        site.camera(OTHER, &other.url(OTHER), "");
        prepare(&mut site)?;
        let live = site.start()?;
        let mut lines = Lines::follow(&site.lines(VICTIM));
        let begin = || -> Result<()> {
            live.wait_for_frames(OTHER, 10)?;
            lines.good_again(Instant::now(), START, |_| true)?;
            Ok(())
        };
        let mut begin = begin;
        begin().with_context(|| format!("at the start; log:\n{}", tail(&site.log())))?;
        let steady = Steady::watch(site.port);
        Ok(Self {
            victim,
            site,
            live,
            lines,
            killed: false,
            _other: other,
            steady,
            limits: (context.limit(UNTOUCHED), context.limit(END)),
            ended: None,
        })
    }

    /// The options of a server with the usual camera.
    pub fn options() -> Options {
        Options::new(&[&format!("{VICTIM}={CLIP},rate=15")])
    }

    pub fn good_again(
        &mut self,
        since: Instant,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Duration> {
        self.lines
            .good_again(since, Duration::from_secs(90), wanted)
            .with_context(|| format!("log:\n{}", tail(&self.site.log())))
    }

    pub fn reconnects(&mut self) -> Result<u64> {
        let metrics = match self.live.metrics() {
            Ok(metrics) => metrics,
            Err(error) => {
                let ending = self.live.ending();
                return Err(error.context(format!("{ending}; log:\n{}", tail(&self.site.log()))));
            }
        };
        Ok(metrics.of("facepipe_reconnects_total", VICTIM) as u64)
    }

    /// Checks what holds for every fault, and ends facepipe. Returns the other camera's longest
    /// pause.
    pub fn end(&mut self) -> Result<Duration> {
        if let Some(other) = self.ended {
            return Ok(other);
        }
        ensure!(self.live.is_alive(), "facepipe died:\n{}", self.site.log());
        let other = self.steady.stop();
        // If facepipe itself was killed, so was its other camera.
        ensure!(
            self.killed || other < self.limits.0,
            "the other camera paused for {} s",
            other.as_secs_f64()
        );
        let end = self.live.terminate()?;
        ensure!(end < self.limits.1, "SIGTERM took {} s", end.as_secs_f64());
        self.ended = Some(other);
        Ok(other)
    }

    /// Ends the trial, if that has not happened yet, and returns its row.
    pub fn finish(
        mut self,
        fault: impl Into<String>,
        happened: String,
        good_again: Duration,
        lost: String,
    ) -> Result<Row> {
        let other = self.end()?;
        Ok(Row {
            fault: fault.into(),
            happened,
            good_again: Some(good_again),
            lost,
            other: (!self.killed).then_some(other),
        })
    }
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Watches whether the other camera's frames go on.
struct Steady {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Duration>>,
}

impl Steady {
    fn watch(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let watch = move || {
            let (mut last, mut since, mut longest) = (0.0, Instant::now(), Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(metrics) = Metrics::read(port) {
                    let frames = metrics.of("facepipe_frames_processed_total", OTHER);
                    longest = longest.max(since.elapsed());
                    if frames != last {
                        (last, since) = (frames, Instant::now());
                    }
                }
                std::thread::sleep(Duration::from_millis(100));
            }
            longest.max(since.elapsed())
        };
        Self {
            stop,
            thread: Some(std::thread::spawn(watch)),
        }
    }

    fn stop(&mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        joined.and_then(Result::ok).unwrap_or(Duration::MAX)
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
