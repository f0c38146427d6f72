//! Chooses which frames are skipped when decoding all of them is too much for the machine: the same
//! share for every camera.
//!
//! [`Thinner`] chooses the frames of one camera, [`Governor`] the share. Neither depends on
//! GStreamer or a clock.

use std::time::Duration;

/// Chooses which of a camera's encoded frames are decoded. A frame that depends on earlier ones (a
/// delta unit) cannot be decoded once one of those was skipped. So the end of each group of
/// pictures is skipped. How much of it follows from the share, assuming that the group is as long
/// as the previous one.
#[derive(Debug, Default)]
pub struct Thinner {
    /// Independent frames so far.
    keys: u64,
    /// The length of the last complete group.
    length: u64,
    /// In the current group: frames that arrived, that were decoded, and that may be decoded.
    came: u64,
    kept: u64,
    allowed: Option<f64>,
    /// Frames that the previous group could have had more (or fewer), at most one.
    carry: f64,
    /// A frame of this group was skipped, so all later ones are.
    cut: bool,
    /// The time of the key frame that started this group, if the end of the previous group was
    /// skipped. Frames shown before it depend on that end.
    resumed: Option<u64>,
}

impl Thinner {
    /// Whether to decode the next frame, if `share` (0..=1) of the frames can be. `delta`: it
    /// depends on earlier frames; `time`: when it is shown, in ns.
    pub fn keeps(&mut self, share: f64, delta: bool, time: Option<u64>) -> bool {
        // Otherwise a stream without key frames would never continue.
        let all = share >= 1.0 || self.keys < 2;
        if !delta {
            self.begin(time);
        }
        self.came += 1;
        self.allowed = (!all).then_some(share * self.length as f64 + self.carry);
        // With a tolerance for rounding.
        let goes_beyond = |allowed: f64| (self.kept + 1) as f64 > allowed + 1e-9;
        self.cut |= self.allowed.is_some_and(goes_beyond);
        let leads = delta && self.resumed.zip(time).is_some_and(|(key, time)| time < key);
        let keeps = !self.cut && !leads;
        self.kept += u64::from(keeps);
        keeps
    }

    /// Starts a group.
    fn begin(&mut self, time: Option<u64>) {
        if self.keys > 0 {
            self.length = self.came;
        }
        let left = |allowed: f64| (allowed - self.kept as f64).clamp(-1.0, 1.0);
        self.carry = self.allowed.take().map_or(0.0, left);
        self.resumed = time.filter(|_| self.cut);
        (self.keys, self.came, self.kept, self.cut) = (self.keys + 1, 0, 0, false);
    }
}

/// Observations of a running camera since the last call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sight {
    /// How much later than usual its frames leave the decoder.
    pub behind: Duration,
    /// Frames on which detection ran.
    pub looks: u64,
    /// Frames on which it should have run, but there was no time.
    pub passed_over: u64,
}

/// Chooses the share of all frames that are decoded.
#[derive(Debug)]
pub struct Governor {
    share: f64,
    /// The time of the last call, and of the last change.
    looked: Duration,
    changed: Duration,
    /// When all became well.
    well: Option<Duration>,
    /// How far cameras were behind at the last change.
    behind: Duration,
    /// Detections per camera and second, as running means: those done, and those skipped.
    looks: f64,
    passed_over: f64,
}

/// Frames that are this much later than usual wait for a decoder.
const BEHIND: Duration = Duration::from_millis(300);
const NOT_BEHIND: Duration = Duration::from_millis(120);

/// After a change, nothing changes for this long: waiting frames must be decoded first.
const SETTLES: Duration = Duration::from_secs(1);

/// All must be well for this long before more is decoded.
const WELL: Duration = Duration::from_secs(3);

/// With fewer detections per camera and second, nobody can be followed. If more than `UNSEEN`
/// decoded frames per detection are then passed over, fewer are decoded instead.
const LOOKS: f64 = 1.0;
const UNSEEN: f64 = 5.0;

/// The factors by which the share falls and rises.
const FALL: f64 = 0.8;
const RISE: f64 = 0.04;
const LEAST: f64 = 0.05;

