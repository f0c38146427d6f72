//! Handles Ctrl-C: the first signal asks for an orderly end, the second ends the program at once.
//!
//! A command checks [`requested`] between its steps. Where it may wait for others, such as the
//! reader of a pipe or another process, it calls [`waiting`]: there the first signal ends the
//! program at once. If it hangs anywhere else, it is ended after ten seconds, or after the time set
//! by [`finish_within`].

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::temporaries;

/// The exit code of a program ended by Ctrl-C, by the convention of shells.
pub const EXIT_CODE: u8 = 130;

/// How long a command may take to end after the first signal.
const PATIENCE: Duration = Duration::from_secs(10);

static COUNT: AtomicUsize = AtomicUsize::new(0);
static WAITING: AtomicUsize = AtomicUsize::new(0);
static PATIENCE_MS: AtomicU64 = AtomicU64::new(PATIENCE.as_millis() as u64);
static RELOADS: AtomicBool = AtomicBool::new(false);
static RELOAD: AtomicBool = AtomicBool::new(false);

/// Handles SIGINT, SIGTERM and SIGHUP on a separate thread.
pub fn install() -> Result<()> {
    // A file that hits the limit of `ulimit -f` must be an error for its writer and not end the
    // program. SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGHUP && RELOADS.load(Ordering::SeqCst) {
                RELOAD.store(true, Ordering::SeqCst);
            } else if COUNT.fetch_add(1, Ordering::SeqCst) > 0 {
                quit();
            } else if WAITING.load(Ordering::SeqCst) > 0 {
                quit_waiting();
            } else {
                start_deadline();
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .context("Ctrl-C cannot be handled")
}

/// Ends the program if it still hangs at the deadline.
fn start_deadline() {
    let since = Instant::now();
    let watch = move || {
        loop {
            let patience = Duration::from_millis(PATIENCE_MS.load(Ordering::SeqCst));
            if since.elapsed() >= patience {
                last_words(&format!(
                    "facepipe: still running {:.1} s after the signal; quitting without the unfinished files\n",
                    patience.as_secs_f64()
                ));
                quit();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let thread = std::thread::Builder::new().name("deadline".into());
    if thread.spawn(watch).is_err() {
        // Without the thread nothing would end a hanging program.
        quit();
    }
}

/// From now on SIGHUP asks to reload the configuration, as usual for daemons.
pub fn reload_on_hangup() {
    RELOADS.store(true, Ordering::SeqCst);
}

/// Whether SIGHUP came since the last call.
pub fn reload_requested() -> bool {
    RELOAD.swap(false, Ordering::SeqCst)
}

/// Ends the program at once, and removes unfinished files.
pub fn quit() -> ! {
    leave(EXIT_CODE)
}

/// Ends the program at once while its threads are running; removes unfinished files.
pub fn leave(code: u8) -> ! {
    temporaries::remove();
    // SAFETY: ends the process without running exit handlers. That is intended: other threads are
    // still inside the libraries that the handlers would tear down.
    unsafe { libc::_exit(code.into()) }
}

/// Prints to standard error without blocking. The hanging thread may hold its lock while it writes
/// to a pipe that nobody reads.
fn last_words(text: &str) {
    let mut stderr = libc::pollfd {
        fd: libc::STDERR_FILENO,
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: `stderr` and `text` are alive, and the lengths are right. A pipe that is ready takes
    // a short text as a whole.
    unsafe {
        if libc::poll(&mut stderr, 1, 0) == 1 && stderr.revents & libc::POLLOUT != 0 {
            libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len());
        }
    }
}

fn quit_waiting() -> ! {
    last_words("facepipe: stopped by a signal while waiting\n");
    quit()
}

/// Pauses for `time`; ends the program instead if a signal comes.
pub fn pause(time: Duration) {
    if requested() {
        quit_waiting();
    }
    std::thread::sleep(time);
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    COUNT.load(Ordering::SeqCst) > 0
}

/// The program waits for others; see [`waiting`].
pub struct Waiting;

/// While the result is alive, the first signal ends the program at once and removes unfinished
/// files. For calls that may block for ever where no promised work gets lost. (After the first
/// signal, the deadline ends them.)
#[must_use]
pub fn waiting() -> Waiting {
    WAITING.fetch_add(1, Ordering::SeqCst);
    Waiting
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Sets how long the program may take to end after the first signal.
pub fn finish_within(patience: Duration) {
    let milliseconds = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
    PATIENCE_MS.store(milliseconds, Ordering::SeqCst);
}
