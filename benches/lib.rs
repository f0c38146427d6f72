//! Shared code of the benchmarks: medians of interleaved runs.

use std::time::{Duration, Instant};

/// Measures how long `work` takes.
pub fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The median of some durations, in milliseconds.
pub fn median(durations: &mut [Duration]) -> f64 {
    durations.sort();
    durations
        .get(durations.len() / 2)
        .map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}
