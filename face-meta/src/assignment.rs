//! Minimum-cost assignment for rectangular cost matrices.
//!
//! Shortest augmenting paths with dual potentials (Jonker and Volgenant, "A shortest augmenting
//! path algorithm for dense and sparse linear assignment problems", Computing 38, 1987), without
//! their initialisation heuristics: O(n²m) for n ≤ m.

/// Lower costs count as this, so that sums stay far from the end of `f64`'s range.
const LOWEST_COST: f64 = -1e9;

/// Finds the pairs of `(row, column)` with the least sum of `cost - limit`. Pairs are sorted by
/// row; each row and each column is in at most one.
///
/// In other words, leaving a row and a column unpaired costs `limit`, so a good pair is never given
/// up to make two bad ones. A pair that costs `limit` or more, or whose cost is not finite, is
/// never made.
pub fn assign(
    rows: usize,
    columns: usize,
    limit: f64,
    cost: impl Fn(usize, usize) -> f64,
) -> Vec<(usize, usize)> {
    let gain = |row, column| {
        let excess = cost(row, column) - limit;
        if excess.is_finite() {
            excess.clamp(LOWEST_COST, 0.0)
        } else {
            0.0
        }
    };
    // Forbidden pairs cost 0 and allowed ones less. Any choice of allowed pairs can thus be
    // completed for free, and the best complete assignment contains the best choice.
    let transposed = rows > columns;
    let (n, m) = if transposed {
        (columns, rows)
    } else {
        (rows, columns)
    };
    let mut costs = Vec::with_capacity(n * m);
    for i in 0..n {
        costs.extend((0..m).map(|j| if transposed { gain(j, i) } else { gain(i, j) }));
    }
    let mut pairs: Vec<(usize, usize)> = complete(&costs, n, m)
        .into_iter()
        .enumerate()
        .filter(|&(i, j)| costs[i * m + j] < 0.0)
        .map(|(i, j)| if transposed { (j, i) } else { (i, j) })
        .collect();
    pairs.sort_unstable();
    pairs
}

/// The column of each row in the cheapest assignment of all `n` rows to distinct columns. `costs`
/// has `n` rows of `m` finite numbers, with `n <= m`.
fn complete(costs: &[f64], n: usize, m: usize) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let mut row_potential = vec![0.0; n];
    let mut column_potential = vec![0.0; m];
    let mut column_of = vec![NONE; n];
    let mut row_of = vec![NONE; m];
    let mut distance = vec![0.0; m];
    let mut reached_from = vec![NONE; m];
    let mut open: Vec<usize> = Vec::with_capacity(m);
    let mut closed: Vec<usize> = Vec::with_capacity(m);

    for start in 0..n {
        // Dijkstra's search from `start` to the nearest free column. The edges are the pairs at
        // their reduced costs; the potentials keep these from being negative.
        distance.fill(f64::INFINITY);
        open.clear();
        open.extend(0..m);
        closed.clear();
        let mut row = start;
        let mut travelled = 0.0;
        let free = loop {
            let base = travelled - row_potential[row];
            let line = &costs[row * m..(row + 1) * m];
            let mut nearest = 0;
            for (at, &j) in open.iter().enumerate() {
                let through_row = base + line[j] - column_potential[j];
                if through_row < distance[j] {
                    distance[j] = through_row;
                    reached_from[j] = row;
                }
                let best = open[nearest];
                // Among equal columns, a free one ends the search soonest.
                if distance[j] < distance[best]
                    || (distance[j] == distance[best] && row_of[best] != NONE && row_of[j] == NONE)
                {
                    nearest = at;
                }
            }
            // `open` cannot run out: at most n - 1 < m columns are taken.
            let column = open.swap_remove(nearest);
            travelled = distance[column];
            if row_of[column] == NONE {
                break column;
            }
            closed.push(column);
            row = row_of[column];
        };

        row_potential[start] += travelled;
        for &j in &closed {
            let slack = travelled - distance[j];
            row_potential[row_of[j]] += slack;
            column_potential[j] -= slack;
        }

        // Shift every row on the path to the column it reached.
        let mut column = free;
        loop {
            let row = reached_from[column];
            row_of[column] = row;
            let left = std::mem::replace(&mut column_of[row], column);
            if row == start {
                break;
            }
            column = left;
        }
    }
    column_of
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// The least sum of `cost - limit` over all partial assignments, found by trying them all.
    fn brute_force(costs: &[Vec<f64>], limit: f64, row: usize, taken: u32) -> f64 {
        let Some(line) = costs.get(row) else {
            return 0.0;
        };
        let mut best = brute_force(costs, limit, row + 1, taken);
        for (j, c) in line.iter().enumerate() {
            if taken & (1 << j) == 0 && c.is_finite() && *c < limit {
                let rest = brute_force(costs, limit, row + 1, taken | (1 << j));
                best = best.min(c - limit + rest);
            }
        }
        best
    }

    #[test]
    fn agrees_with_brute_force() {
        let mut rng = StdRng::seed_from_u64(7);
        for round in 0..3000 {
            let (rows, columns) = (rng.random_range(0..6), rng.random_range(0..6));
            let mut costs = vec![vec![0.0; columns]; rows];
            for c in costs.iter_mut().flatten() {
                *c = match rng.random_range(0..8) {
                    0 => f64::INFINITY,
                    1 => f64::NAN,
                    2 => f64::NEG_INFINITY,
                    // Whole numbers make ties likely.
                    3 => f64::from(rng.random_range(-2..2)),
                    _ => rng.random_range(-2.0..2.0),
                };
            }
            let limit = rng.random_range(-1.0..2.0);
            let pairs = assign(rows, columns, limit, |i, j| costs[i][j]);
            let mut seen = (0u32, 0u32);
            let mut total = 0.0;
            for &(i, j) in &pairs {
                assert!(costs[i][j].is_finite() && costs[i][j] < limit);
                assert!(seen.0 & (1 << i) == 0 && seen.1 & (1 << j) == 0);
                seen = (seen.0 | 1 << i, seen.1 | 1 << j);
                total += costs[i][j] - limit;
            }
            let best = brute_force(&costs, limit, 0, 0);
            assert!((total - best).abs() < 1e-9, "round {round}: {costs:?}");
        }
    }

    #[test]
    fn keeps_a_good_pair_rather_than_two_bad_ones() {
        let costs = [[-0.9, -0.3], [-0.3, f64::INFINITY]];
        assert_eq!(assign(2, 2, 0.0, |i, j| costs[i][j]), [(0, 0)]);
    }

    #[test]
    fn survives_extreme_costs() {
        let values = [
            f64::MIN,
            f64::MAX,
            -1e300,
            f64::MIN_POSITIVE,
            f64::NAN,
            -0.5,
        ];
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..500 {
            let costs: Vec<f64> = (0..64)
                .map(|_| values[rng.random_range(0..values.len())])
                .collect();
            for limit in [0.0, f64::MAX, f64::MIN, f64::NAN, f64::INFINITY] {
                assert!(assign(8, 8, limit, |i, j| costs[i * 8 + j]).len() <= 8);
            }
        }
    }
}
