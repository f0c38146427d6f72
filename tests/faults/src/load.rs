//! More cameras than the machine can process.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use face_rtsp_server::{Options, Server};

use crate::live::{Live, START, Site};
use crate::metrics::Metrics;
use crate::scene::CLIP;

/// Cameras on one server, and a `facepipe live` that watches all of them.
pub struct Cameras {
    names: Vec<String>,
    server: Server,
    pub site: Site,
    pub live: Live,
}

/// The counts for each camera during a stretch of time.
#[derive(Debug, Default)]
pub struct Stretch {
    pub seconds: f64,
    /// Frames that were decoded, and frames that passed all stages.
    pub came: Vec<f64>,
    pub passed: Vec<f64>,
    /// Frames that a detector examined.
    pub looked: Vec<f64>,
    /// The mean latency, in seconds.
    pub latency: Vec<f64>,
    /// The total of frames lost between the decoder and the last stage, and of frames that were not
    /// decoded.
    pub dropped: f64,
    pub thinned: f64,
    /// Processor time, in seconds.
    pub cpu: f64,
    pub memory: f64,
}

const LOOKS: &str = "facepipe_inferences_total";

impl Cameras {
    /// Starts `count` cameras of 640x360 with `rate` frames per second, and waits until all deliver
    /// frames.
    pub fn start(count: usize, rate: u32, stages: &str) -> Result<Self> {
        let names: Vec<String> = (0..count).map(|n| format!("c{n}")).collect();
        let spec = |name: &String| format!("{name}={CLIP},rate={rate}");
        let specs: Vec<String> = names.iter().map(spec).collect();
        let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
        let server = Server::start(Options::new(&specs))?;
        let mut site = Site::new(10, None)?;
        site.defaults = format!(
            "[defaults.stages]\n{stages}\n[defaults.jsonl]\npath = \"out/{{camera}}.jsonl\"\n"
        );
        for name in &names {
            site.camera(name, &server.url(name), "");
        }
        let live = site.start()?;
        let cameras = Self {
            names,
            server,
            site,
            live,
        };
        cameras.wait_for_frames()?;
        Ok(cameras)
    }

    /// Waits until each camera has delivered more frames than now.
    pub fn wait_for_frames(&self) -> Result<()> {
        const FRAMES: &str = "facepipe_frames_processed_total";
        let (begin, before) = (Instant::now(), self.metrics()?);
        let runs = |now: &Metrics, name: &String| now.of(FRAMES, name) > before.of(FRAMES, name);
        loop {
            let now = self.metrics()?;
            if self.names.iter().all(|name| runs(&now, name)) {
                return Ok(());
            }
            ensure!(
                begin.elapsed() < 3 * START,
                "not all cameras deliver frames"
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Starts or stops replacing every payload with random bytes.
    pub fn garble(&mut self, on: bool) -> Result<()> {
        let switch = if on { "on" } else { "off" };
        for name in &self.names {
            self.server.command(&format!("garbage {name} {switch}"))?;
        }
        Ok(())
    }

    /// A busy machine answers late.
    fn metrics(&self) -> Result<Metrics> {
        let begin = Instant::now();
        loop {
            match self.live.metrics() {
                Ok(metrics) => return Ok(metrics),
                Err(error) if begin.elapsed() > START => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(200)),
            }
        }
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The server's process.
    pub fn server(&self) -> Option<u32> {
        self.server.id()
    }

    /// Counts for the given time.
    pub fn watch(&self, length: Duration) -> Result<Stretch> {
        let (before, begin) = (self.metrics()?, Instant::now());
        std::thread::sleep(length);
        let (after, seconds) = (self.metrics()?, begin.elapsed().as_secs_f64());
        let more = |name: &str, camera: &str| after.of(name, camera) - before.of(name, camera);
        let each = |name: &str| -> Vec<f64> {
            self.names.iter().map(|camera| more(name, camera)).collect()
        };
        let all = |name: &str| after.sum(name) - before.sum(name);
        let looks = |metrics: &Metrics, camera: &str| {
            metrics.labelled(LOOKS, &[("camera", camera), ("stage", "facedetector")])
        };
        let looked = |camera: &String| looks(&after, camera) - looks(&before, camera);
        let latencies = each("facepipe_latency_seconds_sum");
        let counts = each("facepipe_latency_seconds_count");
        let latency = latencies
            .iter()
            .zip(counts)
            .map(|(sum, n)| sum / n.max(1.0));
        Ok(Stretch {
            seconds,
            came: each("facepipe_frames_in_total"),
            passed: each("facepipe_frames_processed_total"),
            looked: self.names.iter().map(looked).collect(),
            latency: latency.collect(),
            dropped: all("facepipe_frames_dropped_total"),
            thinned: all("facepipe_frames_thinned_total"),
            cpu: all("process_cpu_seconds_total"),
            memory: after.sum("process_resident_memory_bytes"),
        })
    }

    /// Ends facepipe with SIGTERM. Returns how long that took, and whether it finished in time. All
    /// lines must be whole.
    pub fn end(mut self) -> Result<(Duration, bool)> {
        let (took, code) = self.live.end()?;
        // The second code means that it took too long, which can happen on a busy machine.
        ensure!(
            matches!(code, Some(0 | 130)),
            "SIGTERM: ended with {code:?}"
        );
        for name in &self.names {
            let text = std::fs::read_to_string(self.site.lines(name))
                .with_context(|| format!("{name} has no lines"))?;
            ensure!(text.ends_with('\n'), "{name}: the last line is torn");
            for line in text.lines() {
                serde_json::from_str::<serde_json::Value>(line)
                    .with_context(|| format!("{name}: {line}"))?;
            }
        }
        Ok((took, code == Some(0)))
    }
}

impl Stretch {
    /// The least and the greatest count, relative to the mean.
    pub fn spread(counts: &[f64]) -> (f64, f64) {
        let mean = counts.iter().sum::<f64>() / counts.len().max(1) as f64;
        let least = counts.iter().copied().fold(f64::MAX, f64::min);
        let most = counts.iter().copied().fold(0.0, f64::max);
        (least / mean, most / mean)
    }
}
