//! What a stage has done and how long it took: the elements' property `stats`.

use std::time::{Duration, Instant};

use glib::prelude::*;
use parking_lot::Mutex;

use crate::error::Error;
use crate::session::Runner;

/// The name of the structure that the property holds.
pub const STATS: &str = "face-stats";

/// The name of the property.
pub const PROPERTY: &str = "stats";

/// The upper bounds of the buckets of `infer-histogram` except the last, in ns: 250 us, then
/// doubling.
pub const INFER_BOUNDS: [u64; INFER_BUCKETS - 1] = {
    let mut bounds = [250_000; INFER_BUCKETS - 1];
    let mut i = 1;
    while i < bounds.len() {
        bounds[i] = 2 * bounds[i - 1];
        i += 1;
    }
    bounds
};

/// The number of buckets of `infer-histogram`. The last one holds everything above
/// [`INFER_BOUNDS`].
pub const INFER_BUCKETS: usize = 16;

/// Work done, on one frame or on many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames that passed.
    pub frames: u64,
    /// Faces found (detectors), or on these frames (all other stages).
    pub faces: u64,
    /// Runs of a model.
    pub inferences: u64,
    /// Skipped work: frames (detectors) or faces (all other stages, counted on each frame) that
    /// were due for a model and did not get it because the stage was late.
    pub dropped: u64,
    /// Runs by how long they took; see [`INFER_BOUNDS`].
    pub histogram: [u64; INFER_BUCKETS],
    /// Tracks alive after the last of these frames.
    pub tracks: u64,
    /// Tracks that began between the start and the last of these frames.
    pub tracks_total: u64,
    /// The id that the next track will get.
    pub next_track: u64,
    /// Time in the element itself, without the elements after it.
    pub total: Duration,
    /// The part of `total` spent waiting for a turn, when more stages want to run models than there
    /// are cores.
    pub wait: Duration,
    /// The part of `total` spent sampling pixels into the models' inputs.
    pub sample: Duration,
    /// The part of `total` spent running models.
    pub infer: Duration,
}

impl Work {
    /// Does `work`, which samples pixels, and counts its time.
    pub fn sample<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = work();
        self.sample += start.elapsed();
        result
    }

    /// Runs a model, and counts the run and its time.
    pub fn infer(&mut self, runner: &mut Runner) -> Result<(), Error> {
        let start = Instant::now();
        let result = runner.run();
        self.inferred(start.elapsed());
        result
    }

    fn inferred(&mut self, took: Duration) {
        self.infer += took;
        self.inferences += 1;
        let bucket = INFER_BOUNDS.partition_point(|bound| u128::from(*bound) < took.as_nanos());
        self.histogram[bucket] += 1;
    }

    fn add(&mut self, more: &Self) {
        self.frames += more.frames;
        self.faces += more.faces;
        self.inferences += more.inferences;
        self.dropped += more.dropped;
        for (count, more) in self.histogram.iter_mut().zip(more.histogram) {
            *count += more;
        }
        self.tracks = more.tracks;
        self.tracks_total = more.tracks_total;
        self.next_track = more.next_track;
        self.total += more.total;
        self.wait += more.wait;
        self.sample += more.sample;
        self.infer += more.infer;
    }
}

/// The kind of a stage, which decides which fields its statistics have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs models.
    Model,
    Tracker,
}

/// The work of an element since its start. The lock is held for some nanoseconds per frame, so
/// reading never waits for an inference.
#[derive(Debug)]
pub struct Stats {
    kind: Kind,
    work: Mutex<Work>,
}

