//! Writes all counts in Prometheus's formats.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::process::Process;
use super::stage::Stage;
use super::{Camera, CameraState, Telemetry};

/// The content type of the OpenMetrics text.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The content type of the preceding text format.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The values are read at each scrape.
pub struct Metrics(Registry);

impl Metrics {
    pub fn new(telemetry: Arc<Telemetry>) -> Self {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(telemetry));
        Self(registry)
    }

    /// In the OpenMetrics text format.
    pub fn open_metrics(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.0)?;
        Ok(out)
    }

    /// In the Prometheus text format 0.0.4.
    pub fn plain(&self) -> Result<String, fmt::Error> {
        self.open_metrics().map(|text| plain(&text))
    }
}

/// Converts OpenMetrics text to the text format 0.0.4: counters are announced by the name of their
/// samples, and there are neither units nor an end marker. Handles only what [`Metrics`] produces.
fn plain(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut lines = open_metrics.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# UNIT ") || line == "# EOF" {
            continue;
        }
        let (kind, rest) = match line.strip_prefix("# HELP ") {
            // The type of the metric is on the next line.
            Some(rest) => (lines.peek().copied().unwrap_or_default(), Some(rest)),
            None => (line, line.strip_prefix("# TYPE ")),
        };
        match rest.and_then(|rest| rest.split_once(' ')) {
            Some((name, tail)) if kind.ends_with(" counter") => {
                out.push_str(&line[..7]);
                out.push_str(&format!("{name}_total {tail}"));
            }
            _ => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

/// A value of a metric.
enum Value {
    Count(u64),
    /// A counter that is not an integer.
    Sum(f64),
    Gauge(f64),
    /// Upper bounds with the non-cumulative counts of the buckets, and the sum.
    Histogram(Vec<(f64, u64)>, f64),
}

/// A value with its labels.
type Row<'a> = (Vec<(&'a str, &'a str)>, Value);

/// Writes metrics, and skips those without a value.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn write(&mut self, name: &str, unit: Option<Unit>, help: &str, rows: Vec<Row>) -> fmt::Result {
        let kind = match rows.first() {
            None => return Ok(()),
            Some((_, Value::Count(_) | Value::Sum(_))) => MetricType::Counter,
            Some((_, Value::Gauge(_))) => MetricType::Gauge,
            Some((_, Value::Histogram(..))) => MetricType::Histogram,
        };
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in &rows {
            if labels.is_empty() {
                encode(&mut metric, value)?;
            } else {
                encode(&mut metric.encode_family(&labels.as_slice())?, value)?;
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder, value: &Value) -> fmt::Result {
    match value {
        Value::Count(count) => metric.encode_counter::<NoLabelSet, _, u64>(count, None),
        Value::Sum(sum) => metric.encode_counter::<NoLabelSet, _, f64>(sum, None),
        Value::Gauge(gauge) => metric.encode_gauge(gauge),
        Value::Histogram(buckets, sum) => {
            let count = buckets.iter().map(|(_, count)| count).sum();
            metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
        }
    }
}

impl Collector for Telemetry {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut writer = Writer(encoder);
        let cameras = self.cameras();
        write_cameras(&mut writer, &cameras)?;
        write_stages(&mut writer, &cameras)?;
        write_program(&mut writer, self)
    }
}

type Cameras = [(String, Arc<Camera>)];

fn write_cameras(writer: &mut Writer, cameras: &Cameras) -> fmt::Result {
    let rows = |value: &dyn Fn(&Camera) -> Option<Value>| -> Vec<Row> {
        cameras
            .iter()
            .filter_map(|(name, camera)| Some((vec![("camera", name.as_str())], value(camera)?)))
            .collect()
    };
    let states = cameras.iter().flat_map(|(name, camera)| {
        CameraState::ALL.map(|state| {
            let labels = vec![("camera", name.as_str()), ("state", state.name())];
            (labels, Value::Gauge(f64::from(camera.state() == state)))
        })
    });
    writer.write(
        "facepipe_camera_state",
        None,
        "1 for the camera's current state, 0 for the others",
        states.collect(),
    )?;
    type Read = fn(&Camera) -> u64;
    let counters: [(&str, &str, Read); 10] = [
        (
            "facepipe_frames_in",
            "Decoded frames from the camera",
            |camera| camera.frames_in(),
        ),
        (
            "facepipe_frames_processed",
            "Frames that passed all stages",
            |camera| camera.frames_processed.get(),
        ),
        (
            "facepipe_frames_dropped",
            "Frames that entered and never left the last stage",
            |camera| camera.frames_dropped.get(),
        ),
        (
            "facepipe_frames_thinned",
            "Frames not decoded, because decoding all was too much for the machine",
            |camera| camera.frames_thinned.get(),
        ),
        (
            "facepipe_reconnects",
            "Attempts to reconnect to the camera after a failure",
            |camera| camera.reconnects.get(),
        ),
        (
            "facepipe_recognitions",
            "Tracks that got a name from the gallery",
            |camera| camera.recognitions.get(),
        ),
        (
            "facepipe_strangers",
            "Tracks that match nobody in the gallery",
            |camera| camera.strangers.get(),
        ),
        (
            "facepipe_events",
            "Reported events: people who appeared or left, strangers",
            |camera| camera.events.get(),
        ),
        (
            "facepipe_output_errors",
            "Lines, frames and events that could not be written or delivered",
            |camera| camera.output_errors.get(),
        ),
        (
            "facepipe_faces",
            "Faces found by the detector, counted on each frame",
            |camera| camera.detected(),
        ),
    ];
    for (name, help, read) in counters {
        let rows = rows(&|camera| Some(Value::Count(read(camera))));
        writer.write(name, None, help, rows)?;
    }
    writer.write(
        "facepipe_viewers",
        None,
        "Clients that watch the annotated stream",
        rows(&|camera| Some(Value::Gauge(camera.viewers.get() as f64))),
    )?;
    writer.write(
        "facepipe_latency",
        Some(Unit::Seconds),
        "Time from the capture of a frame, by its timestamp, to the end of the last stage",
        rows(&|camera| {
            let (buckets, sum) = camera.latency.read();
            Some(Value::Histogram(buckets, sum))
        }),
    )?;
    writer.write(
        "facepipe_last_frame_latency",
        Some(Unit::Seconds),
        "Latency of the last frame",
        rows(&|camera| camera.latest_latency().map(Value::Gauge)),
    )?;
    writer.write(
        "facepipe_last_frame_timestamp",
        Some(Unit::Seconds),
        "When the last frame arrived from the camera, since 1970",
        rows(&|camera| camera.last_frame().map(Value::Gauge)),
    )
}

fn write_stages(writer: &mut Writer, cameras: &Cameras) -> fmt::Result {
    let stages: Vec<_> = cameras
        .iter()
        .map(|(name, camera)| (name, camera.stages.lock()))
        .collect();
    let rows = |labelled: bool, value: &dyn Fn(&Stage) -> Option<Value>| -> Vec<Row> {
        let row = |camera, stage, value| match labelled {
            true => (vec![("camera", camera), ("stage", stage)], value),
            false => (vec![("camera", camera)], value),
        };
        stages
            .iter()
            .flat_map(|(camera, stages)| {
                stages
                    .iter()
                    .map(|(name, stage)| (camera.as_str(), name.as_str(), stage))
            })
            .filter_map(|(camera, name, stage)| Some(row(camera, name, value(stage)?)))
            .collect()
    };
    let counters = [
        (
            "facepipe_stage_frames",
            "frames",
            "Frames that passed the stage",
        ),
        (
            "facepipe_work_dropped",
            "work-dropped",
            "Frames (detector) or faces (other stages) skipped to keep the latency",
        ),
        ("facepipe_inferences", "inferences", "Runs of a model"),
    ];
    for (name, field, help) in counters {
        let rows = rows(true, &|stage| stage.sum(field).map(Value::Count));
        writer.write(name, None, help, rows)?;
    }
    writer.write(
        "facepipe_stage_busy",
        Some(Unit::Seconds),
        "Time that the stage spent on frames",
        rows(true, &|stage| stage.seconds("time-total").map(Value::Sum)),
    )?;
    writer.write(
        "facepipe_stage_wait",
        Some(Unit::Seconds),
        "The part of it spent waiting for a turn to run a model",
        rows(true, &|stage| stage.seconds("time-wait").map(Value::Sum)),
    )?;
    writer.write(
        "facepipe_inference_duration",
        Some(Unit::Seconds),
        "Duration of one run of a model",
        rows(true, &|stage| {
            let sum = stage.seconds("time-infer")?;
            Some(Value::Histogram(stage.inference_times()?, sum))
        }),
    )?;
    writer.write(
        "facepipe_tracks",
        None,
        "Tracks that were started",
        rows(false, &|stage| stage.sum("tracks-total").map(Value::Count)),
    )?;
    let gauge = |number: Option<u64>| number.map(|number| Value::Gauge(number as f64));
    writer.write(
        "facepipe_tracks_live",
        None,
        "Tracks alive",
        rows(false, &|stage| gauge(stage.tracks)),
    )?;
    writer.write(
        "facepipe_gallery_rows",
        None,
        "Embeddings in the gallery in use",
        rows(false, &|stage| gauge(stage.gallery_rows)),
    )?;
    writer.write(
        "facepipe_gallery_people",
        None,
        "People in the gallery in use",
        rows(false, &|stage| gauge(stage.gallery_people)),
    )?;
    writer.write(
        "facepipe_gallery_loads",
        None,
        "Number of gallery loads",
        rows(false, &|stage| stage.sum("gallery-loads").map(Value::Count)),
    )
}

fn write_program(writer: &mut Writer, telemetry: &Telemetry) -> fmt::Result {
    let (major, minor, micro, _) = gst::version();
    let gstreamer = format!("{major}.{minor}.{micro}");
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION")),
        ("gstreamer", gstreamer.as_str()),
    ];
    writer.write(
        "facepipe_build_info",
        None,
        "Always 1; the versions are in the labels",
        vec![(build, Value::Gauge(1.0))],
    )?;
    writer.write(
        "facepipe_uptime",
        Some(Unit::Seconds),
        "Time since the start",
        vec![(vec![], Value::Gauge(telemetry.uptime().as_secs_f64()))],
    )?;
    writer.write(
        "facepipe_decoded_share",
        None,
        "The share of each camera's frames that are decoded: 1, unless that is too much for the machine",
        vec![(vec![], Value::Gauge(telemetry.decoded.get()))],
    )?;
    writer.write(
        "facepipe_strangers_known",
        None,
        "Strangers who will be known again",
        vec![(vec![], Value::Gauge(telemetry.strangers.get() as f64))],
    )?;
    writer.write(
        "facepipe_log_lines_dropped",
        None,
        "Log lines lost because nobody read standard error in time",
        vec![(vec![], Value::Count(super::log::dropped()))],
    )?;
    let process = Process::read();
    let row = |value: Option<Value>| value.map(|value| (vec![], value)).into_iter().collect();
    let gauge = |number: Option<u64>| row(number.map(|number| Value::Gauge(number as f64)));
    writer.write(
        "process_resident_memory",
        Some(Unit::Bytes),
        "Resident memory size in bytes",
        gauge(process.resident_bytes),
    )?;
    writer.write(
        "process_virtual_memory",
        Some(Unit::Bytes),
        "Virtual memory size in bytes",
        gauge(process.virtual_bytes),
    )?;
    writer.write(
        "process_cpu",
        Some(Unit::Seconds),
        "Total user and system CPU time spent in seconds",
        row(process.cpu_seconds.map(Value::Sum)),
    )?;
    writer.write(
        "process_start_time",
        Some(Unit::Seconds),
        "Start time of the process since unix epoch in seconds",
        row(process.started.map(Value::Gauge)),
    )?;
    writer.write(
        "process_threads",
        None,
        "Number of threads",
        gauge(process.threads),
    )?;
    writer.write(
        "process_open_fds",
        None,
        "Number of open file descriptors",
        gauge(process.open_files),
    )?;
    writer.write(
        "process_max_fds",
        None,
        "Maximum number of open file descriptors",
        gauge(process.most_files),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_announced_as_each_format_wants_it() {
        let telemetry = Arc::new(Telemetry::new());
        telemetry.camera("door").events.add(3);
        telemetry.camera("yard").viewers.set(2);
        let metrics = Metrics::new(telemetry.clone());
        let open = metrics.open_metrics().expect("writes to a string");
        assert!(open.contains("# TYPE facepipe_events counter\n"), "{open}");
        assert!(open.ends_with("# EOF\n"));
        let plain = metrics.plain().expect("writes to a string");
        assert!(plain.contains("# TYPE facepipe_events_total counter\n"));
        assert!(plain.contains("# HELP facepipe_events_total Reported events"));
        assert!(plain.contains("\nfacepipe_events_total{camera=\"door\"} 3\n"));
        assert!(plain.contains("\nfacepipe_viewers{camera=\"yard\"} 2"));
        assert!(!plain.contains("# EOF") && !plain.contains("# UNIT"));
        telemetry.remove("door");
        assert!(!metrics.plain().expect("writes").contains("door"));
    }

    #[test]
    fn histograms_are_cumulative() {
        let telemetry = Arc::new(Telemetry::new());
        let camera = telemetry.camera("door");
        for millis in [3, 20, 20, 60_000] {
            camera
                .latency
                .record(std::time::Duration::from_millis(millis));
        }
        let text = Metrics::new(telemetry).plain().expect("writes");
        let value = |bound: &str| {
            let start =
                format!("facepipe_latency_seconds_bucket{{le=\"{bound}\",camera=\"door\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.and_then(|value| value.parse::<u64>().ok())
        };
        assert_eq!(value("0.005"), Some(1), "{text}");
        assert_eq!(value("0.025"), Some(3));
        assert_eq!(value("10.0"), Some(3));
        assert_eq!(value("+Inf"), Some(4));
        assert!(text.contains("facepipe_latency_seconds_count{camera=\"door\"} 4\n"));
    }
}
