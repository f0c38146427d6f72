//! Messages to the user.

use std::io::{Write, stderr};

/// Prints a line to standard error like `eprintln!`, but continues if it cannot be written: on a
/// full disk, or to a pipe that nobody reads any more. The work matters more, and the exit code
/// tells how it ended.
#[macro_export]
macro_rules! tell {
    ($($text:tt)*) => {
        $crate::tell(&format!("{}\n", format_args!($($text)*)))
    };
}

/// Prints to standard error in one piece, if possible.
pub fn tell(text: &str) {
    let _ = stderr().write_all(text.as_bytes());
}
