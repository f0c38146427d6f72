//! Galleries in use. Each content of a file is in memory once per process, and one thread watches
//! for changed files.
//!
//! It checks the files' state a few times per second. That works on every file system, however a
//! file is changed, and costs a few microseconds per file.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, LazyLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use face_core::Error;
use parking_lot::{Condvar, Mutex};

use super::{Gallery, Stamp};

/// The time between two checks of a file.
const INTERVAL: Duration = Duration::from_millis(250);

/// The same for a file that has just changed.
const SOON: Duration = Duration::from_millis(50);

/// A file is read once it has been unchanged for this long. Before that, somebody may still be
/// writing it.
const SETTLED: Duration = Duration::from_millis(100);

/// A file that cannot be read is reported once it has been unchanged for this long.
const PATIENCE: Duration = Duration::from_secs(1);

/// A file that was changed less than this before it was read may change again without a new
/// timestamp.
const GRANULARITY: Duration = Duration::from_millis(100);

/// How long the end of the last watch waits for the thread. If a file system hangs, the thread is
/// left behind; it holds only the path.
const END: Duration = Duration::from_secs(2);

/// A gallery that others may share.
struct Shared {
    stamp: Stamp,
    gallery: Weak<Gallery>,
}

/// By canonical path. The holder of a place's lock reads the file; others wait for it.
type Places = HashMap<PathBuf, Arc<Mutex<Option<Shared>>>>;

static PLACES: LazyLock<Mutex<Places>> = LazyLock::new(Mutex::default);

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    File(Stamp),
    Nothing(io::ErrorKind),
    /// Unknown content: the file must be read again.
    Unsure,
}

impl Content {
    pub fn at(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(metadata) => Self::File(Stamp::of(&metadata)),
            Err(error) => Self::Nothing(error.kind()),
        }
    }
}

/// Reads a gallery, or shares one that was read from the same content of the file.
pub fn open(path: &Path) -> Result<(Arc<Gallery>, Content), Error> {
    let key = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let place = {
        let mut places = PLACES.lock();
        // Drops the galleries that nobody reads or uses.
        places.retain(|_, place| {
            Arc::strong_count(place) > 1
                || (place.lock().as_ref()).is_some_and(|s| s.gallery.strong_count() > 0)
        });
        Arc::clone(places.entry(key).or_default())
    };
    let mut place = place.lock();
    if let Some(shared) = &*place
        && Content::at(path) == Content::File(shared.stamp)
        && let Some(gallery) = shared.gallery.upgrade()
    {
        return Ok((gallery, Content::File(shared.stamp)));
    }
    let (gallery, stamp) = Gallery::read_stamped(path)?;
    let gallery = Arc::new(gallery);
    if stamp.age().is_some_and(|age| age < GRANULARITY) {
        return Ok((gallery, Content::Unsure));
    }
    *place = Some(Shared {
        stamp,
        gallery: Arc::downgrade(&gallery),
    });
    Ok((gallery, Content::File(stamp)))
}

impl Stamp {
    /// How long ago the file was changed.
    fn age(&self) -> Option<Duration> {
        let (seconds, nanoseconds) = self.modified;
        let modified = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?;
        // The clock of another machine may be ahead.
        Some(now.saturating_sub(modified))
    }
}

/// Called on the watching thread with the result of reading a changed file.
pub type Told = Arc<dyn Fn(&Result<Arc<Gallery>, Error>) + Send + Sync>;

/// Decides when to read a changing file.
#[derive(Debug)]
struct Sight {
    /// The content that was last acted on.
    known: Content,
    /// Other content that was seen since, when it was first seen, and whether reading it was tried.
    new: Option<(Content, Instant, bool)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Check again soon.
    Soon,
    /// Read the file. If that fails and this is the last try, report the error.
    Read {
        last: bool,
    },
}

impl Sight {
    fn look(&mut self, seen: Content, now: Instant) -> Step {
        if seen == self.known {
            self.new = None;
            return Step::Nothing;
        }
        match &mut self.new {
            Some((new, since, tried)) if *new == seen => {
                let age = now.saturating_duration_since(*since);
                match *tried {
                    false if age >= SETTLED => {
                        *tried = true;
                        Step::Read { last: false }
                    }
                    true if age >= PATIENCE => Step::Read { last: true },
                    false => Step::Soon,
                    true => Step::Nothing,
                }
            }
            new => {
                *new = Some((seen, now, false));
                Step::Soon
            }
        }
    }

    fn settle(&mut self, seen: Content) {
        self.known = seen;
        self.new = None;
    }
}

struct Subject {
    sight: Sight,
    told: Vec<(u64, Told)>,
}

#[derive(Default)]
struct Registry {
    files: HashMap<PathBuf, Subject>,
    serial: u64,
    /// The thread, while there is something to watch.
    watcher: Option<Watcher>,
    /// The watches whose `told` is being called.
    telling: Vec<u64>,
}

struct Watcher {
    thread: JoinHandle<()>,
    stopped: Arc<AtomicBool>,
    /// Closed when the thread ends.
    ended: mpsc::Receiver<()>,
}

