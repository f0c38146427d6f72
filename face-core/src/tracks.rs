//! State per track.

use std::collections::HashMap;

use face_meta::track::TrackEnded;

/// The most tracks with state. Our tracker ends its tracks; the ids of a foreign one may never end.
const MOST_TRACKS: usize = 1024;

/// State by track. It is dropped when the track ends, or when it was unused for longest among too
/// many.
#[derive(Debug)]
pub struct Tracks<T> {
    /// The state, and when it was last used.
    by_id: HashMap<u64, (T, u64)>,
    uses: u64,
}

impl<T> Default for Tracks<T> {
    fn default() -> Self {
        Self {
            by_id: HashMap::new(),
            uses: 0,
        }
    }
}

impl<T: Default> Tracks<T> {
    /// The state of a track, created if missing.
    pub fn get(&mut self, id: u64) -> &mut T {
        self.uses += 1;
        if self.by_id.len() >= MOST_TRACKS && !self.by_id.contains_key(&id) {
            // Half at once, so that this happens rarely.
            let mut used: Vec<u64> = self.by_id.values().map(|(_, used)| *used).collect();
            let (_, &mut middle, _) = used.select_nth_unstable(MOST_TRACKS / 2);
            self.by_id.retain(|_, (_, used)| *used > middle);
        }
        let (state, used) = self.by_id.entry(id).or_default();
        *used = self.uses;
        state
    }

    /// The states of all tracks.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.by_id.values_mut().map(|(state, _)| state)
    }

    /// Ends one track.
    pub fn remove(&mut self, id: u64) -> Option<T> {
        self.by_id.remove(&id).map(|(state, _)| state)
    }

    /// Ends all tracks.
    pub fn clear(&mut self) {
        self.by_id.clear();
    }

    /// Tracks that have state.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Drops what an event ends: one track, or all at a flush or a new stream.
    pub fn handle(&mut self, event: &gst::Event) {
        match event.view() {
            gst::EventView::FlushStop(_) | gst::EventView::StreamStart(_) => self.clear(),
            _ => {
                if let Some(ended) = TrackEnded::from_event(event) {
                    self.remove(ended.id);
                }
            }
        }
    }
}

/// How often to work on a track, in ms of stream time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The pause while the result may still change; 0 = every frame, always.
    pub interval: u32,
    /// The longest pause once the result is settled.
    pub settled: u32,
}

/// A track that was out of sight for longer is worked on again as if its result were not settled.
const GAP: u64 = 250_000_000;

/// When a track was worked on, and when work is due again. At first it is due every
/// [`Pace::interval`]. Once the result is settled, the pause doubles with each further result, up
/// to [`Pace::settled`]. A face that was lost and found may belong to another person, so it is due
/// again soon.
#[derive(Debug, Clone, Default)]
pub struct Schedule {
    worked: Option<u64>,
    seen: Option<u64>,
    doubtful: bool,
    passed: u32,
}

impl Schedule {
    /// Records that the track is on the frame of time `now` (ns). `missed`: the detector did not
    /// find it there.
    pub fn see(&mut self, now: Option<u64>, missed: bool) {
        let gap = match (self.seen, now) {
            (Some(seen), Some(now)) => now.saturating_sub(seen) > GAP,
            _ => false,
        };
        self.doubtful |= missed || gap;
        self.seen = now.or(self.seen);
    }

    /// Whether work is due at `now`. `settled` counts the results from the one that settled it on
    /// (0 = not settled). Work is always due if the time is unknown or ran backwards.
    pub fn is_due(&self, pace: Pace, settled: u32, now: Option<u64>) -> bool {
        let (Some(worked), Some(now)) = (self.worked, now) else {
            return true;
        };
        let doublings = if self.doubtful { 0 } else { settled.min(31) };
        let interval = u64::from(pace.interval);
        let pause = (interval << doublings).min(interval.max(u64::from(pace.settled)));
        now < worked || now - worked >= pause * 1_000_000
    }

