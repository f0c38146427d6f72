//! Many cameras for a long time, with faults at random.

pub mod leaks;
pub mod plan;
pub mod process;
pub mod warnings;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use face_rtsp_server::{Options, Server};
use tempfile::TempDir;

use self::leaks::Objects;
use self::plan::{A_SERVER, Fault, Kind, Plan, Step};
use self::process::{Sample, slope};
use crate::hook::Hook;
use crate::live::{Live, START, Site, enroll};
use crate::scene::CLIP;
use crate::viewer::{self, Viewer};

/// Seconds without a frame after which a camera counts as dead.
const STALL: u64 = 5;

/// The time before the first fault and after the last one. Sessions of viewers that hung up end
/// after a minute.
const QUIET: Duration = Duration::from_secs(80);

const SAMPLES: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Args {
    /// Seed of the faults
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    #[arg(long, default_value_t = 8)]
    cameras: usize,

    /// Frames per second of each camera
    #[arg(long, default_value_t = 10)]
    rate: u32,

    /// Count GStreamer's objects before and after (slower)
    #[arg(long)]
    leaks: bool,

    /// Most that memory may grow, in MiB per hour
    #[arg(long, default_value_t = 30.0)]
    most_growth: f64,

    /// Write the samples to this file, as CSV
    #[arg(long)]
    samples: Option<std::path::PathBuf>,
}

struct Soak {
    folder: TempDir,
    servers: Vec<Server>,
    site: Site,
    live: Live,
    hook: Hook,
    /// Viewers that watch for some seconds.
    viewers: Vec<(Instant, Viewer)>,
    start: Instant,
    samples: Vec<Sample>,
    changes: u32,
}

fn name(camera: usize) -> String {
    format!("cam{camera}")
}

/// Returns `true` if memory is flat and all warnings are explained.
pub fn run(args: &Args) -> Result<bool> {
    ensure!(args.cameras > 0, "no cameras");
    let total = Duration::from_secs_f64(args.minutes * 60.0);
    let time = total
        .checked_sub(QUIET * 2)
        .with_context(|| format!("a run takes more than {} s", 2 * QUIET.as_secs()))?;
    let mut soak = Soak::begin(args)?;
    soak.idle(QUIET)?;
    let first = soak.sample()?;
    let objects_before = soak.objects(args)?;
    let warm_up = soak.start.elapsed() + time / 5;

    let mut plan = plan::plan(args.seed, time, args.cameras, STALL as f64);
    println!(
        "seed {}: {} faults in {:.0} s",
        args.seed,
        plan.faults.len(),
        time.as_secs_f64()
    );
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    soak.play(&plan, time)?;
    soak.idle(QUIET / 2)?;
    let middle = soak.live.metrics()?;
    soak.idle(QUIET / 2)?;
    let last = soak.sample()?;
    let objects_after = soak.objects(args)?;

    let metrics = soak.live.metrics()?;
    let mut good = true;
    println!("\n| camera | frames | reconnects | output errors |\n| --- | ---: | ---: | ---: |");
    for camera in 0..args.cameras {
        let name = name(camera);
        let frames = metrics.of("facepipe_frames_processed_total", &name);
        println!(
            "| {name} | {frames} | {} | {} |",
            metrics.of("facepipe_reconnects_total", &name),
            metrics.of("facepipe_output_errors_total", &name)
        );
        if frames <= middle.of("facepipe_frames_processed_total", &name) {
            println!("{name} stands still");
            good = false;
        }
    }
    let end = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let end = end.saturating_sub(wall);
    plan.faults.push(Fault {
        kind: Kind::End,
        cameras: Vec::new(),
        begin: end,
        end,
    });
    let seconds = soak.live.terminate()?.as_secs_f64();
    let after: Vec<Sample> = soak
        .samples
        .iter()
        .filter(|sample| sample.time >= warm_up)
        .copied()
        .collect();
    let growth = slope(&after).unwrap_or(0.0);
    println!(
        "\nmemory: {:.0} MiB before the first fault, {:.0} MiB at the end, slope {growth:.1} MiB/h over {} samples",
        first.mib,
        last.mib,
        after.len()
    );
    println!("open files: {}, then {}", first.files, last.files);
    println!("threads: {}, then {}", first.threads, last.threads);
    println!("SIGTERM: ended after {seconds:.1} s");
    good &= growth <= args.most_growth;
    good &= last.files <= first.files + 4 && last.threads <= first.threads + 2;
    if let (Some(before), Some(after)) = (objects_before, objects_after) {
        let more = leaks::more(&before, &after);
        let count = |objects: &Objects| objects.values().sum::<usize>();
        println!(
            "GStreamer objects: {}, then {}; types with more of them: {more:?}",
            count(&before),
            count(&after)
        );
        good &= more.is_empty() && !before.is_empty();
    }
    good &= soak.print_warnings(wall.as_secs_f64(), &plan.faults, args.cameras)?;
    if let Some(path) = &args.samples {
        let mut text = String::from("seconds,mib,files,threads\n");
        for s in &soak.samples {
            let seconds = s.time.as_secs_f64();
            text += &format!("{seconds:.0},{:.1},{},{}\n", s.mib, s.files, s.threads);
        }
        fs::write(path, text)?;
    }
    println!("{}", if good { "soak: PASSED" } else { "soak: FAILED" });
    if !good {
        println!("soak: all files are in {}", soak.site.keep().display());
    }
    Ok(good)
}

