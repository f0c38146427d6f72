//! Galleries that are in use: each content of a file is in memory once for the whole process, and one
//! thread looks for changed files.
//!
//! It looks at the files' state some times a second: that works on every file system, whoever changes a
//! file by whatever means, and costs some microseconds a file.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use face_core::Error;

use super::{Gallery, Stamp};

/// Between two looks at a file.
const INTERVAL: Duration = Duration::from_millis(250);

/// The same at a file that has just changed.
const SOON: Duration = Duration::from_millis(50);

/// A file is read when it has not changed for so long: it may be being written.
const SETTLED: Duration = Duration::from_millis(100);

/// What cannot be read is complained of when it has not changed for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// A file that was changed less than this before it was read may be changed again without a new time.
const GRANULARITY: Duration = Duration::from_millis(100);

/// How long the end of the last watch waits for the thread. A file system that hangs may hold it up; then it
/// is left behind with nothing but the path.
const END: Duration = Duration::from_secs(2);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A gallery that others may use, too.
struct Shared {
    stamp: Stamp,
    gallery: Weak<Gallery>,
}

/// By canonical path; whoever holds the lock of a place reads the file, the others wait for it.
type Places = HashMap<PathBuf, Arc<Mutex<Option<Shared>>>>;

static PLACES: LazyLock<Mutex<Places>> = LazyLock::new(Mutex::default);

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    File(Stamp),
    Nothing(io::ErrorKind),
    /// Something that is to be read again, whatever it is.
    Unsure,
}

impl Seen {
    pub fn at(path: &Path) -> Self {
        match std::fs::metadata(path) {
            Ok(metadata) => Self::File(Stamp::of(&metadata)),
            Err(error) => Self::Nothing(error.kind()),
        }
    }
}

/// Reads a gallery, or shares one that was read from the same content of the file.
pub fn open(path: &Path) -> Result<(Arc<Gallery>, Seen), Error> {
    let key = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let place = {
        let mut places = lock(&PLACES);
        // Those that nobody reads or uses.
        places.retain(|_, place| {
            Arc::strong_count(place) > 1
                || (lock(place).as_ref()).is_some_and(|s| s.gallery.strong_count() > 0)
        });
        Arc::clone(places.entry(key).or_default())
    };
    let mut place = lock(&place);
    if let Some(shared) = &*place
        && Seen::at(path) == Seen::File(shared.stamp)
        && let Some(gallery) = shared.gallery.upgrade()
    {
        return Ok((gallery, Seen::File(shared.stamp)));
    }
    let (gallery, stamp) = Gallery::read_stamped(path)?;
    let gallery = Arc::new(gallery);
    if stamp.age().is_some_and(|age| age < GRANULARITY) {
        return Ok((gallery, Seen::Unsure));
    }
    *place = Some(Shared {
        stamp,
        gallery: Arc::downgrade(&gallery),
    });
    Ok((gallery, Seen::File(stamp)))
}

impl Stamp {
    /// How long ago the file was changed.
    fn age(&self) -> Option<Duration> {
        let (seconds, nanoseconds) = self.modified;
        let modified = Duration::new(seconds.try_into().ok()?, nanoseconds.try_into().ok()?);
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?;
        // A clock that is not ours may be ahead.
        Some(now.saturating_sub(modified))
    }
}

/// Called on the watching thread with what became of a changed file.
pub type Told = Arc<dyn Fn(&Result<Arc<Gallery>, Error>) + Send + Sync>;

/// When to read a file that changes.
#[derive(Debug)]
struct Sight {
    /// What was acted on.
    known: Seen,
    /// What else was seen, since when, and whether it was tried.
    new: Option<(Seen, Instant, bool)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Look again soon.
    Soon,
    /// Read it; if that fails and this is the last time, complain.
    Read {
        last: bool,
    },
}

