//! The outputs of the results. All outputs of a camera outlive its pipelines.

mod dated;
mod events;
mod hub;
mod lines;
mod moment;
mod reporter;
mod restream;
mod returning;
mod rotate;
mod segments;
mod spool;
mod webhook;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Instant;

use anyhow::Result;
use face_core::model::Model;
use face_gallery::Gallery;
use face_gallery::vote::Rule;
use parking_lot::Mutex;

use gst::prelude::*;

pub use self::dated::private_folder;
use self::hub::Hub;
use self::lines::Lines;
pub use self::moment::in_millis;
pub use self::restream::check_password;
use self::restream::{Mount, Restream};
use self::segments::Recorder;
use self::webhook::{Forgetting, Webhooks};
use self::writer::Writers;
use super::config::{Camera, Config};
use super::control::{FORGETTING, Forgot};
use super::forgotten::Forgotten;
use super::recent::{CameraTracks, Recent};
use super::strangers::Visit;
use super::strangers::keeper::Keeper;
use super::telemetry::Telemetry;
use face_parts::graph::make;

/// Shared by all cameras.
pub struct Shared {
    pub telemetry: Arc<Telemetry>,
    pub strangers: Arc<Keeper>,
    writers: Writers,
    webhooks: Webhooks,
    restream: Option<Arc<Restream>>,
    /// By the camera's name; kept when its configuration changes.
    forgotten: Mutex<BTreeMap<String, Arc<Forgotten>>>,
    running: Mutex<BTreeMap<String, Running>>,
}

/// A camera whose outputs are open.
struct Running {
    config: Camera,
    lines: Weak<Lines>,
}

impl Shared {
    pub fn new(config: &Config, telemetry: Arc<Telemetry>) -> Result<Self> {
        let wanted = config.cameras.iter().any(|camera| camera.restream);
        let restream = wanted
            .then(|| Restream::start(config).map(Arc::new))
            .transpose()?;
        Ok(Self {
            strangers: Keeper::start(&config.strangers, telemetry.clone())?,
            telemetry,
            restream,
            writers: Writers::default(),
            webhooks: Webhooks::new(config),
            forgotten: Mutex::default(),
            running: Mutex::default(),
        })
    }

    /// Ends what outlives the cameras, after the last one has ended.
    pub fn close(&self, deadline: Instant) {
        // First, because a webhook that does not answer takes all the time.
        self.strangers.close(deadline);
        self.webhooks.close(deadline);
    }

    /// Gives a stranger a name, and reports it to the outputs of the cameras that saw them. Returns the
    /// past; `None` if there is no such stranger.
    pub fn name_stranger(&self, person: &str, name: &str) -> Option<Vec<Visit>> {
        let past = self.strangers.change(|all| all.name(person, name))?;
        let running = self.running.lock();
        let mut visits = Vec::new();
        for (camera, seen) in past {
            visits.extend(seen.iter().cloned());
            if let Some(lines) = running
                .get(&camera)
                .and_then(|camera| camera.lines.upgrade())
            {
                lines.named(person, name, seen);
            }
        }
        visits.sort_by(|a, b| (a.first, &a.camera).cmp(&(b.first, &b.camera)));
        Some(visits)
    }

    /// The people whom a camera must not name.
    pub fn forgotten(&self, camera: &str) -> Arc<Forgotten> {
        let mut all = self.forgotten.lock();
        all.entry(camera.to_owned()).or_default().clone()
    }

    /// Forgets a person in the cameras that have a gallery or an output at or below one of `paths`,
    /// which are canonical. Everything written after this is without the name.
    pub fn forget(&self, person: &str, paths: &[PathBuf], recent: &Recent) -> Forgot {
        let deadline = Instant::now() + FORGETTING;
        let mut cameras = Vec::new();
        let mut others = BTreeSet::new();
        {
            let mut running = self.running.lock();
            running.retain(|_, camera| camera.lines.strong_count() > 0);
            for (name, camera) in &*running {
                let mut places = camera.config.places().into_iter().map(canonical);
                match places.any(|place| paths.iter().any(|path| place.starts_with(path))) {
                    true => {
                        cameras.push((name.clone(), camera.config.clone(), camera.lines.clone()))
                    }
                    false => drop(others.insert(name.clone())),
                }
            }
        }
        let mut forgot = Forgot {
            pid: std::process::id(),
            ..Forgot::default()
        };
        for (name, config, lines) in cameras {
            // Before the tracks lose the name.
            if let Some(tracks) = recent.get(&name) {
                tracks.forget(person);
            }
            if let Some(lines) = lines.upgrade() {
                let late = lines.forget(person, deadline);
                forgot
                    .unfinished
                    .extend(late.iter().map(|late| format!("{name}: {late}")));
            }
            self.forgotten(&name)
                .look_at(config.stages.gallery.as_deref());
            forgot.galleries.extend(config.stages.gallery);
            forgot.cameras.push(name);
        }
        let remembered = self.strangers.file().cloned().map(canonical);
        let is_below = remembered.is_some_and(|file| paths.iter().any(|p| file.starts_with(p)));
        if is_below || !forgot.cameras.is_empty() {
            let (strangers, written) = self.strangers.forget(person, &galleries(&forgot.galleries));
            forgot.strangers = strangers;
            if let Err(error) = written {
                forgot.unfinished.push(format!("{error:#}"));
            }
        }
        if !forgot.cameras.is_empty() {
            let forgetting = Forgetting {
                person,
                strangers: &forgot.strangers,
                others: &others,
            };
            let late = self.webhooks.forget(&forgetting, deadline);
            forgot.unfinished.extend(late);
        }
        forgot.galleries.sort();
        forgot.galleries.dedup();
        forgot
    }
}

