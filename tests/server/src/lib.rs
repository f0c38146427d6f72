//! Cameras for tests: GStreamer's RTSP server with real clips, encoded once and sent in a loop, and
//! with the faults that cameras have.
//!
//! The server is a process of its own, so that it can be killed like a camera that loses its power;
//! [`Server`] runs it.

pub mod camera;
pub mod child;
pub mod clip;
pub mod commands;
pub mod rtp;
pub mod serve;

pub use child::{Options, Server};
