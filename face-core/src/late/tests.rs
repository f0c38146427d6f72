use super::*;

const MS: u64 = MILLISECOND;
/// 25 frames per second.
const FRAME: u64 = 40 * MS;

/// A stage on one thread, with a source that delivers a frame every [`FRAME`] and queues those that
/// wait.
struct Line {
    lateness: Lateness,
    /// When the stage is next free.
    free: u64,
    frame: u64,
    /// Frames that were worked on.
    worked: Vec<u64>,
    /// For each frame, how long after its own time it left.
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

    /// Runs `count` frames, which arrive `latency` after their time. Work takes `cost`; passing on
    /// takes 1 ms.
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

/// A pseudo-random number below `end` for each `n`.
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
        // Little time is lost: at most one frame's in each turn.
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
    // Work of three and a half frames: each turn would end on the same wait for ever.
    let mut line = Line::new();
    line.run(15_000, |_| 0, |_| 139 * MS);
    assert!(line.worst(14_000..15_000) <= 139 + 41);
}

#[test]
fn a_jump_of_timestamps_is_no_lateness_for_long() {
    let mut line = Line::new();
    line.run(100, |_| 0, |_| 20 * MS);
    line.worked.clear();
    // From here on, all frames have times that are 10 s older.
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
        // Something downstream is too slow: the lag keeps growing.
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
    // The last frame of each bunch, less those spent on probing.
    assert!(line.worked.len() > 180, "{}", line.worked.len());
    assert!(line.worst(0..1000) <= 160);
}

#[test]
fn a_long_queue_is_worked_off_with_few_pauses() {
    let mut line = Line::new();
    line.run(50, |_| 0, |_| 120 * MS);
    // Three seconds' worth of frames wait.
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
    // No input may panic.
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
        // Two are served per frame. Tracks remember that they were passed over, single faces do
        // not.
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
