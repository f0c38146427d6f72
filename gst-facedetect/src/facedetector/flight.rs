//! Frames in flight: the frames of one element that threads work on, and the threads, which all
//! elements of the process share.
//!
//! After [`Flight::end`], nothing of an element goes on: work that no thread has begun is dropped,
//! and running work is waited for. All that it held is then gone. Idle threads hold no GStreamer
//! objects.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use face_core::Error;
use parking_lot::{Condvar, Mutex};

/// A frame with its faces, or an error.
pub type Detected = Result<gst::Buffer, Error>;

type Work = Box<dyn FnOnce() -> Detected + Send>;

/// The threads, one per core. They end with the last element that uses them.
struct Threads {
    /// `None` only while it is dropped.
    pool: Option<rayon::ThreadPool>,
    handles: Vec<JoinHandle<()>>,
    /// Frames that are in work or queued.
    in_work: Arc<AtomicUsize>,
}

impl Threads {
    /// The threads of the process. Starts them if there are none.
    fn get() -> Result<Arc<Self>, Error> {
        static SHARED: Mutex<Weak<Threads>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock();
        if let Some(threads) = shared.upgrade() {
            return Ok(threads);
        }
        let threads = Arc::new(Self::start()?);
        *shared = Arc::downgrade(&threads);
        Ok(threads)
    }

    fn start() -> Result<Self, Error> {
        let mut threads = Self {
            pool: None,
            handles: Vec::new(),
            in_work: Arc::default(),
        };
        let pool = rayon::ThreadPoolBuilder::new()
            .thread_name(|i| format!("facedetector-{i}"))
            // `rayon` cannot wait for the threads that it starts itself.
            .spawn_handler(|thread| {
                let name = thread.name().unwrap_or_default().to_owned();
                let builder = std::thread::Builder::new().name(name);
                threads.handles.push(builder.spawn(|| thread.run())?);
                Ok(())
            })
            .build();
        // If one cannot be started, the others end here.
        threads.pool = Some(pool.map_err(|error| {
            Error::Runtime(format!(
                "cannot start threads for frames in flight: {error}; set frames-in-flight=1"
            ))
        })?);
        Ok(threads)
    }

    /// Queues `work` for a thread. Work is done in the order of the calls, and can be cancelled
    /// until it begins.
    fn submit(&self, work: impl FnOnce() -> Detected + Send + 'static) -> Frame {
        let in_work = InWork::begin(&self.in_work);
        let frame = Frame::new(Stage::Waits(Box::new(move || {
            let _in_work = in_work;
            work()
        })));
        let submitted = frame.clone();
        if let Some(pool) = &self.pool {
            pool.spawn_fifo(move || submitted.work());
        }
        frame
    }

    fn are_busy(&self) -> bool {
        self.in_work.load(Ordering::Relaxed) >= self.handles.len()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Tells the threads to end.
        self.pool = None;
        let this = std::thread::current().id();
        // The thread that worked on an element's last frame may dispose of it if nobody stopped the
        // element.
        for handle in (self.handles.drain(..)).filter(|handle| handle.thread().id() != this) {
            // Panics were caught where the work was done.
            let _ = handle.join();
        }
    }
}

/// Counts one frame while it lives.
struct InWork(Arc<AtomicUsize>);

impl InWork {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count.clone())
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A frame that a thread works on.
#[derive(Clone)]
pub struct Frame(Arc<(Mutex<Stage>, Condvar)>);

enum Stage {
    Waits(Work),
    InWork,
    Done(Detected),
    /// Taken or cancelled.
    Gone,
}

impl Frame {
    fn new(stage: Stage) -> Self {
        Self(Arc::new((Mutex::new(stage), Condvar::new())))
    }

    fn work(&self) {
        let work = {
            let mut stage = self.0.0.lock();
            match std::mem::replace(&mut *stage, Stage::InWork) {
                Stage::Waits(work) => work,
                other => {
                    *stage = other;
                    return;
                }
            }
        };
        // Everything that `work` holds is gone before anybody learns that it is done.
        let done = catch_unwind(AssertUnwindSafe(work));
        let panicked = |_| Err(Error::Runtime("the detection of a frame panicked".into()));
        *self.0.0.lock() = Stage::Done(done.unwrap_or_else(panicked));
        self.0.1.notify_all();
    }

    /// Drops the work if no thread has begun it.
    fn cancel(&self) {
        let mut stage = self.0.0.lock();
        if matches!(*stage, Stage::Waits(_)) {
            let work = std::mem::replace(&mut *stage, Stage::Gone);
            drop(stage);
            self.0.1.notify_all();
            drop(work);
        }
    }

    /// Waits until the frame is done. `None` if it was cancelled.
    pub fn wait(&self) -> Option<Detected> {
        let (stage, changed) = &*self.0;
        let goes_on = |stage: &mut Stage| matches!(stage, Stage::Waits(_) | Stage::InWork);
        let mut stage = stage.lock();
        changed.wait_while(&mut stage, goes_on);
        match std::mem::replace(&mut *stage, Stage::Gone) {
            Stage::Done(frame) => Some(frame),
            _ => None,
        }
    }
}

