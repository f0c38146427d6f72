//! The port for metrics and health.

use std::sync::Arc;

use anyhow::Result;

use super::Telemetry;
use crate::live::config;

/// Answers until it is dropped.
pub struct Server;

impl Server {
    /// Starts to listen; with `disabled` there is no port.
    pub fn start(_config: &config::Server, _telemetry: Arc<Telemetry>) -> Result<Self> {
        Ok(Self)
    }
}
