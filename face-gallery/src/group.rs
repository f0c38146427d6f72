//! Decides which tracks are one person: agglomerative clustering by average linkage, up to a distance.
//!
//! The two nearest clusters are joined repeatedly, until none are nearer than the threshold. The
//! distance of two clusters is the mean over all pairs of their rows, so one doubtful pair cannot
//! join two people.
//!
//! That mean needs no pairs: the mean cosine of all pairs of two clusters is the scalar product of
//! the clusters' mean vectors. And a cluster joined from two is never nearer to a third than the
//! nearer of the two was, so that only clusters with a pair of rows within the threshold can ever be
//! joined. Those pairs are found by exact search, block by block.
//!
//! What the mean of all pairs cannot tell is who a few poor looks are: [`absorb`] compares them with
//! the people found.

mod absorb;
mod agreement;
mod pairs;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use face_core::model::{Descriptor, Strangers};
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};

use crate::normal;
use crate::vote::DISTANCE_THRESHOLD;

pub use absorb::{Absorbed, absorb};
pub use agreement::Agreement;
use pairs::near_pairs;

/// The limit of tracks to group. Their embeddings, and those of their groups, take 1 GB.
pub const MOST_TRACKS: usize = 1_000_000;

/// How many false joins are to be expected, at most, for each row, where the distances of strangers to
/// the model are known.
const FALSE_JOINS: f64 = 0.005;

/// The distance up to which rows are always one person, as a share of the model's threshold for two
/// faces. It is below 1 because two people in one cluster cannot be separated later, while one
/// person in two clusters is joined as soon as both get the same name.
const SHARE_OF_THRESHOLD: f64 = 0.85;

/// The distances up to which rows are one person.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearness {
    /// Of the model, for two faces.
    threshold: f64,
    strangers: Option<Strangers>,
    /// Replaces all else.
    pub fixed: Option<f64>,
}

impl Default for Nearness {
    /// For a model of which nothing is known.
    fn default() -> Self {
        Self {
            threshold: DISTANCE_THRESHOLD,
            strangers: None,
            fixed: None,
        }
    }
}

impl Nearness {
    /// For the embeddings of a model.
    pub fn of(model: &Descriptor) -> Self {
        Self {
            threshold: model.distance_threshold.unwrap_or(DISTANCE_THRESHOLD),
            strangers: model.strangers,
            fixed: None,
        }
    }

    /// The mean distance up to which clusters of `rows` rows are one person. Every row is one more
    /// chance that strangers are near by accident: among the few of one film, more is certain than
    /// in an archive.
    pub fn limit(&self, rows: usize) -> f64 {
        let least = SHARE_OF_THRESHOLD * self.threshold;
        let own = || match self.strangers {
            Some(Strangers { mean, deviation }) => {
                let share = FALSE_JOINS / rows.max(1) as f64;
                let similarity = mean - deviation * normal::quantile(share);
                (1.0 - similarity).clamp(least, self.threshold)
            }
            None => least,
        };
        self.fixed.unwrap_or_else(own)
    }
}

/// Which clusters may be joined, whatever their distance. Clusters go by their first rows.
pub trait Bonds {
    /// Whether clusters `a` and `b` may be one person. If they may not, no clusters that contain them
    /// may either.
    fn may_join(&self, a: usize, b: usize) -> bool;

    /// Notes that cluster `from` is now part of `into`.
    fn join(&mut self, into: usize, from: usize);
}

/// Any clusters may be joined.
impl Bonds for () {
    fn may_join(&self, _: usize, _: usize) -> bool {
        true
    }

    fn join(&mut self, _: usize, _: usize) {}
}

