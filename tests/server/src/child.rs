//! Runs the server as a child process of a test.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;

/// How long the server may take to start, which includes encoding a clip, or to answer.
const PATIENCE: Duration = Duration::from_secs(240);

#[derive(Debug, Clone)]
pub struct Options {
    /// Each is `NAME=CLIP[,size=WxH][,rate=FPS][,codec=h264|h265][,transport=both|tcp|udp]`.
    pub cameras: Vec<String>,
    pub address: String,
    /// 0 picks a free port.
    pub port: u16,
    pub credentials: Option<(String, String)>,
    /// A program, with its first arguments, that runs the server, such as `ip netns exec NAME`.
    pub wrapper: Vec<String>,
}

impl Options {
    pub fn new(cameras: &[&str]) -> Self {
        Self {
            cameras: cameras.iter().map(|&camera| camera.into()).collect(),
            address: "127.0.0.1".into(),
            port: 0,
            credentials: None,
            wrapper: Vec::new(),
        }
    }
}

/// A running server. It ends when this is dropped.
pub struct Server {
    options: Options,
    process: Option<Process>,
    port: u16,
}

struct Process {
    child: Child,
    commands: ChildStdin,
    /// The lines that it prints. They are read by a thread, so that no test waits for ever.
    answers: Receiver<String>,
}

impl Process {
    fn answer(&self, what: &str) -> Result<String> {
        self.answers
            .recv_timeout(PATIENCE)
            .with_context(|| format!("no answer to {what}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only if the server has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts the server, and returns once it listens. The first time a clip is served it is
    /// encoded, which takes some seconds.
    pub fn start(options: Options) -> Result<Self> {
        let (process, port) = spawn(&options, options.port)?;
        Ok(Self {
            options,
            process: Some(process),
            port,
        })
    }

    /// The process id, for moving the server into a network namespace.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self, camera: &str) -> String {
        self.url_at(&self.options.address, camera)
    }

    /// The URL of a camera, for a server that listens on all addresses.
    pub fn url_at(&self, address: &str, camera: &str) -> String {
        format!("rtsp://{address}:{}/{camera}", self.port)
    }

    /// Kills the server without notice to its viewers (SIGKILL).
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Restarts the server on the same port.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let (process, _) = spawn(&self.options, self.port)?;
        self.process = Some(process);
        Ok(())
    }

    /// Sends a command; see [`crate::commands::HELP`].
    pub fn command(&mut self, line: &str) -> Result<String> {
        let process = self.process.as_mut().context("the server was killed")?;
        writeln!(process.commands, "{line}")?;
        let answer = process.answer(&format!("`{line}`"))?;
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim_start().into()),
            None => bail!("`{line}`: {answer}"),
        }
    }
}

fn spawn(options: &Options, port: u16) -> Result<(Process, u16)> {
    let program = built("face-rtsp-server")?;
    let mut command = match options.wrapper.split_first() {
        Some((wrapper, rest)) => {
            let mut command = Command::new(wrapper);
            command.args(rest).arg(&program);
            command
        }
        None => Command::new(&program),
    };
    command
        .args(&options.cameras)
        .args(["--until-eof", "--address", &options.address])
        .args(["--port", &port.to_string()]);
    if let Some((username, password)) = &options.credentials {
        command.args(["--username", username, "--password", password]);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| program.display().to_string())?;
    let pipes = child.stdin.take().zip(child.stdout.take());
    let (commands, answers) = pipes.context("a child has pipes")?;
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(answers).lines().map_while(Result::ok);
        // Until the server or this end is gone.
        lines.map(|line| send.send(line)).any(|sent| sent.is_err());
    });
    let process = Process {
        child,
        commands,
        answers: receive,
    };
    let first = process.answer("a start")?;
    let port = first
        .rsplit_once(':')
        .filter(|_| first.starts_with("listening "))
        .and_then(|(_, port)| port.parse().ok())
        .with_context(|| format!("{} did not start", program.display()))?;
    Ok((process, port))
}

/// The program of a package of this workspace, next to the running one. It is built if it is
/// missing, since `cargo test -p` for another package builds only the libraries of this one.
pub fn built(package: &str) -> Result<PathBuf> {
    static BUILDING: Mutex<()> = Mutex::new(());
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("a program in a folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("target/PROFILE/deps")?;
    }
    let program = folder.join(package);
    let _one_at_a_time = BUILDING.lock();
    if program.is_file() {
        return Ok(program);
    }
    let mut build = Command::new(option_env!("CARGO").unwrap_or("cargo"));
    build
        .args(["build", "--quiet", "--package", package])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    if let Some(target) = folder.parent() {
        build.arg("--target-dir").arg(target);
    }
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let status = build.status().context("cargo")?;
    ensure!(status.success(), "{package} cannot be built");
    Ok(program)
}
