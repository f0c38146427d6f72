//! Whether a stage of a live pipeline is behind, and what work is then left out: the elements'
//! property `late`.
//!
//! All times are running times in nanoseconds. A frame's *lag* is the clock's running time when the
//! frame comes in, less the frame's own. What the source and the stages before take is part of
//! it, and so is the time that the frame has waited because this stage was busy. The first part is the
//! smallest lag of the last [`WINDOW`]; what is above it is waiting. A whole frame duration of it
//! means that the next frame waits already.
//!
//! Once late, a stage works again when at most half a frame duration of waiting is left, so that
//! each piece of work begins with all the time that it may take, or when nothing waits any more, which shows
//! in lags that do not fall from frame to frame. A stage that is idle for half of the time takes more for
//! the jitter of the source. The smallest lag would creep up if
//! no frame came through without waiting for longer than the window; therefore an overloaded stage
//! now and then passes frames on until the lag falls no further (as BBR does with round-trip times).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What a stage does when it is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Late {
    /// [`Late::DropWork`] in a live pipeline, [`Late::Wait`] in others.
    #[default]
    Auto,
    /// Leaves inferences out; every frame passes.
    DropWork,
    /// Makes all frames behind wait.
    Wait,
}

impl Late {
    /// Whether work is left out, in a pipeline that is live or not.
    pub fn drops_work(self, live: bool) -> bool {
        match self {
            Self::Auto => live,
            Self::DropWork => true,
            Self::Wait => false,
        }
    }
}

const MILLISECOND: u64 = 1_000_000;

/// How long a frame's lag counts.
pub const WINDOW: u64 = 4000 * MILLISECOND;

/// A late stage works all the same after a pause as long as this and as four times what its last
/// work took, so that tracks, which live for a second, go on.
pub const LONGEST_PAUSE: u64 = 500 * MILLISECOND;
const RESTS: u64 = 4;

/// Work may wait for its turn for what is left of the frame's duration, but for this share of it where a frame is
/// late, so that a stage that must do something again still catches up, and never for longer than
/// [`LONGEST_WAIT`].
const LATE_WAIT: u64 = 4;
const LONGEST_WAIT: u64 = 100 * MILLISECOND;

/// Over this long the stage's own work is added up.
const SPAN: u64 = 1000 * MILLISECOND;

/// A stage that works for less than this share of the time is not what frames wait for: whoever gives
/// them does so in bunches. It is late all the same beyond [`JITTER_IDLE`] frame durations, as something
/// else on its thread may be too slow.
const IDLE: f64 = 0.5;
const JITTER_IDLE: i64 = 3;

/// A busy stage takes as much as this, in frame durations, for the jitter of the source if nothing waits
/// behind the frame.
const JITTER_BUSY: i64 = 2;

/// A stage that was late for this long has nothing left to leave out.
const EXHAUSTED: u64 = 2000 * MILLISECOND;

/// Work that a frame may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    All,
    /// One piece of work, and further ones until this much time has passed. Each may wait so long for its
    /// turn.
    UpTo {
        limit: Duration,
        patience: Duration,
    },
    Nothing,
}

/// What a frame is given for its faces, asked for when the first one needs it: how much work that is.
#[derive(Debug)]
pub struct Budget<F> {
    ask: F,
    share: Option<(Share, Instant)>,
    done: usize,
    took: Duration,
    /// Time that went into waiting for turns.
    waited: Duration,
    /// A piece of work got no turn in time.
    refused: bool,
}

impl<F: Fn() -> Share> Budget<F> {
    pub fn new(ask: F) -> Self {
        Self {
            ask,
            share: None,
            done: 0,
            took: Duration::ZERO,
            waited: Duration::ZERO,
            refused: false,
        }
    }

