//! `facepipe analyze`.

use anyhow::{Result, bail};

use crate::Outcome;

#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Result<Outcome> {
    bail!("not yet")
}
