//! Finds all pairs of rows within a distance, block by block.

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use ndarray::{ArrayView2, s};

/// The rows of a block. Two blocks and their scalar products fit into the cache of a core.
const BLOCK: usize = 512;

/// How many pairs are kept per row: the nearest. A person on more tracks than this is still connected
/// through them.
pub const MOST: usize = 100;

/// The pairs of rows of `units` [N, D] at most `threshold` apart, each pair once and the smaller row
/// first, in order. The rows have length 1. Of a row with more than [`MOST`] others that near, only
/// the nearest are kept, and those of which it is one of the nearest. `goes_on` receives the number
/// of rows done. If it returns `false`, the result is `None`.
pub fn near_pairs(
    units: ArrayView2<f32>,
    threshold: f32,
    goes_on: &mut impl FnMut(usize) -> bool,
) -> Option<Vec<(u32, u32)>> {
    let n = units.nrows();
    let blocks = n.div_ceil(BLOCK);
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::sync_channel(2 * cores);
    thread::scope(|scope| {
        for _ in 0..cores.min(blocks) {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                loop {
                    let block = next.fetch_add(1, Ordering::Relaxed);
                    // Nobody receives any more if it was stopped.
                    if block >= blocks
                        || sender
                            .send((block, of_block(units, block, threshold)))
                            .is_err()
                    {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut found: Vec<Vec<(u32, u32)>> = vec![Vec::new(); blocks];
        // Dropped on return, which ends the threads.
        let results = receiver;
        for done in 0..blocks {
            if !goes_on((done * BLOCK).min(n)) {
                return None;
            }
            let (block, pairs) = results.recv().ok()?;
            found[block] = pairs;
        }
        let mut all = Vec::with_capacity(found.iter().map(Vec::len).sum());
        for pairs in found {
            all.extend(pairs);
        }
        all.sort_unstable();
        all.dedup();
        Some(all)
    })
}

/// The pairs of the rows in a block with their nearest others.
fn of_block(units: ArrayView2<f32>, block: usize, threshold: f32) -> Vec<(u32, u32)> {
    let n = units.nrows();
    let first = block * BLOCK;
    let own = units.slice(s![first..(first + BLOCK).min(n), ..]);
    let mut nearest = vec![Nearest::new(threshold); own.nrows()];
    for other in (0..n).step_by(BLOCK) {
        let others = units.slice(s![other..(other + BLOCK).min(n), ..]);
        let cosines = own.dot(&others.t());
        for (a, row) in cosines.outer_iter().enumerate() {
            let nearest = &mut nearest[a];
            for (b, cosine) in row.iter().enumerate() {
                let distance = 1.0 - cosine;
                if distance <= nearest.limit && first + a != other + b {
                    nearest.add(distance, (other + b) as u32);
                }
            }
        }
    }
    let rows = (first as u32..).zip(nearest);
    let pairs = rows.flat_map(|(a, nearest)| {
        let others = nearest.finish().into_iter();
        others.map(move |(_, b)| (a.min(b), a.max(b)))
    });
    pairs.collect()
}

/// The nearest others of a row.
#[derive(Clone)]
struct Nearest {
    /// The distance beyond which others are left out.
    limit: f32,
    kept: Vec<(f32, u32)>,
}

impl Nearest {
    fn new(limit: f32) -> Self {
        Self {
            limit,
            kept: Vec::new(),
        }
    }

    fn add(&mut self, distance: f32, other: u32) {
        self.kept.push((distance, other));
        if self.kept.len() >= 2 * MOST {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.kept.len() > MOST {
            let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            let (_, last, _) = self.kept.select_nth_unstable_by(MOST - 1, order);
            self.limit = last.0;
            self.kept.truncate(MOST);
        }
    }

    fn finish(mut self) -> Vec<(f32, u32)> {
        self.shrink();
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn all_near_pairs_of_several_blocks_are_found_in_order() {
        let mut state = 7u64;
        let units = Array2::from_shape_fn((2 * BLOCK + 77, 3), |_| {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        });
        let mut units = units;
        for mut row in units.rows_mut() {
            let length = row.dot(&row).sqrt();
            row /= length;
        }
        let mut expected = Vec::new();
        for a in 0..units.nrows() {
            for b in a + 1..units.nrows() {
                let near = 1.0 - units.row(a).dot(&units.row(b)) <= 0.002;
                expected.extend(near.then_some((a as u32, b as u32)));
            }
        }
        let found = near_pairs(units.view(), 0.002, &mut |_| true).expect("not stopped");
        assert!(expected.len() > 300, "{}", expected.len());
        // Sums in another order differ in the last digit.
        let differ = found
            .iter()
            .filter(|pair| expected.binary_search(pair).is_err());
        assert!(differ.count() + found.len().abs_diff(expected.len()) <= 2);
        assert!(found.is_sorted());
        assert_eq!(
            near_pairs(units.view(), 0.002, &mut |done| done < BLOCK),
            None
        );
    }

    #[test]
    fn of_many_equal_rows_the_first_are_kept() {
        let n = 5 * MOST;
        let units = Array2::from_shape_fn((n, 2), |(_, d)| if d == 0 { 1.0 } else { 0.0 });
        let found = near_pairs(units.view(), 0.1, &mut |_| true).expect("not stopped");
        assert!(found.len() <= n * MOST, "{}", found.len());
        // All are still connected.
        assert!((1..n as u32).all(|row| found.contains(&(0, row))));
    }

    #[test]
    fn no_rows_have_no_pairs() {
        let none = Array2::zeros((0, 4));
        assert_eq!(near_pairs(none.view(), 2.0, &mut |_| true), Some(vec![]));
    }
}
