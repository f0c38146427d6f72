//! Where what was found goes. All outputs of a camera outlive its pipelines.

use std::sync::Arc;

use anyhow::Result;

use super::config::{Camera, Config};
use super::telemetry::Telemetry;

/// What all cameras share.
pub struct Shared {
    pub telemetry: Arc<Telemetry>,
}

impl Shared {
    pub fn new(_config: &Config, telemetry: Arc<Telemetry>) -> Result<Self> {
        Ok(Self { telemetry })
    }
}

/// The outputs of one camera.
pub struct CameraOutputs {}

impl CameraOutputs {
    pub fn new(_config: &Camera, _shared: &Arc<Shared>) -> Result<Self> {
        Ok(Self {})
    }

    /// Adds the branches behind `tee`, which gives frames with their faces.
    pub fn attach(
        &self,
        _pipeline: &gst::Pipeline,
        _tee: &gst::Element,
        _shared: &Shared,
    ) -> Result<()> {
        Ok(())
    }

    /// The camera's pipeline ended; another will come.
    pub fn source_lost(&self) {}

    /// Finishes all files. Takes a second at most.
    pub fn close(self) {}
}
