//! Progress of work that mostly takes no time.

use std::time::{Duration, Instant};

use super::{Progress, steps_left};
use crate::interrupt;

/// Nothing is shown before this.
const SILENCE: Duration = Duration::from_secs(1);

/// Progress that is shown only if the work takes more than a second.
pub struct DelayedProgress {
    task: &'static str,
    total: Option<u64>,
    started: Instant,
    shown: Option<Progress>,
}

impl DelayedProgress {
    /// Like [`Progress::new`]. The second begins now.
    pub fn new(task: &'static str, total: Option<u64>) -> Self {
        Self {
            task,
            total,
            started: Instant::now(),
            shown: None,
        }
    }

    /// Shows that `done` steps are done. `message` receives the time so far and the total.
    pub fn update(&mut self, done: u64, message: impl FnOnce(Duration, u64) -> String) {
        let elapsed = self.started.elapsed();
        if elapsed >= SILENCE {
            let (task, total) = (self.task, self.total);
            self.shown
                .get_or_insert_with(|| Progress::new(task, total))
                .update(done, &message(elapsed, total.unwrap_or(0)));
        }
    }

    /// Shows that `done` steps are done, and how long the rest will take. Returns whether to
    /// continue: `false` after Ctrl-C.
    pub fn goes_on(&mut self, done: u64) -> bool {
        self.update(done, |elapsed, total| steps_left(done, total, elapsed));
        !interrupt::requested()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_no_time_shows_nothing() {
        let mut progress = DelayedProgress::new("test", Some(2));
        progress.update(1, |_, _| unreachable!("it is too early"));
        assert!(progress.goes_on(1) && progress.shown.is_none());
        progress.started -= SILENCE;
        progress.update(2, |elapsed, total| {
            assert!(elapsed >= SILENCE && total == 2);
            "done".into()
        });
        assert!(progress.shown.is_some());
    }
}
