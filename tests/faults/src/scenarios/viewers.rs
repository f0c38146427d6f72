//! Viewers of the annotated stream.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::report::Row;
use crate::scene::{Scene, Trial, VICTIM};
use crate::viewer::{self, Viewer};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn come_and_go(trial: &Trial) -> Result<Row> {
    let scene = Scene::prepared(trial, Scene::options(), "tcp", &mut |site| {
        site.cameras[0] += "restream = true\n";
        Ok(())
    })?;
    let port = scene.site.restream;
    let resident = Viewer::watch(port, VICTIM, "tcp")?;
    ensure!(resident.sees(PATIENCE), "no picture");
    // The first viewer of each kind creates sockets and threads that all others use.
    ensure!(
        Viewer::watch(port, VICTIM, "udp")?.sees(PATIENCE),
        "no picture over UDP"
    );
    let files = || open_files(scene.live.id());
    let before = files()?;
    let (count, mut slowest) = (if trial.quick { 20 } else { 200 }, Duration::ZERO);
    for i in 0..count {
        let begun = Instant::now();
        match i % 4 {
            // Hangs up in the middle of a request.
            0 => viewer::hang_up(port, VICTIM)?,
            // Leaves before the first picture.
            1 => drop(Viewer::watch(port, VICTIM, "tcp")?),
            i => {
                let transport = if i == 2 { "tcp" } else { "udp" };
                let seen = Viewer::watch(port, VICTIM, transport)?.sees(PATIENCE);
                ensure!(seen, "viewer {i} over {transport} sees nothing");
                slowest = slowest.max(begun.elapsed());
            }
        }
        // Discards the frames from before.
        while resident.sees(Duration::ZERO) {}
        ensure!(resident.sees(PATIENCE), "the resident viewer sees nothing");
    }
    let start = Instant::now();
    // Sessions of viewers that hung up end later.
    let mut after = files()?;
    while after > before + 8 && start.elapsed() < Duration::from_secs(90) {
        std::thread::sleep(Duration::from_millis(500));
        after = files()?;
    }
    ensure!(after <= before + 8, "{before} open files, then {after}");
    let happened = format!(
        "first picture within {:.1} s; the viewer that stayed saw every picture; open files: {before}, then {after}",
        slowest.as_secs_f64()
    );
    drop(resident);
    scene.finish(
        format!("{count} viewers come and go"),
        happened,
        Duration::ZERO,
        "nothing".into(),
    )
}

fn open_files(process: u32) -> Result<usize> {
    let folder = format!("/proc/{process}/fd");
    Ok(fs::read_dir(&folder).context(folder)?.count())
}