/// The weight of the newest value in the mean.
const NEWEST: f64 = 0.2;

impl Default for Governor {
    fn default() -> Self {
        Self {
            share: 1.0,
            looked: Duration::ZERO,
            changed: Duration::ZERO,
            well: None,
            behind: Duration::ZERO,
            looks: LOOKS,
            passed_over: 0.0,
        }
    }
}

impl Governor {
    /// Takes the observations at `now` of the running cameras, and whether the processor is `busy`.
    /// Returns the share of frames to decode.
    pub fn look(&mut self, now: Duration, cameras: &[Sight], busy: bool) -> f64 {
        let passed = now.saturating_sub(self.looked).as_secs_f64();
        self.looked = now;
        if cameras.is_empty() || passed <= 0.0 {
            return self.share;
        }
        let rate = |count: fn(&Sight) -> u64| {
            let sum: u64 = cameras.iter().map(count).sum();
            sum as f64 / cameras.len() as f64 / passed
        };
        self.looks += (rate(|camera| camera.looks) - self.looks) * NEWEST;
        self.passed_over += (rate(|camera| camera.passed_over) - self.passed_over) * NEWEST;
        // Half of the cameras: a single one may have a bad network.
        let mut behind: Vec<Duration> = cameras.iter().map(|camera| camera.behind).collect();
        behind.sort_unstable();
        let behind = behind[behind.len() / 2];
        let unseen = self.looks < LOOKS && self.passed_over > UNSEEN * self.looks;
        let too_much = busy && (behind > BEHIND || unseen);
        let settled = now.saturating_sub(self.changed) >= SETTLES;
        if too_much {
            self.well = None;
            // If the cameras catch up, the last change was enough.
            let worse = behind <= BEHIND || self.share >= 1.0 || behind + BEHIND / 4 > self.behind;
            if settled && worse {
                self.change(now, (self.share * FALL).max(LEAST));
            }
            if settled {
                self.behind = behind;
            }
        } else if self.share < 1.0 && (!busy || behind < NOT_BEHIND) {
            let since = *self.well.get_or_insert(now);
            if settled && now.saturating_sub(since) >= WELL {
                self.change(now, (self.share + RISE).min(1.0));
                self.behind = Duration::ZERO;
            }
        } else {
            self.well = None;
        }
        self.share
    }

