//! Ctrl-C: the first asks for an orderly end, the second ends at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::output;

/// The exit code of a program that Ctrl-C ended, as shells have it.
pub const EXIT_CODE: u8 = 130;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static RELOADS: AtomicBool = AtomicBool::new(false);
static RELOAD: AtomicBool = AtomicBool::new(false);

/// Takes over SIGINT, SIGTERM and SIGHUP, on a thread of its own.
pub fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let watch = move || {
        for signal in signals.forever() {
            if signal == SIGHUP && RELOADS.load(Ordering::SeqCst) {
                RELOAD.store(true, Ordering::SeqCst);
            } else if COUNT.fetch_add(1, Ordering::SeqCst) > 0 {
                quit();
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(watch)
        .map(drop)
        .context("Ctrl-C cannot be handled")
}

/// From now on SIGHUP asks to read the configuration again, as it does of daemons.
pub fn reload_on_hangup() {
    RELOADS.store(true, Ordering::SeqCst);
}

/// Whether SIGHUP came since the last call.
pub fn reload_requested() -> bool {
    RELOAD.swap(false, Ordering::SeqCst)
}

/// Ends the program at once, and leaves no unfinished files.
pub fn quit() -> ! {
    output::remove_temporaries();
    // SAFETY: ends the process without running exit handlers, which is the point: other threads are
    // still inside the libraries that those would tear down.
    unsafe { libc::_exit(EXIT_CODE.into()) }
}

/// Whether Ctrl-C was pressed.
pub fn requested() -> bool {
    COUNT.load(Ordering::SeqCst) > 0
}

/// After the first signal the program has this long; then it ends as it is.
pub fn quit_after(patience: std::time::Duration) {
    let wait = move || {
        while !requested() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        std::thread::sleep(patience);
        quit();
    };
    // Without this thread a hanging camera could keep the program alive.
    let _ = std::thread::Builder::new()
        .name("deadline".into())
        .spawn(wait);
}
