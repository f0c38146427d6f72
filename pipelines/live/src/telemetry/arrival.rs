//! Measures how much later than usual a camera's frames leave its decoder.

use std::time::Duration;

/// The frames of one pipeline.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The smallest lag so far: the time for source, network and an idle decoder.
    smallest: Option<Duration>,
    /// The smallest in this [`WINDOW`] and in the previous one. A single frame may be late by chance.
    recent: [Option<Duration>; 2],
    window: Duration,
    /// The times of the first and the last frame.
    span: Option<(Duration, Duration)>,
}

/// The clocks of camera and machine drift apart, so the smallest lag may grow by this share of the
/// time.
const DRIFT: f64 = 0.0005;

/// A camera may still be starting for this long after its first frame.
const STARTS: Duration = Duration::from_secs(3);

/// Nothing is known about a camera that is silent for longer.
const SILENT: Duration = Duration::from_secs(3);

const WINDOW: Duration = Duration::from_secs(1);

impl Arrivals {
    /// A frame left the decoder at `now`, `lag` after it was taken.
    pub fn see(&mut self, now: Duration, lag: Duration) {
        let (first, last) = self.span.unwrap_or((now, now));
        let drift = now.saturating_sub(last).mul_f64(DRIFT);
        self.smallest = Some(self.smallest.map_or(lag, |least| lag.min(least + drift)));
        if now.saturating_sub(self.window) >= WINDOW {
            self.recent = [None, self.recent[0]];
            self.window = now;
        }
        let recent = &mut self.recent[0];
        *recent = Some(recent.map_or(lag, |least| least.min(lag)));
        self.span = Some((first, now));
    }

    /// How late the camera is at `now`. `None` while it starts or sends nothing.
    pub fn behind(&self, now: Duration) -> Option<Duration> {
        let (first, last) = self.span?;
        if now.saturating_sub(first) < STARTS || now.saturating_sub(last) > SILENT {
            return None;
        }
        let recent = self.recent.iter().flatten().min()?;
        Some(recent.saturating_sub(self.smallest?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_camera_is_behind_by_what_its_frames_come_later() {
        let mut arrivals = Arrivals::default();
        assert_eq!(arrivals.behind(ms(9000)), None);
        for n in 0..100u64 {
            arrivals.see(ms(40 * n), ms(200 + n % 3));
        }
        assert_eq!(arrivals.behind(ms(2000)), None, "it starts");
        assert!(
            arrivals
                .behind(ms(4000))
                .is_some_and(|behind| behind < ms(4))
        );
        arrivals.see(ms(4040), ms(950));
        let behind = |arrivals: &Arrivals, now| arrivals.behind(ms(now)).expect("it runs");
        assert!(behind(&arrivals, 4050) < ms(4), "one frame says little");
        for n in 102..160u64 {
            arrivals.see(ms(40 * n), ms(950));
        }
        assert!(behind(&arrivals, 6400) > ms(740));
        assert_eq!(arrivals.behind(ms(60_000)), None, "silence says nothing");
    }

    #[test]
    fn clocks_may_drift_apart() {
        let mut arrivals = Arrivals::default();
        for n in 0..90_000u64 {
            arrivals.see(ms(40 * n), Duration::from_micros(200_000 + 8 * n));
        }
        assert!(
            arrivals
                .behind(ms(3_600_000))
                .is_some_and(|behind| behind < ms(5))
        );
    }
}
