//! Names analysed inputs again after the gallery has changed, as `facepipe name` does: made embeddings of
//! 10 000 tracks in 100 inputs, 60 frames each track, and a gallery of 200 people.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use face_analysis::name::{Renaming, rename};
use face_analysis::record::{Face, Frame, Line, Summary, Track, TrackSummary};
use face_benches::{Random, median, time};
use face_core::model::Model;
use face_gallery::{Gallery, ModelId, Row};
use serde_json::json;

const DIMENSIONS: usize = 128;
const INPUTS: usize = 100;
const TRACKS: usize = 100;
const FRAMES: u64 = 60;
const PEOPLE: usize = 200;
const PHOTOS: usize = 5;
const ROUNDS: usize = 5;
/// The distance of a face from its person's centre.
const NOISE: f32 = 0.6;

fn gallery(centres: &[Vec<f32>], model: &ModelId, random: &mut Random, prefix: &str) -> Gallery {
    let mut gallery = Gallery::new(model.clone(), DIMENSIONS);
    for (person, centre) in centres.iter().enumerate() {
        for photo in 0..PHOTOS {
            let row = Row {
                person: format!("{prefix}{person}"),
                source: format!("{photo}.jpg"),
            };
            assert!(gallery.push(row, &random.around(centre, NOISE)));
        }
    }
    gallery
}

/// One input, as `facepipe analyze` writes it.
fn input(folder: &Path, centres: &[Vec<f32>], model: &ModelId, random: &mut Random) {
    fs::create_dir_all(folder).expect("writable");
    let mut tracks = Vec::new();
    let mut lines = Vec::new();
    let mut numbers: Vec<u8> = Vec::new();
    for id in 1..=TRACKS as u64 {
        let start = id * 2_000_000_000;
        let track = Track {
            track: id,
            frames: FRAMES,
            ..Track::default()
        };
        for frame in 0..FRAMES {
            let face = Face {
                track: Some(id),
                r#box: [10.0, 10.0, 50.0, 60.0],
                ..Face::default()
            };
            lines.push(Line::Frame(Frame {
                frame: (id - 1) * FRAMES + frame,
                pts: Some(start + frame * 25_000_000),
                faces: vec![face],
                ..Frame::default()
            }));
        }
        lines.push(Line::Track(track.clone()));
        tracks.push(TrackSummary {
            track,
            screen_time_ns: FRAMES * 25_000_000,
            appearances: vec![[start, start + FRAMES * 25_000_000]],
            person: Some(format!("stranger-{id}")),
            ..TrackSummary::default()
        });
        let centre = &centres[random.bits() as usize % centres.len()];
        numbers.extend(
            random
                .around(centre, NOISE)
                .iter()
                .flat_map(|v| v.to_le_bytes()),
        );
    }
    let lines: Vec<String> = lines
        .iter()
        .map(|line| serde_json::to_string(line).expect("JSON"))
        .collect();
    fs::write(folder.join("faces.jsonl"), lines.join("\n") + "\n").expect("writable");
    let ids: Vec<u64> = (1..=TRACKS as u64).collect();
    let header = json!({
        "__metadata__": {
            "tracks": serde_json::to_string(&ids).expect("JSON"),
            "model": model.name,
            "model-sha256": model.sha256,
        },
        "embeddings": {
            "dtype": "F32",
            "shape": [TRACKS, DIMENSIONS],
            "data_offsets": [0, numbers.len()],
        },
    });
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(numbers);
    fs::write(folder.join("tracks.safetensors"), bytes).expect("writable");
    let mut summary = Summary {
        version: 1,
        input: folder.display().to_string(),
        frames: TRACKS as u64 * FRAMES,
        duration_ns: TRACKS as u64 * 2_000_000_000,
        tracks,
        ..Summary::default()
    };
    summary.note_files(folder).expect("readable");
    let text = serde_json::to_string_pretty(&summary).expect("JSON");
    fs::write(folder.join("summary.json"), text).expect("writable");
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let results = folder.path().join("results");
    let descriptor = Model::find("sface")
        .expect("`make models` fetches it")
        .descriptor;
    let model = ModelId {
        name: descriptor.name.clone(),
        sha256: "00".repeat(32),
    };
    let mut random = Random(1);
    let centres: Vec<Vec<f32>> = (0..PEOPLE).map(|_| random.vector(DIMENSIONS)).collect();
    for number in 0..INPUTS {
        let folder = results.join(format!("film-{number:03}"));
        input(&folder, &centres, &model, &mut random);
    }
    let galleries = ["person ", "Person "].map(|prefix| {
        let path = folder.path().join(format!("{prefix}.safetensors"));
        let gallery = gallery(&centres, &model, &mut Random(2), prefix);
        gallery.write(&path).expect("writable");
        path
    });
    let named = |gallery: &PathBuf, dry_run| {
        let mut changes = 0;
        let took = time(|| {
            let renamed = rename(&Renaming {
                folders: std::slice::from_ref(&results),
                gallery: Some(gallery),
                dry_run,
                ..Renaming::default()
            });
            let renamed = renamed.expect("results");
            assert!(renamed.left_out.is_empty());
            changes = renamed.changes.len();
        });
        (took, changes)
    };
    let mut rows: [(&str, Vec<Duration>, usize); 3] = [
        ("all names change: decided (--dry-run)", Vec::new(), 0),
        ("all names change: decided and written", Vec::new(), 0),
        ("no name changes", Vec::new(), 0),
    ];
    for round in 0..ROUNDS {
        let gallery = &galleries[round % 2];
        for (row, dry_run) in rows.iter_mut().zip([true, false, false]) {
            let (took, changes) = named(gallery, dry_run);
            row.1.push(took);
            row.2 = changes;
        }
    }
    println!(
        "naming {} tracks in {INPUTS} inputs again ({FRAMES} frames each), by a gallery of {PEOPLE} people and \
         {} photos; medians of {ROUNDS} rounds",
        INPUTS * TRACKS,
        PEOPLE * PHOTOS
    );
    println!("{:<40} {:>8} {:>8}", "", "changed", "ms");
    for (what, mut times, changes) in rows {
        println!("{what:<40} {changes:>8} {:>8.0}", median(&mut times));
    }
}
