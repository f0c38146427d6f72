//! The faults.

pub mod crash;
pub mod disk;
pub mod gallery;
pub mod network;
pub mod stream;
pub mod viewers;

use anyhow::Result;

use crate::report::{Row, Verdict};
use crate::scene::Trial;

/// A fault that can be tried.
pub struct Fault {
    pub name: &'static str,
    /// Returns why it cannot be tried here, if so.
    pub obstacle: fn() -> Option<String>,
    pub run: fn(&Trial) -> Result<Row>,
}

const fn anywhere(name: &'static str, run: fn(&Trial) -> Result<Row>) -> Fault {
    Fault {
        name,
        obstacle: || None,
        run,
    }
}

/// All faults, in the order of the table.
pub const ALL: &[Fault] = &[
    anywhere("server killed", stream::server_killed),
    anywhere("connection closed", stream::disconnected),
    anywhere("camera hangs", stream::hangs),
    Fault {
        name: "network cut",
        obstacle: network::obstacle,
        run: network::cut,
    },
    anywhere("RTP loss", stream::rtp_loss),
    Fault {
        name: "packet loss, UDP",
        obstacle: network::obstacle,
        run: network::loss_udp,
    },
    Fault {
        name: "packet loss, TCP",
        obstacle: network::obstacle,
        run: network::loss_tcp,
    },
    anywhere("resolution changes", stream::resolution),
    anywhere("codec changes", stream::codec),
    anywhere("frame rate changes", stream::rate),
    anywhere("time jumps ahead", stream::time_ahead),
    anywhere("time runs back", stream::time_back),
    anywhere("garbage", stream::garbage),
    Fault {
        name: "disk full",
        obstacle: disk::obstacle,
        run: disk::full,
    },
    anywhere("gallery is junk", gallery::junk),
    anywhere("kill -9, outputs", crash::outputs),
    anywhere("kill -9, gallery", crash::gallery),
    Fault {
        name: "clock step",
        obstacle: crash::no_faketime,
        run: crash::clock,
    },
    anywhere("viewers come and go", viewers::come_and_go),
];

impl Fault {
    pub fn try_it(&self, trial: &Trial) -> Verdict {
        if let Some(obstacle) = (self.obstacle)() {
            return Verdict::Skipped(self.name, obstacle);
        }
        match (self.run)(trial) {
            Ok(row) => Verdict::Held(row),
            Err(error) => Verdict::Failed(self.name, error),
        }
    }
}
