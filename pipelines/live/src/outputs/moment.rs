//! When a frame was taken.

use std::time::{Duration, Instant};

use gst::prelude::*;
use jiff::Timestamp;

/// Frames count as no older than this: a stream whose timestamps jump could give any age.
const OLDEST: Duration = Duration::from_secs(10);

/// A point in time on two clocks: one to measure with, and one to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Unaffected when somebody sets the clock.
    pub instant: Instant,
    pub time: Timestamp,
}

impl Moment {
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: Timestamp::now(),
        }
    }

    /// When the frame of `sample`, which `sink` has just received, was taken.
    pub fn of_frame(sink: &gst_app::AppSink, sample: &gst::Sample) -> Self {
        let now = Self::now();
        let age = age(sink, sample).unwrap_or_default().min(OLDEST);
        Self {
            instant: now.instant.checked_sub(age).unwrap_or(now.instant),
            time: now.time.checked_sub(age).unwrap_or(now.time),
        }
    }
}

/// How long ago a frame was taken. `None` if unknown or in the future.
fn age(sink: &gst_app::AppSink, sample: &gst::Sample) -> Option<Duration> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let taken = segment.to_running_time(sample.buffer()?.pts())?;
    let age = sink.current_running_time()?.checked_sub(taken)?;
    Some(age.into())
}

/// Serialises a time in RFC 3339 with milliseconds, in UTC.
pub fn in_millis<S: serde::Serializer>(time: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&format_args!("{time:.3}"))
}
