//! What a stage has done and how long it took: the elements' property `stats`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use glib::prelude::*;

use crate::error::Error;
use crate::session::Runner;

/// The name of the structure that the property holds.
pub const STATS: &str = "face-stats";

/// The name of the property.
pub const PROPERTY: &str = "stats";

/// Work done, on one frame or on many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Work {
    /// Frames that passed.
    pub frames: u64,
    /// Faces found (by a detector), or that were on these frames (all other stages).
    pub faces: u64,
    /// Runs of a model.
    pub inferences: u64,
    /// Tracks that live after the last of these frames.
    pub tracks: u64,
    /// Time in the element itself, not in what follows it.
    pub total: Duration,
    /// The part of it that went into sampling pixels into the models' inputs.
    pub sample: Duration,
    /// The part of it that went into running models.
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
        self.infer += start.elapsed();
        self.inferences += 1;
        result
    }

    fn add(&mut self, more: &Self) {
        self.frames += more.frames;
        self.faces += more.faces;
        self.inferences += more.inferences;
        self.tracks = more.tracks;
        self.total += more.total;
        self.sample += more.sample;
        self.infer += more.infer;
    }
}

/// What a stage does, and therefore which fields its statistics have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Runs models.
    Model,
    Tracker,
}

/// The work of an element since its start. Its lock is held for some nanoseconds a frame, so that
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

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins anew.
    pub fn reset(&self) {
        *self.work() = Work::default();
    }

    /// No track lives any more.
    pub fn end_tracks(&self) {
        self.work().tracks = 0;
    }

    /// Does a frame's `work`, and counts it with its time.
    pub fn frame<T>(&self, work: impl FnOnce(&mut Work) -> T) -> T {
        let start = Instant::now();
        let mut done = Work {
            frames: 1,
            ..Default::default()
        };
        let result = work(&mut done);
        done.total = start.elapsed();
        self.work().add(&done);
        result
    }

    /// The property `stats`, read-only.
    pub fn property() -> glib::ParamSpec {
        glib::ParamSpecBoxed::builder::<gst::Structure>(PROPERTY)
            .nick("Statistics")
            .blurb("What was done since the start, and how long it took (ns)")
            .read_only()
            .build()
    }

    /// The value of the property: `frames`, `faces`, `time-total`, then `inferences`, `time-sample`
    /// and `time-infer` of a stage that runs models, `tracks` of a tracker. All are uint64, times in
    /// nanoseconds.
    pub fn to_structure(&self) -> gst::Structure {
        let work = *self.work();
        let time = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let common = gst::Structure::builder(STATS)
            .field("frames", work.frames)
            .field("faces", work.faces)
            .field("time-total", time(work.total));
        match self.kind {
            Kind::Tracker => common.field("tracks", work.tracks),
            Kind::Model => common
                .field("inferences", work.inferences)
                .field("time-sample", time(work.sample))
                .field("time-infer", time(work.infer)),
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
        for tracks in [4, 1] {
            stats.frame(|work| work.tracks = tracks);
        }
        assert_eq!(number(&stats, "tracks"), Some(1));
        assert_eq!(number(&stats, "time-infer"), None);
        stats.end_tracks();
        assert_eq!(number(&stats, "tracks"), Some(0));
        assert_eq!(number(&stats, "frames"), Some(2));
    }

    #[test]
    fn reading_does_not_wait_for_the_work() {
        gst::init().expect("GStreamer starts");
        let stats = Stats::new(Kind::Model);
        stats.frame(|_| assert_eq!(number(&stats, "frames"), Some(0)));
        assert_eq!(number(&stats, "frames"), Some(1));
    }
}
