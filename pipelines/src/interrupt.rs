//! Ctrl-C: the first asks for an orderly end, the second ends at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};

use crate::output;

/// The exit code of a program that Ctrl-C ended, as shells have it.
pub const EXIT_CODE: u8 = 130;

static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Takes over SIGINT, SIGTERM and SIGHUP.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if COUNT.fetch_add(1, Ordering::SeqCst) > 0 {
            quit();
        }
    })
    .context("Ctrl-C cannot be handled")
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
