//! Exact search in two steps. A scan in 16-bit fixed point keeps every row that could be among the
//! nearest, allowing for rounding. An exact comparison of those few rows decides.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// 1.0 in fixed point. The scalar product of two vectors of length 1 is at most `SCALE`², about
/// 2³⁰, in any order of summation, so 32 bits are enough for any number of dimensions.
const SCALE: f32 = 32767.0;

/// Rows compared before their scores are examined: 64 KiB for 128 dimensions, well within the
/// cache.
const BLOCK: usize = 256;

/// Rounds a number of a vector of length 1 to fixed point.
#[inline(always)]
pub fn fixed(value: f32) -> i16 {
    let scaled = value * SCALE;
    // Rounds half away from zero with a truncating conversion; `round` would be a call for each
    // number.
    (scaled + 0.5f32.copysign(scaled)) as i16
}

/// The value of a fixed-point number.
pub fn number(fixed: i16) -> f32 {
    f32::from(fixed) / SCALE
}

/// How far rounding can move a vector, in units of fixed point.
fn rounding(dimensions: usize) -> f64 {
    (dimensions as f64).sqrt() / 2.0
}

/// Whether the row is a vector of length 1, rounded.
#[inline(always)]
pub fn is_unit(row: &[i16]) -> bool {
    let (scale, rounding) = (f64::from(SCALE), rounding(row.len()));
    let length = f64::from(product(row, row)).sqrt();
    // A sum that overflowed is negative, and NaN is in no range.
    (scale - 1.01 * rounding - 1.0..=scale + 1.01 * rounding + 1.0).contains(&length)
}

/// Whether every row of a matrix with rows of `dimensions` satisfies [`is_unit`].
pub fn all_unit(rows: &[i16], dimensions: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the feature was just detected on this processor.
        return unsafe { all_unit_avx2(rows, dimensions) };
    }
    all_unit_portable(rows, dimensions)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn all_unit_avx2(rows: &[i16], dimensions: usize) -> bool {
    all_unit_portable(rows, dimensions)
}

#[inline(always)]
fn all_unit_portable(rows: &[i16], dimensions: usize) -> bool {
    // A loop, because closures are not inlined into code that is compiled for wider registers.
    for row in rows.chunks_exact(dimensions) {
        if !is_unit(row) {
            return false;
        }
    }
    true
}

/// A query in fixed point.
pub struct Query {
    numbers: Vec<i16>,
    /// Twice the largest change of a score by rounding: a nearer row can fall behind another one by
    /// this much.
    margin: i32,
}

impl Query {
    /// `None` for a vector without direction.
    pub fn new(query: &[f32]) -> Option<Self> {
        let unit = super::normalised(query)?;
        let numbers: Vec<i16> = unit.iter().map(|v| fixed(*v)).collect();
        let error = |(v, n): (&f32, &i16)| (f64::from(*v * SCALE) - f64::from(*n)).powi(2);
        let query_error = unit.iter().zip(&numbers).map(error).sum::<f64>().sqrt();
        // |q·x - q'·x'| <= |q|·|x - x'| + |q - q'|·|x'|, and some slack for rows of length 1 ± 10⁻⁶.
        let (scale, rounding) = (f64::from(SCALE), rounding(query.len()));
        let change = scale * rounding + query_error * (scale + rounding);
        let margin = (2.0 * 1.01 * change + 2.0).ceil() as i32;
        Some(Self { numbers, margin })
    }

    /// The rows that may be among the `k` nearest, in ascending order, and few others.
    pub fn candidates(&self, rows: &[i16], k: usize) -> Vec<usize> {
        let mut found = Candidates::new(k, self.margin);
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature was just detected on this processor.
            unsafe { self.scan_avx2(rows, &mut found) };
            return found.into_rows();
        }
        self.scan(rows, &mut found);
        found.into_rows()
    }

    /// The portable loop, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn scan_avx2(&self, rows: &[i16], found: &mut Candidates) {
        self.scan(rows, found);
    }

    #[inline(always)]
    fn scan(&self, rows: &[i16], found: &mut Candidates) {
        let dimensions = self.numbers.len();
        let mut scores = [0i32; BLOCK];
        for (i, block) in rows.chunks(BLOCK * dimensions).enumerate() {
            let scores = &mut scores[..block.len() / dimensions];
            for i in 0..scores.len() {
                let row = &block[i * dimensions..(i + 1) * dimensions];
                scores[i] = product(row, &self.numbers);
            }
            // Most blocks hold no candidate. Checking that is faster without a branch per row.
            let mut best = i32::MIN;
            for &score in &*scores {
                best = best.max(score);
            }
            if best >= found.floor {
                found.add_block(i * BLOCK, scores);
            }
        }
    }
}

