//! Tries faults on `facepipe live`. Each is real: servers are killed, networks are cut, disks are
//! full. See `run.sh` and `soak.sh`.

pub mod hook;
pub mod lines;
pub mod live;
pub mod load;
pub mod metrics;
pub mod report;
pub mod scenarios;
pub mod scene;
pub mod soak;
pub mod viewer;

use std::path::{Path, PathBuf};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
