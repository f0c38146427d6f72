//! Whether a stage of a live pipeline is behind, and how much work it then skips: the elements'
//! property `late`.
//!
//! All times are running times in nanoseconds. A frame's *lag* is the clock's running time when the
//! frame arrives, less the frame's own. It has two parts: the time that the source and earlier
//! stages take, and the time that the frame has waited because this stage was busy. The first part
//! is the smallest lag of the last [`WINDOW`]; the rest is waiting. If a frame has waited for a
//! whole frame duration, the next frame is waiting already.
//!
//! Once late, a stage works again when at most half a frame duration of waiting is left, so that
//! each piece of work begins with all the time that it may take. It also works again when nothing
//! waits any more: lags then do not fall from frame to frame. A stage that is idle half of the time
//! attributes more waiting to the jitter of the source.
//!
//! The smallest lag would creep up if every frame had to wait for longer than the window. An
//! overloaded stage therefore passes frames on now and then, until the lag falls no further (as BBR
//! does with round-trip times).

mod budget;

use std::collections::VecDeque;
use std::time::Duration;

pub use budget::{Budget, Share, turns};

/// What a stage does when it is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Late {
    /// [`Late::DropWork`] in a live pipeline, [`Late::Wait`] in others.
    #[default]
    Auto,
    /// Skips inferences; every frame passes.
    DropWork,
    /// Makes later frames wait.
    Wait,
}

impl Late {
    /// Whether work may be skipped, given whether the pipeline is live.
    pub fn drops_work(self, live: bool) -> bool {
        match self {
            Self::Auto => live,
            Self::DropWork => true,
            Self::Wait => false,
        }
    }
}

const MILLISECOND: u64 = 1_000_000;

/// How long a frame's lag is remembered.
pub const WINDOW: u64 = 4000 * MILLISECOND;

/// A late stage works all the same after a pause that is at least this long, and at least four times
/// as long as its last work. So tracks, which live for a second, go on.
pub const LONGEST_PAUSE: u64 = 500 * MILLISECOND;
const RESTS: u64 = 4;

/// Work may wait for its turn for the rest of the frame's duration, and never longer than
/// [`LONGEST_WAIT`]. On a late frame it may wait for only this fraction of the duration, so that
/// the stage still catches up.
const LATE_WAIT: u64 = 4;
const LONGEST_WAIT: u64 = 100 * MILLISECOND;

/// The span over which the stage's own work is added up.
const SPAN: u64 = 1000 * MILLISECOND;

/// A stage that works for less than this share of the time is not what makes frames wait: its
/// source delivers them in bunches. Beyond [`JITTER_IDLE`] frame durations it counts as late all
/// the same, since something else on its thread may be too slow.
const IDLE: f64 = 0.5;
const JITTER_IDLE: i64 = 3;

/// The jitter, in frame durations, that a busy stage allows its source if nothing waits behind the
/// frame.
const JITTER_BUSY: i64 = 2;

/// A stage that was late for this long has nothing left to skip.
const EXHAUSTED: u64 = 2000 * MILLISECOND;

/// The distance of frames in time: the median of recent timestamps, since caps often give no frame
/// rate or an impossible one. At first it is that of the caps, if possible.
#[derive(Debug, Default)]
struct Spacing {
    last: Option<u64>,
    gaps: VecDeque<u64>,
    nominal: Option<u64>,
}

const GAPS: usize = 15;
const FEWEST_GAPS: usize = 5;
/// From 1 to 240 frames per second.
const POSSIBLE: std::ops::RangeInclusive<u64> = 4_166_666..=1_000_000_000;

impl Spacing {
    fn see(&mut self, time: u64) {
        let gap = self.last.and_then(|last| time.checked_sub(last));
        self.last = Some(time);
        if let Some(gap) = gap.filter(|gap| (1..=*POSSIBLE.end()).contains(gap)) {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(gap);
        }
    }

    fn duration(&self) -> Option<u64> {
        let nominal = self.nominal.filter(|_| self.gaps.len() < FEWEST_GAPS);
        nominal.or_else(|| {
            let mut gaps: Vec<u64> = self.gaps.iter().copied().collect();
            gaps.sort_unstable();
            gaps.get(gaps.len() / 2).copied()
        })
    }
}

