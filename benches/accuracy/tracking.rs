//! Tracks on made videos of people who cross: the detector runs once per video and size, and each tracker
//! follows what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use face_meta::Face;
use face_meta::geometry::Rect;
use face_tests::Running;
use face_tests::crossing::{SCENES, SEEN, make, of_media};
use gst::prelude::*;
use serde_json::Value;

use crate::table::{Table, number, percent};

/// How faces are followed.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Setting {
    algorithm: &'static str,
    appearance: &'static str,
}

const SETTINGS: [Setting; 5] = {
    const fn of(algorithm: &'static str, appearance: &'static str) -> Setting {
        Setting {
            algorithm,
            appearance,
        }
    }
    [
        of("iou", "none"),
        of("bytetrack", "none"),
        of("ocsort", "none"),
        of("bytetrack", "auto"),
        of("ocsort", "auto"),
    ]
};

/// Sizes at which faces are detected: the frame's own, and the default.
const SIZES: [u32; 2] = [0, 640];

/// Measures all settings on all made videos.
pub fn crossing(out: &mut String) -> Result<()> {
    let folder = tempfile::tempdir()?;
    *out += "Made videos of people who cross, pass behind pillars and hide one another (`crossing`). Someone who \
         comes back after leaving the picture is a new visitor. IDF1 of detected faces in %, with the tracks \
         of all visitors in parentheses.\n\n";
    let mut videos = Table::new([
        "video",
        "detector at",
        "visitors",
        "iou",
        "bytetrack, none",
        "ocsort, none",
        "bytetrack, auto",
        "ocsort, auto",
    ]);
    let mut sums = [[Score::default(); SETTINGS.len()]; SIZES.len()];
    for scene in &SCENES {
        let footage = make(scene, of_media(), folder.path())?;
        for (size, sums) in SIZES.into_iter().zip(&mut sums) {
            eprintln!("accuracy: tracks of {} at {size}", scene.name);
            let found = detect(&footage.video, size)?;
            let mut cells = Vec::new();
            let mut visitors = 0;
            let followed = follow(&footage.video, &found, &SETTINGS, folder.path())?;
            for (followed, sum) in followed.iter().zip(sums) {
                let mut score = score(&followed.result, &footage.visits, f64::from(scene.rate))?;
                score.time = followed.time;
                cells.push(format!("{} ({})", percent(score.idf1, 1), score.tracks));
                visitors = score.people;
                sum.add(&score);
            }
            let mut cells = cells.into_iter();
            let mut cell = || cells.next().unwrap_or_default();
            videos.row([
                scene.name.into(),
                pixels(size),
                visitors.to_string(),
                cell(),
                cell(),
                cell(),
                cell(),
                cell(),
            ]);
        }
    }
    *out += &format!("{videos}\n");
    let mut totals = Table::new([
        "detector at",
        "algorithm",
        "appearance",
        "mean IDF1 %",
        "switches",
        "of visitors hidden for less than 1 s",
        "tracks",
        "second boxes on a face",
        "predicted boxes",
        "of them without a face",
        "ms per frame",
    ]);
    let count = SCENES.len() as f64;
    for (size, sums) in SIZES.into_iter().zip(&sums) {
        for (setting, sum) in SETTINGS.iter().zip(sums) {
            totals.row([
                pixels(size),
                setting.algorithm.into(),
                setting.appearance.into(),
                percent(sum.idf1 / count, 1),
                sum.switches.to_string(),
                sum.short.to_string(),
                format!("{} of {}", sum.tracks, sum.people),
                sum.doubles.to_string(),
                sum.predicted.to_string(),
                sum.astray.to_string(),
                number(sum.time / count, 3),
            ]);
        }
    }
    *out += &format!("All videos together:\n\n{totals}\n");
    Ok(())
}

fn pixels(size: u32) -> String {
    match size {
        0 => "full size".into(),
        size => size.to_string(),
    }
}

/// What a detector found on each frame.
struct Found(Vec<Vec<Face>>);

/// Runs the detector at `size` on a video.
fn detect(video: &Path, size: u32) -> Result<Found> {
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! queue ! facedetector inference-size={size} \
         frames-in-flight=2 ! appsink name=out sync=false",
        video.display()
    ))?;
    running.play()?;
    let mut faces = Vec::new();
    while let Some(frame) = running.next()? {
        faces.push(frame.faces);
    }
    Ok(Found(faces))
}

/// What a tracker made of a video.
struct Followed {
    /// The JSON lines.
    result: PathBuf,
    /// Time in the tracker per frame, in ms.
    time: f64,
}

/// Follows the faces with each setting; the results go to `folder`.
fn follow(
    video: &Path,
    found: &Found,
    settings: &[Setting],
    folder: &Path,
) -> Result<Vec<Followed>> {
    let branches: String = settings
        .iter()
        .enumerate()
        .map(|(i, setting)| {
            format!(
                " t. ! queue ! facetracker name=f{i} algorithm={} appearance={} ! facemetajson ! \
                 filesink location=\"{}\"",
                setting.algorithm,
                setting.appearance,
                result(folder, i).display()
            )
        })
        .collect();
    let running = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! identity name=mark ! tee name=t {branches}",
        video.display()
    ))?;
    let faces = Arc::new(found.0.clone());
    let pad = running.element("mark").static_pad("src").context("a pad")?;
    let next = std::sync::atomic::AtomicUsize::new(0);
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let caps = pad.current_caps();
        let side = |name| {
            let structure = caps.as_ref().and_then(|caps| caps.structure(0));
            structure.map_or(0, |s| s.get::<i32>(name).unwrap_or(0) as u32)
        };
        let size = (side("width"), side("height"));
        let buffer = buffer.make_mut();
        face_meta::set_examined(buffer, true);
        for face in faces.get(n).into_iter().flatten() {
            face_meta::add(buffer, size, face);
        }
        gst::PadProbeReturn::Ok
    });
    running.play()?;
    running.wait()?;
    let followed = (0..settings.len()).map(|i| {
        let stats = running
            .element(&format!("f{i}"))
            .property::<gst::Structure>("stats");
        let number = |name: &str| stats.get::<u64>(name).unwrap_or(0) as f64;
        Followed {
            result: result(folder, i),
            time: number("time-total") / number("frames") / 1e6,
        }
    });
    Ok(followed.collect())
}

