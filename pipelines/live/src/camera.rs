//! One camera: its pipeline, which is rebuilt whenever it fails.

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
use super::transport::{Choice, Refused};
use face_parts::ui;

/// How often a camera checks its pipeline and whether it should stop.
const TICK: Duration = Duration::from_millis(50);

/// A camera that runs on its own thread.
pub struct Handle {
    config: Camera,
    stop: mpsc::Sender<()>,
    /// `None` if the thread could not be started.
    thread: Option<Thread>,
}

impl Handle {
    /// Starts the camera. Its thread handles failures by trying again.
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
                tracing::error!(
                    camera = config.name,
                    "the camera's thread cannot be started: {error}"
                );
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
        // Fails if the thread is gone, which is fine.
        let _ = self.stop.send(());
    }

    /// Waits until the camera has stopped, but not beyond `deadline`, and no longer once `hurry`
    /// returns `true`.
    pub fn join(self, deadline: Instant, hurry: impl Fn() -> bool) {
        let Some(thread) = self.thread else { return };
        while !thread.ends_within(TICK.min(deadline.saturating_duration_since(Instant::now()))) {
            if Instant::now() >= deadline || hurry() {
                tracing::warn!(
                    camera = self.config.name,
                    "does not stop; continuing without waiting for it"
                );
                return;
            }
        }
    }
}

/// What is kept from one connection to the next.
struct Memory {
    /// The id of the next track.
    next_track: u64,
    transport: Choice,
}

/// Runs the camera until it is stopped.
fn watch(
    config: &Camera,
    shared: &Arc<Shared>,
    tracks: &Arc<CameraTracks>,
    stopped: &mpsc::Receiver<()>,
) {
    let telemetry = shared.telemetry.camera(&config.name);
    let mut backoff = Backoff::default();
    let mut memory = Memory {
        next_track: 1,
        transport: Choice::new(config.transport),
    };
    let outputs = loop {
        match CameraOutputs::new(config, shared, tracks) {
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
        let mut ending = attempt(
            config,
            shared,
            &telemetry,
            &outputs,
            tracks,
            stopped,
            &mut memory,
        );
        let transport = &mut memory.transport;
        let refused = match &ending {
            Err(error) => error
                .downcast_ref::<Refused>()
                .map(|refused| refused.protocol),
            Ok(_) => None,
        };
        match refused {
            Some(protocol) => {
                if transport.refused() {
                    let next = transport.current();
                    tracing::info!("the camera does not send over {protocol}; trying {next}");
                    match waits_in_vain(stopped, Duration::ZERO) {
                        true => break,
                        false => continue,
                    }
                }
                if transport.may_change() {
                    let both = true;
                    ending = Err(Refused { protocol, both }.into());
                }
            }
            None => transport.ended(),
        }
        match ending {
            Ok(Ending::Asked) => break,
            Ok(Ending::EndOfStream) => tracing::warn!("the stream ended"),
            Ok(Ending::Stalled) => {
                tracing::warn!(
                    seconds = config.stall_timeout.as_secs_f64(),
                    "no frame arrived"
                );
            }
            Err(error) => tracing::warn!("{}", ui::causes(&error)),
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

/// Waits for `pause`. Returns `true` if the camera is stopped meanwhile.
fn waits_in_vain(stopped: &mpsc::Receiver<()>, pause: Duration) -> bool {
    stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout)
}

/// Runs one pipeline of the camera from its start to its end.
fn attempt(
    config: &Camera,
    shared: &Arc<Shared>,
    telemetry: &Arc<telemetry::Camera>,
    outputs: &CameraOutputs,
    tracks: &Arc<CameraTracks>,
    stopped: &mpsc::Receiver<()>,
    memory: &mut Memory,
) -> Result<Ending> {
    let (track, protocol) = (memory.next_track, memory.transport.current());
    let mut pipeline =
        guarded(|| Pipeline::build(config, shared, telemetry, outputs, tracks, track, protocol))?;
    let ending = guarded(|| pipeline.run(stopped, TICK));
    // A tracker that was not started, because another element failed to start, returns 0.
    memory.next_track = pipeline.next_track().unwrap_or(0).max(track);
    pipeline.shut_down();
    return_memory();
    ending
}

/// Makes the C library share memory between threads. By default each thread gets its own area,
/// which keeps the memory that the thread freed, and every pipeline has new threads: fifty
/// reconnects of two cameras grew to 1 GB, and stay at 350 MB with this. Call it before starting
/// cameras.
pub fn share_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: only sets a number.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Returns the memory of an ended pipeline to the system.
fn return_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called at any time, from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A panic ends a camera's pipeline, but not the camera.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(anyhow!("facepipe has a bug, which the log shows")))
}
