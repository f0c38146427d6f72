//! Computes the table from two scrapes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;

use super::exposition::Samples;

/// The result of one scrape, and its time.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// Since an arbitrary moment, the same for all scrapes.
    pub at: Duration,
    /// Since 1970.
    pub clock: Duration,
    pub samples: Samples,
}

/// A camera. Values that are unknown or not counted are `None`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    pub camera: String,
    pub state: String,
    /// Frames per second.
    pub fps_in: Option<f64>,
    pub fps_processed: Option<f64>,
    /// The share of frames on which detection was skipped to keep the latency.
    pub work_dropped: Option<f64>,
    /// Mean, in seconds.
    pub latency: Option<f64>,
    pub tracks: Option<f64>,
    pub recognitions: Option<f64>,
    pub reconnects: Option<f64>,
    pub viewers: Option<f64>,
    /// Seconds ago.
    pub last_frame: Option<f64>,
}

/// The process that runs the cameras.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Process {
    pub version: Option<String>,
    pub uptime_seconds: Option<f64>,
    pub resident_bytes: Option<f64>,
    pub open_files: Option<f64>,
    pub threads: Option<f64>,
    /// As a share of one core: 2 means two cores.
    pub cpu: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overview {
    pub cameras: Vec<Row>,
    pub total: Row,
    pub process: Process,
}

impl Overview {
    /// Computes the rates between an older scrape and the newest one.
    pub fn of(older: Option<&Scrape>, newest: &Scrape) -> Self {
        let pair = Pair { older, newest };
        let names: BTreeSet<&str> = newest
            .samples
            .of("facepipe_camera_state")
            .filter_map(|sample| sample.label("camera"))
            .collect();
        let cameras: Vec<Row> = names.into_iter().map(|name| pair.row(name)).collect();
        Self {
            total: total(&cameras),
            process: pair.process(),
            cameras,
        }
    }
}

#[derive(Clone, Copy)]
struct Pair<'a> {
    older: Option<&'a Scrape>,
    newest: &'a Scrape,
}

impl Pair<'_> {
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let value = self.newest.samples.value(name, labels)?;
        value.is_finite().then_some(value)
    }

    /// The growth of a counter, unless it started over.
    fn growth(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let before = self.older?.samples.value(name, labels)?;
        let growth = self.value(name, labels)? - before;
        (growth >= 0.0).then_some(growth)
    }

    fn rate(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let seconds = self.newest.at.checked_sub(self.older?.at)?.as_secs_f64();
        (seconds > 0.0).then_some(self.growth(name, labels)? / seconds)
    }

    /// The growth of one counter relative to that of another.
    fn share(&self, part: &str, whole: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let whole = self.growth(whole, labels)?;
        (whole > 0.0).then_some(self.growth(part, labels)? / whole)
    }

    fn row(&self, name: &str) -> Row {
        let camera = &[("camera", name)][..];
        let detector = &[("camera", name), ("stage", "facedetector")][..];
        let state = self
            .newest
            .samples
            .of("facepipe_camera_state")
            .filter(|sample| sample.label("camera") == Some(name) && sample.value == 1.0)
            .find_map(|sample| sample.label("state"));
        Row {
            camera: name.to_owned(),
            state: state.unwrap_or("unknown").to_owned(),
            fps_in: self.rate("facepipe_frames_in_total", camera),
            fps_processed: self.rate("facepipe_frames_processed_total", camera),
            work_dropped: self.share(
                "facepipe_work_dropped_total",
                "facepipe_stage_frames_total",
                detector,
            ),
            latency: self.share(
                "facepipe_latency_seconds_sum",
                "facepipe_latency_seconds_count",
                camera,
            ),
            tracks: self.value("facepipe_tracks_live", camera),
            recognitions: self.value("facepipe_recognitions_total", camera),
            reconnects: self.value("facepipe_reconnects_total", camera),
            viewers: self.value("facepipe_viewers", camera),
            last_frame: self
                .value("facepipe_last_frame_timestamp_seconds", camera)
                .map(|at| (self.newest.clock.as_secs_f64() - at).max(0.0)),
        }
    }

    fn process(&self) -> Process {
        let info = self.newest.samples.of("facepipe_build_info").next();
        Process {
            version: info
                .and_then(|info| info.label("version"))
                .map(str::to_owned),
            uptime_seconds: self.value("facepipe_uptime_seconds", &[]),
            resident_bytes: self.value("process_resident_memory_bytes", &[]),
            open_files: self.value("process_open_fds", &[]),
            threads: self.value("process_threads", &[]),
            cpu: self.rate("process_cpu_seconds_total", &[]),
        }
    }
}

