//! The log.

use anyhow::Result;

#[derive(clap::Args)]
#[group(skip)]
pub struct Args {}

pub fn install(_args: &Args) -> Result<()> {
    Ok(())
}
