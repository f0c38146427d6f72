//! Frames in flight: the threads that work on them, for all instances in the process.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, mpsc};

use face_core::Error;

/// A frame with its faces, or what went wrong.
pub type Detected = Result<gst::Buffer, Error>;

/// The threads, one a core.
static THREADS: LazyLock<Result<rayon::ThreadPool, rayon::ThreadPoolBuildError>> =
    LazyLock::new(|| {
        rayon::ThreadPoolBuilder::new()
            .thread_name(|i| format!("facedetector-{i}"))
            // Whoever waits for the frame says so.
            .panic_handler(|_| ())
            .build()
    });

/// Frames that these threads work on or are to work on.
static IN_WORK: AtomicUsize = AtomicUsize::new(0);

/// Counts in [`IN_WORK`] as long as it lives.
struct InWork;

impl InWork {
    fn begin() -> Self {
        IN_WORK.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        IN_WORK.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether all threads are at work.
pub fn threads_are_busy() -> bool {
    let threads = THREADS.as_ref().map_or(0, |t| t.current_num_threads());
    IN_WORK.load(Ordering::Relaxed) >= threads
}

/// A frame that comes back from the thread that works on it.
pub struct Pending(mpsc::Receiver<Detected>);

impl Pending {
    /// Does `work` on one of the threads, in the order of the calls.
    pub fn spawn(work: impl FnOnce() -> Detected + Send + 'static) -> Result<Self, Error> {
        let threads = THREADS.as_ref().map_err(|error| {
            Error::Runtime(format!(
                "no threads for frames in flight: {error}; set frames-in-flight=1"
            ))
        })?;
        let (sender, receiver) = mpsc::sync_channel(1);
        let in_work = InWork::begin();
        threads.spawn_fifo(move || {
            let _in_work = in_work;
            // Nobody waits for a frame that was flushed.
            let _ = sender.send(work());
        });
        Ok(Self(receiver))
    }

    /// A frame that is done.
    pub fn done(frame: Detected) -> Self {
        let (sender, receiver) = mpsc::sync_channel(1);
        // There is room for one, and the receiver is here.
        let _ = sender.send(frame);
        Self(receiver)
    }

    pub fn wait(self) -> Detected {
        let panicked = |_| Err(Error::Runtime("the detection of a frame panicked".into()));
        self.0.recv().unwrap_or_else(panicked)
    }
}
