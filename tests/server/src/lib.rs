//! Cameras for tests: GStreamer's RTSP server with real clips, which are encoded once and sent in a
//! loop, and with the faults of real cameras.
//!
//! The server is a separate process, so that it can be killed like a camera that loses power.
//! [`Server`] runs it.

pub mod camera;
pub mod child;
pub mod clip;
pub mod commands;
pub mod rtp;
pub mod serve;

pub use child::{Options, Server};
