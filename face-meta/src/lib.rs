//! Metadata of faces on buffers, and how programs pass it on.
//!
//! - this module: a face as buffer metadata ([`Face`], [`read`], [`add`], [`update`])
//! - [`record`]: faces and tracks as JSON lines
//! - [`track`]: the event at the end of a track
//! - [`geometry`]: boxes, IoU, similarity transforms
//! - [`pose`]: yaw, pitch and roll of a head
//! - [`names`]: which names people may have
//! - [`people`]: the event that lists the people whom upstream recognisers know
//! - [`assignment`]: pairs of detections at the least cost
//!
//! There is no inference runtime here. An application that only reads faces depends on this crate
//! alone.

pub mod assignment;
mod buffer;
pub mod geometry;
pub mod names;
pub mod people;
pub mod pose;
pub mod record;
pub mod track;

pub use buffer::*;
pub use pose::Pose;
