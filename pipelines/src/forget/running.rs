//! The running programs that write to what somebody is to be removed from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::find::Kind;
use crate::live::config::{Config, default_state_folder};
use crate::live::control::{self, Answer, Forgot, Request};
use crate::live::marker::{self, Note};

/// A `facepipe live` that was told.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its folder for state.
    pub state: PathBuf,
    pub pid: u32,
    /// The cameras that forgot the person.
    pub cameras: Vec<String>,
    #[serde(skip)]
    pub galleries: Vec<PathBuf>,
}

/// The running programs, by their folders for state.
#[derive(Default)]
pub struct Running {
    /// With where they were found.
    states: BTreeMap<PathBuf, PathBuf>,
    /// The paths, canonical.
    paths: Vec<PathBuf>,
}

impl Running {
    /// Looks for notes among what was `found` below the paths, and beside paths that are files; at the
    /// folder for state of a configuration, or else of the user. What cannot be read is told to `failed`.
    pub fn find(
        paths: &[PathBuf],
        found: &[(PathBuf, Kind)],
        config: Option<&Path>,
        mut failed: impl FnMut(&Path, &anyhow::Error),
    ) -> Result<Self> {
        let mut running = Self::default();
        let below = found.iter().filter(|(_, kind)| *kind == Kind::Marker);
        let mut notes: BTreeSet<PathBuf> = below.map(|(path, _)| path.clone()).collect();
        for path in paths {
            let path = fs::canonicalize(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            if let Some(folder) = path.parent().filter(|_| !path.is_dir()) {
                // What cannot be listed has no notes that could be read.
                let entries = fs::read_dir(folder).into_iter().flatten().flatten();
                notes.extend(entries.map(|e| e.path()).filter(|p| marker::is_marker(p)));
            }
            running.paths.push(path);
        }
        for path in notes {
            match marker::read(&path) {
                Ok(Some(Note { state, .. })) => drop(running.states.insert(state, path)),
                Ok(None) => {}
                Err(error) => failed(
                    &path,
                    &anyhow::Error::new(error).context(
                        "a `facepipe live` may be running with this folder, and who it is cannot be read",
                    ),
                ),
            }
        }
        let state = match config {
            Some(path) => Some(Config::read(path)?.state_folder()?),
            None => default_state_folder().ok(),
        };
        if let Some(state) = state
            && control::listens(&state)
        {
            let socket = control::path(&state);
            running.states.entry(state).or_insert(socket);
        }
        Ok(running)
    }

    /// Has every program forget the person, and waits for it. Whoever has nothing to do with the paths is
    /// left out.
    pub fn tell(&self, person: &str, mut failed: impl FnMut(&Path, &anyhow::Error)) -> Vec<Told> {
        let mut told = Vec::new();
        for (state, found) in &self.states {
            match self.tell_one(person, state) {
                Ok(forgot) if forgot.cameras.is_empty() => {}
                Ok(forgot) => {
                    for why in &forgot.unfinished {
                        failed(state, &anyhow::anyhow!("{why}; do it again"));
                    }
                    told.push(Told {
                        state: state.clone(),
                        pid: forgot.pid,
                        cameras: forgot.cameras,
                        galleries: forgot.galleries,
                    });
                }
                Err(error) => failed(
                    found,
                    &error.context(
                        "a running `facepipe live` may write the name again; stop it, or see that it \
                         answers, and do it again",
                    ),
                ),
            }
        }
        told
    }

    fn tell_one(&self, person: &str, state: &Path) -> Result<Forgot> {
        let request = Request::Forget {
            person: person.to_owned(),
            paths: self.paths.clone(),
        };
        match control::ask(state, &request)? {
            Answer::Forgotten(forgot) => Ok(forgot),
            Answer::Refused { reason } => {
                bail!("it is of another version and does not understand: {reason}")
            }
            _ => bail!("it answers something else"),
        }
    }
}
