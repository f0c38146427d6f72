//! How much later than usual a camera's frames come out of its decoder.

use std::time::Duration;

/// The frames of one pipeline.
#[derive(Debug, Default)]
pub struct Arrivals {
    /// The smallest lag so far: what source, network and an idle decoder take.
    smallest: Option<Duration>,
    behind: Duration,
    /// The time of the first and the last frame.
    span: Option<(Duration, Duration)>,
}

/// The clocks of camera and machine drift apart: a part of the time, as the smallest lag may grow.
const DRIFT: f64 = 0.0005;

/// So long after its first frame a camera may still be starting.
const STARTS: Duration = Duration::from_secs(3);

/// A camera that is silent for longer is behind by as much.
const SILENT: Duration = Duration::from_secs(1);

impl Arrivals {
    /// At `now` a frame came out of the decoder, `lag` after it was taken.
    pub fn see(&mut self, now: Duration, lag: Duration) {
        let (first, last) = self.span.unwrap_or((now, now));
        let drift = now.saturating_sub(last).mul_f64(DRIFT);
        let smallest = self.smallest.map_or(lag, |least| lag.min(least + drift));
        self.smallest = Some(smallest);
        self.behind = lag - smallest;
        self.span = Some((first, now));
    }

    /// How far the camera is behind at `now`; `None` while it starts.
    pub fn behind(&self, now: Duration) -> Option<Duration> {
        let (first, last) = self.span?;
        let silence = now.saturating_sub(last);
        if now.saturating_sub(first) < STARTS {
            return None;
        }
        Some(match silence > SILENT {
            true => self.behind.max(silence),
            false => self.behind,
        })
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
        assert!(
            arrivals
                .behind(ms(4050))
                .is_some_and(|behind| behind > ms(740))
        );
        assert_eq!(arrivals.behind(ms(9040)), Some(ms(5000)), "no frame comes");
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
