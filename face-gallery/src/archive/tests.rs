use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const D: usize = 8;

fn model() -> ModelId {
    ModelId {
        name: "made".into(),
        sha256: "0".repeat(64),
    }
}

/// Deterministic vectors.
fn vector(seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..D)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

type Rows = Vec<(u64, Vec<f32>)>;

fn batch(label: &str, ids: std::ops::Range<u64>) -> (String, Rows) {
    (label.into(), ids.map(|id| (id, vector(id + 1))).collect())
}

fn write(batches: &[(String, Rows)]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("index");
    let file = File::create(&path).expect("writable");
    let mut writer = Writer::create(file, &model(), D).expect("writable");
    for (label, rows) in batches {
        let batch = BatchRef {
            label,
            stamp: "1",
            rows,
        };
        writer.add(&batch).expect("writable");
    }
    (folder, path)
}

/// The same by comparing every row.
fn brute(archive: &Archive, query: &[f32], k: usize, within: f64) -> Vec<Found> {
    let unit = normalised(query).expect("a direction");
    let mut all = Vec::new();
    for batch in 0..archive.batches().len() {
        for (id, row) in archive.rows(batch) {
            let distance = 1.0 - scan::similarity(&row, &unit);
            all.push(Found {
                batch,
                id,
                distance,
            });
        }
    }
    all.retain(|found| found.distance <= within);
    all.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    all.truncate(k);
    all
}

#[test]
fn it_grows_by_appending_and_finds_the_nearest() {
    let (_folder, path) = write(&[batch("a", 0..5), batch("empty", 0..0)]);
    let first = fs::read(&path).expect("written");
    let mut archive = Archive::open(&path).expect("readable");
    let (label, rows) = batch("b", 5..300);
    let new = BatchRef {
        label: &label,
        stamp: "2",
        rows: &rows,
    };
    archive.append(&path, &[new]).expect("writable");
    assert!(
        fs::read(&path).expect("there").starts_with(&first),
        "nothing is rewritten"
    );
    let archive = Archive::open(&path).expect("readable");
    assert_eq!((archive.len(), archive.model.clone()), (300, model()));
    let [found] = archive.nearest(&vector(78), 1, 0.5)[..] else {
        panic!("one");
    };
    assert_eq!((found.batch, found.id), (2, 77));
    assert!(found.distance < 1e-6);
    assert_eq!(
        archive.nearest(&vector(9), 20, 2.0),
        brute(&archive, &vector(9), 20, 2.0)
    );
    // Not what can be compared.
    assert!(archive.nearest(&[1.0; 3], 5, 2.0).is_empty());
    assert!(archive.nearest(&[0.0; D], 5, 2.0).is_empty());
    assert!(archive.nearest(&vector(1), 0, 2.0).is_empty());
}

#[test]
fn dropped_batches_are_not_found() {
    let (_folder, path) = write(&[batch("a", 0..50), batch("b", 50..90), batch("a", 90..120)]);
    let mut archive = Archive::open(&path).expect("readable");
    archive.retain(|i, batch| batch.label == "b" || i == 2);
    assert_eq!((archive.len(), archive.unused()), (70, 50));
    let all = archive.nearest(&vector(3), 500, 2.0);
    assert_eq!(all, brute(&archive, &vector(3), 500, 2.0));
    assert!(all.len() == 70 && all.iter().all(|found| found.id >= 50));
}

#[test]
fn an_unfinished_batch_is_left_out_and_then_cut_off() {
    let (_folder, path) = write(&[batch("a", 0..5)]);
    let whole = fs::read(&path).expect("written");
    let mut archive = Archive::open(&path).expect("readable");
    let (label, rows) = batch("b", 5..9);
    let new = || BatchRef {
        label: &label,
        stamp: "2",
        rows: &rows,
    };
    archive.append(&path, &[new()]).expect("writable");
    let longer = fs::read(&path).expect("written");
    for length in whole.len()..longer.len() {
        fs::write(&path, &longer[..length]).expect("writable");
        let mut archive = Archive::open(&path).expect("readable");
        assert_eq!(archive.len(), 5, "{length}");
        assert_eq!(archive.is_torn().expect("readable"), length > whole.len());
        archive.append(&path, &[new()]).expect("writable");
        assert_eq!(fs::read(&path).expect("there"), longer);
    }
}

#[test]
fn rows_without_direction_or_of_another_length_are_left_out() {
    let rows = vec![
        (1, vec![0.0; D]),
        (2, vec![1.0; 3]),
        (3, vec![f32::NAN; D]),
        (4, vector(4)),
    ];
    let (_folder, path) = write(&[("a".into(), rows)]);
    let archive = Archive::open(&path).expect("readable");
    assert_eq!(archive.batches()[0].ids, [4]);
}

#[test]
fn a_changed_file_is_an_error_and_no_panic() {
    let (_folder, path) = write(&[batch("a", 0..3), batch("b", 3..6)]);
    let whole = fs::read(&path).expect("written");
    let archive = Archive::open(&path).expect("readable");
    let expected = archive.nearest(&vector(2), 3, 2.0);
    for i in 0..whole.len() {
        let mut changed = whole.clone();
        changed[i] ^= 0x55;
        fs::write(&path, &changed).expect("writable");
        match Archive::open(&path) {
            Err(error) => assert!(error.to_string().contains("index"), "{error}"),
            // Exact numbers that are not those that were rounded are not used; a change of the last
            // bits or of a length that seems unfinished is not seen.
            Ok(archive) => {
                for found in archive.nearest(&vector(2), 3, 2.0) {
                    let near = expected.iter().find(|e| e.id == found.id);
                    assert!(near.is_none_or(|e| (e.distance - found.distance).abs() < 1e-3));
                }
            }
        }
    }
    for bytes in [&b""[..], b"FACEARC1", &[0; 64], &whole[..30]] {
        fs::write(&path, bytes).expect("writable");
        assert!(Archive::open(&path).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn the_search_is_exact(
        seeds in proptest::collection::vec(0u64..400, 1..600),
        query in 0u64..400,
        k in 1usize..40,
        within in 0.0f64..2.0,
    ) {
        // Seeds repeat: ties.
        let rows: Rows = (0..).zip(seeds.iter().map(|seed| vector(*seed))).collect();
        let half = rows.len() / 2;
        let (_folder, path) =
            write(&[("a".into(), rows[..half].to_vec()), ("b".into(), rows[half..].to_vec())]);
        let archive = Archive::open(&path).expect("readable");
        prop_assert_eq!(
            archive.nearest(&vector(query), k, within),
            brute(&archive, &vector(query), k, within)
        );
    }
}
