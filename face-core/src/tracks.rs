//! The end of a track: the event that the tracker sends, and state that lives as long as a track.

use std::collections::HashMap;

/// The name of the serialised downstream event and of the element message.
pub const TRACK_ENDED: &str = "face-track-ended";

/// A track that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackEnded {
    pub id: u64,
    /// Presentation time of the first and the last frame on which the face was detected, in ns.
    pub first_seen: u64,
    pub last_seen: u64,
}

impl TrackEnded {
    /// The structure of the event and of the message.
    pub fn to_structure(self) -> gst::Structure {
        gst::Structure::builder(TRACK_ENDED)
            .field("id", self.id)
            .field("first-seen", self.first_seen)
            .field("last-seen", self.last_seen)
            .build()
    }

    /// What an event says, if it is ours.
    pub fn from_event(event: &gst::Event) -> Option<Self> {
        let structure = event.structure().filter(|s| s.name() == TRACK_ENDED)?;
        Some(Self {
            id: structure.get("id").ok()?,
            first_seen: structure.get("first-seen").ok()?,
            last_seen: structure.get("last-seen").ok()?,
        })
    }
}

/// Tracks that state is kept for at most. A tracker of ours ends its tracks; ids by somebody else may
/// never end.
const MOST_TRACKS: usize = 1024;

/// State by track, dropped when the track ends, or when it is the longest unused of very many.
#[derive(Debug)]
pub struct Tracks<T> {
    /// The state, and when it was used last.
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
    /// The state of a track, new if it has none yet.
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

    /// Drops what an event ends: one track, or with a flush or a new stream all.
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

/// How often a track is worked on, in ms of stream time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// While its result may still change; 0 = on every frame, always.
    pub interval: u32,
    /// Once its result is settled.
    pub settled: u32,
}

impl Pace {
    /// Whether a track's next piece of work is due at `now`. It is, too, where time is unknown or ran
    /// backwards.
    pub fn is_due(&self, settled: bool, last: Option<u64>, now: Option<u64>) -> bool {
        let interval = match (self.interval, settled) {
            (0, _) | (_, false) => self.interval,
            (interval, true) => interval.max(self.settled),
        };
        is_due(last, now, interval)
    }
}

fn is_due(last: Option<u64>, now: Option<u64>, interval: u32) -> bool {
    match (last, now) {
        (Some(last), Some(now)) if now >= last => now - last >= u64::from(interval) * 1_000_000,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_due_after_the_interval_or_a_jump() {
        assert!(is_due(None, Some(0), 500));
        assert!(is_due(Some(0), None, 500));
        assert!(!is_due(Some(1_000_000), Some(500_999_999), 500));
        assert!(is_due(Some(1_000_000), Some(501_000_000), 500));
        assert!(
            is_due(Some(9_000_000_000), Some(1), 500),
            "time ran backwards"
        );
        assert!(is_due(Some(7), Some(7), 0));
        let pace = Pace {
            interval: 500,
            settled: 2000,
        };
        assert!(pace.is_due(false, Some(0), Some(500_000_000)));
        assert!(!pace.is_due(true, Some(0), Some(500_000_000)));
        assert!(pace.is_due(true, Some(0), Some(2_000_000_000)));
        let always = Pace {
            interval: 0,
            settled: 2000,
        };
        assert!(always.is_due(true, Some(0), Some(1)));
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