    /// Waits for the turn of another piece of work, with `turn`, which is given how long it may wait. `None` if
    /// no further piece may begin on this frame, or if it gets no turn in time.
    pub fn begin<T>(&mut self, turn: impl FnOnce(Option<Duration>) -> Option<T>) -> Option<T> {
        let (share, _) = self
            .share
            .get_or_insert_with(|| ((self.ask)(), Instant::now()));
        let patience = match *share {
            _ if self.refused => return None,
            Share::All => None,
            // All of them together wait no longer than one may.
            Share::UpTo { limit, patience } if self.done == 0 || self.took < limit => {
                Some(patience.saturating_sub(self.waited))
            }
            Share::UpTo { .. } | Share::Nothing => return None,
        };
        let begin = Instant::now();
        let turn = turn(patience);
        self.waited += begin.elapsed();
        self.refused = turn.is_none();
        turn
    }

    /// A piece of work was done.
    pub fn spend(&mut self) {
        self.done += 1;
        let took = self.share.map_or(self.took, |(_, begin)| begin.elapsed());
        self.took = took.saturating_sub(self.waited);
    }

    /// How long the work took, if there was any, without waiting for turns.
    pub fn took(&self) -> Option<Duration> {
        (self.done > 0).then_some(self.took)
    }

    /// Whether no work was done, as it got no turn in time.
    pub fn gave_up(&self) -> bool {
        self.refused && self.done == 0
    }

    /// How long the work waited for its turns.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// The distance of frames in time: the median of the last ones' timestamps, since caps often name no
/// frame rate or one that cannot be true; at first what the caps say, if that is possible.
#[derive(Debug, Default)]
struct Spacing {
    last: Option<u64>,
    gaps: VecDeque<u64>,
    nominal: Option<u64>,
}

const GAPS: usize = 15;
const FEWEST_GAPS: usize = 5;
/// From 1 to 240 frames a second.
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

/// The smallest of the values of the last [`WINDOW`].
#[derive(Debug, Default)]
struct Smallest(VecDeque<(u64, i64)>);

impl Smallest {
    /// Takes a value of the time `now`; the smallest.
    fn add(&mut self, now: u64, value: i64) -> i64 {
        // A value is of no further use once a later one is as small: ascending from front to back.
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

    /// The share of the time that went into work.
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
    /// Late since the last frame that was not.
    late: bool,
    /// When a frame was last late.
    late_at: Option<u64>,
    /// The lag of the frame before, and whether that one was passed on without work.
    before: Option<(i64, bool)>,
    /// When a frame last came in that had surely not waited.
    fresh_at: u64,
    /// Since when frames have been passed on until that is so again.
    probing: Option<u64>,
    /// When the last work ended, or began if it did not end yet.
    worked: Option<u64>,
    /// The frame that it was on.
    worked_on: u64,
    /// Both of the work before, for the case that there is no turn for what was let begin.
    worked_before: (Option<u64>, u64),
    took: u64,
    /// When a frame was last on time.
    on_time: Option<u64>,
    /// Downstream needs frames of this time and later.
    wanted: Option<u64>,
}

impl Lateness {
    /// Forgets everything but the frame rate, as at a flush.
    pub fn reset(&mut self) {
        let nominal = self.spacing.nominal;
        *self = Self::default();
        self.spacing.nominal = nominal;
    }

    /// Takes the frame rate of the caps: frames `of` a number of seconds. 0/1 and rates that cannot be true
    /// count as none.
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

    /// Downstream says (QoS) that the frame of `time` came `late` ns late (negative: early).
    pub fn downstream(&mut self, time: u64, late: i64) {
        self.wanted = u64::try_from(late)
            .ok()
            .filter(|late| *late > 0)
            .map(|late| time.saturating_add(late));
    }

    /// Whether no frame was on time for two seconds although work was left out: something else is too slow.
    pub fn is_exhausted(&self, now: u64) -> bool {
        self.on_time
            .is_some_and(|then| now.saturating_sub(then) > EXHAUSTED)
    }

    /// A frame of `time` came in, whether there is work on it or not.
    pub fn see(&mut self, time: Option<u64>) {
        if let Some(time) = time {
            self.spacing.see(time);
        }
    }