    fn change(&mut self, now: Duration, share: f64) {
        self.share = share;
        self.changed = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Arrivals;

    /// Which of `frames` frames in groups of `group` are kept.
    fn kept(share: f64, group: usize, frames: usize) -> Vec<bool> {
        let mut thinner = Thinner::default();
        (0..frames)
            .map(|n| thinner.keeps(share, n % group != 0, Some(n as u64)))
            .collect()
    }

    #[test]
    fn as_many_frames_are_kept_as_the_share_says() {
        for group in [1, 2, 25, 250] {
            for share in [1.0, 0.8, 0.5, 0.1, 0.05] {
                let kept = kept(share, group, 50 * group.max(20));
                let found = kept.iter().filter(|kept| **kept).count() as f64 / kept.len() as f64;
                assert!(
                    (found - share).abs() < 0.06,
                    "{share} of groups of {group}: {found}"
                );
            }
        }
    }

    #[test]
    fn what_is_kept_of_a_group_is_its_beginning_and_of_each_alike() {
        for share in [0.2, 0.5, 0.7, 1.0] {
            // The length of a group is known after the first.
            for group in kept(share, 25, 2500).chunks(25).skip(2) {
                let whole = group.iter().take_while(|kept| **kept).count();
                let all = group.iter().filter(|kept| **kept).count();
                assert_eq!(whole, all, "{share}");
                assert!(all.abs_diff((25.0 * share) as usize) <= 1, "{share}: {all}");
            }
        }
    }

    #[test]
    fn the_rest_of_a_group_that_was_cut_is_not_decoded() {
        let mut thinner = Thinner::default();
        let mut keeps = |share, delta| thinner.keeps(share, delta, None);
        assert!(
            keeps(0.5, false) && keeps(0.5, true),
            "will there be another?"
        );
        assert!(keeps(0.5, false));
        assert!(!keeps(0.5, true));
        assert!(!keeps(1.0, true));
        assert!(keeps(1.0, false) && keeps(1.0, true));
        assert!(kept(0.1, usize::MAX, 5000).iter().all(|kept| *kept));
    }

    #[test]
    fn frames_that_lead_a_key_frame_need_the_group_before() {
        let mut thinner = Thinner::default();
        // In decoding order, with open groups: two frames before each key frame are shown after it
        // is decoded.
        let group = |n: u64| {
            [
                (false, 10 * n),
                (true, 10 * n - 2),
                (true, 10 * n - 1),
                (true, 10 * n + 1),
            ]
        };
        let mut keeps =
            |share, n| group(n).map(|(delta, time)| thinner.keeps(share, delta, Some(time)));
        assert_eq!(keeps(1.0, 1), [true; 4]);
        assert_eq!(keeps(1.0, 2), [true; 4]);
        assert_eq!(keeps(0.5, 3), [true, true, false, false]);
        assert_eq!(keeps(1.0, 4), [true, false, false, true]);
        assert_eq!(keeps(1.0, 5), [true; 4]);
    }

    /// Simulates a machine that decodes `capacity` frames per second, for cameras that send `sent`
    /// in total. Returns their backlog as a delay after `seconds`, with the shares.
    fn machine(sent: f64, capacity: f64, seconds: u32) -> (Vec<f64>, f64) {
        let mut governor = Governor::default();
        let (mut waiting, mut share, mut shares) = (0.0, 1.0, Vec::new());
        let tick = 0.5;
        for n in 1..=seconds * 2 {
            waiting = f64::max(0.0, waiting + (sent * share - capacity) * tick);
            let sight = Sight {
                behind: Duration::from_secs_f64(waiting / capacity),
                looks: 1,
                passed_over: 0,
            };
            share = governor.look(
                Duration::from_secs_f64(f64::from(n) * tick),
                &[sight; 5],
                true,
            );
            shares.push(share);
        }
        (shares, waiting / capacity)
    }

    #[test]
    fn as_much_is_decoded_as_can_be() {
        for sent in [1300.0, 2500.0, 5000.0] {
            let (shares, delay) = machine(sent, 1250.0, 120);
            let late = &shares[120..];
            let mean = late.iter().sum::<f64>() / late.len() as f64;
            let fits = 1250.0 / sent;
            assert!(
                (0.75 * fits..=1.02 * fits).contains(&mean),
                "{sent}: {mean} for {fits}"
            );
            assert!(delay < 1.5, "{sent}: {delay} s behind");
        }
        let (shares, _) = machine(1200.0, 1250.0, 60);
        assert_eq!(shares, [1.0; 120], "it fits");
    }

    /// Simulates cameras that send groups of `group` frames, 25 per second, to a machine that
    /// decodes `capacity` frames per second in the order of arrival.
    struct Street {
        governor: Governor,
        cameras: Vec<(Thinner, Arrivals)>,
        group: u64,
        frame: u64,
        /// When the decoder becomes free.
        free: Duration,
        share: f64,
    }

    impl Street {
        fn new(count: usize, group: u64) -> Self {
            Self {
                governor: Governor::default(),
                cameras: (0..count).map(|_| Default::default()).collect(),
                group,
                frame: 0,
                free: Duration::ZERO,
                share: 1.0,
            }
        }

        /// Runs for the given number of seconds. Returns the mean share and the last one.
        fn run(&mut self, seconds: u64, capacity: f64) -> (f64, f64) {
            let cost = Duration::from_millis(40).div_f64(capacity * self.cameras.len() as f64);
            let mut sum = 0.0;
            for frame in self.frame..self.frame + 25 * seconds {
                let now = Duration::from_millis(40 * frame);
                for (n, (thinner, arrivals)) in self.cameras.iter_mut().enumerate() {
                    // Their groups are not aligned.
                    let delta = !(frame + 7 * n as u64).is_multiple_of(self.group);
                    if thinner.keeps(self.share, delta, None) {
                        self.free = self.free.max(now) + cost;
                        arrivals.see(self.free, Duration::from_millis(200) + self.free - now);
                    }
                }
                if frame % 12 == 0 {
                    let sights = self.cameras.iter().filter_map(|(_, arrivals)| {
                        Some(Sight {
                            behind: arrivals.behind(now)?,
                            looks: 1,
                            passed_over: 0,
                        })
                    });
                    let sights: Vec<Sight> = sights.collect();
                    self.share = self.governor.look(now, &sights, capacity < 1.0);
                }
                sum += self.share;
            }
            self.frame += 25 * seconds;
            (sum / (25 * seconds) as f64, self.share)
        }
    }

    #[test]
    fn groups_of_any_length_are_thinned_as_far_as_it_takes_and_no_longer() {
        for (count, group) in [(8, 25), (8, 50), (8, 250), (40, 100), (1, 25)] {
            let mut street = Street::new(count, group);
            assert_eq!(street.run(30, 1.2).1, 1.0, "it fits");
            street.run(60, 0.6);
            let (mean, _) = street.run(60, 0.6);
            let what = format!("{count} cameras, groups of {group}: {mean}");
            // Long groups that begin together come in bursts.
            assert!((0.1..=0.65).contains(&mean), "{what}");
            let behind = street
                .free
                .saturating_sub(Duration::from_millis(40 * street.frame));
            assert!(behind < Duration::from_secs(3), "{what}, {behind:?} behind");
            assert_eq!(street.run(120, 1.2).1, 1.0, "{what}: it fits again");
        }
    }

    #[test]
    fn one_camera_with_a_bad_network_changes_nothing_for_the_others() {
        let mut governor = Governor::default();
        let sight = |behind| Sight {
            behind: Duration::from_millis(behind),
            looks: 5,
            passed_over: 0,
        };
        for n in 1..100 {
            let cameras = [sight(0), sight(9000), sight(20)];
            let now = Duration::from_millis(500 * n);
            assert_eq!(governor.look(now, &cameras, true), 1.0);
            // Nor do delays on a machine with spare capacity.
            assert_eq!(governor.look(now, &[sight(5000); 3], false), 1.0);
        }
        // A lowered share rises again, whatever networks do.
        governor.share = 0.5;
        let shares = (1..=60).map(|n| {
            let now = Duration::from_secs(100 + n);
            governor.look(now, &[sight(900); 3], false)
        });
        assert_eq!(shares.last(), Some(1.0));
    }

    #[test]
    fn frames_that_nobody_can_look_at_are_not_decoded() {
        let mut governor = Governor::default();
        let sight = |looks| Sight {
            behind: Duration::from_millis(50),
            looks,
            passed_over: 9 - looks,
        };
        let mut at = 0;
        let mut look = |looks| {
            at += 1;
            governor.look(Duration::from_secs(at), &[sight(looks); 4], true)
        };
        assert!(
            (0..20)
                .map(|_| look(0))
                .last()
                .is_some_and(|share| share < 0.3)
        );
        assert_eq!((0..200).map(|_| look(3)).last(), Some(1.0));
        // A camera with a frame every other second gets every possible detection.
        let rare = Sight {
            behind: Duration::ZERO,
            looks: 0,
            passed_over: 0,
        };
        let mut governor = Governor::default();
        for n in 1..99 {
            assert_eq!(governor.look(Duration::from_secs(n), &[rare], true), 1.0);
        }
    }

    #[test]
    fn nothing_is_seen_without_cameras_or_time() {
        let mut governor = Governor::default();
        let late = Sight {
            behind: Duration::from_secs(9),
            looks: 0,
            passed_over: 9,
        };
        assert_eq!(governor.look(Duration::ZERO, &[late], true), 1.0);
        for n in 0..9 {
            assert_eq!(governor.look(Duration::from_secs(n), &[], true), 1.0);
        }
    }
}