fn result(folder: &Path, i: usize) -> PathBuf {
    folder.join(format!("{i}.jsonl"))
}

/// How good tracks are.
#[derive(Debug, Clone, Copy, Default)]
struct Score {
    idf1: f64,
    switches: u64,
    /// Switches of people who were not seen for less than a second.
    short: u64,
    people: usize,
    /// Tracks that people had, summed over the people.
    tracks: usize,
    /// Boxes on a face that has another box.
    doubles: u64,
    /// Predicted boxes, and those where there is no face.
    predicted: u64,
    astray: u64,
    /// Time in the tracker per frame, in ms.
    time: f64,
}

impl Score {
    fn add(&mut self, other: &Self) {
        self.idf1 += other.idf1;
        self.switches += other.switches;
        self.short += other.short;
        self.people += other.people;
        self.tracks += other.tracks;
        self.doubles += other.doubles;
        self.predicted += other.predicted;
        self.astray += other.astray;
        self.time += other.time;
    }
}

/// Compares a result with the truth, with `facepipe evaluate` and by our own counts.
fn score(result: &Path, truth: &Path, rate: f64) -> Result<Score> {
    // Faces without a track are none of the tracker's.
    let tracked = result.with_extension("tracked.jsonl");
    let mut lines = String::new();
    for line in std::fs::read_to_string(result)?.lines() {
        let mut line: Value = serde_json::from_str(line)?;
        if let Some(faces) = line.get_mut("faces").and_then(Value::as_array_mut) {
            faces.retain(|face| !face["track"].is_null());
        }
        lines += &format!("{line}\n");
    }
    std::fs::write(&tracked, lines)?;
    let result = &tracked;
    let program = std::env::current_exe()?.with_file_name("facepipe");
    let mut command = Command::new(program);
    command.arg("evaluate").arg(result).arg(truth);
    command.args(["--json", "--no-predicted"]);
    let output = command.output().context("facepipe")?;
    ensure!(
        output.status.success(),
        "facepipe evaluate failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let number = |pointer: &str| json.pointer(pointer).and_then(Value::as_f64);
    let mut score = Score {
        idf1: number("/tracking/idf1").unwrap_or(f64::NAN),
        switches: number("/tracking/switches").unwrap_or(f64::NAN) as u64,
        ..Default::default()
    };
    let truth = labels(truth)?;
    let mut last: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut had: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for line in std::fs::read_to_string(result)?.lines() {
        let frame: Value = serde_json::from_str(line)?;
        let Some(n) = frame["frame"].as_u64() else {
            continue;
        };
        let faces: Vec<(u64, bool, Rect)> = frame["faces"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|face| {
                let side = |i: usize| face["box"][i].as_f64();
                let rect = Rect::new(side(0)?, side(1)?, side(2)?, side(3)?);
                let predicted = face["predicted"].as_bool().unwrap_or(false);
                Some((face["track"].as_u64()?, predicted, rect))
            })
            .collect();
        let none = Vec::new();
        let labels = truth.get(&(n + 1)).unwrap_or(&none);
        for (_, predicted, rect) in &faces {
            if *predicted {
                score.predicted += 1;
                let near = labels.iter().any(|label| label.1.iou(rect) > 0.3);
                score.astray += u64::from(!near);
            }
        }
        for (person, rect, _) in labels.iter().filter(|label| label.2 >= SEEN) {
            let mut on: Vec<(f64, u64)> = faces
                .iter()
                .map(|(track, _, face)| (face.iou(rect), *track))
                .filter(|on| on.0 > 0.4)
                .collect();
            on.sort_by(|a, b| b.0.total_cmp(&a.0));
            // A box is of the person whom it fits best.
            on.retain(|(iou, track)| {
                let face = faces.iter().find(|face| face.0 == *track);
                labels.iter().all(|other| {
                    other.0 == *person || face.is_none_or(|face| face.2.iou(&other.1) < *iou)
                })
            });
            score.doubles += on.len().saturating_sub(1) as u64;
            if let Some((_, track)) = on.first() {
                had.entry(*person).or_default().insert(*track);
                if let Some((seen, before)) = last.insert(*person, (n, *track))
                    && before != *track
                    && n > seen + 1
                    && ((n - seen) as f64) < rate
                {
                    score.short += 1;
                }
            }
        }
    }
    score.people = had.len();
    score.tracks = had.values().map(BTreeSet::len).sum();
    Ok(score)
}

type Label = (u64, Rect, f64);

/// The labels of MOTChallenge text, by frame.
fn labels(path: &Path) -> Result<BTreeMap<u64, Vec<Label>>> {
    let mut labels: BTreeMap<u64, Vec<Label>> = BTreeMap::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let numbers: Vec<f64> = line.split(',').filter_map(|n| n.parse().ok()).collect();
        let [frame, person, x, y, w, h, _, _, visible] = numbers[..] else {
            continue;
        };
        let rect = Rect::new(x - 1.0, y - 1.0, w, h);
        let labels = labels.entry(frame as u64).or_default();
        labels.push((person as u64, rect, visible));
    }
    Ok(labels)
}
