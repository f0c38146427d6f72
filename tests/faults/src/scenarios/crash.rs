//! Processes that are killed while they write, and a clock that is changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::hook::Hook;
use crate::lines::check;
use crate::live::{START, facepipe};
use crate::report::Row;
use crate::scene::{Scene, Trial, VICTIM};

/// Kills facepipe again and again while it writes lines, segments, events and a webhook's queue.
pub fn outputs(trial: &Trial) -> Result<Row> {
    let hook = Hook::start()?;
    let mut rng = StdRng::seed_from_u64(trial.seed);
    let mut scene = Scene::prepared(trial, Scene::options(), "tcp", &mut |site| {
        // Small files, so that a kill may hit a change of files, and constant events.
        site.cameras[0] += &format!(
            "jsonl = {{ path = \"out/{VICTIM}.jsonl\", max-size = \"20 kB\" }}\n\
             segments = {{ folder = \"out/segments\", length = \"1s\" }}\n\
             events = {{ path = \"out/victim-events.jsonl\", left-after = \"1s\", \
             webhooks = [{{ url = \"{}\" }}] }}\n",
            hook.url()
        );
        Ok(())
    })?;
    let out = scene.site.path("out");
    let kills = if trial.quick { 3 } else { 20 };
    let (mut torn, mut longest) = (0, Duration::ZERO);
    // The files that a kill may have truncated.
    let mut cut = BTreeSet::new();
    for kill in 0..kills {
        hook.refuse(kill % 2 == 0);
        // The camera goes and comes back, which makes events.
        scene.victim.command(&format!("disconnect {VICTIM}"))?;
        sleep(Duration::from_millis(rng.random_range(200..2500)));
        scene.live.kill();
        scene.killed = true;
        for file in jsonl(&out)? {
            torn += usize::from(check(&file)?.1 > 0);
        }
        cut.extend(segments(&out)?.pop());
        let (since, before) = (Instant::now(), stamp(&scene.site.lines(VICTIM)));
        scene.live = scene.site.start()?;
        while stamp(&scene.site.lines(VICTIM)) == before {
            ensure!(since.elapsed() < START, "no line:\n{}", scene.site.log());
            sleep(Duration::from_millis(20));
        }
        longest = longest.max(since.elapsed());
    }
    hook.refuse(false);
    let events = scene.site.path("out/victim-events.jsonl");
    let start = Instant::now();
    // Everything that was written as an event must arrive.
    let missing = loop {
        let written: Vec<Value> = fs::read_to_string(&events)
            .context("events")?
            .lines()
            .map(serde_json::from_str)
            .collect::<Result<_, _>>()?;
        let taken: BTreeSet<String> = hook.bodies().iter().map(key).collect();
        let missing: Vec<&Value> = written
            .iter()
            .filter(|event| !taken.contains(&key(event)))
            .collect();
        if missing.is_empty() && written.len() > kills {
            break 0;
        }
        if start.elapsed() > START {
            let first = missing.first().map(|event| event.to_string());
            anyhow::bail!(
                "{} of {} events did not arrive, such as {}",
                missing.len(),
                written.len(),
                first.unwrap_or_default()
            );
        }
        sleep(Duration::from_millis(200));
    };
    let delivered = hook.bodies().len();
    scene.end()?;
    let (mut count, mut files) = (0, 0);
    for file in jsonl(&out)? {
        let (lines, rest) = check(&file)?;
        ensure!(rest == 0, "{}: torn", file.display());
        count += lines;
        files += 1;
    }
    let (mut playable, mut unplayable) = (0, 0);
    for file in segments(&out)? {
        if plays(&file)? {
            playable += 1;
        } else {
            ensure!(cut.contains(&file), "{} does not play", file.display());
            unplayable += 1;
        }
    }
    ensure!(playable > 0, "no segment plays");
    let happened = format!(
        "{kills} kills: {count} whole lines in {files} files ({torn} torn ends removed), \
         {playable} segments play, {unplayable} were cut off within their first second, \
         {delivered} events delivered, {missing} missing"
    );
    scene.finish(
        "kill -9 while everything is written",
        happened,
        longest,
        "the second before".into(),
    )
}

/// Changes with every line written, even if the file starts over.
fn stamp(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).map_or((0, 0), |file| (file.ino(), file.len()))
}

/// Identifies an event by its id, or by its whole content.
fn key(event: &Value) -> String {
    event["id"]
        .as_str()
        .map_or_else(|| event.to_string(), Into::into)
}

/// The JSON Lines files in a folder.
fn jsonl(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect())
}