impl Sight {
    fn look(&mut self, seen: Seen, now: Instant) -> Step {
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

    fn settle(&mut self, seen: Seen) {
        self.known = seen;
        self.new = None;
    }
}

struct Watched {
    sight: Sight,
    told: Vec<(u64, Told)>,
}

#[derive(Default)]
struct Registry {
    files: HashMap<PathBuf, Watched>,
    serial: u64,
    /// The thread, while there is something to watch.
    watcher: Option<Watcher>,
    /// The watches that are being told.
    telling: Vec<u64>,
}

struct Watcher {
    thread: JoinHandle<()>,
    stopped: Arc<AtomicBool>,
    /// Closed at the end of the thread.
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

    /// Waits for the thread, which was told to stop.
    fn join(self) {
        if self.ended.recv_timeout(END) != Err(RecvTimeoutError::Timeout) {
            // It has shown its panic.
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

/// A file is watched while this lives. To drop it waits until `told` has returned, if it is being called,
/// and for the end of the thread, if this was the last. So drop it under no lock that `told` takes.
pub struct Watch {
    path: PathBuf,
    serial: u64,
}

impl Watch {
    /// Calls `told` when the file at `path` is another one than was `known`. Fails if there can be no
    /// thread.
    pub fn new(path: &Path, known: Seen, told: Told) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let mut registry = lock(&REGISTRY);
        let runs = |watcher: &Watcher| !watcher.thread.is_finished();
        if !registry.watcher.as_ref().is_some_and(runs) {
            registry.watcher = Some(Watcher::start()?);
        }
        registry.serial += 1;
        let serial = registry.serial;
        let watched = registry.files.entry(path.clone()).or_insert(Watched {
            sight: Sight { known, new: None },
            told: Vec::new(),
        });
        if watched.sight.known != known {
            // Somebody read something else in the meantime.
            watched.sight.settle(known);
        }
        watched.told.push((serial, told));
        Ok(Self { path, serial })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut registry = lock(&REGISTRY);
        if let Some(watched) = registry.files.get_mut(&self.path) {
            watched.told.retain(|(serial, _)| *serial != self.serial);
            if watched.told.is_empty() {
                registry.files.remove(&self.path);
            }
        }
        CHANGED.notify_all();
        if WATCHES.get() {
            // In a call of `told`, for which it cannot wait; the thread sees when nothing is left.
            return;
        }
        let last = registry.files.is_empty();
        let ending = registry.watcher.take_if(|_| last);
        if let Some(watcher) = &ending {
            watcher.stopped.store(true, Ordering::Relaxed);
        }
        let told = |registry: &mut Registry| registry.telling.contains(&self.serial);
        drop(CHANGED.wait_while(registry, told));
        if let Some(watcher) = ending {
            watcher.join();
        }
    }
}

/// The thread, which ends when it is told to, or there is nothing to watch.
fn run(stopped: &AtomicBool) {
    WATCHES.set(true);
    loop {
        let paths: Vec<PathBuf> = lock(&REGISTRY).files.keys().cloned().collect();
        // Nothing that waits for a file is done under the lock.
        let soon = paths.iter().filter(|path| look(path)).count() > 0;
        let mut registry = lock(&REGISTRY);
        // Another thread may watch by now.
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
        drop(CHANGED.wait_timeout(registry, pause));
    }
}

/// Looks at a file, reads it if it is time to, and tells. Whether to look again soon.
fn look(path: &Path) -> bool {
    let seen = Seen::at(path);
    let step = match lock(&REGISTRY).files.get_mut(path) {
        Some(watched) => watched.sight.look(seen, Instant::now()),
        None => return false,
    };
    let Step::Read { last } = step else {
        return step == Step::Soon;
    };
    let read = open(path);
    let told: Vec<u64> = match lock(&REGISTRY).files.get_mut(path) {
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

/// Calls `told` of a watch that has not ended.
fn tell(path: &Path, serial: u64, read: &Result<Arc<Gallery>, Error>) {
    /// The end of the watch waits for the end of this.
    struct Telling(u64);
    impl Drop for Telling {
        fn drop(&mut self) {
            lock(&REGISTRY).telling.retain(|serial| *serial != self.0);
            CHANGED.notify_all();
        }
    }
    let (_telling, told) = {
        let mut registry = lock(&REGISTRY);
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
