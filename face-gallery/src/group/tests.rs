use super::*;
use ndarray::Array2;

/// Pairs that may not be joined. A cluster is known by all its rows.
struct Apart {
    pairs: Vec<(usize, usize)>,
    members: Vec<Vec<usize>>,
}

impl Apart {
    fn new(n: usize, pairs: &[(usize, usize)]) -> Self {
        Self {
            pairs: pairs.to_vec(),
            members: (0..n).map(|row| vec![row]).collect(),
        }
    }
}

impl Bonds for Apart {
    fn may_join(&self, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|cluster| &self.members[cluster]);
        let apart = |x: &usize, y: &usize| self.pairs.contains(&(*x.min(y), *x.max(y)));
        !a.iter().any(|x| b.iter().any(|y| apart(x, y)))
    }

    fn join(&mut self, into: usize, from: usize) {
        let moved = std::mem::take(&mut self.members[from]);
        self.members[into].extend(moved);
    }
}

/// Directions in the plane, given by their angles in degrees.
pub fn directions(angles: &[f32]) -> Array2<f32> {
    let rows = angles.iter().map(|a| a.to_radians());
    let numbers: Vec<f32> = rows.flat_map(|a| [a.cos(), a.sin()]).collect();
    Array2::from_shape_vec((angles.len(), 2), numbers).expect("two each")
}

fn clusters(angles: &[f32], apart: &[(usize, usize)], threshold: f64) -> Vec<Vec<usize>> {
    let units = directions(angles);
    group(
        units.view(),
        &vec![1.0; angles.len()],
        &mut Apart::new(angles.len(), apart),
        threshold,
        |_| true,
    )
    .expect("not stopped")
}

/// The definition, cubic in time: repeatedly joins the nearest two of all.
fn by_definition(units: &Array2<f32>, apart: &[(usize, usize)], threshold: f64) -> Vec<Vec<usize>> {
    let far = |a: &usize, b: &usize| match apart.contains(&(*a.min(b), *a.max(b))) {
        true => f64::INFINITY,
        false => f64::from(1.0 - units.row(*a).dot(&units.row(*b))),
    };
    let mut clusters: Vec<Vec<usize>> = (0..units.nrows()).map(|i| vec![i]).collect();
    loop {
        let mut best = (threshold, 0, 0);
        for j in 1..clusters.len() {
            for i in 0..j {
                let pairs = clusters[i]
                    .iter()
                    .flat_map(|a| clusters[j].iter().map(move |b| (a, b)));
                let mean = pairs.map(|(a, b)| far(a, b)).sum::<f64>()
                    / (clusters[i].len() * clusters[j].len()) as f64;
                if mean < best.0 {
                    best = (mean, i, j);
                }
            }
        }
        if best.2 == 0 {
            break;
        }
        let moved = clusters.remove(best.2);
        clusters[best.1].extend(moved);
    }
    for cluster in &mut clusters {
        cluster.sort_unstable();
    }
    clusters.sort();
    clusters
}

#[test]
fn the_chain_does_what_the_definition_says() {
    // A generator of pseudo-random numbers, always the same.
    let mut state = 7u64;
    let mut random = move |below: u64| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let mut joined = 0;
    for _ in 0..60 {
        let n = 3 + random(28) as usize;
        let mut units = Array2::from_shape_fn((n, 5), |_| random(2001) as f32 / 1000.0 - 1.0);
        for mut row in units.rows_mut() {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        }
        let apart: Vec<(usize, usize)> = (0..n / 3)
            .map(|_| (random(n as u64) as usize, random(n as u64) as usize))
            .filter(|(a, b)| a < b)
            .collect();
        for threshold in [0.2, 0.6, 0.9] {
            let found = group(
                units.view(),
                &vec![1.0; n],
                &mut Apart::new(n, &apart),
                threshold,
                |_| true,
            );
            let found = found.expect("not stopped");
            assert_eq!(found, by_definition(&units, &apart, threshold));
            joined += n - found.len();
            for &(a, b) in &apart {
                assert!(!found.iter().any(|c| c.contains(&a) && c.contains(&b)));
            }
        }
    }
    assert!(joined > 500, "{joined}");
}

#[test]
fn near_ones_are_one_and_a_bridge_does_not_join_two() {
    let angles = [0.0, 90.0, 4.0, 94.0, 8.0];
    assert_eq!(clusters(&angles, &[], 0.1), [vec![0, 2, 4], vec![1, 3]]);
    // 1 - cos 40° = 0.23: each is near enough to the next, but the first is far from the last.
    let row: Vec<f32> = (0..5).map(|i| 40.0 * i as f32).collect();
    assert_eq!(clusters(&row, &[], 0.3).len(), 3);
    assert_eq!(clusters(&row, &[], 2.0).len(), 1);
}

