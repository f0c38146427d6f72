//! `facepipe live`: many cameras for weeks.

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
pub mod secret;
pub mod telemetry;
mod thinning;
mod threads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueHint;

use self::camera::Handle;
use self::config::Config;
use self::control::{Control, StateLock};
use self::load::Load;
use self::marker::Marker;
use self::outputs::Shared;
use self::recent::Recent;
use self::telemetry::Telemetry;
use crate::{Outcome, interrupt};

/// From the first signal to the end of the process, at most.
const SHUTDOWN: Duration = Duration::from_millis(1900);

/// The part of it in which everything must have ended that is not to be left behind.
const ORDERLY: Duration = Duration::from_millis(1700);

/// Watch cameras, for as long as the program runs.
///
/// Every camera of the configuration has a pipeline of its own, which is built anew in growing pauses
/// when it fails, while the others run on. SIGHUP reads the configuration again and touches only the
/// cameras that changed in it; SIGTERM and Ctrl-C finish all files and end within two seconds.
///
/// docs/live.md describes the configuration. The least that it needs:
///
///   [[camera]]
///   name = "door"
///   uri = "rtsp://192.0.2.7/stream1"
///   jsonl = { path = "door.jsonl" }
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration, a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    config: PathBuf,

    /// Read the configuration, say what is wrong with it, and end
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    log: telemetry::log::Args,
}

impl Args {
    /// Whether cameras are watched, and SIGHUP reads the configuration again.
    pub fn runs(&self) -> bool {
        !self.check
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    camera::share_memory();
    let (config, places) = Config::read_with_places(&args.config)?;
    if args.check {
        check::check(&config, &places).map_err(|problems| problems.of_file(&args.config))?;
        tell!(
            "live: {} is good: {}",
            args.config.display(),
            crate::ui::count(config.cameras.len() as u64, "camera")
        );
        return Ok(Outcome::Done);
    }
    let log = telemetry::log::install(&args.log)?;
    interrupt::finish_within(SHUTDOWN);

    let state = config.state_folder()?;
    let lock = StateLock::take(&state)?;
    let telemetry = Arc::new(Telemetry::new());
    let shared = Arc::new(Shared::new(&config, telemetry.clone())?);
    let recent = Arc::new(Recent::default());
    let forget = forget(&shared, &recent);
    let control = Control::start(lock, recent.clone(), forget)?;
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
    while !interrupt::requested() {
        std::thread::sleep(Duration::from_millis(50));
        load.watch();
        if interrupt::reload_requested() {
            current = fleet.reload(args, current);
        }
    }
    let begun = Instant::now();
    tracing::info!("ending");
    // The frames under way are passed on as they are.
    face_core::session::leave_work_out(true);
    fleet.stop(begun + ORDERLY);
    fleet.shared.close(begun + ORDERLY);
    // Who looks for a note finds the program while it can be asked.
    drop(fleet);
    drop((server, control));
    let left = threads::join_all(begun + ORDERLY);
    tracing::info!(seconds = begun.elapsed().as_secs_f64(), "ended");
    if !left.is_empty() {
        tracing::warn!(threads = left.join(", "), "left behind");
        drop(log);
        interrupt::leave(0);
    }
    Ok(Outcome::Done)
}

/// How a person is forgotten by all that runs.
fn forget(shared: &Arc<Shared>, recent: &Arc<Recent>) -> Arc<control::Forget> {
    let (shared, recent) = (shared.clone(), recent.clone());
    Arc::new(move |person, paths| {
        let forgot = shared.forget(person, paths, &recent);
        tracing::info!(cameras = forgot.cameras.len(), "somebody is forgotten");
        forgot
    })
}

/// The cameras that run.
struct Fleet {
    shared: Arc<Shared>,
    recent: Arc<Recent>,
    cameras: Vec<Handle>,
    /// The folder with the control socket.
    state: PathBuf,
    /// By the folders that hold galleries and outputs.
    markers: BTreeMap<PathBuf, Marker>,
}

impl Fleet {
    /// Stops what is not in `config` as it runs, and starts what is only there.
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
        // A program that is to end has no time for cameras that hang.
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

    /// Leaves notes in the folders of the cameras, and takes those of others away.
    fn mark(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.markers);
        for folder in config.cameras.iter().flat_map(|camera| camera.folders()) {
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
                    "{}: no note can be left there, so `facepipe forget` does not find this program by \
                     that folder: {error}",
                    folder.display()
                ),
            }
        }
    }

    /// Reads the configuration again; one that cannot be used changes nothing.
    fn reload(&mut self, args: &Args, current: Config) -> Config {
        let new = match Config::read(&args.config) {
            Ok(new) => new,
            Err(error) => {
                for line in format!("{error:#}").lines() {
                    tracing::error!("{line}; the configuration in use stays");
                }
                return current;
            }
        };
        if new.server != current.server
            || new.restream != current.restream
            || new.state != current.state
        {
            tracing::warn!("changes of [server], [restream] and state come with the next start");
        }
        self.apply(&new);
        tracing::info!(cameras = new.cameras.len(), "configuration read again");
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

/// Stops cameras side by side.
fn stop_all(cameras: Vec<Handle>, deadline: Instant, hurry: fn() -> bool) {
    for camera in &cameras {
        camera.ask_to_stop();
    }
    for camera in cameras {
        camera.join(deadline, hurry);
    }
}