/// The scalar product of vectors of equal length. (A loop over indices, which compilers turn into
/// multiply-add of pairs: calls of iterators are not always inlined into code for wider registers.)
#[inline(always)]
fn product(a: &[i16], b: &[i16]) -> i32 {
    let b = &b[..a.len()];
    let mut sum = 0i32;
    for i in 0..a.len() {
        sum = sum.wrapping_add(i32::from(a[i]) * i32::from(b[i]));
    }
    sum
}

/// The scalar product, with an error of about 10⁻¹⁶.
pub fn similarity(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// Rows whose score is at most `margin` below the `k`th best.
struct Candidates {
    k: usize,
    margin: i32,
    /// The `k` best scores so far.
    best: BinaryHeap<Reverse<i32>>,
    /// Rows with a lower score are no candidates.
    floor: i32,
    rows: Vec<(usize, i32)>,
    /// When `rows` reaches this length, those below the floor are dropped.
    limit: usize,
}

impl Candidates {
    fn new(k: usize, margin: i32) -> Self {
        Self {
            k,
            margin,
            best: BinaryHeap::new(),
            floor: i32::MIN,
            rows: Vec::new(),
            limit: k.saturating_mul(2).saturating_add(BLOCK),
        }
    }

    /// Adds the rows from `first` on whose scores are high enough.
    fn add_block(&mut self, first: usize, scores: &[i32]) {
        for (row, score) in scores.iter().enumerate() {
            if *score >= self.floor {
                self.add(first + row, *score);
            }
        }
    }

    fn add(&mut self, row: usize, score: i32) {
        self.rows.push((row, score));
        self.best.push(Reverse(score));
        if self.best.len() > self.k {
            self.best.pop();
        }
        if self.best.len() == self.k
            && let Some(Reverse(worst)) = self.best.peek()
        {
            self.floor = worst.saturating_sub(self.margin);
        }
        if self.rows.len() >= self.limit {
            self.drop_low();
            self.limit = self.limit.max(2 * self.rows.len());
        }
    }

    fn drop_low(&mut self) {
        self.rows.retain(|(_, score)| *score >= self.floor);
    }

    fn into_rows(mut self) -> Vec<usize> {
        self.drop_low();
        self.rows.into_iter().map(|(row, _)| row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_point_rounds_to_the_nearest() {
        assert_eq!(
            [1.0, -1.0, 0.0, 1.4 / SCALE, -1.6 / SCALE].map(fixed),
            [32767, -32767, 0, 1, -2]
        );
        assert_eq!(fixed(f32::NAN), 0);
        assert_eq!([2.0, -2.0].map(fixed), [i16::MAX, i16::MIN]);
    }

    #[test]
    fn rows_of_another_length_are_no_unit_vectors() {
        let diagonal = [fixed(0.5); 4];
        assert!(is_unit(&diagonal) && is_unit(&[32767, 0]) && is_unit(&[-32767, 1]));
        for bad in [[0; 4], [32767; 4], [i16::MIN; 4], [16000; 4], [16500; 4]] {
            assert!(!is_unit(&bad), "{bad:?}");
        }
        assert!(all_unit(&[diagonal, diagonal].concat(), 4));
        assert!(!all_unit(&[diagonal, [0; 4]].concat(), 4));
    }

    #[test]
    fn both_compilations_agree() {
        let rows: Vec<i16> = (0..700 * 19i32).map(|i| (i * 7919 % 4001) as i16).collect();
        let query: Vec<f32> = (0..19u8).map(|i| f32::from(i) - 7.0).collect();
        let query = Query::new(&query).expect("a direction");
        let mut portable = Candidates::new(5, query.margin);
        query.scan(&rows, &mut portable);
        assert_eq!(query.candidates(&rows, 5), portable.into_rows());
    }

    #[test]
    fn only_rows_within_the_margin_are_candidates() {
        let mut found = Candidates::new(2, 10);
        found.add_block(0, &[50, 100, 89]);
        found.add_block(3, &[90, 10, 101, 95]);
        assert_eq!(found.into_rows(), [1, 3, 5, 6]);
    }
}
