//! Makes a plan of faults from a seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// What can explain a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    ServerKilled,
    Stall,
    Resolution,
    Garbage,
    TimeJump,
    Loss,
    Disconnect,
    Reload,
    BrokenConfig,
    GalleryChanged,
    GalleryJunk,
    Viewer,
    HookRefuses,
    /// Not a fault: new viewers and new files request key frames.
    KeyFrame,
    /// Not a fault: a camera that was just connected starts in the middle of a group of pictures.
    Joined,
    /// facepipe itself ends.
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Kill(usize),
    Restart(usize),
    /// A command for the camera's server; `{}` stands for the camera.
    Command(usize, String),
    /// Changes the camera's options and reloads the configuration.
    Reload(usize),
    /// Breaks (or repairs) the configuration and reloads it.
    Configuration {
        broken: bool,
    },
    /// Writes a gallery of `people`, or junk.
    Gallery {
        junk: bool,
    },
    Viewer(usize, &'static str),
    HangUp(usize),
    Refuse(bool),
}

/// A fault, from its beginning to its end.
#[derive(Debug, Clone)]
pub struct Fault {
    pub kind: Kind,
    /// Empty if no particular camera is affected.
    pub cameras: Vec<usize>,
    pub begin: Duration,
    pub end: Duration,
}

#[derive(Debug, Default)]
pub struct Plan {
    /// Ordered by time.
    pub steps: Vec<(Duration, Step)>,
    pub faults: Vec<Fault>,
}

/// The number of cameras per server.
pub const A_SERVER: usize = 4;

/// Seconds between the beginnings of two faults.
const PAUSE: std::ops::Range<f64> = 2.0..12.0;

/// Plans everything that happens to this many cameras within `time`. `stall` is the time, in
/// seconds, after which a camera counts as dead.
pub fn plan(seed: u64, time: Duration, cameras: usize, stall: f64) -> Plan {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut plan = Plan::default();
    let mut now = 0.0;
    let kinds = [
        Kind::ServerKilled,
        Kind::Stall,
        Kind::Resolution,
        Kind::Garbage,
        Kind::TimeJump,
        Kind::Loss,
        Kind::Disconnect,
        Kind::Reload,
        Kind::BrokenConfig,
        Kind::GalleryChanged,
        Kind::GalleryJunk,
        Kind::Viewer,
        Kind::Viewer,
        Kind::HookRefuses,
    ];
    loop {
        now += rng.random_range(PAUSE);
        let kind = *kinds.choose(&mut rng).unwrap_or(&Kind::Viewer);
        let length = match kind {
            Kind::Stall => rng.random_range(1.0..stall * 2.0),
            _ => rng.random_range(1.0..8.0),
        };
        if now + length > time.as_secs_f64() {
            break;
        }
        plan.add(&mut rng, kind, now, length, cameras);
    }
    plan.steps.sort_by_key(|(at, _)| *at);
    plan
}

impl Plan {
    fn add(&mut self, rng: &mut StdRng, kind: Kind, begin: f64, length: f64, cameras: usize) {
        let camera = rng.random_range(0..cameras);
        let server = camera / A_SERVER;
        let command = |text: String| Step::Command(camera, text);
        let mut affected = vec![camera];
        let (first, last) = match kind {
            Kind::ServerKilled => {
                affected = (0..cameras).filter(|c| c / A_SERVER == server).collect();
                (Step::Kill(server), Some(Step::Restart(server)))
            }
            Kind::Stall => (
                command("stall {} on".into()),
                Some(command("stall {} off".into())),
            ),
            Kind::Resolution => {
                let sizes = ["320x180", "480x270", "640x360"];
                let size = sizes.choose(rng).copied().unwrap_or("640x360");
                (command(format!("set {{}} size={size}")), None)
            }
            Kind::Garbage => (
                command("garbage {} on".into()),
                Some(command("garbage {} off".into())),
            ),
            Kind::TimeJump => {
                let seconds = rng.random_range(-60.0..600.0_f64);
                (command(format!("jump {{}} {seconds:.1}")), None)
            }
            Kind::Loss => (
                command("loss {} 0.2".into()),
                Some(command("loss {} 0".into())),
            ),
            Kind::Disconnect => (command("disconnect {}".into()), None),
            Kind::Reload => (Step::Reload(camera), None),
            Kind::BrokenConfig => {
                affected.clear();
                (
                    Step::Configuration { broken: true },
                    Some(Step::Configuration { broken: false }),
                )
            }
            Kind::GalleryChanged => {
                affected.clear();
                (Step::Gallery { junk: false }, None)
            }
            Kind::GalleryJunk => {
                affected.clear();
                (
                    Step::Gallery { junk: true },
                    Some(Step::Gallery { junk: false }),
                )
            }
            Kind::Viewer => match rng.random_range(0..3) {
                0 => (Step::HangUp(camera), None),
                1 => (Step::Viewer(camera, "udp"), None),
                _ => (Step::Viewer(camera, "tcp"), None),
            },
            // These are never drawn.
            Kind::KeyFrame | Kind::Joined | Kind::End => return,
            Kind::HookRefuses => {
                affected.clear();
                (Step::Refuse(true), Some(Step::Refuse(false)))
            }
        };
        let at = Duration::from_secs_f64;
        let end = if last.is_some() {
            begin + length
        } else {
            begin
        };
        self.steps.push((at(begin), first));
        self.steps.extend(last.map(|step| (at(end), step)));
        self.faults.push(Fault {
            kind,
            cameras: affected,
            begin: at(begin),
            end: at(end),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_plan_that_ends_in_time() {
        let time = Duration::from_secs(1800);
        let one = plan(7, time, 8, 5.0);
        assert_eq!(one.steps, plan(7, time, 8, 5.0).steps);
        assert_ne!(one.steps, plan(8, time, 8, 5.0).steps);
        assert!(one.steps.iter().all(|(at, _)| *at <= time));
        assert!(one.steps.is_sorted_by_key(|(at, _)| *at));
        assert!(one.faults.len() > 150);
        let count = |step: fn(&Step) -> bool| one.steps.iter().filter(|(_, s)| step(s)).count();
        let kills = count(|step| matches!(step, Step::Kill(_)));
        assert!(kills > 3);
        assert_eq!(kills, count(|step| matches!(step, Step::Restart(_))));
    }
}