/// The frames of one element that have arrived and not left yet, in order.
#[derive(Default)]
pub struct Flight {
    frames: VecDeque<Frame>,
    threads: Option<Arc<Threads>>,
    cancelled: bool,
}

impl Flight {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether all threads are at work.
    pub fn is_busy(&self) -> bool {
        self.threads.as_ref().is_some_and(|t| t.are_busy())
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled
    }

    /// Queues `work` for a thread. The work of all elements is done in the order of the calls.
    pub fn submit(
        &mut self,
        work: impl FnOnce() -> Detected + Send + 'static,
    ) -> Result<(), Error> {
        let threads = match &mut self.threads {
            Some(threads) => threads,
            none => none.insert(Threads::get()?),
        };
        let frame = threads.submit(work);
        if self.cancelled {
            frame.cancel();
        }
        self.frames.push_back(frame);
        Ok(())
    }

    /// Adds a frame that needs no work.
    pub fn add(&mut self, frame: Detected) {
        self.frames.push_back(Frame::new(Stage::Done(frame)));
    }

    /// The oldest frame, once there are `least`. It stays until it is [removed](Self::remove), so
    /// that callers can wait for it without holding the lock.
    pub fn oldest(&self, least: usize) -> Option<Frame> {
        let oldest = self.frames.front();
        oldest.filter(|_| self.frames.len() >= least).cloned()
    }

    /// Removes the oldest frame if it is this one.
    pub fn remove(&mut self, frame: &Frame) {
        let oldest = self.frames.front();
        if oldest.is_some_and(|oldest| Arc::ptr_eq(&oldest.0, &frame.0)) {
            self.frames.pop_front();
        }
    }

    /// Drops all work that no thread has begun, now and in the future. Callers then wait only for
    /// running work.
    pub fn cancel(&mut self) {
        self.cancelled = true;
        for frame in &self.frames {
            frame.cancel();
        }
    }

    /// Cancels, and waits for running work. That may take any lock that the caller does not hold.
    pub fn end(mut self) {
        self.cancel();
        for frame in self.frames.drain(..) {
            frame.wait();
        }
    }

    /// Starts over. Returns the frames so far; the caller must [end](Self::end) them.
    pub fn restart(&mut self) -> Self {
        self.cancelled = false;
        Self {
            frames: std::mem::take(&mut self.frames),
            threads: None,
            cancelled: false,
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn frame() -> Detected {
        gst::init().expect("GStreamer starts");
        Ok(gst::Buffer::new())
    }

    /// Work that reports when it begins, and ends when told to.
    struct Gated {
        begun: mpsc::Receiver<()>,
        end: mpsc::Sender<()>,
    }

    fn gated() -> (Gated, impl FnOnce() -> Detected + Send + 'static) {
        let (begins, begun) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let work = move || {
            begins.send(()).expect("the test waits");
            // Fails once the test has ended.
            let _ = ended.recv();
            frame()
        };
        (Gated { begun, end }, work)
    }

    #[test]
    fn what_has_not_begun_never_begins_and_the_rest_is_waited_for() {
        // No other test queues work for these.
        let threads = Arc::new(Threads::start().expect("threads"));
        let mut flight = Flight {
            frames: VecDeque::new(),
            threads: Some(threads.clone()),
            cancelled: false,
        };
        let mut gates = Vec::new();
        flight.submit(frame).expect("threads");
        for _ in 0..threads.handles.len() {
            let (gate, work) = gated();
            flight.submit(work).expect("threads");
            gate.begun.recv().expect("begins");
            gates.push(gate);
        }
        assert!(flight.is_busy());
        let ran = Arc::new(AtomicUsize::new(0));
        let work = {
            let ran = ran.clone();
            move || {
                ran.fetch_add(1, Ordering::SeqCst);
                frame()
            }
        };
        flight.submit(work).expect("threads");
        let first = flight.oldest(1).expect("there");
        assert!(first.wait().expect("not cancelled").is_ok());
        flight.remove(&first);
        flight.cancel();
        assert_eq!(Arc::strong_count(&ran), 1, "its work is dropped at once");
        flight.submit(frame).expect("threads");
        let last = flight.frames.back().expect("there").clone();
        assert!(last.wait().is_none(), "cancelled");

        let (ended, has_ended) = mpsc::channel();
        let ending = std::thread::spawn(move || {
            flight.end();
            ended.send(()).expect("the test waits");
        });
        assert!(has_ended.try_recv().is_err(), "work goes on");
        for gate in &gates {
            gate.end.send(()).expect("it works");
        }
        has_ended.recv().expect("ends");
        ending.join().expect("no panic");
        assert_eq!(ran.load(Ordering::SeqCst), 0);
        assert_eq!(threads.in_work.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_panic_is_an_error_of_its_frame() {
        let mut flight = Flight::default();
        flight.submit(|| panic!("on purpose")).expect("threads");
        flight.submit(frame).expect("threads");
        let mut next = || {
            let oldest = flight.oldest(1).expect("there");
            flight.remove(&oldest);
            oldest.wait().expect("not cancelled")
        };
        assert!(next().is_err_and(|e| e.to_string().contains("panicked")));
        assert!(next().is_ok());
    }
}
