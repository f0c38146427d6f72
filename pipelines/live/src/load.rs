//! Adapts to the machine's capacity: chooses how much of the video is decoded.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::telemetry::Telemetry;
use super::telemetry::process::Process;
use super::thinning::Governor;

const PERIOD: Duration = Duration::from_millis(500);

/// The machine counts as busy while less than this share of its processors is idle, or while this
/// program alone takes this share of those available to it.
const IDLE: f64 = 0.1;
const OWN: f64 = 0.85;

/// How often to repeat that video is skipped.
const AGAIN: Duration = Duration::from_secs(60);

pub struct Load {
    telemetry: Arc<Telemetry>,
    governor: Governor,
    looked: Instant,
    before: Counts,
    /// When this was last logged, and whether all was logged to be well since.
    said: Option<Instant>,
}

/// Processor time so far, in seconds.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    own: f64,
    idle: f64,
    all: f64,
}

impl Counts {
    fn read() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let (idle, all) = machine(&stat).unwrap_or_default();
        Self {
            own: Process::read_cpu().unwrap_or_default(),
            idle,
            all,
        }
    }

    /// Whether no capacity was left in the `passed` seconds since `before`.
    fn is_busy(&self, before: &Self, passed: f64) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let own = (self.own - before.own) / passed / cores as f64;
        let idle = (self.idle - before.idle) / (self.all - before.all);
        // NaN, if unknown, compares as not busy.
        own >= OWN || idle < IDLE
    }
}

/// The idle and total time of all processors, in ticks, from `/proc/stat`.
fn machine(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Option<Vec<f64>> = line.split_whitespace().map(|t| t.parse().ok()).collect();
    // The first eight: user, nice, system, idle, waiting for disks and so on. Guests are part of user.
    let times = times?;
    let idle = times.get(3)? + times.get(4)?;
    Some((idle, times.iter().take(8).sum()))
}

impl Load {
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        Self {
            telemetry,
            governor: Governor::default(),
            looked: Instant::now(),
            before: Counts::read(),
            said: None,
        }
    }

    /// Checks the load again when it is time. Call it often.
    pub fn watch(&mut self) {
        let passed = self.looked.elapsed();
        if passed < PERIOD {
            return;
        }
        self.looked = Instant::now();
        let counts = Counts::read();
        let busy = counts.is_busy(&self.before, passed.as_secs_f64());
        self.before = counts;
        let sights = self.telemetry.sights();
        let share = self.governor.look(self.telemetry.uptime(), &sights, busy);
        self.telemetry.decoded.set(share);
        self.say(share);
    }

    fn say(&mut self, share: f64) {
        let percent = (100.0 * share).round();
        match self.said {
            None if share < 1.0 => tracing::warn!(
                percent,
                "too many cameras for this machine: only a part of each one's frames is decoded"
            ),
            Some(then) if share < 1.0 && then.elapsed() >= AGAIN => {
                tracing::warn!(
                    percent,
                    "still only a part of each camera's frames is decoded"
                );
            }
            Some(_) if share >= 1.0 => {
                tracing::info!("all frames are decoded again");
                self.said = None;
                return;
            }
            _ => return,
        }
        self.said = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_busy_where_nothing_is_idle_or_this_program_takes_all() {
        let stat = "cpu  100 0 50 800 50 0 0 0 9 0\ncpu0 1 2 3\n";
        assert_eq!(machine(stat), Some((850.0, 1000.0)));
        assert_eq!(machine("cpu 1 2 x"), None);
        let counts = |own, idle, all| Counts { own, idle, all };
        let before = counts(0.0, 0.0, 0.0);
        assert!(counts(0.1, 5.0, 100.0).is_busy(&before, 1.0));
        assert!(!counts(0.1, 50.0, 100.0).is_busy(&before, 1.0));
        assert!(counts(1000.0, 50.0, 100.0).is_busy(&before, 1.0));
        assert!(
            !counts(0.0, 0.0, 0.0).is_busy(&before, 1.0),
            "nothing is known"
        );
    }
}
