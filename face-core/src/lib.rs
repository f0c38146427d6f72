//! What every stage of gst-face shares, and nothing else.
//!
//! - [`meta`]: a face as buffer metadata, the only code that reads or writes it
//! - [`model`]: model descriptors and where they are looked for
//! - [`mod@file`]: reading files up to a limit
//! - [`onnx`]: the edits that a published ONNX graph needs before it is loaded
//! - [`session`]: ONNX Runtime, with sessions shared between element instances
//! - [`frame`]: frames mapped for reading and writing, once it is sure that they fit their memory
//! - [`image`]: sampling pixels out of a mapped video frame into a tensor
//! - [`align`]: aligned face chips from landmarks
//! - [`names`]: what people may be called
//! - [`geometry`]: boxes, IoU, similarity transforms
//! - [`element`]: what the elements of all stages do alike
//! - [`late`]: what a stage of a live pipeline leaves out when it is behind
//! - [`stats`]: what a stage has done and how long it took

pub mod align;
pub mod element;
mod elf;
pub mod error;
pub mod file;
pub mod frame;
pub mod geometry;
pub mod image;
pub mod late;
pub mod meta;
pub mod model;
pub mod names;
pub mod onnx;
pub mod session;
pub mod stats;
pub mod tracks;
pub mod turns;

pub use error::Error;
