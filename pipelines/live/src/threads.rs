//! The threads of cameras and outputs. They end before the program does: a thread inside GStreamer
//! or another library may crash while exit handlers tear that down.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Threads that may still be running.
static STARTED: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

/// How often [`join_all`] looks.
const TICK: Duration = Duration::from_millis(5);

/// A thread to wait for. If nobody waits for it, [`join_all`] does.
pub struct Thread(mpsc::Receiver<()>);

impl Thread {
    /// Does `work` on a thread called `name`.
    pub fn start(
        name: impl Into<String>,
        work: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (ends, ended) = mpsc::channel();
        let started = thread::Builder::new().name(name.into()).spawn(move || {
            let _ends = ends;
            work();
        })?;
        let mut all = STARTED.lock();
        join_ended(&mut all);
        all.push(started);
        Ok(Self(ended))
    }

    /// Waits no longer than `patience`. Returns whether the thread has ended.
    pub fn ends_within(&self, patience: Duration) -> bool {
        self.0.recv_timeout(patience) != Err(RecvTimeoutError::Timeout)
    }
}

/// Waits for all threads, but not beyond `deadline`. Returns the names of those still running.
pub fn join_all(deadline: Instant) -> Vec<String> {
    loop {
        {
            let mut all = STARTED.lock();
            join_ended(&mut all);
            if all.is_empty() || Instant::now() >= deadline {
                let name = |thread: &JoinHandle<()>| thread.thread().name().map(str::to_owned);
                return all.iter().filter_map(name).collect();
            }
        }
        thread::sleep(TICK);
    }
}

fn join_ended(all: &mut Vec<JoinHandle<()>>) {
    for thread in all.extract_if(.., |thread| thread.is_finished()) {
        // Its panic is already in the log.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_goes_on_is_named() {
        let (end, ended) = mpsc::channel::<()>();
        let work = move || {
            let _ = ended.recv();
        };
        let hangs = Thread::start("hangs", work).expect("a thread");
        let panics = Thread::start("panics", || panic!("on purpose")).expect("a thread");
        let long = Duration::from_secs(60);
        assert!(panics.ends_within(long));
        assert!(!hangs.ends_within(Duration::ZERO));
        // Other tests in this process may have threads, too.
        let is_named = |left: &[String]| left.iter().any(|name| name == "hangs");
        assert!(is_named(&join_all(Instant::now())));
        drop(end);
        assert!(hangs.ends_within(long));
        while is_named(&join_all(Instant::now())) {
            thread::sleep(TICK);
        }
    }
}