impl Watcher {
    fn start() -> io::Result<Self> {
        let stopped = Arc::<AtomicBool>::default();
        let (ends, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("face-galleries".into());
        let thread = thread.spawn({
            let stopped = stopped.clone();
            move || {
                run(&stopped);
                drop(ends);
            }
        })?;
        Ok(Self {
            thread,
            stopped,
            ended,
        })
    }

    /// Waits for the thread, which has been told to stop.
    fn join(self) {
        if self.ended.recv_timeout(END) != Err(RecvTimeoutError::Timeout) {
            // The thread has printed its panic.
            let _ = self.thread.join();
        }
    }
}

thread_local! {
    /// Whether this is the watching thread.
    static WATCHES: Cell<bool> = const { Cell::new(false) };
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

static CHANGED: Condvar = Condvar::new();

/// Watches a file while this lives. Dropping it waits until a running call of `told` returns, and
/// for the end of the thread if this was the last watch. So do not drop it under a lock that `told`
/// takes.
pub struct Watch {
    path: PathBuf,
    serial: u64,
}

impl Watch {
    /// Calls `told` when the content at `path` is no longer `known`. Fails if the thread cannot be
    /// started.
    pub fn new(path: &Path, known: Content, told: Told) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut registry = REGISTRY.lock();
        let runs = |watcher: &Watcher| !watcher.thread.is_finished();
        if !registry.watcher.as_ref().is_some_and(runs) {
            registry.watcher = Some(Watcher::start()?);
        }
        registry.serial += 1;
        let serial = registry.serial;
        let watched = registry.files.entry(path.clone()).or_insert(Subject {
            sight: Sight { known, new: None },
            told: Vec::new(),
        });
        if watched.sight.known != known {
            // The file was read with other content in the meantime.
            watched.sight.settle(known);
        }
        watched.told.push((serial, told));
        Ok(Self { path, serial })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut registry = REGISTRY.lock();
        if let Some(watched) = registry.files.get_mut(&self.path) {
            watched.told.retain(|(serial, _)| *serial != self.serial);
            if watched.told.is_empty() {
                registry.files.remove(&self.path);
            }
        }
        CHANGED.notify_all();
        if WATCHES.get() {
            // This runs inside `told`, so it cannot wait. The thread will see that nothing is left
            // to watch.
            return;
        }
        let last = registry.files.is_empty();
        let ending = registry.watcher.take_if(|_| last);
        if let Some(watcher) = &ending {
            watcher.stopped.store(true, Ordering::Relaxed);
        }
        let told = |registry: &mut Registry| registry.telling.contains(&self.serial);
        CHANGED.wait_while(&mut registry, told);
        drop(registry);
        if let Some(watcher) = ending {
            watcher.join();
        }
    }
}

/// The thread. Ends when told to, or when there is nothing to watch.
fn run(stopped: &AtomicBool) {
    WATCHES.set(true);
    loop {
        let paths: Vec<PathBuf> = REGISTRY.lock().files.keys().cloned().collect();
        // Anything that waits for a file happens outside the lock.
        let soon = paths.iter().filter(|path| look(path)).count() > 0;
        let mut registry = REGISTRY.lock();
        // Another thread may be watching by now.
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        if registry.files.is_empty() {
            registry.watcher = None;
            return;
        }
        let pause = match soon {
            true => SOON,
            false => INTERVAL,
        };
        CHANGED.wait_for(&mut registry, pause);
    }
}

/// Checks a file, reads it when it is time, and calls `told`. Returns whether to check again soon.
fn look(path: &Path) -> bool {
    let seen = Content::at(path);
    let step = match REGISTRY.lock().files.get_mut(path) {
        Some(watched) => watched.sight.look(seen, Instant::now()),
        None => return false,
    };
    let Step::Read { last } = step else {
        return step == Step::Soon;
    };
    let read = open(path);
    let told: Vec<u64> = match REGISTRY.lock().files.get_mut(path) {
        Some(watched) => {
            match &read {
                Ok((_, read)) => watched.sight.settle(*read),
                Err(_) if last => watched.sight.settle(seen),
                Err(_) => return false,
            }
            watched.told.iter().map(|(serial, _)| *serial).collect()
        }
        None => return false,
    };
    let read = read.map(|(gallery, _)| gallery);
    for serial in told {
        tell(path, serial, &read);
    }
    false
}

/// Calls `told` of a watch, unless it has ended.
fn tell(path: &Path, serial: u64, read: &Result<Arc<Gallery>, Error>) {
    /// The end of the watch waits until this is dropped.
    struct Telling(u64);
    impl Drop for Telling {
        fn drop(&mut self) {
            REGISTRY.lock().telling.retain(|serial| *serial != self.0);
            CHANGED.notify_all();
        }
    }
    let (_telling, told) = {
        let mut registry = REGISTRY.lock();
        let told = registry.files.get(path).and_then(|watched| {
            let (_, told) = watched.told.iter().find(|(known, _)| *known == serial)?;
            Some(Arc::clone(told))
        });
        let Some(told) = told else {
            return;
        };
        registry.telling.push(serial);
        (Telling(serial), told)
    };
    told(read);
}

#[cfg(test)]
mod tests;