#[test]
fn whoever_was_seen_together_stays_apart() {
    let angles = [0.0, 1.0, 2.0, 3.0];
    assert_eq!(clusters(&angles, &[(0, 1)], 0.1).len(), 2);
    let all = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    assert_eq!(clusters(&angles, &all, 2.0).len(), 4);
}

#[test]
fn none_one_and_equal_ones() {
    assert!(clusters(&[], &[], 0.5).is_empty());
    assert_eq!(clusters(&[5.0], &[], 0.5), [[0]]);
    assert_eq!(clusters(&[5.0; 6], &[], 0.0), [[0, 1, 2, 3, 4, 5]]);
    // All equally far apart.
    let units = Array2::<f32>::eye(4);
    let found = |threshold| group(units.view(), &[1.0; 4], &mut (), threshold, |_| true);
    assert_eq!(found(0.9).map(|c| c.len()), Some(4));
    assert_eq!(found(1.0).map(|c| c.len()), Some(1));
}

#[test]
fn a_heavy_row_counts_more() {
    // From 0° and 30°, which are one cluster, the distances to 90° are 1.0 and 0.5.
    let units = directions(&[0.0, 30.0, 90.0]);
    let count = |weights: &[f64]| {
        let found = group(units.view(), weights, &mut (), 0.7, |_| true);
        found.map(|clusters| clusters.len())
    };
    assert_eq!(count(&[1.0, 1.0, 1.0]), Some(2));
    assert_eq!(count(&[1.0, 9.0, 1.0]), Some(1));
    assert_eq!(count(&[9.0, 1.0, 1.0]), Some(2));
}

#[test]
fn it_can_be_stopped() {
    let units = directions(&[0.0; 9]);
    for step in [0, 12, 16] {
        let found = group(units.view(), &[1.0; 9], &mut (), 0.5, |done| done < step);
        assert_eq!(found, None);
    }
}

#[test]
fn many_people_are_told_apart() {
    const TRACKS: usize = 2000;
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    // People with ten tracks each.
    let people = Array2::from_shape_fn((TRACKS / 10, 128), |_| random());
    let mut units = Array2::from_shape_fn((TRACKS, 128), |(i, d)| {
        people[[i % people.nrows(), d]] + 0.5 * random()
    });
    for mut row in units.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    let found = group(units.view(), &[1.0; TRACKS], &mut (), 0.54, |_| true);
    assert_eq!(found.map(|f| f.len()), Some(people.nrows()));
}

#[test]
fn among_few_rows_more_may_be_one_person() {
    let mut nearness = Nearness {
        threshold: 0.637,
        strangers: Some(Strangers {
            mean: 0.088,
            deviation: 0.088,
        }),
        fixed: None,
    };
    let limits = [1, 10, 40, 200, 1000, 1_000_000].map(|rows| nearness.limit(rows));
    assert!(limits.is_sorted_by(|a, b| a >= b), "{limits:?}");
    assert_eq!(limits[0], 0.637);
    assert!((limits[2] - 0.589).abs() < 0.002, "{limits:?}");
    assert!((limits[5] - 0.85 * 0.637).abs() < 1e-9, "{limits:?}");
    nearness.fixed = Some(0.3);
    assert_eq!(nearness.limit(10), 0.3);
    (nearness.fixed, nearness.strangers) = (None, None);
    assert!((nearness.limit(10) - 0.85 * 0.637).abs() < 1e-9);
}

/// The most memory that this process has used, in MB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes / 1024)
}

#[test]
#[ignore = "a measurement: prints time and memory for 200 000 tracks"]
fn an_archive() {
    const TRACKS: usize = 200_000;
    let mut state = 7u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    // One person on a thousand tracks, others on few; what they have in common is half of a face.
    let people = Array2::from_shape_fn((TRACKS / 10, 128), |_| random());
    let mut units = Array2::from_shape_fn((TRACKS, 128), |(i, d)| {
        let person = if i % 200 == 0 { 0 } else { i % people.nrows() };
        people[[person, d]] + 0.9 * random()
    });
    for mut row in units.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    let begin = std::time::Instant::now();
    let mut searched = None;
    let found = group(units.view(), &vec![1.0; TRACKS], &mut (), 0.54, |done| {
        if done >= TRACKS {
            searched.get_or_insert(begin.elapsed());
        }
        true
    });
    let found = found.expect("not stopped");
    eprintln!(
        "{} clusters, the largest of {}; pairs in {:.0?}, all in {:.0?}; {} MB",
        found.len(),
        found.iter().map(Vec::len).max().unwrap_or(0),
        searched.unwrap_or_default(),
        begin.elapsed(),
        peak_memory().unwrap_or(0)
    );
}
