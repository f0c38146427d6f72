//! Search in an archive of a million tracks of a thousand films, with made embeddings: loading it,
//! finding the 50 nearest tracks, and appending a film. Every answer is compared with that of an
//! exhaustive search in 64 bits.

use std::fs::File;
use std::io::BufWriter;

use face_benches::{Random, median, time};
use face_gallery::ModelId;
use face_gallery::archive::{Archive, BatchRef, Writer};

const DIMENSIONS: usize = 128;
const FILMS: usize = 1000;
const TRACKS: u64 = 1000;
const QUERIES: u64 = 40;
/// Answers that are compared with an exhaustive search, which takes a while.
const CHECKED: u64 = 5;
const NEAREST: usize = 50;

fn vector(seed: u64) -> Vec<f32> {
    Random(seed).vector(DIMENSIONS)
}

fn film(number: usize) -> Vec<(u64, Vec<f32>)> {
    (0..TRACKS)
        .map(|track| (track, vector(number as u64 * TRACKS + track)))
        .collect()
}

/// The distances of the nearest rows, by comparing all of them.
fn exhaustive(archive: &Archive, query: &[f32]) -> Vec<f64> {
    let length = |v: &[f32]| v.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let mut all = Vec::with_capacity(archive.len());
    for row in 0..archive.len() {
        let row = archive.row(row);
        let product: f64 = row
            .iter()
            .zip(query)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum();
        all.push(1.0 - product / (length(&row) * length(query)));
    }
    all.sort_by(f64::total_cmp);
    all.truncate(NEAREST);
    all
}

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("index");
    let model = ModelId {
        name: "made".into(),
        sha256: "00".repeat(32),
    };
    let file = BufWriter::new(File::create(&path).expect("writable"));
    let mut writer = Writer::create(file, &model, DIMENSIONS).expect("writable");
    for number in 0..FILMS {
        let batch = BatchRef {
            label: &format!("film {number}"),
            stamp: "",
            rows: &film(number),
        };
        writer.add(&batch).expect("writable");
    }
    drop(writer.into_inner().into_inner().expect("writable"));

    let mut loads = Vec::new();
    for _ in 0..5 {
        loads.push(time(|| {
            let archive = Archive::open(&path).expect("readable");
            assert_eq!(archive.len(), FILMS * TRACKS as usize);
        }));
    }
    let archive = Archive::open(&path).expect("readable");
    let mut searches = Vec::new();
    for seed in 0..QUERIES {
        // Half of them are near a track.
        let mut query = vector(seed * 7919);
        if seed % 2 == 1 {
            query = vector(u64::MAX / 2 + seed);
        }
        let mut found = Vec::new();
        searches.push(time(|| found = archive.nearest(&query, NEAREST, 2.0)));
        if seed < CHECKED {
            let exact = exhaustive(&archive, &query);
            let same = found
                .iter()
                .zip(&exact)
                .all(|(a, b)| (a.distance - b).abs() < 1e-6);
            assert!(
                same && found.len() == NEAREST,
                "another answer than an exhaustive search"
            );
        }
    }
    let mut appends = Vec::new();
    for number in 0..5 {
        let rows = film(FILMS + number);
        let mut archive = Archive::open(&path).expect("readable");
        let batch = BatchRef {
            label: "new",
            stamp: "",
            rows: &rows,
        };
        appends.push(time(|| archive.append(&path, &[batch]).expect("writable")));
    }
    let size = std::fs::metadata(&path).expect("written").len();
    println!(
        "archive of {} tracks of {FILMS} films, {} MB:\n  \
         load {:.0} ms, the {NEAREST} nearest of one face {:.1} ms (slowest of {QUERIES}: {:.1} ms), \
         append a film of {TRACKS} tracks {:.1} ms\n  \
         {CHECKED} answers equal those of an exhaustive search",
        FILMS * TRACKS as usize,
        size / 1_000_000,
        median(&mut loads),
        median(&mut searches),
        searches.last().map_or(f64::NAN, |s| s.as_secs_f64() * 1e3),
        median(&mut appends),
    );
}
