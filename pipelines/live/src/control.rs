//! The socket through which other commands talk to a running `facepipe live`: a request is one line
//! of JSON, and so is the answer. It is in the state folder and accessible only to the owner,
//! because it gives out embeddings.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use face_meta::names::{self, UNKNOWN};
use serde::{Deserialize, Serialize};

use super::recent::{Embeddings, Listed, Recent};
use super::strangers::{self, Known, Visit};
use super::threads::Thread;
use face_parts::lock;

/// Our requests are shorter.
const MOST_REQUEST: u64 = 64 << 10;

/// Our answers are shorter: 16 embeddings of 4096 numbers as text.
const MOST_ANSWER: u64 = 4 << 20;

/// How long either side waits for the other.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the process may take to forget somebody. A running delivery has to end first.
pub const FORGETTING: Duration = Duration::from_secs(20);

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// Return the embeddings of a track.
    Embeddings { camera: String, track: u64 },
    /// Never name somebody again, in the cameras whose gallery or outputs are at or below `paths`
    /// (canonical), until the name is enrolled again.
    Forget { person: String, paths: Vec<PathBuf> },
    /// Return all strangers who are told apart.
    Strangers,
    /// Return the embeddings of a stranger.
    Stranger { person: String },
    /// Give a stranger a name.
    NameStranger { person: String, name: String },
}

impl Request {
    fn patience(&self) -> Duration {
        match self {
            Self::Embeddings { .. }
            | Self::Strangers
            | Self::Stranger { .. }
            | Self::NameStranger { .. } => PATIENCE,
            Self::Forget { .. } => FORGETTING + PATIENCE,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    Embeddings {
        #[serde(flatten)]
        embeddings: Embeddings,
        /// The camera's gallery.
        gallery: Option<PathBuf>,
    },
    NoCamera {
        cameras: Vec<String>,
    },
    NoTrack {
        tracks: Vec<Listed>,
    },
    /// Everything written from now on is without the name, and everything to be written with it is
    /// in the files.
    Forgotten(Forgot),
    Strangers {
        strangers: Vec<strangers::Listed>,
    },
    Stranger {
        #[serde(flatten)]
        known: Known,
        /// Of the camera that saw the stranger last.
        gallery: Option<PathBuf>,
    },
    NoStranger,
    /// The past of the stranger, whose events are reported.
    StrangerNamed {
        visits: Vec<Visit>,
    },
    Refused {
        reason: String,
    },
}

/// The result of a request to forget somebody.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgot {
    pub pid: u32,
    /// The cameras that forgot.
    pub cameras: Vec<String>,
    /// Their galleries.
    pub galleries: Vec<PathBuf>,
    /// The ids of the strangers that were forgotten.
    #[serde(default)]
    pub strangers: Vec<String>,
    /// Steps that did not finish in time, and why.
    pub unfinished: Vec<String>,
}

/// What the running program does on request.
pub trait Program: Send + Sync {
    /// Forgets a person in the cameras whose files are at or below some paths.
    fn forget(&self, person: &str, paths: &[PathBuf]) -> Forgot;

    fn strangers(&self) -> Vec<strangers::Listed>;

    /// The embeddings of a stranger.
    fn stranger(&self, person: &str) -> Option<Known>;