/// The clusters of the rows of `units` [N, D], which have length 1. A cluster is its row numbers in
/// order; the clusters are sorted by their first rows. `weights`, above 0, says how much a row
/// counts in the mean. `goes_on` receives the number of steps done out of 2 N. If it returns
/// `false`, the result is `None`.
pub fn group(
    units: ArrayView2<f32>,
    weights: &[f64],
    bonds: &mut impl Bonds,
    threshold: f64,
    mut goes_on: impl FnMut(usize) -> bool,
) -> Option<Vec<Vec<usize>>> {
    let n = units.nrows();
    let threshold = threshold as f32 + ROUNDING;
    let pairs = near_pairs(units, threshold, &mut goes_on)?;
    let mut clusters = Clusters::new(units, weights);
    let mut queue = BinaryHeap::with_capacity(pairs.len());
    for (a, b) in pairs {
        let (a, b) = (a as usize, b as usize);
        clusters.near[a].insert(b as u32);
        clusters.near[b].insert(a as u32);
        queue.push(Reverse(clusters.candidate(a, b)));
    }
    let mut joined = 0;
    while let Some(Reverse(next)) = queue.pop() {
        let (a, b) = (next.a as usize, next.b as usize);
        if clusters.version(a, b) != next.version || next.distance > threshold {
            continue;
        }
        if !bonds.may_join(a, b) {
            clusters.near[a].remove(&next.b);
            clusters.near[b].remove(&next.a);
            continue;
        }
        if !goes_on(n + joined) {
            return None;
        }
        joined += 1;
        bonds.join(a, b);
        clusters.join(a, b);
        for &third in &clusters.near[a] {
            let candidate = clusters.candidate(a, third as usize);
            if candidate.distance <= threshold {
                queue.push(Reverse(candidate));
            }
        }
    }
    Some(clusters.finish())
}

/// Two clusters that might be joined. The order is that of joining.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    distance: f32,
    /// The first rows of both, the smaller one first.
    a: u32,
    b: u32,
    /// Of both clusters when the distance was measured.
    version: [u32; 2],
}

impl Eq for Candidate {}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let order = self.distance.total_cmp(&other.distance);
        order.then((self.a, self.b, self.version).cmp(&(other.a, other.b, other.version)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// How far equal rows may seem apart.
const ROUNDING: f32 = 1e-6;

/// Clusters by their first rows. One that is part of another has no members.
struct Clusters {
    /// The mean of each cluster's rows.
    means: Array2<f32>,
    weights: Vec<f64>,
    members: Vec<Vec<u32>>,
    /// Clusters with a row near to one of its own.
    near: Vec<BTreeSet<u32>>,
    /// The number of times that a cluster was joined with another.
    versions: Vec<u32>,
}

impl Clusters {
    fn new(units: ArrayView2<f32>, weights: &[f64]) -> Self {
        let n = units.nrows();
        Self {
            means: units.to_owned(),
            weights: weights.to_vec(),
            members: (0..n).map(|row| vec![row as u32]).collect(),
            near: vec![BTreeSet::new(); n],
            versions: vec![0; n],
        }
    }

    fn version(&self, a: usize, b: usize) -> [u32; 2] {
        [self.versions[a], self.versions[b]]
    }

    fn candidate(&self, a: usize, b: usize) -> Candidate {
        let (a, b) = (a.min(b), a.max(b));
        let cosine = dot(self.means.row(a), self.means.row(b));
        Candidate {
            distance: (1.0 - cosine).max(0.0),
            a: a as u32,
            b: b as u32,
            version: self.version(a, b),
        }
    }

    /// Makes `from` a part of `into`, which is smaller.
    fn join(&mut self, into: usize, from: usize) {
        let total = self.weights[into] + self.weights[from];
        let share = (self.weights[from] / total) as f32;
        let (mut first, second) = two_rows(&mut self.means, into, from);
        first.zip_mut_with(&second, |a, b| *a += share * (b - *a));
        self.weights[into] = total;
        let moved = std::mem::take(&mut self.members[from]);
        self.members[into].extend(moved);
        for third in std::mem::take(&mut self.near[from]) {
            self.near[third as usize].remove(&(from as u32));
            if third as usize != into {
                self.near[third as usize].insert(into as u32);
                self.near[into].insert(third);
            }
        }
        self.versions[into] += 1;
        self.versions[from] += 1;
    }

    fn finish(mut self) -> Vec<Vec<usize>> {
        self.members.retain(|members| !members.is_empty());
        let mut clusters: Vec<Vec<usize>> = self
            .members
            .into_iter()
            .map(|members| members.into_iter().map(|row| row as usize).collect())
            .collect();
        for cluster in &mut clusters {
            cluster.sort_unstable();
        }
        clusters.sort_unstable();
        clusters
    }
}

fn dot(a: ArrayView1<f32>, b: ArrayView1<f32>) -> f32 {
    a.dot(&b)
}

/// Row `a` to change and row `b`, which comes later.
fn two_rows(
    rows: &mut Array2<f32>,
    a: usize,
    b: usize,
) -> (ArrayViewMut1<'_, f32>, ArrayViewMut1<'_, f32>) {
    let (first, second) = rows.view_mut().split_at(Axis(0), b);
    (
        first.index_axis_move(Axis(0), a),
        second.index_axis_move(Axis(0), 0),
    )
}

#[cfg(test)]
mod tests;
