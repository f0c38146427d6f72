//! The statistics of one stage of a camera, summed over its pipelines.

use face_core::stats::INFER_BOUNDS;
pub use face_core::stats::INFER_BUCKETS as BUCKETS;

/// The fields of `stats` that only grow while a pipeline runs.
const GROWING: [&str; 10] = [
    "frames",
    "faces",
    "inferences",
    "time-total",
    "time-wait",
    "time-sample",
    "time-infer",
    "work-dropped",
    "tracks-total",
    "gallery-loads",
];

/// A field of `stats` that only grows: its last value in the running pipeline, and the sum of all.
#[derive(Debug, Default, Clone, Copy)]
struct Growing {
    last: u64,
    sum: Option<u64>,
}

impl Growing {
    fn observe(&mut self, value: u64) {
        // A smaller value comes from an element that started over.
        let more = value.checked_sub(self.last).unwrap_or(value);
        self.last = value;
        self.sum = Some(self.sum.unwrap_or(0).saturating_add(more));
    }
}

/// The statistics of a stage so far. Fields that the stage does not have are `None`.
#[derive(Debug, Default)]
pub struct Stage {
    growing: [Growing; GROWING.len()],
    histogram: [Growing; BUCKETS],
    pub tracks: Option<u64>,
    pub gallery_rows: Option<u64>,
    pub gallery_people: Option<u64>,
}

impl Stage {
    /// The next statistics belong to a new pipeline.
    pub fn begin(&mut self) {
        for growing in self.growing.iter_mut().chain(&mut self.histogram) {
            growing.last = 0;
        }
        self.tracks = self.tracks.map(|_| 0);
    }

    pub fn observe(&mut self, stats: &gst::StructureRef) {
        let number = |field: &str| stats.get::<u64>(field).ok();
        for (growing, field) in self.growing.iter_mut().zip(GROWING) {
            if let Some(value) = number(field) {
                growing.observe(value);
            }
        }
        if let Ok(buckets) = stats.get::<gst::Array>("infer-histogram") {
            for (growing, value) in self.histogram.iter_mut().zip(buckets.as_slice()) {
                growing.observe(value.get().unwrap_or(0));
            }
        }
        self.tracks = number("tracks").or(self.tracks);
        self.gallery_rows = number("gallery-rows").or(self.gallery_rows);
        self.gallery_people = number("gallery-people").or(self.gallery_people);
    }

    /// The sum of a growing field.
    pub fn sum(&self, field: &str) -> Option<u64> {
        let place = GROWING.iter().position(|known| *known == field)?;
        self.growing[place].sum
    }

    /// The sum of a growing field in nanoseconds, converted to seconds.
    pub fn seconds(&self, field: &str) -> Option<f64> {
        self.sum(field).map(|nanoseconds| nanoseconds as f64 / 1e9)
    }

    /// Upper bounds in seconds (the last is `f64::MAX`), with the non-cumulative counts of inferences.
    pub fn inference_times(&self) -> Option<Vec<(f64, u64)>> {
        let counts: Option<Vec<u64>> = self.histogram.iter().map(|bucket| bucket.sum).collect();
        let bounds = INFER_BOUNDS.iter().map(|bound| *bound as f64 / 1e9);
        let bounds = bounds.chain(std::iter::once(f64::MAX));
        Some(bounds.zip(counts?).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(frames: u64, histogram: [u64; BUCKETS]) -> gst::Structure {
        gst::init().expect("GStreamer starts");
        gst::Structure::builder("face-stats")
            .field("frames", frames)
            .field("infer-histogram", gst::Array::new(histogram))
            .field("tracks", 3u64)
            .build()
    }

    #[test]
    fn counts_go_on_where_the_pipeline_before_ended() {
        let mut stage = Stage::default();
        let mut histogram = [0; BUCKETS];
        histogram[0] = 7;
        histogram[15] = 1;
        stage.observe(&stats(8, histogram));
        stage.observe(&stats(10, histogram));
        assert_eq!(stage.sum("frames"), Some(10));
        // A new pipeline that immediately exceeds the old one.
        stage.begin();
        assert_eq!(stage.tracks, Some(0));
        stage.observe(&stats(12, histogram));
        assert_eq!(stage.sum("frames"), Some(22));
        // An element that was restarted inside its pipeline.
        stage.observe(&stats(2, [0; BUCKETS]));
        assert_eq!(stage.sum("frames"), Some(24));
        let times = stage.inference_times().expect("there is a histogram");
        assert_eq!(times[0], (250e-6, 14));
        assert_eq!(times[14].0, 4.096);
        assert_eq!(times[15], (f64::MAX, 2));
        assert_eq!(stage.tracks, Some(3));
    }

    #[test]
    fn what_a_stage_does_not_tell_is_not_made_up() {
        gst::init().expect("GStreamer starts");
        let mut stage = Stage::default();
        stage.observe(
            &gst::Structure::builder("face-stats")
                .field("frames", 4u64)
                .build(),
        );
        assert_eq!(stage.sum("frames"), Some(4));
        assert_eq!(stage.sum("work-dropped"), None);
        assert_eq!(stage.seconds("time-infer"), None);
        assert!(stage.inference_times().is_none());
        assert_eq!(stage.tracks, None);
    }
}