/// Sums, or means where a sum is meaningless.
fn total(cameras: &[Row]) -> Row {
    let known = |read: fn(&Row) -> Option<f64>| cameras.iter().filter_map(read).collect::<Vec<_>>();
    let sum = |read| {
        let known = known(read);
        (!known.is_empty()).then(|| known.iter().sum::<f64>())
    };
    let mean = |read| {
        let known = known(read);
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let running = cameras.iter().filter(|row| row.state == "running").count();
    Row {
        camera: face_parts::ui::count(cameras.len() as u64, "camera"),
        state: format!("{running} running"),
        fps_in: sum(|row| row.fps_in),
        fps_processed: sum(|row| row.fps_processed),
        work_dropped: mean(|row| row.work_dropped),
        latency: mean(|row| row.latency),
        tracks: sum(|row| row.tracks),
        recognitions: sum(|row| row.recognitions),
        reconnects: sum(|row| row.reconnects),
        viewers: sum(|row| row.viewers),
        last_frame: None,
    }
}

/// The headings of the columns.
pub const COLUMNS: [&str; 11] = [
    "camera",
    "state",
    "fps in",
    "fps out",
    "work dropped",
    "latency",
    "tracks",
    "recognised",
    "reconnects",
    "viewers",
    "last frame",
];

impl Row {
    fn numbers(&self) -> [Option<f64>; 9] {
        [
            self.fps_in,
            self.fps_processed,
            self.work_dropped,
            self.latency,
            self.tracks,
            self.recognitions,
            self.reconnects,
            self.viewers,
            self.last_frame,
        ]
    }

    /// The texts of the columns.
    pub fn cells(&self) -> [String; COLUMNS.len()] {
        let [
            fps_in,
            fps_out,
            dropped,
            latency,
            tracks,
            recognitions,
            reconnects,
            viewers,
            last,
        ] = self.numbers();
        let text = |value: Option<f64>, show: fn(f64) -> String| {
            value.map_or_else(|| "-".to_owned(), show)
        };
        [
            self.camera.clone(),
            self.state.clone(),
            text(fps_in, |value| format!("{value:.1}")),
            text(fps_out, |value| format!("{value:.1}")),
            text(dropped, |value| format!("{:.0} %", 100.0 * value)),
            text(latency, |value| format!("{:.0} ms", 1000.0 * value)),
            text(tracks, |value| format!("{value:.0}")),
            text(recognitions, |value| format!("{value:.0}")),
            text(reconnects, |value| format!("{value:.0}")),
            text(viewers, |value| format!("{value:.0}")),
            text(last, ago),
        ]
    }
}

/// Sorts by a column: texts ascending, numbers descending, unknown values last. Ties are sorted by
/// name.
pub fn sort(rows: &mut [Row], column: usize, reverse: bool) {
    rows.sort_by(|a, b| {
        let order = match column {
            0 => a.camera.cmp(&b.camera),
            1 => a.state.cmp(&b.state),
            _ => {
                let key = |row: &Row| {
                    let numbers = row.numbers();
                    numbers
                        .get(column - 2)
                        .copied()
                        .flatten()
                        .unwrap_or(f64::NEG_INFINITY)
                };
                key(b).total_cmp(&key(a))
            }
        };
        let order = if reverse { order.reverse() } else { order };
        order.then_with(|| a.camera.cmp(&b.camera))
    });
}

fn ago(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s => face_parts::ui::clock(Duration::from_secs_f64(s.min(1e9))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(at: u64, text: &str) -> Scrape {
        Scrape {
            at: Duration::from_secs(at),
            clock: Duration::from_secs(1000 + at),
            samples: Samples::parse(text),
        }
    }

    fn text(frames: u64, looked_past: u64) -> String {
        let dropped = looked_past;
        format!(
            "facepipe_camera_state{{camera=\"a\",state=\"running\"}} 1.0\n\
             facepipe_camera_state{{camera=\"a\",state=\"failed\"}} 0.0\n\
             facepipe_camera_state{{camera=\"b\",state=\"running\"}} 0.0\n\
             facepipe_camera_state{{camera=\"b\",state=\"failed\"}} 1.0\n\
             facepipe_frames_in_total{{camera=\"a\"}} {frames}\n\
             facepipe_stage_frames_total{{camera=\"a\",stage=\"facedetector\"}} {frames}\n\
             facepipe_work_dropped_total{{camera=\"a\",stage=\"facedetector\"}} {dropped}\n\
             facepipe_latency_seconds_sum{{camera=\"a\"}} {}\n\
             facepipe_latency_seconds_count{{camera=\"a\"}} {frames}\n\
             facepipe_last_frame_timestamp_seconds{{camera=\"a\"}} 1001.5\n\
             facepipe_viewers{{camera=\"a\"}} 2.0\nfacepipe_viewers{{camera=\"b\"}} 1.0\n",
            frames as f64 * 0.04,
        )
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let (older, newest) = (scrape(0, &text(100, 10)), scrape(2, &text(150, 30)));
        let overview = Overview::of(Some(&older), &newest);
        let [a, b] = &overview.cameras[..] else {
            panic!("{overview:?}");
        };
        assert_eq!((a.state.as_str(), a.fps_in), ("running", Some(25.0)));
        assert!(
            a.work_dropped
                .is_some_and(|share| (share - 0.4).abs() < 1e-9)
        );
        assert!(
            a.latency
                .is_some_and(|seconds| (seconds - 0.04).abs() < 1e-9)
        );
        assert_eq!(a.last_frame, Some(0.5));
        assert_eq!((b.state.as_str(), b.fps_in), ("failed", None));
        assert_eq!(overview.total.state, "1 running");
        assert_eq!(overview.total.viewers, Some(3.0));
        assert_eq!(overview.total.cells()[2..6], ["25.0", "-", "40 %", "40 ms"]);
    }

    #[test]
    fn a_program_that_began_anew_has_no_rates_for_a_moment() {
        let (older, newest) = (scrape(0, &text(100, 10)), scrape(1, &text(20, 0)));
        let overview = Overview::of(Some(&older), &newest);
        assert_eq!(overview.cameras[0].fps_in, None);
        assert_eq!(Overview::of(None, &newest).cameras[0].fps_in, None);
    }

    #[test]
    fn what_is_unknown_comes_last() {
        let row = |camera: &str, fps_in| Row {
            camera: camera.into(),
            fps_in,
            ..Row::default()
        };
        let mut rows = [row("a", None), row("b", Some(5.0)), row("c", Some(9.0))];
        let names = |rows: &[Row]| {
            rows.iter()
                .map(|row| row.camera.clone())
                .collect::<String>()
        };
        sort(&mut rows, 2, false);
        assert_eq!(names(&rows), "cba");
        sort(&mut rows, 2, true);
        assert_eq!(names(&rows), "abc");
    }
}
