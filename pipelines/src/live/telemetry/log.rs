//! The log.

use anyhow::Result;

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {}

pub fn install(_args: &Args) -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    Ok(())
}