    /// How much work the frame of `time` gets, which came in at `now` and has some due. `busy`: whatever
    /// would do the work has other work already. Without clock or timestamps no frame is late.
    pub fn judge(&mut self, now: Option<u64>, time: Option<u64>, busy: bool) -> Share {
        let (Some(now), Some(time)) = (now, time) else {
            return Share::UpTo {
                limit: Duration::MAX,
                patience: Duration::MAX,
            };
        };
        // Of running times, which are less than centuries.
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

    /// What was let begin got no turn in time.
    pub fn gave_up(&mut self) {
        (self.worked, self.worked_on) = self.worked_before;
    }

    /// Whether a stage that is late must do something again: by the clock where it is always late, by
    /// the frames' times where very many wait and pass fast.
    fn is_long(&self, worked: u64, now: u64, time: u64) -> bool {
        let pause = now
            .saturating_sub(worked)
            .max(time.saturating_sub(self.worked_on));
        pause >= LONGEST_PAUSE.max(self.took.saturating_mul(RESTS))
    }

    /// How long a frame has waited, and whether it is late.
    fn is_late(&mut self, now: u64, time: u64, lag: i64, duration: i64) -> (u64, bool) {
        let waited = lag.saturating_sub(self.smallest.add(now, lag));
        // Behind one that was passed on, those that wait come in at once, so that their lags fall.
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
        // A source that gives its frames in bunches never looks idle.
        let in_vain = |since: u64| now.saturating_sub(since) > LONGEST_PAUSE;
        if is_fresh || self.probing.is_some_and(in_vain) {
            self.fresh_at = now;
            self.probing = None;
        } else if self.probing.is_none() {
            // Only an overloaded stage needs it: elsewhere frames come in all the time without waiting.
            let recent = |then: u64| now.saturating_sub(then) <= WINDOW / 2;
            let probes = !is_idle && self.late_at.is_some_and(recent) && !recent(self.fresh_at);
            self.probing = probes.then_some(now);
        }
        let too_late = self.wanted.is_some_and(|wanted| time < wanted);
        let late = self.late || self.probing.is_some() || too_late;
        (u64::try_from(waited).unwrap_or(0), late)
    }

    /// Work ended at `now`, which `took` so long.
    pub fn worked(&mut self, now: Option<u64>, took: Duration) {
        self.worked = now.or(self.worked);
        self.took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(now) = now {
            self.load.add(now, self.took);
        }
    }
}

/// The order in which faces get what work there is, as indices: those that were passed over on
/// most frames (`passed`) first, equals in turn by `round`, so that none waits for ever.
pub fn turns(passed: &[u32], round: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..passed.len()).collect();
    if !order.is_empty() {
        order.rotate_left((round % passed.len() as u64) as usize);
    }
    order.sort_by_key(|&i| std::cmp::Reverse(passed[i]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = MILLISECOND;
    /// 25 frames a second.
    const FRAME: u64 = 40 * MS;

    /// A stage on one thread behind a source that gives a frame every [`FRAME`] and keeps those that wait.
    struct Line {
        lateness: Lateness,
        /// When the stage is free.
        free: u64,
        frame: u64,
        /// Frames that were worked on.
        worked: Vec<u64>,
        /// Of each frame, how long after its time it left.
        left: Vec<u64>,
    }

    impl Line {
        fn new() -> Self {
            Self {
                lateness: Lateness::default(),
                free: 0,
                frame: 0,
                worked: Vec::new(),
                left: Vec::new(),
            }
        }

        /// Passes `count` frames on, which come in `latency` after their time; work takes `cost`, passing on 1 ms.
        fn run(&mut self, count: u64, latency: impl Fn(u64) -> u64, cost: impl Fn(u64) -> u64) {
            for frame in self.frame..self.frame + count {
                let time = frame * FRAME;
                let now = self.free.max(time + latency(frame));
                self.lateness.see(Some(time));
                let share = self.lateness.judge(Some(now), Some(time), false);
                self.free = now + MS;
                if share != Share::Nothing {
                    self.free += cost(frame);
                    let took = Duration::from_nanos(cost(frame));
                    self.lateness.worked(Some(self.free), took);
                    self.worked.push(frame);
                }
                self.left.push(self.free - time);
            }
            self.frame += count;
        }

        fn worst(&self, range: std::ops::Range<usize>) -> u64 {
            self.left[range].iter().max().copied().unwrap_or_default() / MS
        }
    }

    /// Some number below `end`, a different one for each `n`.
    fn noise(n: u64, end: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) % end
    }

    #[test]
    fn a_stage_that_keeps_up_leaves_nothing_out() {
        let mut line = Line::new();
        line.run(
            1000,
            |n| 2000 * MS + noise(n, 30) * MS,
            |n| (25 + noise(n, 10)) * MS,
        );
        assert_eq!(line.worked.len(), 1000);
    }

    #[test]
    fn overload_costs_work_and_no_latency_however_long_it_lasts() {
        for cost in [100, 120, 121, 137, 160] {
            let mut line = Line::new();
            // Ten minutes; the source's latency is 2 s, and its clock drifts by 0.1 ms a second.
            let latency = |n: u64| 2000 * MS + n * 4000 + noise(n, 3) * MS;
            line.run(15_000, latency, |n| (cost + noise(n, 8)) * MS);
            let drift = 60;
            let worst = line.worst(0..15_000);
            assert!(
                worst <= 2000 + drift + cost + 8 + 40,
                "{cost} ms: {worst} ms"
            );
            // Little of the time is lost: at most a frame's in each turn.
            let possible = 15_000 * 40 / (cost + 8 + 40);
            assert!(
                line.worked.len() as u64 >= possible,
                "{cost} ms: {} times",
                line.worked.len()
            );
        }
    }

    #[test]
    fn the_base_does_not_creep_where_no_frame_comes_in_without_waiting() {
        // Work of just three frames and a half: each turn would end on the same wait for ever.
        let mut line = Line::new();
        line.run(15_000, |_| 0, |_| 139 * MS);
        assert!(line.worst(14_000..15_000) <= 139 + 41);
    }

    #[test]
    fn a_jump_of_timestamps_is_no_lateness_for_long() {
        let mut line = Line::new();
        line.run(100, |_| 0, |_| 20 * MS);
        line.worked.clear();
        // From here on all frames bear times that are 10 s older.
        line.run(250, |_| 10_000 * MS, |_| 20 * MS);
        assert!(line.worked.len() > 140, "{} of 250", line.worked.len());
        let window = |n: &u64| (100..200).contains(n);
        assert!(line.worked.iter().filter(|n| window(n)).count() >= 6);
    }

    #[test]
    fn a_stage_that_is_always_late_works_now_and_then() {
        let mut lateness = Lateness::default();
        lateness.set_rate(25, 1);
        let mut last = 0;
        let mut longest = 0;
        for n in 0..1000 {
            // What follows is too slow: the lag grows and grows.
            let (time, now) = (n * FRAME, n * (FRAME + 5 * MS));
            lateness.see(Some(time));
            if lateness.judge(Some(now), Some(time), false) != Share::Nothing {
                longest = longest.max(now - last);
                last = now;
                lateness.worked(Some(now + 30 * MS), Duration::from_millis(30));
            }
        }
        assert!(longest <= LONGEST_PAUSE + 30 * MS + 45 * MS, "{longest}");
        assert!(lateness.is_exhausted(1000 * (FRAME + 5 * MS)));
    }

    #[test]
    fn a_source_that_gives_frames_in_bunches_is_no_overload() {
        let mut line = Line::new();
        line.run(1000, |n| (3 - n % 4) * FRAME, |_| 20 * MS);
        // The last of each bunch, less the times of looking for more.
        assert!(line.worked.len() > 180, "{}", line.worked.len());
        assert!(line.worst(0..1000) <= 160);
    }

    #[test]
    fn a_long_queue_is_worked_off_with_few_pauses() {
        let mut line = Line::new();
        line.run(50, |_| 0, |_| 120 * MS);
        // Three seconds of frames wait.
        line.free += 3000 * MS;
        line.worked.clear();
        line.run(250, |_| 0, |_| 120 * MS);
        let gaps = line.worked.windows(2).map(|w| w[1] - w[0]);
        assert!(gaps.max().is_some_and(|most| most * FRAME < 600 * MS));
        let late: Vec<u64> = line.left[140..].iter().map(|l| l / MS).collect();
        assert!(line.worst(180..300) <= 120 + 41, "{late:?}");
    }

    #[test]
    fn work_that_takes_seconds_does_not_pile_up() {
        let mut line = Line::new();
        line.run(2000, |_| 0, |_| 3000 * MS);
        assert!(line.worst(1000..2000) <= 3000 + 41 + 80);
        assert!(line.worked.len() >= 20);
    }

    #[test]
    fn downstream_is_believed_until_it_has_what_it_wants() {
        let mut lateness = Lateness::default();
        lateness.set_rate(25, 1);
        let judge = |lateness: &mut Lateness, n: u64| {
            lateness.judge(Some(n * FRAME), Some(n * FRAME), false) != Share::Nothing
        };
        assert!(judge(&mut lateness, 0));
        lateness.downstream(0, (60 * MS) as i64);
        assert!(!judge(&mut lateness, 1), "40 ms is before 60 ms");
        assert!(judge(&mut lateness, 2));
        lateness.downstream(2 * FRAME, (500 * MS) as i64);
        assert!(!judge(&mut lateness, 3));
        lateness.downstream(3 * FRAME, -1);
        assert!(judge(&mut lateness, 4), "downstream has caught up");
        assert!(!lateness.is_exhausted(4 * FRAME));
    }

    #[test]
    fn whoever_is_busy_gets_no_more_work() {
        let mut lateness = Lateness::default();
        lateness.set_rate(25, 1);
        let judge = |lateness: &mut Lateness, n: u64, busy| {
            lateness.judge(Some(n * FRAME), Some(n * FRAME), busy)
        };
        assert_ne!(judge(&mut lateness, 0, false), Share::Nothing);
        assert_eq!(judge(&mut lateness, 1, true), Share::Nothing);
        assert_ne!(judge(&mut lateness, 2, false), Share::Nothing);
        let again = (3..40).find(|&n| judge(&mut lateness, n, true) != Share::Nothing);
        assert_eq!(again, Some(15), "500 ms after the last");
    }

    #[test]
    fn frames_are_as_far_apart_as_they_are_whatever_the_caps_say() {
        let mut spacing = Spacing::default();
        assert_eq!(spacing.duration(), None);
        spacing.see(0);
        spacing.see(41 * MS);
        assert_eq!(spacing.duration(), Some(41 * MS), "better than nothing");
        let mut lateness = Lateness::default();
        for (frames, seconds) in [(0, 1), (24_000, 1), (-25, 1), (25, 0), (1, 3600)] {
            lateness.set_rate(frames, seconds);
            assert_eq!(lateness.spacing.duration(), None, "{frames}/{seconds}");
        }
        lateness.set_rate(30_000, 1001);
        assert_eq!(lateness.spacing.duration(), Some(33_366_666));
        spacing = Spacing {
            nominal: Some(20 * MS),
            ..Default::default()
        };
        for (n, time) in [0, 41, 80, 79, 120, 161, 5000, 5040, 5080, 5119]
            .into_iter()
            .enumerate()
        {
            spacing.see(time * MS);
            if n < 5 {
                assert_eq!(spacing.duration(), Some(20 * MS));
            }
        }
        assert_eq!(spacing.duration(), Some(40 * MS), "a loss and a repetition");
    }

    #[test]
    fn nothing_is_late_without_times() {
        let mut lateness = Lateness::default();
        let all = Share::UpTo {
            limit: Duration::MAX,
            patience: Duration::MAX,
        };
        lateness.set_rate(25, 1);
        for n in 0..100 {
            assert_eq!(lateness.judge(None, Some(n * FRAME), false), all);
            assert_eq!(lateness.judge(Some(2 * n * FRAME), None, false), all);
        }
        // Whatever numbers come, nothing panics.
        lateness.set_rate(i32::MAX, 1);
        lateness.set_rate(1, i32::MAX);
        lateness.set_rate(25, 1);
        lateness.downstream(u64::MAX, i64::MAX);
        lateness.worked(None, Duration::MAX);
        for now in [0, u64::MAX, 1] {
            for time in [0, u64::MAX, i64::MAX as u64, 1 << 62] {
                lateness.see(Some(time));
                lateness.judge(Some(now), Some(time), true);
            }
        }
    }

    #[test]
    fn a_budget_is_at_least_one_piece_of_work() {
        let done = |share: Share| {
            let asked = std::cell::Cell::new(0);
            let mut budget = Budget::new(|| {
                asked.set(asked.get() + 1);
                share
            });
            assert_eq!(budget.took(), None);
            for _ in 0..8 {
                if budget.begin(|_| Some(())).is_some() {
                    std::thread::sleep(Duration::from_millis(5));
                    budget.spend();
                }
            }
            assert_eq!(asked.get(), 1);
            assert_eq!(budget.took().is_some(), budget.done > 0);
            assert!(!budget.gave_up());
            budget.done
        };
        let up_to = |limit| Share::UpTo {
            limit,
            patience: Duration::ZERO,
        };
        assert_eq!(done(Share::All), 8);
        assert_eq!(done(up_to(Duration::MAX)), 8);
        assert_eq!(done(up_to(Duration::ZERO)), 1);
        assert_eq!(done(Share::Nothing), 0);
        // Each takes 5 ms or more.
        assert!((1..=3).contains(&done(up_to(Duration::from_millis(14)))));
    }

    #[test]
    fn without_a_turn_nothing_more_is_done_on_a_frame() {
        let patience = Duration::from_millis(7);
        let limit = Duration::MAX;
        let up_to = Share::UpTo { limit, patience };
        let share = std::cell::Cell::new(up_to);
        let ask = || share.get();
        let mut budget = Budget::new(&ask);
        let turns = |budget: &mut Budget<_>, turn: Option<u8>| {
            let mut asked = None;
            let given = budget.begin(|patience| {
                asked = Some(patience);
                std::thread::sleep(Duration::from_millis(20));
                turn
            });
            (asked, given)
        };
        assert_eq!(turns(&mut budget, Some(1)), (Some(Some(patience)), Some(1)));
        budget.spend();
        let spent = Some(Some(Duration::ZERO));
        assert_eq!(
            turns(&mut budget, None),
            (spent, None),
            "it has waited enough"
        );
        assert_eq!(
            turns(&mut budget, Some(2)),
            (None, None),
            "it is not asked again"
        );
        assert!(!budget.gave_up(), "something was done");
        assert!(budget.waited() >= Duration::from_millis(40));
        share.set(Share::All);
        let mut budget = Budget::new(&ask);
        assert_eq!(turns(&mut budget, None), (Some(None), None));
        assert!(budget.gave_up());
    }

    #[test]
    fn what_got_no_turn_is_due_again_on_the_next_frame() {
        let mut lateness = Lateness::default();
        lateness.set_rate(25, 1);
        let mut granted = 0;
        for n in 0..100 {
            // Something else is too slow: every frame is later than the one before.
            let (time, now) = (n * FRAME, n * (FRAME + 5 * MS));
            lateness.see(Some(time));
            let share = lateness.judge(Some(now), Some(time), false);
            if let Share::UpTo { patience, .. } = share
                && n >= 50
            {
                granted += 1;
                assert!(
                    patience <= Duration::from_nanos(FRAME / LATE_WAIT),
                    "{patience:?}"
                );
                lateness.gave_up();
            }
        }
        assert!(granted > 30, "{granted} of 50: once due, it stays so");
    }

    #[test]
    fn every_face_has_its_turn() {
        assert!(turns(&[], 7).is_empty());
        assert_eq!(turns(&[0, 3, 1, 3], 0), [1, 3, 2, 0]);
        for faces in 1..9 {
            // Two are served a frame; tracks remember that they were passed over, strangers do not.
            for remembers in [true, false] {
                let mut passed = vec![0u32; faces];
                let mut served = vec![0; faces];
                for round in 0..60 {
                    for (place, i) in turns(&passed, round).into_iter().enumerate() {
                        if place < 2 {
                            served[i] += 1;
                            passed[i] = 0;
                        } else if remembers {
                            passed[i] += 1;
                        }
                    }
                }
                let least = 60 * faces.min(2) / faces;
                assert!(
                    served.iter().all(|&n| n + 2 >= least),
                    "{remembers} {served:?}"
                );
            }
        }
    }
}
