//! `facepipe live` as a process, with its folder and its configuration.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use face_rtsp_server::child::built;
use tempfile::TempDir;

use crate::metrics::Metrics;

/// The password of the annotated streams.
pub const PASSWORD: &str = "for-the-viewers";

/// How long facepipe and a camera may take to start on a busy machine.
pub const START: Duration = Duration::from_secs(60);

/// The folder in which facepipe runs. Everything in it outlives the process.
pub struct Site {
    folder: TempDir,
    pub port: u16,
    pub restream: u16,
    /// TOML of `[defaults]` and the tables below it.
    pub defaults: String,
    /// TOML of each camera.
    pub cameras: Vec<String>,
    pub env: Vec<(String, String)>,
    pub arguments: Vec<String>,
}

impl Site {
    /// A site with only the cheap outputs, lines and events. `stall` is in seconds.
    pub fn new(stall: u64, gallery: Option<&Path>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("faults-").tempdir()?;
        fs::write(folder.path().join("password"), PASSWORD)?;
        let mut defaults = format!("stall-timeout = \"{stall}s\"\n");
        if let Some(gallery) = gallery {
            defaults += &format!("gallery = {:?}\n", gallery.display().to_string());
        }
        defaults += "[defaults.stages]\ninference-size = 320\nage-gender = false\n\
            [defaults.jsonl]\npath = \"out/{camera}.jsonl\"\n\
            [defaults.events]\npath = \"out/events.jsonl\"\n";
        Ok(Self {
            folder,
            port: free_port()?,
            restream: free_port()?,
            defaults,
            cameras: Vec::new(),
            env: Vec::new(),
            arguments: Vec::new(),
        })
    }

    /// Adds a camera. `more` is additional TOML.
    pub fn camera(&mut self, name: &str, url: &str, more: &str) {
        self.cameras
            .push(format!("name = \"{name}\"\nuri = \"{url}\"\n{more}\n"));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn lines(&self, camera: &str) -> PathBuf {
        self.path(&format!("out/{camera}.jsonl"))
    }

    pub fn config(&self) -> PathBuf {
        self.path("live.toml")
    }

    /// Writes the current configuration.
    pub fn write(&self) -> Result<()> {
        let mut text = format!(
            "state = \"state\"\n[server]\nlisten = \"127.0.0.1:{}\"\n\
             [restream]\nlisten = \"127.0.0.1:{}\"\npassword-file = \"password\"\n\
             [defaults]\n{}",
            self.port, self.restream, self.defaults
        );
        for camera in &self.cameras {
            text += &format!("\n[[camera]]\n{camera}");
        }
        fs::write(self.config(), text)?;
        Ok(())
    }

    /// The log of all runs so far.
    pub fn log(&self) -> String {
        fs::read(self.path("log")).map_or(String::new(), |bytes| {
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    /// Starts facepipe, and waits until its port answers.
    pub fn start(&self) -> Result<Live> {
        self.write()?;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path("log"))?;
        let process = facepipe()?
            .arg("live")
            .arg(self.config())
            .args(&self.arguments)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let mut live = Live {
            process,
            port: self.port,
        };
        let start = Instant::now();
        while live.metrics().is_err() {
            if !live.is_alive() || start.elapsed() > START {
                bail!("facepipe does not start:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(live)
    }

    /// Keeps the folder and returns its path, to examine a failure.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}

pub struct Live {
    process: Child,
    port: u16,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Live {
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.port)
    }

    /// The number of frames that passed all stages.
    pub fn frames(&self, camera: &str) -> Result<u64> {
        Ok(self
            .metrics()?
            .of("facepipe_frames_processed_total", camera) as u64)
    }

    pub fn wait_for_frames(&self, camera: &str, count: u64) -> Result<()> {
        let start = Instant::now();
        while self.frames(camera)? < count {
            ensure!(start.elapsed() < START, "{camera}: no frames");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// How the process ended, if it has.
    pub fn ending(&mut self) -> String {
        match self.process.try_wait() {
            Ok(None) => "facepipe runs".into(),
            Ok(Some(status)) => format!("facepipe ended with {status}"),
            Err(error) => error.to_string(),
        }
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the id belongs to a child that has not been waited for.
        unsafe { libc::kill(self.process.id() as libc::pid_t, signal) };
    }

    /// Kills the process (SIGKILL).
    pub fn kill(&mut self) {
        // Fails only if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Asks the process to end (SIGTERM), and checks that it ends properly. Returns how long that
    /// took.
    pub fn terminate(&mut self) -> Result<Duration> {
        let (took, code) = self.end()?;
        ensure!(code == Some(0), "SIGTERM: ended with {code:?}");
        Ok(took)
    }

    /// Asks the process to end (SIGTERM). Returns how long that took, and the exit code.
    pub fn end(&mut self) -> Result<(Duration, Option<i32>)> {
        let start = Instant::now();
        self.signal(libc::SIGTERM);
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok((start.elapsed(), status.code()));
            }
            ensure!(start.elapsed() < START, "SIGTERM: the process does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The program under test.
pub fn facepipe() -> Result<Command> {
    let mut command = Command::new(built("facepipe")?);
    command.env_remove("GST_PLUGIN_PATH");
    Ok(command)
}

pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A gallery that has the woman of the clip under `name`.
pub fn enroll(folder: &Path, name: &str) -> Result<PathBuf> {
    let photos = folder.join("people").join(name);
    fs::create_dir_all(&photos)?;
    photo(&photos.join("1.png"))?;
    let gallery = folder.join("gallery.safetensors");
    let output = facepipe()?
        .arg("enroll")
        .arg(folder.join("people"))
        .arg("-o")
        .arg(&gallery)
        .output()?;
    ensure!(
        output.status.success(),
        "enroll: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(gallery)
}

/// The first frame of the clip.
fn photo(to: &Path) -> Result<()> {
    use gst::prelude::*;
    gst::init()?;
    let clip = crate::root().join("media").join(crate::scene::CLIP);
    let pipeline = gst::parse::launch(&format!(
        "filesrc location={:?} ! decodebin ! videoconvert ! pngenc snapshot=true ! appsink name=sink",
        clip.display().to_string()
    ))?;
    let bin = pipeline.downcast_ref::<gst::Bin>().context("a bin")?;
    let sink = bin
        .by_name("sink")
        .and_downcast::<gst_app::AppSink>()
        .context("a sink")?;
    pipeline.set_state(gst::State::Playing)?;
    let sample = sink.pull_sample();
    pipeline.set_state(gst::State::Null)?;
    let sample = sample.with_context(|| format!("no picture in {}", clip.display()))?;
    let bytes = sample.buffer().context("a buffer")?.map_readable()?;
    File::create(to)?.write_all(&bytes)?;
    Ok(())
}
