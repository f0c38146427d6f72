//! Joins small clusters to large ones.

use ndarray::{Array2, ArrayView2, Axis, s};

use super::Bonds;

/// How much nearer than all others the nearest large cluster has to be, in cosine distance.
///
/// Fitted on made street scenes with 6 to 12 people of 30 to 100 pixels and 15 to 43 tracks, of which
/// half have fewer than 5 frames. There, 0.05 joined a head in the background to a person, and 0.1
/// left more people alone.
const MARGIN: f64 = 0.08;

/// How many small clusters are compared with all large ones at a time.
const BLOCK: usize = 256;

/// The clusters of [`absorb`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// The large clusters with the small ones that joined them.
    pub large: Vec<Vec<usize>>,
    /// The small clusters that joined none.
    pub small: Vec<Vec<usize>>,
}

/// Joins each cluster that `is_small` to the large one that it resembles, if it resembles that one
/// alone. Unlike [`super::group`], this compares with the direction of the mean, which is nearer to
/// everybody the more rows it has: a poor look is compared with the best that is known of a person.
/// `threshold` is the distance up to which it may be the same person. Arguments are as for
/// [`super::group`], and `clusters` are its result.
pub fn absorb(
    units: ArrayView2<f32>,
    weights: &[f64],
    clusters: Vec<Vec<usize>>,
    is_small: impl Fn(&[usize]) -> bool,
    bonds: &mut impl Bonds,
    threshold: f64,
) -> Absorbed {
    let (small, mut large): (Vec<_>, Vec<_>) = clusters.into_iter().partition(|c| is_small(c));
    let firsts: Vec<usize> = large.iter().map(|members| members[0]).collect();
    let known = directions(units, weights, &large);
    let looks = directions(units, weights, &small);
    let mut alone = Vec::new();
    let least = 1.0 - threshold - MARGIN;
    for (block, some) in small.chunks(BLOCK).enumerate() {
        let first = block * BLOCK;
        let cosines = looks
            .slice(s![first..first + some.len(), ..])
            .dot(&known.t());
        for (members, cosines) in some.iter().zip(cosines.outer_iter()) {
            let mut near: Vec<(f64, usize)> = cosines
                .iter()
                .enumerate()
                .map(|(place, cosine)| (f64::from(*cosine), place))
                .filter(|(cosine, place)| {
                    *cosine >= least && bonds.may_join(firsts[*place], members[0])
                })
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
            match near[..] {
                [(cosine, place), ref others @ ..]
                    if cosine >= 1.0 - threshold
                        && others.first().is_none_or(|o| cosine - o.0 >= MARGIN) =>
                {
                    bonds.join(firsts[place], members[0]);
                    large[place].extend(members);
                }
                _ => alone.push(members.clone()),
            }
        }
    }
    for cluster in &mut large {
        cluster.sort_unstable();
    }
    large.sort_unstable();
    Absorbed {
        large,
        small: alone,
    }
}

/// The directions of the weighted means of clusters [C, D], of length 1. Zero if there is none.
fn directions(units: ArrayView2<f32>, weights: &[f64], clusters: &[Vec<usize>]) -> Array2<f32> {
    let mut directions = Array2::zeros((clusters.len(), units.ncols()));
    for (mut direction, members) in directions.axis_iter_mut(Axis(0)).zip(clusters) {
        for &row in members {
            direction.scaled_add(weights[row] as f32, &units.row(row));
        }
        let length = direction.dot(&direction).sqrt();
        if length > 0.0 {
            direction /= length;
        }
    }
    directions
}

#[cfg(test)]
mod tests {
    use super::super::tests::directions as at;
    use super::*;

    /// The clusters after absorbing single rows into those with several.
    fn absorbed(angles: &[f32], clusters: &[&[usize]], threshold: f64) -> Absorbed {
        let units = at(angles);
        let clusters = clusters.iter().map(|c| c.to_vec()).collect();
        let weights = vec![1.0; angles.len()];
        absorb(
            units.view(),
            &weights,
            clusters,
            |c| c.len() < 2,
            &mut (),
            threshold,
        )
    }

    #[test]
    fn a_look_joins_the_one_that_it_resembles() {
        // 1 - cos 40° = 0.23
        let found = absorbed(
            &[40.0, 0.0, 2.0, 120.0, 118.0],
            &[&[0], &[1, 2], &[3, 4]],
            0.25,
        );
        assert_eq!(found.large, [vec![0, 1, 2], vec![3, 4]]);
        assert!(found.small.is_empty());
        let found = absorbed(&[40.0, 0.0, 2.0], &[&[0], &[1, 2]], 0.1);
        assert_eq!(
            (found.large, found.small),
            (vec![vec![1, 2]], vec![vec![0]])
        );
    }

    #[test]
    fn a_look_between_two_stays_alone() {
        let found = absorbed(
            &[40.0, 0.0, 2.0, 78.0, 80.0],
            &[&[0], &[1, 2], &[3, 4]],
            0.5,
        );
        assert_eq!(found.small, [[0]]);
    }

    #[test]
    fn whoever_cannot_be_it_is_not_compared() {
        struct Apart;
        impl Bonds for Apart {
            fn may_join(&self, a: usize, _: usize) -> bool {
                a != 1
            }
            fn join(&mut self, into: usize, from: usize) {
                assert_eq!((into, from), (3, 0));
            }
        }
        let units = at(&[40.0, 0.0, 2.0, 88.0, 90.0]);
        let clusters = vec![vec![0], vec![1, 2], vec![3, 4]];
        let found = absorb(
            units.view(),
            &[1.0; 5],
            clusters,
            |c| c.len() < 2,
            &mut Apart,
            0.5,
        );
        assert_eq!(found.large, [vec![0, 3, 4], vec![1, 2]]);
    }

    #[test]
    fn without_large_ones_all_stay_alone() {
        let found = absorbed(&[0.0, 1.0], &[&[0], &[1]], 2.0);
        assert_eq!((found.large.len(), found.small.len()), (0, 2));
        assert_eq!(absorbed(&[], &[], 2.0), Absorbed::default());
    }
}
