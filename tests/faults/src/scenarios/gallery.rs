//! A gallery that is replaced by junk.

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
        // Written in place, like by an editor or an interrupted copy.
        fs::write(&gallery, junk)?;
        sleep(Duration::from_millis(1500));
        // Recognition goes on with the gallery that was read last.
        scene.lines.poll()?;
        scene.good_again(Instant::now(), named("anna"))?;
        kinds += 1;
    }
    ensure!(scene.reconnects()? == 0, "the camera reconnected");
    // A camera that reconnects needs a readable gallery.
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
        "the log does not mention it"
    );
    let happened = format!(
        "{kinds} kinds of junk: a warning for each, and the gallery in use stayed; a camera that reconnected waited \
         for a good gallery"
    );
    scene.finish(
        "gallery replaced by junk, then by a good one",
        happened,
        good,
        "nothing".into(),
    )
}
