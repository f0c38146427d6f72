//! The strangers of the running program: shared by its cameras, and kept in a file if that is wanted.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use face_core::model::Model as Descriptor;
use face_gallery::vote::Rule;
use face_gallery::{Gallery, ModelId};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Limits, Model, Strangers};
use crate::config;
use crate::outputs::private_folder;
use crate::telemetry::Telemetry;
use crate::threads::Thread;

/// How much of the latest may be lost if the program is killed.
const SAVE_AFTER: Duration = Duration::from_secs(10);

/// Holds the strangers of all cameras.
pub struct Keeper {
    enabled: bool,
    file: Option<PathBuf>,
    telemetry: Arc<Telemetry>,
    state: Mutex<State>,
    changed: Condvar,
    /// Held while a file is written, so that an older state never replaces a newer one.
    saving: Mutex<()>,
    thread: Mutex<Option<Thread>>,
    /// The models of the cameras, by name. `None` if it cannot be read.
    models: Mutex<BTreeMap<String, Option<Arc<Model>>>>,
}

struct State {
    strangers: Strangers,
    /// Since the last time it was written.
    changed: bool,
    ended: bool,
}

impl Keeper {
    /// Reads the file and starts writing to it, if there is to be one.
    pub fn start(config: &config::Strangers, telemetry: Arc<Telemetry>) -> Result<Arc<Self>> {
        let limits = limits(config);
        let file = config.remember.clone().filter(|_| config.enabled);
        let strangers = match &file {
            Some(path) => Strangers::read(path, limits).context("[strangers]")?,
            None => Strangers::new(limits),
        };
        let keeper = Arc::new(Self {
            enabled: config.enabled,
            file,
            telemetry,
            state: Mutex::new(State {
                strangers,
                changed: false,
                ended: false,
            }),
            changed: Condvar::new(),
            saving: Mutex::default(),
            thread: Mutex::default(),
            models: Mutex::default(),
        });
        keeper.note();
        if keeper.file.is_some() {
            let saved = keeper.clone();
            let thread = Thread::start("strangers", move || saved.save_changes());
            *keeper.thread.lock() =
                Some(thread.context("the strangers' thread cannot be started")?);
        }
        Ok(keeper)
    }

    /// `None` if strangers are not told apart.
    pub fn model(&self, name: &str) -> Option<Arc<Model>> {
        if !self.enabled {
            return None;
        }
        let mut models = self.models.lock();
        let model = models.entry(name.to_owned()).or_insert_with(|| {
            read_model(name)
                .inspect_err(|error| tracing::warn!("strangers are not told apart: {error:#}"))
                .ok()
                .map(Arc::new)
        });
        model.clone()
    }

    /// Looks something up.
    pub fn read<T>(&self, work: impl FnOnce(&Strangers) -> T) -> T {
        work(&self.state.lock().strangers)
    }

    /// Changes something. It is written soon.
    pub fn change<T>(&self, work: impl FnOnce(&mut Strangers) -> T) -> T {
        let mut state = self.state.lock();
        let result = work(&mut state.strangers);
        if !state.changed {
            state.changed = true;
            self.changed.notify_all();
        }
        drop(state);
        self.note();
        result
    }

    /// Forgets those not seen for too long, also if nobody is seen any more.
    pub fn forget_old(&self) {
        let mut state = self.state.lock();
        if state.strangers.forget_old(jiff::Timestamp::now()) {
            state.changed = true;
            self.changed.notify_all();
            drop(state);
            self.note();
        }
    }

    /// Forgets a person, see [`Strangers::forget`]. Afterwards the file is without them, or the error
    /// says why not.
    pub fn forget(&self, person: &str, galleries: &[(Gallery, Rule)]) -> (Vec<String>, Result<()>) {
        let forgotten = self.change(|strangers| strangers.forget(person, galleries));
        (forgotten, self.save())
    }

    /// The file, if there is one.
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// Writes the rest. Waits no longer than `deadline`.
    pub fn close(&self, deadline: Instant) {
        self.state.lock().ended = true;
        self.changed.notify_all();
        let thread = self.thread.lock().take();
        let left = deadline.saturating_duration_since(Instant::now());
        if thread.is_some_and(|thread| !thread.ends_within(left)) {
            tracing::warn!("the file of strangers is not written in time");
        }
    }

    fn note(&self) {
        let known = self.read(Strangers::len);
        let known = i64::try_from(known).unwrap_or(i64::MAX);
        self.telemetry.strangers.set(known);
    }

    fn save_changes(&self) {
        let mut failing = false;
        loop {
            let mut state = self.state.lock();
            let idle = |state: &mut State| !state.changed && !state.ended;
            self.changed.wait_while(&mut state, idle);
            let goes_on = |state: &mut State| !state.ended;
            self.changed.wait_while_for(&mut state, goes_on, SAVE_AFTER);
            let ended = state.ended;
            drop(state);
            match self.save() {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::error!("strangers: {error:#}; trying again");
                }
                Err(_) => {}
            }
            if ended {
                return;
            }
        }
    }

    /// Writes the file if anything has changed.
    fn save(&self) -> Result<()> {
        let Some(path) = &self.file else {
            return Ok(());
        };
        let _saving = self.saving.lock();
        let snapshot = {
            let mut state: MutexGuard<State> = self.state.lock();
            if !std::mem::take(&mut state.changed) {
                return Ok(());
            }
            state.strangers.snapshot()
        };
        let written = write(path, &snapshot);
        if written.is_err() {
            self.state.lock().changed = true;
        }
        written
    }
}

fn write(path: &std::path::Path, snapshot: &super::file::Snapshot) -> Result<()> {
    if let Some(folder) = path.parent() {
        private_folder(folder)
            .with_context(|| format!("the folder {} cannot be created", folder.display()))?;
    }
    snapshot.write(path)
}

/// How many strangers to remember, and how long.
pub fn limits(config: &config::Strangers) -> Limits {
    Limits {
        most: config.most,
        forget_after: config.forget_after,
        visit_gap: config.visit_gap,
    }
}

fn read_model(name: &str) -> Result<Model> {
    let (id, dimensions) = ModelId::of(name)?;
    let rule = Rule::of(&Descriptor::find(name)?.descriptor);
    Ok(Model {
        id,
        dimensions,
        rule,
    })
}