    /// Gives a stranger a name. Returns the past.
    fn name_stranger(&self, person: &str, name: &str) -> Option<Vec<Visit>>;
}

/// Where the socket is.
pub fn path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// How long an answer may still take at the end of the program.
const CLOSE: Duration = Duration::from_millis(100);

/// The lock of a state folder, held while its process may write there. Its file stays: otherwise
/// one process could hold a removed file while another creates and locks a new one.
pub struct StateLock {
    state: PathBuf,
    _file: File,
}

impl StateLock {
    /// Creates the state folder if needed. Fails if another process uses it.
    pub fn take(state: &Path) -> Result<Self> {
        let taken = || {
            anyhow!(
                "another `facepipe live` runs with the state folder {}; set `state` to another",
                state.display()
            )
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state)
            .with_context(|| {
                format!("the folder for state {} cannot be created", state.display())
            })?;
        let path = state.join(".live.lock");
        let failed = || format!("{} cannot be locked", path.display());
        let file = lock::open(&path).with_context(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken()),
            // Without locks, the socket is the best indication.
            Err(TryLockError::Error(error)) if lock::has_no_locks(&error) => {
                if listens(state) {
                    return Err(taken());
                }
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
        Ok(Self {
            state: state.to_owned(),
            _file: file,
        })
    }
}

/// Fails for [`UNKNOWN`], the name of all people who are in no gallery.
pub fn check_person(person: &str) -> Result<()> {
    ensure!(!person.trim().is_empty(), "the person's name is empty");
    ensure!(
        !person.trim().eq_ignore_ascii_case(UNKNOWN),
        "{person:?} is the name of all strangers, so they would all be removed; if a gallery has a \
         person with this name, use `facepipe gallery remove GALLERY {person:?}`"
    );
    Ok(())
}

/// Answers until it is dropped.
pub struct Control {
    path: PathBuf,
    stopped: Arc<AtomicBool>,
    thread: Thread,
    /// Held until after the socket is removed.
    _lock: StateLock,
}

impl Control {
    /// Listens in the state folder.
    pub fn start(lock: StateLock, recent: Arc<Recent>, program: Arc<dyn Program>) -> Result<Self> {
        let path = path(&lock.state);
        // Left by a process that was killed.
        let _ = fs::remove_file(&path);
        let failed = || format!("{} cannot be created", path.display());
        let listener = UnixListener::bind(&path).with_context(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(failed)?;
        let stopped = Arc::<AtomicBool>::default();
        let serving = {
            let stopped = stopped.clone();
            move || serve(&listener, &recent, &program, &stopped)
        };
        let thread = Thread::start("control", serving).with_context(failed)?;
        Ok(Self {
            path,
            stopped,
            thread,
            _lock: lock,
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread. If this fails, somebody else has removed the socket, and no more
        // requests arrive.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = fs::remove_file(&self.path);
        if !woken || !self.thread.ends_within(CLOSE) {
            tracing::debug!("the control socket does not close in time");
        }
    }
}

fn serve(
    listener: &UnixListener,
    recent: &Arc<Recent>,
    program: &Arc<dyn Program>,
    stopped: &AtomicBool,
) {
    for stream in listener.incoming() {
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        // One thread for each: some take microseconds, and one may take all of its patience.
        let answered = stream.and_then(|stream| {
            let (recent, program) = (recent.clone(), program.clone());
            let work = move || {
                if let Err(error) = answer(stream, &recent, &*program) {
                    tracing::debug!("control: {error}");
                }
            };
            Thread::start("answer", work)
        });
        if let Err(error) = answered {
            tracing::debug!("control: {error}");
            // Without free file descriptors, trying again at once is useless.
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn answer(stream: UnixStream, recent: &Recent, program: &dyn Program) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new((&stream).take(MOST_REQUEST)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Embeddings { camera, track }) => embeddings(recent, &camera, track),
        Ok(Request::Forget { person, paths }) => match check_person(&person) {
            Ok(()) => Answer::Forgotten(program.forget(&names::normal(&person), &paths)),
            Err(error) => Answer::Refused {
                reason: error.to_string(),
            },
        },
        Ok(Request::Strangers) => Answer::Strangers {
            strangers: program.strangers(),
        },
        Ok(Request::Stranger { person }) => match program.stranger(&person) {
            Some(known) => Answer::Stranger {
                gallery: recent.get(&known.camera).and_then(|c| c.gallery.clone()),
                known,
            },
            None => Answer::NoStranger,
        },
        Ok(Request::NameStranger { person, name }) => match names::checked(&name) {
            Ok(name) => match program.name_stranger(&person, &name) {
                Some(visits) => Answer::StrangerNamed { visits },
                None => Answer::NoStranger,
            },
            Err(reason) => Answer::Refused { reason },
        },
        Err(error) => Answer::Refused {
            reason: error.to_string(),
        },
    };
    let text = serde_json::to_string(&answer)? + "\n";
    (&stream).write_all(text.as_bytes())
}

fn embeddings(recent: &Recent, camera: &str, track: u64) -> Answer {
    let Some(tracks) = recent.get(camera) else {
        return Answer::NoCamera {
            cameras: recent.cameras(),
        };
    };
    match tracks.embeddings(track) {
        Some(embeddings) => Answer::Embeddings {
            embeddings,
            gallery: tracks.gallery.clone(),
        },
        None => Answer::NoTrack {
            tracks: tracks.list(Instant::now()),
        },
    }
}

/// Whether a process uses this state folder.
pub fn listens(state: &Path) -> bool {
    UnixStream::connect(path(state)).is_ok()
}

/// Sends a request to the process that uses this state folder.
pub fn ask(state: &Path, request: &Request) -> Result<Answer> {
    let path = path(state);
    let stream = UnixStream::connect(&path).map_err(|error| {
        anyhow!(
            "no `facepipe live` answers at {} ({error}); is it running, as this user? Name its \
             configuration with --config if that sets `state`",
            path.display()
        )
    })?;
    let exchange = || -> Result<Answer> {
        stream.set_read_timeout(Some(request.patience()))?;
        (&stream).write_all((serde_json::to_string(request)? + "\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new((&stream).take(MOST_ANSWER)).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    exchange().with_context(|| format!("asking at {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows nobody.
    struct Nothing;

    impl Program for Nothing {
        fn forget(&self, person: &str, paths: &[PathBuf]) -> Forgot {
            Forgot {
                cameras: vec![format!("{person} in {}", paths.len())],
                ..Forgot::default()
            }
        }

        fn strangers(&self) -> Vec<strangers::Listed> {
            Vec::new()
        }

        fn stranger(&self, _: &str) -> Option<Known> {
            None
        }

        fn name_stranger(&self, _: &str, _: &str) -> Option<Vec<Visit>> {
            None
        }
    }

    #[test]
    fn one_process_answers_and_says_what_there_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let state = folder.path().join("state");
        let recent = Arc::new(Recent::default());
        recent.begin("door", None);
        let lock = StateLock::take(&state).expect("free");
        let control = Control::start(lock, recent, Arc::new(Nothing)).expect("listens");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&path(&state))), (0o700, 0o600));
        let ask_for = |camera: &str| {
            let request = Request::Embeddings {
                camera: camera.into(),
                track: 1,
            };
            ask(&state, &request).expect("an answer")
        };
        assert!(matches!(ask_for("door"), Answer::NoTrack { .. }));
        match ask_for("dor") {
            Answer::NoCamera { cameras } => assert_eq!(cameras, ["door"]),
            other => panic!("{other:?}"),
        }
        let forget = |person: &str| {
            let request = Request::Forget {
                person: person.into(),
                paths: vec![state.clone()],
            };
            ask(&state, &request).expect("an answer")
        };
        match forget("Ann") {
            Answer::Forgotten(forgot) => assert_eq!(forgot.cameras, ["Ann in 1"]),
            other => panic!("{other:?}"),
        }
        assert!(matches!(forget("unKnown"), Answer::Refused { .. }));
        let name = |name: &str| {
            let request = Request::NameStranger {
                person: "stranger-1".into(),
                name: name.into(),
            };
            ask(&state, &request).expect("an answer")
        };
        assert!(matches!(name("Ann"), Answer::NoStranger));
        assert!(matches!(name("un\u{7}known"), Answer::Refused { .. }));
        let second = || StateLock::take(&state).map(drop);
        assert!(second().is_err_and(|e| e.to_string().contains("another")));

        // Clients that send junk or nothing do no harm.
        let mut junk = UnixStream::connect(path(&state)).expect("connects");
        junk.write_all(b"\xff{}[\n").expect("written");
        drop(junk);
        drop(UnixStream::connect(path(&state)).expect("connects"));
        assert!(matches!(ask_for("door"), Answer::NoTrack { .. }));

        drop(control);
        let error = ask(
            &state,
            &Request::Embeddings {
                camera: "door".into(),
                track: 1,
            },
        );
        assert!(error.is_err_and(|e| format!("{e:#}").contains("is it running")));
        second().expect("free again");
    }
}
