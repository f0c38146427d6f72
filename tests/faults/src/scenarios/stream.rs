//! Faults of the camera and of its stream.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::report::Row;
use crate::scene::{Scene, Trial, VICTIM};

const NOTHING: &str = "frames during the outage";

pub fn server_killed(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.kill();
    let away = trial.seconds(5, 2);
    sleep(away);
    scene.victim.restart()?;
    let good = scene.good_again(Instant::now(), |_| true)?;
    let tries = scene.reconnects()?;
    ensure!(tries > 0, "no reconnect was counted");
    let happened = format!("refused, {tries} attempts to reconnect, connected");
    scene.finish(
        format!("server killed, back after {} s", away.as_secs()),
        happened,
        good,
        NOTHING.into(),
    )
}

pub fn disconnected(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.command(&format!("disconnect {VICTIM}"))?;
    let since = Instant::now();
    // Frames in transit may still arrive.
    sleep(Duration::from_millis(400));
    scene.lines.poll()?;
    let good = scene.good_again(since, |_| true)?;
    let happened = format!("connected again; reconnects: {}", scene.reconnects()?);
    scene.finish(
        "connection closed by the camera",
        happened,
        good,
        NOTHING.into(),
    )
}

pub fn hangs(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.command(&format!("stall {VICTIM} on"))?;
    sleep(Duration::from_secs(trial.stall) + trial.seconds(5, 1));
    let tries = scene.reconnects()?;
    ensure!(tries > 0, "a silent camera was not noticed");
    scene.victim.command(&format!("stall {VICTIM} off"))?;
    let good = scene.good_again(Instant::now(), |_| true)?;
    let happened = format!("noticed after {} s, reconnected", trial.stall);
    scene.finish(
        "camera sends nothing, connection stays open",
        happened,
        good,
        NOTHING.into(),
    )
}

pub fn rtp_loss(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "udp")?;
    scene.victim.command(&format!("loss {VICTIM} 0.2"))?;
    let time = trial.seconds(20, 4);
    let (pause, count) = scene.lines.longest_pause(time)?;
    scene.victim.command(&format!("loss {VICTIM} 0"))?;
    let good = scene.good_again(Instant::now(), |_| true)?;
    let happened = format!(
        "{} of 15 frames per second arrived, longest pause {:.1} s",
        count as u64 / time.as_secs(),
        pause.as_secs_f64()
    );
    scene.finish(
        "20 % of the RTP packets lost",
        happened,
        good,
        "frames that needed the lost packets".into(),
    )
}

pub fn resolution(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene
        .victim
        .command(&format!("set {VICTIM} size=320x180"))?;
    let since = Instant::now();
    let smaller = scene.good_again(since, |line| line["width"] == 320)?;
    scene
        .victim
        .command(&format!("set {VICTIM} size=960x540"))?;
    let since = Instant::now();
    let larger = scene.good_again(since, |line| line["width"] == 960)?;
    let happened = format!(
        "continued in the new size, {} reconnects",
        scene.reconnects()?
    );
    let fault = "resolution changes (640x360, 320x180, 960x540)";
    scene.finish(fault, happened, smaller.max(larger), "nothing".into())
}

pub fn codec(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.command(&format!("set {VICTIM} codec=h265"))?;
    let since = Instant::now();
    sleep(Duration::from_millis(400));
    scene.lines.poll()?;
    let good = scene.good_again(since, |_| true)?;
    let happened = format!("connected again; reconnects: {}", scene.reconnects()?);
    scene.finish("codec changes to H.265", happened, good, NOTHING.into())
}

pub fn rate(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.command(&format!("set {VICTIM} rate=5"))?;
    let since = Instant::now();
    sleep(Duration::from_millis(400));
    scene.lines.poll()?;
    let good = scene.good_again(since, |_| true)?;
    let time = trial.seconds(10, 3);
    let (_, count) = scene.lines.longest_pause(time)?;
    let rate = count as f64 / time.as_secs_f64();
    ensure!((3.5..6.5).contains(&rate), "{rate} frames per second");
    let happened = format!("continued, {} reconnects", scene.reconnects()?);
    scene.finish(
        "frame rate changes from 15 to 5",
        happened,
        good,
        "nothing".into(),
    )
}

pub fn time_ahead(trial: &Trial) -> Result<Row> {
    jump(trial, "timestamps jump ahead by an hour", 3600.0)
}

pub fn time_back(trial: &Trial) -> Result<Row> {
    jump(trial, "timestamps run back by ten seconds", -10.0)
}

fn jump(trial: &Trial, fault: &'static str, seconds: f64) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.command(&format!("jump {VICTIM} {seconds}"))?;
    let since = Instant::now();
    let (pause, _) = scene
        .lines
        .longest_pause(Duration::from_secs(trial.stall + 5))?;
    scene.good_again(since, |_| true)?;
    // Measured between frames, since the fault has no end.
    let interrupted = pause > Duration::from_secs(1);
    let happened = format!(
        "{} reconnects, longest pause {:.1} s",
        scene.reconnects()?,
        pause.as_secs_f64()
    );
    scene.finish(
        fault,
        happened,
        if interrupted { pause } else { Duration::ZERO },
        if interrupted {
            "frames during the pause"
        } else {
            "nothing"
        }
        .into(),
    )
}

pub fn garbage(trial: &Trial) -> Result<Row> {
    let mut scene = Scene::start(trial, Scene::options(), "tcp")?;
    scene.victim.command(&format!("garbage {VICTIM} on"))?;
    sleep(Duration::from_secs(trial.stall) + trial.seconds(10, 1));
    let tries = scene.reconnects()?;
    scene.victim.command(&format!("garbage {VICTIM} off"))?;
    let good = scene.good_again(Instant::now(), |_| true)?;
    let happened = format!("no frames, {tries} attempts to reconnect");
    scene.finish(
        "random bytes as payload, with a valid SDP",
        happened,
        good,
        NOTHING.into(),
    )
}
