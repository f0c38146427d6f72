//! How long to wait before trying a camera again.

use std::time::Duration;

/// The pause after the first failure.
pub const FIRST: Duration = Duration::from_millis(500);

/// The longest pause.
pub const LONGEST: Duration = Duration::from_secs(15);

/// A camera that ran for this long starts over with the first pause when it fails.
pub const HEALTHY: Duration = Duration::from_secs(20);

/// Exponential backoff. Each pause is up to twice the previous one, and between half and all of
/// that at random ("equal jitter"), so that forty cameras behind one switch do not return at the
/// same moment. The pause counts from the start of the failed attempt: one that waited ten seconds
/// for an answer has waited.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after a failure of a camera that `ran` before it. `random` is in 0..1.
    pub fn pause(&mut self, ran: Duration, random: f64) -> Duration {
        if ran >= HEALTHY {
            self.failures = 0;
        }
        let whole = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let share = 0.5 + 0.5 * random.clamp(0.0, 1.0);
        whole
            .mul_f64(share)
            .saturating_sub(ran)
            .max(FIRST.mul_f64(share))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..9)
            .map(|_| backoff.pause(Duration::ZERO, 1.0).as_millis())
            .collect();
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 15000, 15000, 15000, 15000]
        );
        assert_eq!(backoff.pause(Duration::ZERO, 0.0), LONGEST / 2);
    }

    #[test]
    fn a_camera_that_ran_well_is_tried_again_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.pause(Duration::ZERO, 0.5);
        }
        assert_eq!(backoff.pause(HEALTHY, 1.0), FIRST);
        assert_eq!(backoff.pause(Duration::ZERO, 1.0), FIRST * 2);
    }

    #[test]
    fn a_try_that_waited_has_waited() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.pause(Duration::ZERO, 1.0);
        }
        let tried = Duration::from_secs(10);
        assert_eq!(backoff.pause(tried, 1.0), LONGEST - tried);
        assert_eq!(backoff.pause(tried, 0.0), FIRST / 2);
    }

    #[test]
    fn a_thousand_failures_are_no_overflow() {
        let mut backoff = Backoff::default();
        for _ in 0..1000 {
            let pause = backoff.pause(Duration::ZERO, 0.5);
            assert!(pause <= LONGEST && pause >= FIRST / 2);
        }
    }
}