/// The smallest value of the last [`WINDOW`].
#[derive(Debug, Default)]
struct Smallest(VecDeque<(u64, i64)>);

impl Smallest {
    /// Adds a value of the time `now`, and returns the smallest.
    fn add(&mut self, now: u64, value: i64) -> i64 {
        // A value is of no use once a later one is as small, so values ascend from front to back.
        while self.0.back().is_some_and(|(_, last)| *last >= value) {
            self.0.pop_back();
        }
        self.0.push_back((now, value));
        let old = |then: u64| now.saturating_sub(then) > WINDOW;
        while self.0.len() > 1 && self.0.front().is_some_and(|(then, _)| old(*then)) {
            self.0.pop_front();
        }
        self.0.front().map_or(value, |(_, least)| *least)
    }
}

/// The work of the last [`SPAN`].
#[derive(Debug, Default)]
struct Load {
    /// When each piece ended, and how long it took.
    pieces: VecDeque<(u64, u64)>,
    /// When the first one began.
    begin: Option<u64>,
}

impl Load {
    fn add(&mut self, now: u64, took: u64) {
        self.begin.get_or_insert(now.saturating_sub(took));
        self.pieces.push_back((now, took));
        self.forget(now);
    }

    fn forget(&mut self, now: u64) {
        let is_old = |(end, _): &(u64, u64)| now.saturating_sub(*end) > SPAN;
        while self.pieces.front().is_some_and(is_old) {
            self.pieces.pop_front();
        }
    }

    /// The share of the time that was spent on work.
    fn share(&mut self, now: u64) -> f64 {
        self.forget(now);
        let time = self.begin.map_or(0, |begin| now.saturating_sub(begin));
        let took = self.pieces.iter().map(|(_, took)| *took as f64);
        took.sum::<f64>() / time.clamp(1, SPAN) as f64
    }
}

/// What a stage knows of its frames' lags.
#[derive(Debug, Default)]
pub struct Lateness {
    load: Load,
    spacing: Spacing,
    smallest: Smallest,
    /// Whether the last frame was late.
    late: bool,
    /// When a frame was last late.
    late_at: Option<u64>,
    /// The lag of the previous frame, and whether it was passed on without work.
    before: Option<(i64, bool)>,
    /// When a frame last arrived that had certainly not waited.
    fresh_at: u64,
    /// When the stage began to pass frames on until one has not waited.
    probing: Option<u64>,
    /// When the last work ended, or began if it has not ended yet.
    worked: Option<u64>,
    /// The frame that it was on.
    worked_on: u64,
    /// `worked` and `worked_on` of the work before, in case the granted work gets no turn.
    worked_before: (Option<u64>, u64),
    took: u64,
    /// When a frame was last on time.
    on_time: Option<u64>,
    /// Downstream needs frames with this time or later.
    wanted: Option<u64>,
}

impl Lateness {
    /// Forgets everything but the frame rate. For flushes.
    pub fn reset(&mut self) {
        let nominal = self.spacing.nominal;
        *self = Self::default();
        self.spacing.nominal = nominal;
    }

    /// Sets the frame rate of the caps: `frames` in `seconds`. Ignores 0/1 and impossible rates.
    pub fn set_rate(&mut self, frames: i32, seconds: i32) {
        let (frames, seconds) = (u64::try_from(frames), u64::try_from(seconds));
        self.spacing.nominal = match (frames, seconds) {
            (Ok(frames @ 1..), Ok(seconds @ 1..)) => {
                Some(seconds * 1_000_000_000 / frames).filter(|gap| POSSIBLE.contains(gap))
            }
            _ => None,
        };
        self.spacing.gaps.clear();
    }

    /// Downstream reports (QoS) that the frame of `time` came `late` ns late (negative: early).
    pub fn downstream(&mut self, time: u64, late: i64) {
        self.wanted = u64::try_from(late)
            .ok()
            .filter(|late| *late > 0)
            .map(|late| time.saturating_add(late));
    }

    /// Whether no frame was on time for two seconds although work was skipped. Then something else
    /// is too slow.
    pub fn is_exhausted(&self, now: u64) -> bool {
        self.on_time
            .is_some_and(|then| now.saturating_sub(then) > EXHAUSTED)
    }