    /// Records that work was done at `now`.
    pub fn done(&mut self, now: Option<u64>) {
        self.worked = now;
        self.doubtful = false;
        self.passed = 0;
    }

    /// Records that work was due and not done because others had their turn.
    pub fn pass_over(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// How often the track was passed over since the last work.
    pub fn passed(&self) -> u32 {
        self.passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// The times (ms) of the work on a track that is seen every 100 ms and settled by its third
    /// result.
    fn times(pace: Pace, missed_at: Option<u64>) -> Vec<u64> {
        let mut schedule = Schedule::default();
        let mut times = Vec::new();
        for time in (0..20_000).step_by(100) {
            let now = Some(time * MS);
            schedule.see(now, missed_at == Some(time));
            let settled = (times.len() as u32).saturating_sub(2);
            if schedule.is_due(pace, settled, now) {
                schedule.done(now);
                times.push(time);
            }
        }
        times
    }

    const PACE: Pace = Pace {
        interval: 500,
        settled: 8000,
    };

    #[test]
    fn pauses_double_once_settled() {
        assert_eq!(times(PACE, None), [0, 500, 1000, 2000, 4000, 8000, 16_000]);
        let even = Pace { settled: 0, ..PACE };
        assert_eq!(times(even, None).len(), 40);
        let always = Pace {
            interval: 0,
            ..PACE
        };
        assert_eq!(times(always, None).len(), 200);
    }

    #[test]
    fn a_face_lost_and_found_is_looked_at_soon() {
        let times = times(PACE, Some(5000));
        assert_eq!(times[..6], [0, 500, 1000, 2000, 4000, 5000]);
        let mut schedule = Schedule::default();
        schedule.see(Some(0), false);
        schedule.done(Some(0));
        schedule.see(Some(100 * MS), false);
        assert!(!schedule.is_due(PACE, 5, Some(700 * MS)));
        schedule.see(Some(700 * MS), false);
        assert!(schedule.is_due(PACE, 5, Some(700 * MS)), "out of sight");
    }

    #[test]
    fn work_is_due_where_time_is_unknown_or_ran_backwards() {
        let mut schedule = Schedule::default();
        assert!(schedule.is_due(PACE, 0, Some(0)));
        schedule.done(Some(9000 * MS));
        assert!(schedule.is_due(PACE, 0, None));
        assert!(schedule.is_due(PACE, 9, Some(1)));
        assert!(!schedule.is_due(PACE, 0, Some(9499 * MS)));
        assert!(schedule.is_due(PACE, u32::MAX, Some(u64::MAX)));
    }

    #[test]
    fn tracks_that_never_end_are_forgotten_the_longest_unused_first() {
        let mut tracks = Tracks::<u64>::default();
        for id in 0..100_000 {
            *tracks.get(7_000_000) += 1;
            *tracks.get(id) += 1;
        }
        assert!(tracks.len() <= MOST_TRACKS);
        assert_eq!(
            *tracks.get(7_000_000),
            100_000,
            "a track in use keeps its state"
        );
    }

    #[test]
    fn state_ends_with_its_track_or_the_stream() {
        gst::init().expect("GStreamer starts");
        let mut tracks = Tracks::<u32>::default();
        *tracks.get(3) += 1;
        *tracks.get(4) += 1;
        let ended = TrackEnded {
            id: 3,
            first_seen: 1,
            last_seen: 9,
        };
        let event: gst::Event = gst::event::CustomDownstream::new(ended.to_structure());
        assert_eq!(TrackEnded::from_event(&event), Some(ended));
        tracks.handle(&event);
        assert_eq!(tracks.len(), 1);
        tracks.handle(&gst::event::Segment::new(&gst::FormattedSegment::<
            gst::ClockTime,
        >::new()));
        assert_eq!(tracks.len(), 1);
        tracks.handle(&gst::event::FlushStop::new(true));
        assert!(tracks.is_empty());
    }
}
