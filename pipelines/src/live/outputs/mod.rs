//! Where what was found goes. All outputs of a camera outlive its pipelines.

mod dated;
mod events;
mod hub;
mod lines;
mod moment;
mod reporter;
mod restream;
mod rotate;
mod segments;
mod spool;
mod webhook;
mod writer;

use std::sync::Arc;

use anyhow::Result;

use self::hub::Hub;
use self::lines::Lines;
use self::restream::{Mount, Restream};
use self::segments::Recorder;
use self::webhook::Webhooks;
use self::writer::Writers;
use super::config::{Camera, Config};
use super::telemetry::Telemetry;

/// What all cameras share.
pub struct Shared {
    pub telemetry: Arc<Telemetry>,
    writers: Writers,
    webhooks: Webhooks,
    restream: Option<Arc<Restream>>,
}

impl Shared {
    pub fn new(config: &Config, telemetry: Arc<Telemetry>) -> Result<Self> {
        let wanted = config.cameras.iter().any(|camera| camera.restream);
        let restream = wanted
            .then(|| Restream::start(config).map(Arc::new))
            .transpose()?;
        Ok(Self {
            telemetry,
            restream,
            writers: Writers::default(),
            webhooks: Webhooks::new(config),
        })
    }
}

/// The outputs of one camera.
pub struct CameraOutputs {
    lines: Arc<Lines>,
    /// `None` where no video is wanted.
    hub: Option<Arc<Hub>>,
    recorder: Option<Recorder>,
    mount: Option<Mount>,
}

impl CameraOutputs {
    pub fn new(config: &Camera, shared: &Arc<Shared>) -> Result<Self> {
        let telemetry = shared.telemetry.camera(&config.name);
        let lines = Arc::new(Lines::new(config, shared)?);
        let hub = (config.restream || config.segments.is_some()).then(Arc::<Hub>::default);
        let recorder = hub
            .as_ref()
            .zip(config.segments.as_ref())
            .map(|(hub, segments)| Recorder::start(&config.name, segments, hub, &telemetry))
            .transpose()?;
        let mount =
            hub.as_ref()
                .filter(|_| config.restream)
                .and_then(|hub| match &shared.restream {
                    Some(restream) => Some(restream.mount(&config.name, hub, &telemetry)),
                    None => {
                        tracing::warn!("the first camera with restream comes with the next start");
                        None
                    }
                });
        Ok(Self {
            lines,
            hub,
            recorder,
            mount,
        })
    }

    /// Adds the branches behind `tee`, which gives frames with their faces.
    pub fn attach(
        &self,
        pipeline: &gst::Pipeline,
        tee: &gst::Element,
        _shared: &Shared,
    ) -> Result<()> {
        self.lines.attach(pipeline, tee)?;
        if let Some(hub) = &self.hub {
            hub.attach(pipeline, tee)?;
        }
        Ok(())
    }

    /// The camera's pipeline ended; another will come.
    pub fn source_lost(&self) {
        self.lines.lost();
    }

    /// Finishes all files. Takes a second at most.
    pub fn close(self) {
        drop(self.mount);
        drop(self.recorder);
        drop(self.lines);
    }
}
