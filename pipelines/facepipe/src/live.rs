//! `facepipe live`.

use std::path::PathBuf;

use anyhow::Result;
use clap::ValueHint;
use face_live::telemetry;
use face_parts::{tell, ui};

use crate::Outcome;

/// Watch cameras until the program is stopped
///
/// Every camera in the configuration has its own pipeline. If it fails, it is rebuilt after growing
/// pauses, while the others continue. SIGHUP reloads the configuration and affects only the cameras
/// that changed in it. SIGTERM and Ctrl-C finish all files and end the program within two seconds.
///
/// docs/live.md describes the configuration. The minimum is
///
///   [[camera]]
///   name = "door"
///   uri = "rtsp://192.0.2.7/stream1"
///   jsonl = { path = "door.jsonl" }
#[allow(rustdoc::broken_intra_doc_links, reason = "it is TOML")]
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The configuration, a TOML file
    #[arg(value_hint = ValueHint::FilePath)]
    config: PathBuf,

    /// Check the configuration, report its problems, and exit
    #[arg(long)]
    check: bool,

    #[command(flatten)]
    log: telemetry::log::Args,
}

impl Args {
    /// Whether cameras are watched, with SIGHUP to reload the configuration.
    pub fn runs(&self) -> bool {
        !self.check
    }
}

pub fn run(args: &Args) -> Result<Outcome> {
    if args.check {
        let cameras = face_live::check(&args.config)?;
        tell!(
            "live: {} is valid: {}",
            args.config.display(),
            ui::count(cameras as u64, "camera")
        );
        return Ok(Outcome::Done);
    }
    face_live::run(&args.config, &args.log)?;
    Ok(Outcome::Done)
}