/// The segments below a folder of outputs; the last written one is last.
fn segments(out: &Path) -> Result<Vec<PathBuf>> {
    let folder = out.join("segments");
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "mp4") {
            files.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

fn plays(path: &Path) -> Result<bool> {
    // decodebin waits for ever on some files that are cut off in their header.
    let played = Command::new("timeout")
        .args(["60", "gst-launch-1.0", "-q", "filesrc"])
        .arg(format!("location={}", path.display()))
        .args(["!", "decodebin", "!", "fakesink"])
        .output()?;
    Ok(played.status.success())
}

/// Kills `facepipe gallery add` and `enroll` while they run. The gallery must always be readable.
pub fn gallery(trial: &Trial) -> Result<Row> {
    let mut rng = StdRng::seed_from_u64(trial.seed);
    let folder = tempfile::tempdir()?;
    let gallery = folder.path().join("g.safetensors");
    fs::copy(&trial.gallery, &gallery)?;
    let photo = crate::root().join("media/multi_face.jpg");
    let photos = folder.path().join("people/zoe");
    fs::create_dir_all(&photos)?;
    fs::copy(
        crate::root().join("media/single_face.jpg"),
        photos.join("1.jpg"),
    )?;
    ensure!(photo.is_file(), "no media: run `make setup`");
    let (kills, mut killed, mut done) = (if trial.quick { 10 } else { 60 }, 0, 0);
    let writing = |kill: usize| -> Result<Command> {
        let mut command = facepipe()?;
        if kill.is_multiple_of(2) {
            command
                .args(["gallery", "add"])
                .arg(&gallery)
                .arg("zoe")
                .arg(photos.join("1.jpg"));
        } else {
            command
                .arg("enroll")
                .arg(folder.path().join("people"))
                .arg("-o")
                .arg(&gallery);
        }
        Ok(command)
    };
    let start = Instant::now();
    ensure!(writing(0)?.output()?.status.success(), "gallery add");
    // Kills are spread over the run; the last ones come about when the gallery is written.
    let usual = start.elapsed().as_millis() as u64;
    for kill in 0..kills {
        let mut process = writing(kill)?
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()?;
        sleep(Duration::from_millis(
            rng.random_range(usual / 2..usual + usual / 4),
        ));
        match process.try_wait()? {
            Some(_) => done += 1,
            None => {
                process.kill()?;
                killed += 1;
            }
        }
        process.wait()?;
        let read = facepipe()?
            .args(["gallery", "info"])
            .arg(&gallery)
            .output()?;
        ensure!(
            read.status.success(),
            "after kill {kill}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
    }
    let left = fs::read_dir(folder.path())?.count();
    Ok(Row {
        fault: "kill -9 while a gallery is written".into(),
        happened: format!(
            "{killed} kills, {done} more came too late; readable each time, {} temporary files left",
            left - 2
        ),
        good_again: Some(Duration::ZERO),
        lost: "the change".into(),
        other: None,
    })
}

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

pub fn no_faketime() -> Option<String> {
    (!Path::new(FAKETIME).exists()).then(|| "no libfaketime (Debian: libfaketime)".into())
}

/// Sets the wall clock ahead and back, for facepipe only.
pub fn clock(trial: &Trial) -> Result<Row> {
    let clock = tempfile::NamedTempFile::new()?;
    fs::write(clock.path(), "+0")?;
    let mut scene = Scene::prepared(trial, Scene::options(), "tcp", &mut |site| {
        let file = clock.path().display().to_string();
        for (name, value) in [
            ("LD_PRELOAD", FAKETIME),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            // Setting a clock does not change the monotonic one.
            ("DONT_FAKE_MONOTONIC", "1"),
        ] {
            site.env.push((name.into(), value.into()));
        }
        Ok(())
    })?;
    let mut longest = Duration::ZERO;
    let mut days = BTreeSet::new();
    for step in ["+86400", "-3600", "+0"] {
        fs::write(clock.path(), step)?;
        let (pause, count) = scene
            .lines
            .longest_pause(Duration::from_secs(trial.stall + 3))?;
        ensure!(count > 0, "no frames after the clock was set to {step}");
        longest = longest.max(pause);
        let since = Instant::now();
        scene.good_again(since, |line| {
            line["time"].as_str().is_some_and(|t| t.len() > 10)
        })?;
        let text = fs::read_to_string(scene.site.lines(VICTIM))?;
        let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default())?;
        let day = last["time"].as_str().and_then(|t| t.get(..13));
        days.insert(day.unwrap_or_default().to_owned());
    }
    ensure!(days.len() > 1, "the clock was not set: {days:?}");
    ensure!(scene.reconnects()? == 0, "the camera reconnected");
    let happened = format!(
        "no reconnect, longest pause {:.1} s; lines carry the new time",
        longest.as_secs_f64()
    );
    scene.finish(
        "clock set a day ahead, an hour back",
        happened,
        Duration::ZERO,
        "nothing".into(),
    )
}
