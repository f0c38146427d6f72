//! Finds the running programs that write to the affected files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::find::Kind;
use face_live::config::{Config, default_state_folder};
use face_live::control::{self, Answer, Forgot, Request};
use face_live::marker::{self, Note};

/// A `facepipe live` that was told.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Its state folder.
    pub state: PathBuf,
    pub pid: u32,
    /// The cameras that forgot the person.
    pub cameras: Vec<String>,
    /// The ids of the person among the strangers that it told apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<String>,
    #[serde(skip)]
    pub galleries: Vec<PathBuf>,
}

/// The running programs, by their state folders.
#[derive(Default)]
pub struct Running {
    /// With the places where they were found.
    states: BTreeMap<PathBuf, PathBuf>,
    /// The paths, canonical.
    paths: Vec<PathBuf>,
}

impl Running {
    /// Looks for notes: among the files `found` below the paths, next to paths that are files, and
    /// in the state folder of a configuration or else of the user. Reports unreadable ones to
    /// `failed`.
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
                // A folder that cannot be listed has no readable notes.
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
                        "a `facepipe live` may be running with this folder, but its note cannot be read",
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

    /// Makes every program forget the person, and waits for it. Omits programs that do not use the
    /// paths.
    pub fn tell(&self, person: &str, mut failed: impl FnMut(&Path, &anyhow::Error)) -> Vec<Told> {
        let mut told = Vec::new();
        for (state, found) in &self.states {
            match self.tell_one(person, state) {
                Ok(forgot)
                    if forgot.cameras.is_empty()
                        && forgot.strangers.is_empty()
                        && forgot.unfinished.is_empty() => {}
                Ok(forgot) => {
                    for why in &forgot.unfinished {
                        failed(state, &anyhow::anyhow!("{why}; run the command again"));
                    }
                    told.push(Told {
                        state: state.clone(),
                        pid: forgot.pid,
                        cameras: forgot.cameras,
                        strangers: forgot.strangers,
                        galleries: forgot.galleries,
                    });
                }
                Err(error) => failed(
                    found,
                    &error.context(
                        "a running `facepipe live` may write the name again; stop it, or make sure that it \
                         answers, and run the command again",
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
                bail!("it has another version and does not understand the request: {reason}")
            }
            _ => bail!("it gave an unexpected answer"),
        }
    }
}