/// The galleries that can be read, with the rule for their models.
fn galleries(paths: &[PathBuf]) -> Vec<(Gallery, Rule)> {
    let read = |path: &PathBuf| {
        let gallery = Gallery::read(path).ok()?;
        let model = Model::find(&gallery.model.name).ok()?;
        Some((gallery, Rule::of(&model.descriptor)))
    };
    paths.iter().filter_map(read).collect()
}

/// The canonical path of a file that may not exist yet.
fn canonical(path: PathBuf) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent(), path.file_name()) {
        (Some(folder), Some(name)) => canonical(folder.to_owned()).join(name),
        _ => path,
    }
}

/// Fails, with the responsible key, if an element for a camera's outputs is missing.
pub fn check_elements(config: &Camera) -> Result<(), (&'static str, anyhow::Error)> {
    let video = || {
        let pipeline = gst::Pipeline::new();
        let tee = make("tee")?;
        pipeline.add(&tee)?;
        Arc::<Hub>::default().attach(&pipeline, &tee)
    };
    if config.restream {
        video().map_err(|error| ("restream", error))?;
        make("rtph264pay").map_err(|error| ("restream", error))?;
    }
    if let Some(segments) = &config.segments {
        let muxer = segments::muxer(segments.format);
        video()
            .and_then(|()| make(muxer))
            .map_err(|error| ("segments", error))?;
    }
    Ok(())
}

/// The outputs of one camera.
pub struct CameraOutputs {
    lines: Arc<Lines>,
    /// `None` if no video is wanted.
    hub: Option<Arc<Hub>>,
    recorder: Option<Recorder>,
    mount: Option<Mount>,
}

impl CameraOutputs {
    pub fn new(config: &Camera, shared: &Arc<Shared>, tracks: &Arc<CameraTracks>) -> Result<Self> {
        let telemetry = shared.telemetry.camera(&config.name);
        let lines = Arc::new(Lines::new(config, shared, tracks)?);
        let running = Running {
            config: config.clone(),
            lines: Arc::downgrade(&lines),
        };
        shared.running.lock().insert(config.name.clone(), running);
        let hub = (config.restream || config.segments.is_some()).then(Arc::<Hub>::default);
        let recorder = hub
            .as_ref()
            .zip(config.segments.as_ref())
            .map(|(hub, segments)| Recorder::start(&config.name, segments, hub, &telemetry))
            .transpose()?;
        let mount =
            hub.as_ref()
                .filter(|_| config.restream)
                .and_then(|hub| match &shared.restream {
                    Some(restream) => Some(restream.mount(&config.name, hub, &telemetry)),
                    None => {
                        tracing::warn!(
                            "the first camera with restream takes effect at the next start"
                        );
                        None
                    }
                });
        Ok(Self {
            lines,
            hub,
            recorder,
            mount,
        })
    }

    /// Adds the branches after `tee`, which provides frames with their faces.
    pub fn attach(&self, pipeline: &gst::Pipeline, tee: &gst::Element) -> Result<()> {
        self.lines.attach(pipeline, tee)?;
        if let Some(hub) = &self.hub {
            hub.attach(pipeline, tee)?;
        }
        Ok(())
    }

    /// The camera's pipeline ended; another will follow.
    pub fn source_lost(&self) {
        self.lines.lost();
    }

    /// Finishes all files. Takes at most a second.
    pub fn close(self) {
        drop(self.mount);
        drop(self.recorder);
        drop(self.lines);
    }
}
