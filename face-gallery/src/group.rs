//! Decides which tracks are one person: agglomerative clustering by average linkage, up to a distance.
//!
//! The two nearest clusters are joined repeatedly, until none are nearer than the threshold. The
//! distance of two clusters is the mean over all pairs of their tracks, so one doubtful pair cannot
//! join two people. Tracks that cannot be one person are infinitely far apart, and so are all
//! clusters that contain such a pair.

use ndarray::{ArrayView2, s};

/// The limit of tracks to group. Their distances take `n² / 2` numbers of 4 bytes, 800 MB.
pub const MOST_TRACKS: usize = 20_000;

/// The distances between all pairs of `n` points, each pair once.
struct Distances {
    n: usize,
    /// First those from 0 to 1, 2, …, then those from 1 to 2, 3, …
    condensed: Vec<f32>,
}

impl Distances {
    fn index(&self, a: usize, b: usize) -> usize {
        let (a, b) = if a < b { (a, b) } else { (b, a) };
        a * (2 * self.n - a - 1) / 2 + b - a - 1
    }

    fn get(&self, a: usize, b: usize) -> f32 {
        self.condensed[self.index(a, b)]
    }

    fn set(&mut self, a: usize, b: usize, distance: f32) {
        let index = self.index(a, b);
        self.condensed[index] = distance;
    }

    /// The cosine distances between the rows of `units`, which have length 1; infinite for pairs in
    /// `apart`. `goes_on` receives the number of rows done. If it returns `false`, the result is
    /// `None`.
    fn new(
        units: ArrayView2<f32>,
        apart: &[(usize, usize)],
        mut goes_on: impl FnMut(usize) -> bool,
    ) -> Option<Self> {
        let n = units.nrows();
        let mut condensed = Vec::with_capacity(n * n.saturating_sub(1) / 2);
        for row in 0..n {
            if !goes_on(row) {
                return None;
            }
            let similarities = units.slice(s![row + 1.., ..]).dot(&units.row(row));
            condensed.extend(similarities.iter().map(|s| (1.0 - s).max(0.0)));
        }
        let mut distances = Self { n, condensed };
        for &(a, b) in apart {
            distances.set(a, b, f32::INFINITY);
        }
        Some(distances)
    }
}

/// The clusters of the rows of `units` [N, D], which have length 1. A cluster is its row numbers in
/// order; the clusters are sorted by their first rows. `weights` says how much a row counts in the
/// mean. Pairs in `apart`, which are different rows, are never in one cluster. `goes_on` receives
/// the number of steps done out of 2 N. If it returns `false`, the result is `None`.
pub fn group(
    units: ArrayView2<f32>,
    weights: &[f64],
    apart: &[(usize, usize)],
    threshold: f64,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Option<Vec<Vec<usize>>> {
    let distances = Distances::new(units, apart, &mut goes_on)?;
    chain(distances, weights.to_vec(), threshold as f32, goes_on)
}

/// Clustering by nearest-neighbour chains. A cluster joined from two is never nearer to a third
/// than the nearer of the two was. So two clusters that are nearest to each other can be joined at
/// once, whatever the others are. This makes the whole algorithm quadratic in time.
fn chain(
    mut distances: Distances,
    mut weights: Vec<f64>,
    threshold: f32,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Option<Vec<Vec<usize>>> {
    let n = distances.n;
    let mut members: Vec<Vec<usize>> = (0..n).map(|i| vec![i]).collect();
    // Clusters that may still grow, by their first rows.
    let mut open: Vec<usize> = (0..n).collect();
    let mut chain: Vec<usize> = Vec::new();
    while let Some(&first) = open.first() {
        if !goes_on(2 * n - open.len()) {
            return None;
        }
        let tip = match chain.last() {
            Some(&tip) => tip,
            None => {
                chain.push(first);
                first
            }
        };
        let before = chain.len().checked_sub(2).map(|i| chain[i]);
        // Of equally near clusters, prefer the previous one. Otherwise two might chase each other
        // for ever.
        let mut nearest = before.map(|b| (distances.get(tip, b), b));
        for &other in open.iter().filter(|&&other| other != tip) {
            let distance = distances.get(tip, other);
            if nearest.is_none_or(|(least, _)| distance < least) {
                nearest = Some((distance, other));
            }
        }
        match nearest {
            Some((distance, other)) if distance <= threshold => {
                if Some(other) != before {
                    chain.push(other);
                    continue;
                }
                chain.truncate(chain.len() - 2);
                let (into, from) = (tip.min(other), tip.max(other));
                open.retain(|&o| o != from);
                let total = weights[into] + weights[from];
                for &third in open.iter().filter(|&&third| third != into) {
                    let mean = weights[into] * f64::from(distances.get(into, third))
                        + weights[from] * f64::from(distances.get(from, third));
                    distances.set(into, third, (mean / total) as f32);
                }
                weights[into] = total;
                let moved = std::mem::take(&mut members[from]);
                members[into].extend(moved);
            }
            // The tip is far from all others and stays so. The same holds for the rest of the
            // chain, as each link led to its nearest.
            _ => {
                open.retain(|o| !chain.contains(o));
                chain.clear();
            }
        }
    }
    members.retain(|m| !m.is_empty());
    for cluster in &mut members {
        cluster.sort_unstable();
    }
    members.sort_unstable();
    Some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    /// Directions in the plane, given by their angles in degrees.
    fn directions(angles: &[f32]) -> Array2<f32> {
        let rows = angles.iter().map(|a| a.to_radians());
        let numbers: Vec<f32> = rows.flat_map(|a| [a.cos(), a.sin()]).collect();
        Array2::from_shape_vec((angles.len(), 2), numbers).expect("two each")
    }

    fn clusters(angles: &[f32], apart: &[(usize, usize)], threshold: f64) -> Vec<Vec<usize>> {
        let units = directions(angles);
        group(
            units.view(),
            &vec![1.0; angles.len()],
            apart,
            threshold,
            |_| true,
        )
        .expect("not stopped")
    }

    /// The definition, cubic in time: repeatedly joins the nearest two of all.
    fn by_definition(
        units: &Array2<f32>,
        apart: &[(usize, usize)],
        threshold: f64,
    ) -> Vec<Vec<usize>> {
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
                let found = group(units.view(), &vec![1.0; n], &apart, threshold, |_| true);
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
        let found = |threshold| group(units.view(), &[1.0; 4], &[], threshold, |_| true);
        assert_eq!(found(0.9).map(|c| c.len()), Some(4));
        assert_eq!(found(1.0).map(|c| c.len()), Some(1));
    }

    #[test]
    fn a_heavy_row_counts_more() {
        // From 0° and 30°, which are one cluster, the distances to 90° are 1.0 and 0.5.
        let units = directions(&[0.0, 30.0, 90.0]);
        let count = |weights: &[f64]| {
            let found = group(units.view(), weights, &[], 0.7, |_| true);
            found.map(|clusters| clusters.len())
        };
        assert_eq!(count(&[1.0, 1.0, 1.0]), Some(2));
        assert_eq!(count(&[1.0, 9.0, 1.0]), Some(1));
        assert_eq!(count(&[9.0, 1.0, 1.0]), Some(2));
    }

    #[test]
    fn it_can_be_stopped() {
        let units = directions(&[0.0; 9]);
        for step in [4, 12, 17] {
            let found = group(units.view(), &[1.0; 9], &[], 0.5, |done| done < step);
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
        let found = group(units.view(), &[1.0; TRACKS], &[], 0.54, |_| true);
        assert_eq!(found.map(|f| f.len()), Some(people.nrows()));
    }
}
