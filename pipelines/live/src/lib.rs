//! `facepipe live`: watches many cameras for weeks.

// These macros panic if they cannot print, on a full disk for example.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod backoff;
mod camera;
mod check;
pub mod config;
pub mod control;
mod forgotten;
mod load;
pub mod marker;
mod outputs;
mod pipeline;
pub mod recent;
pub mod strangers;
pub mod telemetry;
mod thinning;
mod threads;
mod transport;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::camera::Handle;
use self::config::Config;
use self::control::{Control, Forgot, Program, StateLock};
use self::load::Load;
use self::marker::Marker;
use self::outputs::Shared;
use self::recent::Recent;
use self::strangers::{Known, Listed, Strangers, Visit};
use self::telemetry::Telemetry;
use face_parts::interrupt;

/// The limit from the first signal to the end of the process.
const SHUTDOWN: Duration = Duration::from_millis(1900);

/// The part of it for everything that must not be left behind.
const ORDERLY: Duration = Duration::from_millis(1700);

/// How often strangers who were not seen for long are looked for.
const FORGETTING: Duration = Duration::from_secs(60);

/// Reads the configuration at `path` and returns the number of its cameras. Fails with all problems
/// that would keep it from working.
pub fn check(path: &Path) -> Result<usize> {
    let (config, places) = Config::read_with_places(path)?;
    check::check(&config, &places).map_err(|problems| problems.of_file(path))?;
    Ok(config.cameras.len())
}

/// Watches the cameras of the configuration at `path` until a signal comes, and writes a log.
pub fn run(path: &Path, log: &telemetry::log::Args) -> Result<()> {
    camera::share_memory();
    let config = Config::read(path)?;
    let log = telemetry::log::install(log)?;
    interrupt::finish_within(SHUTDOWN);

    let state = config.state_folder()?;
    let lock = StateLock::take(&state)?;
    let telemetry = Arc::new(Telemetry::new());
    let shared = Arc::new(Shared::new(&config, telemetry.clone())?);
    let recent = Arc::new(Recent::default());
    let program = Running {
        shared: shared.clone(),
        recent: recent.clone(),
    };
    let control = Control::start(lock, recent.clone(), Arc::new(program))?;
    let server =
        telemetry::http::Server::start(&config.server, telemetry.clone()).context("[server]")?;
    let mut fleet = Fleet {
        shared,
        recent,
        cameras: Vec::new(),
        state,
        markers: BTreeMap::new(),
    };
    fleet.apply(&config);
    tracing::info!(cameras = config.cameras.len(), "running");
    let mut current = config;
    let mut load = Load::new(telemetry);
    let mut looked_for_old = Instant::now();
    while !interrupt::requested() {
        std::thread::sleep(Duration::from_millis(50));
        load.watch();
        if looked_for_old.elapsed() >= FORGETTING {
            looked_for_old = Instant::now();
            fleet.shared.strangers.forget_old();
        }
        if interrupt::reload_requested() {
            current = fleet.reload(path, current);
        }
    }
    let begun = Instant::now();
    tracing::info!("ending");
    // Frames under way pass without further work.
    face_core::session::leave_work_out(true);
    fleet.stop(begun + ORDERLY);
    fleet.shared.close(begun + ORDERLY);
    // A note that is found must belong to a program that still answers.
    drop(fleet);
    drop((server, control));
    let left = threads::join_all(begun + ORDERLY);
    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "ended");
    if !left.is_empty() {
        tracing::warn!(threads = left.join(", "), "still running at the end");
        drop(log);
        interrupt::leave(0);
    }
    Ok(())
}

/// Does what other commands ask for.
struct Running {
    shared: Arc<Shared>,
    recent: Arc<Recent>,
}

impl Program for Running {
    fn forget(&self, person: &str, paths: &[PathBuf]) -> Forgot {
        let forgot = self.shared.forget(person, paths, &self.recent);
        tracing::info!(cameras = forgot.cameras.len(), "somebody was forgotten");
        forgot
    }

    fn strangers(&self) -> Vec<Listed> {
        self.shared.strangers.read(Strangers::list)
    }

    fn stranger(&self, person: &str) -> Option<Known> {
        self.shared.strangers.read(|all| all.embeddings(person))
    }

    fn name_stranger(&self, person: &str, name: &str) -> Option<Vec<Visit>> {
        self.shared.name_stranger(person, name)
    }
}

/// The running cameras.
struct Fleet {
    shared: Arc<Shared>,
    recent: Arc<Recent>,
    cameras: Vec<Handle>,
    /// The folder that contains the control socket.
    state: PathBuf,
    /// Keyed by the folders that contain galleries and outputs.
    markers: BTreeMap<PathBuf, Marker>,
}

impl Fleet {
    /// Stops the cameras that differ from `config`, and starts those that are missing.
    fn apply(&mut self, config: &Config) {
        for camera in &config.cameras {
            if let (Some(username), Some(password)) = (&camera.username, &camera.password) {
                password.hide_with(username);
            }
        }
        let (keep, stop): (Vec<_>, Vec<_>) = std::mem::take(&mut self.cameras)
            .into_iter()
            .partition(|handle| config.cameras.contains(handle.config()));
        self.cameras = keep;
        let deadline = Instant::now() + Duration::from_secs(5);
        // At the end there is no time for cameras that hang.
        stop_all(stop, deadline, interrupt::requested);
        self.mark(config);
        for camera in &config.cameras {
            if self.cameras.iter().any(|handle| handle.config() == camera) {
                continue;
            }
            let (shared, recent) = (self.shared.clone(), self.recent.clone());
            self.cameras
                .push(Handle::start(camera.clone(), shared, recent));
        }
    }

    /// Leaves notes in the folders of the cameras, and removes those in other folders.
    fn mark(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.markers);
        let remembered = config.strangers.folder();
        let folders = config.cameras.iter().flat_map(|camera| camera.folders());
        for folder in folders.chain(remembered) {
            if self.markers.contains_key(&folder) {
                continue;
            }
            let marker = match before.remove(&folder) {
                Some(marker) => Ok(marker),
                None => leave(&folder, &self.state),
            };
            match marker {
                Ok(marker) => drop(self.markers.insert(folder, marker)),
                Err(error) => tracing::info!(
                    "{}: no note can be left there, so `facepipe forget` cannot find this program \
                     through that folder: {error}",
                    folder.display()
                ),
            }
        }
    }

    /// Reloads the configuration. An invalid one changes nothing.
    fn reload(&mut self, path: &Path, current: Config) -> Config {
        let new = match Config::read(path) {
            Ok(new) => new,
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    tracing::error!("{line}; the current configuration stays in use");
                }
                return current;
            }
        };
        if new.server != current.server
            || new.restream != current.restream
            || new.strangers != current.strangers
            || new.state != current.state
        {
            tracing::warn!(
                "changes of [server], [restream], [strangers] and state take effect at the next start"
            );
        }
        self.apply(&new);
        tracing::info!(cameras = new.cameras.len(), "configuration reloaded");
        new
    }

    fn stop(&mut self, deadline: Instant) {
        stop_all(std::mem::take(&mut self.cameras), deadline, || false);
    }
}

fn leave(folder: &Path, state: &Path) -> std::io::Result<Marker> {
    outputs::private_folder(folder)?;
    Marker::leave(folder, state)
}

/// Stops cameras in parallel.
fn stop_all(cameras: Vec<Handle>, deadline: Instant, hurry: fn() -> bool) {
    for camera in &cameras {
        camera.ask_to_stop();
    }
    for camera in cameras {
        camera.join(deadline, hurry);
    }
}
