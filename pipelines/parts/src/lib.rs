//! The parts of which pipelines are built.
//!
//! - [`source`]: opens and decodes a file or an address
//! - [`picture`]: pictures as inputs
//! - [`stages`]: the elements that process every frame, and their options
//! - [`detection`]: which detector looks at which size
//! - [`branches`]: the branches after them, which write files
//! - [`ready`]: ready pipelines, filled in and played
//! - [`graph`]: makes elements, starts and stops pipelines, and explains their errors
//! - [`video`]: sizes, rates and times
//! - [`output`]: writes files that appear whole or not at all
//! - [`lock`]: changes files that others change, too
//! - [`interrupt`]: handles signals
//! - [`address`], [`secret`]: keep passwords out of printed texts
//! - [`ui`]: progress and tables

// These macros panic if they cannot print, on a full disk for example; `tell!` and `ui::print` do not.
#![deny(clippy::print_stderr, clippy::print_stdout)]

#[macro_use]
mod say;

pub mod address;
pub mod branches;
pub mod detection;
pub mod graph;
pub mod interrupt;
pub mod lock;
pub mod output;
pub mod picture;
pub mod ready;
pub mod secret;
pub mod source;
pub mod stages;
mod temporaries;
pub mod ui;
pub mod video;

pub use say::tell;