impl Stats {
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            work: Mutex::default(),
        }
    }

    /// Starts afresh.
    pub fn reset(&self) {
        *self.work.lock() = Work::default();
    }

    /// Sets the id of the first track, before any track begins.
    pub fn first_track(&self, id: u64) {
        self.work.lock().next_track = id;
    }

    /// Records that all tracks have ended.
    pub fn end_tracks(&self) {
        self.work.lock().tracks = 0;
    }

    /// Does the `work` of a frame, and counts it with its time.
    pub fn frame<T>(&self, work: impl FnOnce(&mut Work) -> T) -> T {
        let start = Instant::now();
        let mut done = Work {
            frames: 1,
            ..Default::default()
        };
        let result = work(&mut done);
        done.total = start.elapsed();
        self.work.lock().add(&done);
        result
    }

    /// The property `stats`, read-only.
    pub fn property() -> glib::ParamSpec {
        glib::ParamSpecBoxed::builder::<gst::Structure>(PROPERTY)
            .nick("Statistics")
            .blurb("Work done since the start, and the time it took (ns)")
            .read_only()
            .build()
    }

    /// The value of the property.
    ///
    /// All stages have `frames`, `faces` and `time-total`. Stages that run models add `inferences`,
    /// `time-wait`, `time-sample`, `time-infer`, `work-dropped` and `infer-histogram`. A tracker
    /// adds `tracks`, `tracks-total` and `next-track-id`. All are uint64, and times are in
    /// nanoseconds. `infer-histogram` is a `GstValueArray` of [`INFER_BUCKETS`] uint64: each counts
    /// the inferences above the previous bound of [`INFER_BOUNDS`] and up to its own.
    pub fn to_structure(&self) -> gst::Structure {
        let work = *self.work.lock();
        let time = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let common = gst::Structure::builder(STATS)
            .field("frames", work.frames)
            .field("faces", work.faces)
            .field("time-total", time(work.total));
        match self.kind {
            Kind::Tracker => common
                .field("tracks", work.tracks)
                .field("tracks-total", work.tracks_total)
                .field("next-track-id", work.next_track),
            Kind::Model => common
                .field("inferences", work.inferences)
                .field("time-wait", time(work.wait))
                .field("time-sample", time(work.sample))
                .field("time-infer", time(work.infer))
                .field("work-dropped", work.dropped)
                .field("infer-histogram", gst::Array::new(work.histogram)),
        }
        .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(stats: &Stats, field: &str) -> Option<u64> {
        stats.to_structure().get(field).ok()
    }

    #[test]
    fn frames_add_up_until_the_next_start() {
        gst::init().expect("GStreamer starts");
        let stats = Stats::new(Kind::Model);
        for faces in [2, 0, 3] {
            stats.frame(|work| {
                work.faces = faces;
                work.sample(|| std::thread::sleep(Duration::from_millis(2)));
            });
        }
        assert_eq!(number(&stats, "frames"), Some(3));
        assert_eq!(number(&stats, "faces"), Some(5));
        assert_eq!(number(&stats, "inferences"), Some(0));
        let sampling = number(&stats, "time-sample").expect("a model's stage samples");
        assert!(sampling >= 6_000_000);
        assert!(number(&stats, "time-total").is_some_and(|total| total >= sampling));
        stats.reset();
        assert_eq!(number(&stats, "frames"), Some(0));
        assert_eq!(number(&stats, "time-total"), Some(0));
    }

    #[test]
    fn a_tracker_tells_the_tracks_that_live_and_nothing_of_models() {
        gst::init().expect("GStreamer starts");
        let stats = Stats::new(Kind::Tracker);
        stats.first_track(7);
        assert_eq!(number(&stats, "next-track-id"), Some(7));
        for tracks in [4, 1] {
            stats.frame(|work| {
                work.tracks = tracks;
                work.tracks_total = 5;
                work.next_track = 12;
            });
        }
        assert_eq!(number(&stats, "tracks"), Some(1));
        assert_eq!(number(&stats, "tracks-total"), Some(5));
        assert_eq!(number(&stats, "next-track-id"), Some(12));
        assert_eq!(number(&stats, "time-infer"), None);
        stats.end_tracks();
        assert_eq!(number(&stats, "tracks"), Some(0));
        assert_eq!(number(&stats, "frames"), Some(2));
    }

    #[test]
    fn inferences_are_counted_by_how_long_they_took() {
        gst::init().expect("GStreamer starts");
        assert_eq!(INFER_BOUNDS[0], 250_000);
        assert_eq!(INFER_BOUNDS[14], 4_096_000_000);
        let stats = Stats::new(Kind::Model);
        for micros in [0, 250, 251, 500, 4_096_000, 4_096_001, 99_000_000] {
            stats.frame(|work| work.inferred(Duration::from_micros(micros)));
        }
        let structure = stats.to_structure();
        let histogram = structure.get::<gst::Array>("infer-histogram");
        let counts: Vec<u64> = histogram
            .expect("a model's stage has one")
            .iter()
            .map(|count| count.get().expect("uint64"))
            .collect();
        assert_eq!(counts, [2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(number(&stats, "inferences"), Some(7));
    }

    #[test]
    fn reading_does_not_wait_for_the_work() {
        gst::init().expect("GStreamer starts");
        let stats = Stats::new(Kind::Model);
        stats.frame(|_| assert_eq!(number(&stats, "frames"), Some(0)));
        assert_eq!(number(&stats, "frames"), Some(1));
    }
}
