//! A gallery that is replaced by something that is none.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::live::enroll;
use crate::report::Row;
use crate::scene::{Scene, Trial, VICTIM};

pub fn junk(trial: &Trial) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let gallery = folder.path().join("live.safetensors");
    fs::copy(&trial.gallery, &gallery)?;
    let mut scene = Scene::prepared(trial, Scene::options(), "tcp", &mut |site| {
        site.cameras[0] += &format!("gallery = {:?}\n", gallery.display().to_string());
        Ok(())
    })?;
    let named = |name: &'static str| {
        move |line: &serde_json::Value| {
            line["faces"]
                .as_array()
                .is_some_and(|f| f.iter().any(|f| f["name"] == name))
        }
    };
    scene.good_again(Instant::now(), named("anna"))?;
    let good = fs::read(&trial.gallery)?;
    let mut kinds = 0;
    for junk in [
        Vec::new(),
        vec![0xff; 4096],
        good[..good.len() / 2].to_vec(),
        [&good[..8], &vec![b'{'; 1 << 20][..]].concat(),
    ] {
        // In place, as an editor or a copy that broke off would.
        fs::write(&gallery, junk)?;
        sleep(Duration::from_millis(1500));
        // Still the one that was read last.
        scene.lines.poll()?;
        scene.good_again(Instant::now(), named("anna"))?;
        kinds += 1;
    }
    ensure!(scene.reconnects()? == 0, "the camera was connected again");
    // A camera that connects anew needs a gallery that can be read.
    scene.victim.command(&format!("disconnect {VICTIM}"))?;
    sleep(Duration::from_secs(3));
    let frames = scene.live.frames(VICTIM)?;
    let new = enroll(folder.path(), "berta")?;
    fs::rename(new, &gallery)?;
    let since = Instant::now();
    let good = scene.good_again(since, named("berta"))?;
    ensure!(scene.live.frames(VICTIM)? > frames, "no frames");
    let log = scene.site.log();
    ensure!(
        log.contains("live.safetensors"),
        "the log says nothing of it"
    );
    let happened = format!(
        "{kinds} kinds of junk: warned, went on with the gallery in use; a camera that connected again meanwhile waited \
         for a good one"
    );
    scene.finish(
        "gallery replaced by junk, then a good one",
        happened,
        good,
        "nothing".into(),
    )
}