impl Soak {
    fn begin(args: &Args) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let gallery = enroll(folder.path(), "anna")?;
        let cameras: Vec<usize> = (0..args.cameras).collect();
        let mut servers = Vec::new();
        for some in cameras.chunks(A_SERVER) {
            let specs: Vec<String> = some
                .iter()
                .map(|&camera| {
                    let codec = if camera % 2 == 0 { "h264" } else { "h265" };
                    format!("{}={CLIP},rate={},codec={codec}", name(camera), args.rate)
                })
                .collect();
            let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
            servers.push(Server::start(Options::new(&specs))?);
        }
        let hook = Hook::start()?;
        let mut site = Site::new(STALL, Some(&gallery))?;
        site.defaults = site.defaults.replace(
            "[defaults.events]\n",
            &format!(
                "[defaults.events]\nwebhooks = [{{ url = \"{}\" }}]\n",
                hook.url()
            ),
        );
        site.defaults = site
            .defaults
            .replace("[defaults.stages]\n", "[defaults.stages]\ninterval = 5\n")
            .replace(
                "[defaults.jsonl]\n",
                "[defaults.jsonl]\nmax-size = \"1 MB\"\nkeep = 3\n",
            );
        for &camera in &cameras {
            let url = servers[camera / A_SERVER].url(&name(camera));
            // Every second pair uses UDP, and every second camera HLS.
            let transport = if camera % 4 < 2 { "tcp" } else { "udp" };
            let format = if camera % 2 == 0 { "mp4" } else { "hls" };
            let more = format!(
                "transport = \"{transport}\"\nrestream = true\n\
                 segments = {{ folder = \"out/{{camera}}\", format = \"{format}\", length = \"6s\", keep = 20 }}"
            );
            site.camera(&name(camera), &url, &more);
        }
        site.arguments.push("--log-format=json".into());
        if args.leaks {
            for (variable, value) in leaks::ENVIRONMENT {
                site.env.push((variable.into(), value.into()));
            }
        }
        let live = site.start()?;
        for &camera in &cameras {
            live.wait_for_frames(&name(camera), 10)?;
        }
        println!("{} cameras run", args.cameras);
        Ok(Self {
            folder,
            servers,
            site,
            live,
            hook,
            viewers: Vec::new(),
            start: Instant::now(),
            samples: Vec::new(),
            changes: 0,
        })
    }

    fn sample(&mut self) -> Result<Sample> {
        let sample = Sample::take(self.live.id(), self.start.elapsed()).with_context(|| {
            format!("facepipe ended:\n{}", crate::scene::tail(&self.site.log()))
        })?;
        self.samples.push(sample);
        Ok(sample)
    }

    /// Lets `time` pass, and takes samples.
    fn idle(&mut self, time: Duration) -> Result<()> {
        self.play(&Plan::default(), time)
    }

    /// Carries out the plan for `time`.
    fn play(&mut self, plan: &Plan, time: Duration) -> Result<()> {
        let begun = Instant::now();
        let mut steps = plan.steps.iter().peekable();
        while begun.elapsed() < time {
            while let Some((at, step)) = steps.next_if(|(at, _)| begun.elapsed() >= *at) {
                println!("{:7.1} s {step:?}", at.as_secs_f64());
                self.step(step).with_context(|| format!("{step:?}"))?;
            }
            self.viewers.retain(|(until, _)| Instant::now() < *until);
            let last = self.samples.last().map_or(Duration::ZERO, |s| s.time);
            if self.start.elapsed() >= last + SAMPLES {
                self.sample()?;
            }
            sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Kill(server) => self.servers[*server].kill(),
            Step::Restart(server) => self.servers[*server].restart()?,
            Step::Command(camera, text) => {
                let server = &mut self.servers[camera / A_SERVER];
                // A server that was killed has forgotten its faults.
                if server.id().is_some() {
                    server.command(&text.replace("{}", &name(*camera)))?;
                }
            }
            Step::Reload(camera) => {
                self.changes += 1;
                let options = &mut self.site.cameras[*camera];
                let kept: Vec<&str> = options
                    .lines()
                    .filter(|line| !line.starts_with("latency"))
                    .collect();
                let latency = 150 + self.changes % 100;
                *options = format!("{}\nlatency = \"{latency}ms\"\n", kept.join("\n"));
                self.site.write()?;
                self.live.signal(libc::SIGHUP);
            }
            Step::Configuration { broken } => {
                if *broken {
                    fs::write(self.site.config(), "[[camera]]\nname = 3\n")?;
                } else {
                    self.site.write()?;
                }
                self.live.signal(libc::SIGHUP);
            }
            Step::Gallery { junk } => {
                self.changes += 1;
                let gallery = self.folder.path().join("gallery.safetensors");
                if *junk {
                    fs::write(gallery, vec![0x5a; 10_000])?;
                } else {
                    let other = TempDir::new_in(self.folder.path())?;
                    let name = ["anna", "berta"][self.changes as usize % 2];
                    fs::rename(enroll(other.path(), name)?, gallery)?;
                }
            }
            Step::Viewer(camera, transport) => {
                let viewer = Viewer::watch(self.site.restream, &name(*camera), transport)?;
                let until = Instant::now() + Duration::from_secs(6);
                self.viewers.push((until, viewer));
            }
            Step::HangUp(camera) => viewer::hang_up(self.site.restream, &name(*camera))?,
            Step::Refuse(refuses) => self.hook.refuse(*refuses),
        }
        Ok(())
    }

    /// GStreamer's live objects, if they are counted.
    fn objects(&mut self, args: &Args) -> Result<Option<Objects>> {
        if !args.leaks {
            return Ok(None);
        }
        let before = self.site.log().len();
        self.live.signal(libc::SIGUSR1);
        let asked = Instant::now();
        let mut length = before;
        loop {
            sleep(Duration::from_secs(2));
            let log = self.site.log();
            if log.len() == length && length > before {
                return Ok(Some(leaks::objects(&log[before..])));
            }
            length = log.len();
            ensure!(asked.elapsed() < START, "no list of objects");
        }
    }

    /// Returns `true` if all warnings are explained.
    fn print_warnings(&self, start: f64, faults: &[Fault], cameras: usize) -> Result<bool> {
        let log = self.site.log();
        let camera = |label: &str| (0..cameras).find(|&camera| name(camera) == label);
        let warnings = warnings::explain(&log, start, faults, camera);
        println!("\n| warning | count | explained by |\n| --- | ---: | --- |");
        let mut good = true;
        for (text, warning) in &warnings {
            let kinds: Vec<String> = warning.explained.iter().map(|k| format!("{k:?}")).collect();
            println!(
                "| {} | {} | {}{} |",
                text.replace('|', "/"),
                warning.count,
                kinds.join(", "),
                if warning.unexplained.is_some() {
                    " NOT ALWAYS"
                } else {
                    ""
                }
            );
            good &= warning.unexplained.is_none();
        }
        for warning in warnings.values() {
            if let Some(line) = &warning.unexplained {
                println!("unexplained: {line}");
            }
        }
        Ok(good)
    }
}
