//! What every stage of gst-face shares.
//!
//! - [`model`]: model descriptors, and where they are found
//! - [`mod@file`]: reading files up to a limit
//! - [`onnx`]: edits that a published ONNX graph needs before it is loaded
//! - [`session`]: ONNX Runtime, with sessions shared between element instances
//! - [`frame`]: frames that are mapped only if they fit their memory
//! - [`image`]: sampling pixels of a mapped video frame into a tensor
//! - [`align`]: aligned face chips from landmarks
//! - [`element`]: what the elements of all stages have in common
//! - [`rounds`]: which faces a stage processes on a frame
//! - [`late`]: how much work a stage of a live pipeline skips when it is behind
//! - [`still`]: still pictures as video frames
//! - [`stats`]: what a stage has done, and how long it took

pub mod align;
pub mod element;
mod elf;
pub mod error;
pub mod file;
pub mod frame;
pub mod image;
pub mod late;
pub mod model;
pub mod onnx;
mod places;
pub mod rounds;
pub mod session;
pub mod stats;
pub mod still;
pub mod tracks;
pub mod turns;

pub use error::Error;