    /// Records that a frame of `time` arrived, whether or not it has work.
    pub fn see(&mut self, time: Option<u64>) {
        if let Some(time) = time {
            self.spacing.see(time);
        }
    }

    /// How much work to do on the frame of `time`, which arrived at `now` and has work due. `busy`:
    /// the worker has other work already. Without a clock or timestamps, no frame is late.
    pub fn judge(&mut self, now: Option<u64>, time: Option<u64>, busy: bool) -> Share {
        let (Some(now), Some(time)) = (now, time) else {
            return Share::UpTo {
                limit: Duration::MAX,
                patience: Duration::MAX,
            };
        };
        // The difference of running times, which are shorter than centuries.
        let lag = now.wrapping_sub(time) as i64;
        let duration = self.spacing.duration().unwrap_or(LONGEST_PAUSE);
        let (waited, late) = self.is_late(now, time, lag, duration as i64);
        let late = late || busy;
        if !late {
            self.on_time = Some(now);
        } else if self
            .worked
            .is_some_and(|then| !self.is_long(then, now, time))
        {
            self.before = Some((lag, true));
            return Share::Nothing;
        }
        self.before = Some((lag, false));
        self.worked_before = (self.worked, self.worked_on);
        self.worked = Some(now);
        self.worked_on = time;
        let (limit, patience) = match late {
            true => (0, duration / LATE_WAIT),
            false => (
                duration,
                duration.saturating_sub(waited).max(duration / LATE_WAIT),
            ),
        };
        Share::UpTo {
            limit: Duration::from_nanos(limit),
            patience: Duration::from_nanos(patience.min(LONGEST_WAIT)),
        }
    }

    /// Records that granted work got no turn in time.
    pub fn gave_up(&mut self) {
        (self.worked, self.worked_on) = self.worked_before;
    }

    /// Whether the pause of a late stage has been long enough: by the clock if it is always late,
    /// by the frames' times if very many wait and pass quickly.
    fn is_long(&self, worked: u64, now: u64, time: u64) -> bool {
        let pause = now
            .saturating_sub(worked)
            .max(time.saturating_sub(self.worked_on));
        pause >= LONGEST_PAUSE.max(self.took.saturating_mul(RESTS))
    }

    /// How long a frame has waited, and whether it is late.
    fn is_late(&mut self, now: u64, time: u64, lag: i64, duration: i64) -> (u64, bool) {
        let waited = lag.saturating_sub(self.smallest.add(now, lag));
        // Behind a frame that was passed on, waiting frames arrive at once, so their lags fall.
        let is_fresh = self.before.is_some_and(|(before, passed)| {
            passed && before.abs_diff(lag) < duration.unsigned_abs() / 2
        });
        let is_idle = self.load.share(now) < IDLE;
        let patience = match (is_idle, is_fresh, self.late) {
            (true, _, _) => duration.saturating_mul(JITTER_IDLE),
            (false, true, _) => duration.saturating_mul(JITTER_BUSY),
            (false, false, false) => duration,
            (false, false, true) => duration / 2,
        };
        self.late = waited > patience;
        if self.late {
            self.late_at = Some(now);
        }
        // With a source that delivers frames in bunches, the lag never settles.
        let in_vain = |since: u64| now.saturating_sub(since) > LONGEST_PAUSE;
        if is_fresh || self.probing.is_some_and(in_vain) {
            self.fresh_at = now;
            self.probing = None;
        } else if self.probing.is_none() {
            // Only overloaded stages need this. Elsewhere frames arrive without waiting all the
            // time.
            let recent = |then: u64| now.saturating_sub(then) <= WINDOW / 2;
            let probes = !is_idle && self.late_at.is_some_and(recent) && !recent(self.fresh_at);
            self.probing = probes.then_some(now);
        }
        let too_late = self.wanted.is_some_and(|wanted| time < wanted);
        let late = self.late || self.probing.is_some() || too_late;
        (u64::try_from(waited).unwrap_or(0), late)
    }

    /// Records that work ended at `now` and how long it `took`.
    pub fn worked(&mut self, now: Option<u64>, took: Duration) {
        self.worked = now.or(self.worked);
        self.took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(now) = now {
            self.load.add(now, self.took);
        }
    }
}

#[cfg(test)]
mod tests;
