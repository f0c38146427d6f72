//! A full disk: a small file system in memory, mounted only for this process.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::network::isolation;
use crate::lines::{Lines, check};
use crate::report::Row;
use crate::scene::{Scene, Trial, VICTIM};

pub fn obstacle() -> Option<String> {
    isolation()
}

pub fn full(trial: &Trial) -> Result<Row> {
    let mut disk = None;
    let mut scene = Scene::prepared(trial, Scene::options(), "tcp", &mut |site| {
        let folder = site.path("disk");
        fs::create_dir(&folder)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
            .arg(&folder)
            .status()?;
        ensure!(mounted.success(), "mount");
        // The victim writes there, the other camera elsewhere.
        site.cameras[0] += "jsonl = { path = \"disk/victim.jsonl\" }\n\
            events = { path = \"disk/events.jsonl\" }\n\
            segments = { folder = \"disk/segments\", length = \"2s\" }\n";
        // The lines that the scene follows.
        fs::create_dir_all(site.path("out"))?;
        std::os::unix::fs::symlink(folder.join("victim.jsonl"), site.lines(VICTIM))?;
        disk = Some(folder);
        Ok(())
    })?;
    let disk = disk.unwrap_or_default();
    let ballast = disk.join("ballast");
    fill(&ballast)?;
    let frames = scene.live.frames(VICTIM)?;
    let time = trial.seconds(15, 3);
    sleep(time);
    let more = scene.live.frames(VICTIM)? - frames;
    ensure!(more > 0, "no frames are analysed while the disk is full");
    let metrics = scene.live.metrics()?;
    let errors = metrics.of("facepipe_output_errors_total", VICTIM);
    let (whole, _) = check(&disk.join("victim.jsonl"))?;
    fs::remove_file(&ballast)?;
    let since = Instant::now();
    scene.lines = Lines::follow(&disk.join("victim.jsonl"));
    let good = scene.good_again(since, |_| true)?;
    sleep(Duration::from_secs(5));
    let (lines, torn) = check(&disk.join("victim.jsonl"))?;
    ensure!(
        torn == 0 && lines > whole,
        "{lines} lines, {torn} bytes torn"
    );
    let happened = format!(
        "{more} frames were analysed in that time, {errors} losses were counted; all {lines} lines are whole"
    );
    let fault = format!("disk full for {} s", time.as_secs());
    let row = scene.finish(
        fault,
        happened,
        good,
        "everything written in that time".into(),
    );
    let _ = Command::new("umount").arg("--lazy").arg(&disk).status();
    row
}

/// Fills the remaining space.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    for size in [1 << 16, 1 << 9, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
    Ok(())
}
