//! One camera: its pipeline, built anew whenever it fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::backoff::Backoff;
use super::config::Camera;
use super::outputs::{CameraOutputs, Shared};
use super::pipeline::{Ending, Pipeline};
use super::recent::{CameraTracks, Recent};
use super::telemetry::{self, CameraState};
use super::threads::Thread;

/// How often a camera looks at its pipeline and at whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// A camera that runs on a thread of its own.
pub struct Handle {
    config: Camera,
    stop: mpsc::Sender<()>,
    /// `None` where there can be none.
    thread: Option<Thread>,
}

impl Handle {
    /// Starts the camera; what goes wrong is tried again, in its thread.
    pub fn start(config: Camera, shared: Arc<Shared>, recent: Arc<Recent>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let camera = config.clone();
        let work = move || {
            let _span = tracing::info_span!("camera", name = %camera.name).entered();
            let tracks = recent.begin(&camera.name, camera.stages.gallery.as_deref());
            watch(&camera, &shared, &tracks, &stopped);
            recent.end(&camera.name, &tracks);
        };
        let thread = Thread::start(format!("cam-{}", config.name), work)
            .inspect_err(|error| {
                tracing::error!(camera = config.name, "no thread for the camera: {error}");
            })
            .ok();
        Self {
            config,
            stop,
            thread,
        }
    }

    pub fn config(&self) -> &Camera {
        &self.config
    }

    pub fn ask_to_stop(&self) {
        // Fails if the thread is gone, which is what is asked for.
        let _ = self.stop.send(());
    }

    /// Waits until the camera has stopped, but not beyond `deadline`, and no longer once `hurry` says so.
    pub fn join(self, deadline: Instant, hurry: impl Fn() -> bool) {
        let Some(thread) = self.thread else { return };
        while !thread.ends_within(TICK.min(deadline.saturating_duration_since(Instant::now()))) {
            if Instant::now() >= deadline || hurry() {
                tracing::warn!(camera = self.config.name, "does not stop; left behind");
                return;
            }
        }
    }
}

/// Runs the camera until it is to stop.
fn watch(
    config: &Camera,
    shared: &Arc<Shared>,
    tracks: &Arc<CameraTracks>,
    stopped: &mpsc::Receiver<()>,
) {
    let telemetry = shared.telemetry.camera(&config.name);
    let mut backoff = Backoff::default();
    let mut next_track = 1;
    let outputs = loop {
        match CameraOutputs::new(config, shared) {
            Ok(outputs) => break outputs,
            Err(error) => {
                telemetry.set_state(CameraState::Failed);
                tracing::error!("{error:#}");
                if waits_in_vain(stopped, backoff.pause(Duration::ZERO, rand::random())) {
                    return;
                }
            }
        }
    };
    loop {
        telemetry.set_state(CameraState::Connecting);
        let started = Instant::now();
        let ending = attempt(
            config,
            shared,
            &telemetry,
            &outputs,
            tracks,
            stopped,
            &mut next_track,
        );
        match ending {
            Ok(Ending::Asked) => break,
            Ok(Ending::EndOfStream) => tracing::warn!("the stream ended"),
            Ok(Ending::Stalled) => {
                tracing::warn!(
                    seconds = config.stall_timeout.as_secs_f64(),
                    "no frame came"
                );
            }
            Err(error) => tracing::warn!("{error:#}"),
        }
        telemetry.set_state(CameraState::Failed);
        outputs.source_lost();
        let pause = backoff.pause(started.elapsed(), rand::random());
        tracing::info!(seconds = pause.as_secs_f64(), "trying again");
        if waits_in_vain(stopped, pause) {
            break;
        }
        telemetry.reconnects.inc();
    }
    outputs.close();
    shared.telemetry.remove(&config.name);
}

/// Waits for `pause`; `true` if the camera is to stop meanwhile.
fn waits_in_vain(stopped: &mpsc::Receiver<()>, pause: Duration) -> bool {
    stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
}

/// One life of the camera's pipeline.
fn attempt(
    config: &Camera,
    shared: &Arc<Shared>,
    telemetry: &Arc<telemetry::Camera>,
    outputs: &CameraOutputs,
    tracks: &Arc<CameraTracks>,
    stopped: &mpsc::Receiver<()>,
    next_track: &mut u64,
) -> Result<Ending> {
    let mut pipeline =
        guarded(|| Pipeline::build(config, shared, telemetry, outputs, tracks, *next_track))?;
    let ending = guarded(|| pipeline.run(stopped, TICK));
    // A tracker that was not started, because another element could not be, says 0.
    *next_track = pipeline.next_track().unwrap_or(0).max(*next_track);
    pipeline.shut_down();
    return_memory();
    ending
}

/// Has the C library share memory between threads. It gives each thread an area of its own, which keeps
/// what the thread freed, and every pipeline has new threads: fifty reconnects of two cameras grew
/// to 1 GB, and with this stay at 350 MB. To be called before there are cameras.
pub fn share_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Gives the memory of a pipeline that ended back to the system.
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A panic costs a camera its pipeline, not its life.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(anyhow!("facepipe has a bug, which the log shows")))
}
