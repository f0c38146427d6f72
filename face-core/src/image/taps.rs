//! The source samples that make up each target, and the loops that weight them: rows first, then
//! columns. All is inlined into one loop ([`super::sampler`]), which is compiled for several
//! instruction sets.

use super::Plane;

/// Ratios of source to target with a specialised loop.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) enum Ratio {
    #[default]
    Any,
    /// Each target is one sample, in order.
    Same,
    /// Each target is the mean of this many samples, one group after the other.
    Mean(usize),
    /// Two targets per sample, from the first sample on: chroma of 4:2:0 at full size.
    Double,
    /// Two targets per three samples: chroma of 1920 pixels shrunk to 640.
    ThreeHalves,
}

/// For each target position, the source samples that make it up: `count` of them from `first` on,
/// with weights that sum to 1.
#[derive(Debug, Default)]
pub(super) struct Taps {
    key: (u64, u64, usize, usize),
    pub(super) ratio: Ratio,
    pub(super) count: usize,
    pub(super) first: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    /// Prepares taps for `length` targets, each `scale` source samples wide, the first beginning at
    /// `start`, on an axis of `available` samples. Outside the axis, the outermost samples repeat.
    pub(super) fn prepare(&mut self, start: f64, scale: f64, length: usize, available: usize) {
        let key = (start.to_bits(), scale.to_bits(), length, available);
        if self.key == key && self.count > 0 {
            return;
        }
        self.key = key;
        self.first.clear();
        self.weights.clear();
        let whole = start >= 0.0 && start.fract() == 0.0 && scale.fract() == 0.0;
        let inside = whole && start + scale * length as f64 <= available as f64;
        self.ratio = match scale {
            1.0 if inside => Ratio::Same,
            _ if inside && scale > 1.0 => Ratio::Mean(scale as usize),
            1.5 if start == 0.0 && length.is_multiple_of(2) && 3 * length / 2 <= available => {
                Ratio::ThreeHalves
            }
            0.5 if start == 0.0 && available > 1 && length <= 2 * available => Ratio::Double,
            _ => Ratio::Any,
        };
        let area = scale > 1.0;
        self.count = match self.ratio {
            Ratio::Same => 1,
            Ratio::Mean(count) => count,
            _ if area => (scale.ceil() as usize).saturating_add(1),
            _ => 2,
        }
        .min(available);
        let last_first = available - self.count;
        for i in 0..length {
            let (from, to) = if area {
                let from = start + i as f64 * scale;
                (from, from + scale)
            } else {
                // A window one sample wide around the centre interpolates linearly between two
                // samples.
                let center = start + (i as f64 + 0.5) * scale;
                (center - 0.5, center + 0.5)
            };
            let first = (from.floor().max(0.0) as usize).min(last_first);
            self.first.push(first);
            let base = self.weights.len();
            let mut sum = 0.0;
            for k in 0..self.count {
                let (left, right) = ((first + k) as f64, (first + k + 1) as f64);
                // Anything outside the axis belongs to its outermost sample.
                let left = if first + k == 0 {
                    f64::NEG_INFINITY
                } else {
                    left
                };
                let right = if first + k + 1 == available {
                    f64::INFINITY
                } else {
                    right
                };
                let weight = (to.min(right) - from.max(left)).max(0.0) as f32;
                sum += weight;
                self.weights.push(weight);
            }
            for weight in &mut self.weights[base..] {
                *weight /= sum;
            }
        }
    }

    pub(super) fn at(&self, i: usize) -> (usize, &[f32]) {
        (
            self.first[i],
            &self.weights[i * self.count..(i + 1) * self.count],
        )
    }
}

/// `target[i] = Σ weight · row[i]` over the rows of a plane.
#[inline(always)]
pub(super) fn blend_rows(
    target: &mut [f32],
    plane: &Plane,
    first: usize,
    weights: &[f32],
    skip: usize,
) {
    for (k, &weight) in weights.iter().enumerate() {
        let row = plane.row(first + k, skip);
        if k == 0 {
            for (t, &s) in target.iter_mut().zip(row) {
                *t = weight * f32::from(s);
            }
        } else if weight != 0.0 {
            for (t, &s) in target.iter_mut().zip(row) {
                *t += weight * f32::from(s);
            }
        }
    }
}

/// The largest number of 8-bit samples whose sum fits 16 bits.
pub(super) const EXACT_SUM: usize = 257;

/// The initial value of a sum: 0 on the first row, whatever the target holds.
#[inline(always)]
fn so_far(sum: u16, first: bool) -> u16 {
    if first { 0 } else { sum }
}

/// `target[i] = Σ row[i]` over `count` rows of a plane, row by row: the processor prefetches reads
/// in memory order.
#[inline(always)]
pub(super) fn sum_rows(target: &mut [u16], plane: &Plane, first: usize, count: usize, skip: usize) {
    for row in first..first + count {
        for (t, &s) in target.iter_mut().zip(plane.row(row, skip)) {
            *t = so_far(*t, row == first) + u16::from(s);
        }
    }
}

/// The same for pairs of neighbours: `target[i] = Σ row[2 i] + row[2 i + 1]`. Reading both bytes as
/// one number takes half as many instructions as widening each.
#[inline(always)]
pub(super) fn sum_pairs(
    target: &mut [u16],
    plane: &Plane,
    first: usize,
    count: usize,
    skip: usize,
) {
    for row in first..first + count {
        let (pairs, _) = plane.row(row, skip).as_chunks::<2>();
        for (t, &pair) in target.iter_mut().zip(pairs) {
            let both = u16::from_ne_bytes(pair);
            *t = so_far(*t, row == first) + (both & 0xff) + (both >> 8);
        }
    }
}

/// The same for each of two interleaved components: `even[i] = Σ row[2 i]`, `odd[i] = Σ row[2 i +
/// 1]`.
#[inline(always)]
pub(super) fn sum_halves(
    [even, odd]: [&mut [u16]; 2],
    plane: &Plane,
    first: usize,
    count: usize,
    skip: usize,
) {
    for row in first..first + count {
        let (pairs, _) = plane.row(row, skip).as_chunks::<2>();
        for ((e, o), &pair) in even.iter_mut().zip(&mut *odd).zip(pairs) {
            let both = u16::from_le_bytes(pair);
            *e = so_far(*e, row == first) + (both & 0xff);
            *o = so_far(*o, row == first) + (both >> 8);
        }
    }
}

/// The sum of every `n` neighbours, times `share`.
#[inline(always)]
pub(super) fn scale_sums(target: &mut [f32], sums: &[u16], n: usize, share: f32) {
    #[inline(always)]
    fn run<const N: usize>(target: &mut [f32], sums: &[u16], share: f32) {
        let (groups, _) = sums.as_chunks::<N>();
        for (t, group) in target.iter_mut().zip(groups) {
            *t = f32::from(group.iter().sum::<u16>()) * share;
        }
    }
    match n {
        1 => run::<1>(target, sums, share),
        2 => run::<2>(target, sums, share),
        3 => run::<3>(target, sums, share),
        4 => run::<4>(target, sums, share),
        _ => {
            for (t, group) in target.iter_mut().zip(sums.chunks_exact(n)) {
                *t = f32::from(group.iter().sum::<u16>()) * share;
            }
        }
    }
}

/// Every `step`th value of an interleaved row, starting at `offset`.
#[inline(always)]
pub(super) fn pick<T: Copy>(target: &mut [T], row: &[T], step: usize, offset: usize) {
    #[inline(always)]
    fn run<T: Copy, const STEP: usize>(target: &mut [T], row: &[T], offset: usize) {
        let (groups, _) = row.as_chunks::<STEP>();
        for (t, group) in target.iter_mut().zip(groups) {
            *t = group[offset];
        }
    }
    match step {
        2 => run::<T, 2>(target, row, offset),
        3 => run::<T, 3>(target, row, offset),
        4 => run::<T, 4>(target, row, offset),
        8 => run::<T, 8>(target, row, offset),
        // `Picture` makes no other steps.
        _ => {}
    }
}

/// `target[i] = Σ weight · row[i]` along a row; `row` begins with the sample `origin`.
#[inline(always)]
pub(super) fn blend_columns(target: &mut [f32], row: &[f32], taps: &Taps, origin: usize) {
    match (taps.ratio, taps.count) {
        (Ratio::Same, _) => target.copy_from_slice(&row[..target.len()]),
        (Ratio::Double, _) => double(target, row),
        (Ratio::ThreeHalves, _) => three_halves(target, row),
        (Ratio::Mean(2), _) => mean::<2>(target, row),
        (Ratio::Mean(3), _) => mean::<3>(target, row),
        (Ratio::Mean(4), _) => mean::<4>(target, row),
        (Ratio::Mean(6), _) => mean::<6>(target, row),
        (_, 1) => weigh::<1>(target, row, taps, origin),
        (_, 2) => weigh::<2>(target, row, taps, origin),
        (_, 3) => weigh::<3>(target, row, taps, origin),
        (_, 4) => weigh::<4>(target, row, taps, origin),
        _ => {
            for (i, t) in target.iter_mut().enumerate() {
                let (first, weights) = taps.at(i);
                let samples = &row[first - origin..];
                *t = weights.iter().zip(samples).map(|(w, s)| w * s).sum();
            }
        }
    }
}

#[inline(always)]
fn weigh<const N: usize>(target: &mut [f32], row: &[f32], taps: &Taps, origin: usize) {
    let (weights, _) = taps.weights.as_chunks::<N>();
    for ((t, &first), weights) in target.iter_mut().zip(&taps.first).zip(weights) {
        let samples = &row[first - origin..][..N];
        *t = (0..N).map(|k| weights[k] * samples[k]).sum();
    }
}

#[inline(always)]
fn mean<const N: usize>(target: &mut [f32], row: &[f32]) {
    let (groups, _) = row.as_chunks::<N>();
    for (t, group) in target.iter_mut().zip(groups) {
        *t = group.iter().sum::<f32>() * (1.0 / N as f32);
    }
}

#[inline(always)]
fn three_halves(target: &mut [f32], row: &[f32]) {
    let (pairs, _) = target.as_chunks_mut::<2>();
    let (groups, _) = row.as_chunks::<3>();
    for (pair, [a, b, c]) in pairs.iter_mut().zip(groups) {
        *pair = [2.0 * a + b, b + 2.0 * c].map(|sum| sum * (1.0 / 3.0));
    }
}

/// Linear interpolation at one quarter and three quarters of each sample.
#[inline(always)]
fn double(target: &mut [f32], row: &[f32]) {
    let at = |i: usize| row[i.min(row.len() - 1)];
    let (pairs, last) = target.as_chunks_mut::<2>();
    if let Some(first) = pairs.first_mut() {
        *first = [at(0), 0.75 * at(0) + 0.25 * at(1)];
    }
    let inner = pairs.len().min(row.len() - 1);
    if inner > 1 {
        // Three neighbours for each pair, without bounds checks.
        for (pair, window) in pairs[1..inner].iter_mut().zip(row.windows(3)) {
            let [a, b, c] = [window[0], window[1], window[2]];
            *pair = [0.25 * a + 0.75 * b, 0.75 * b + 0.25 * c];
        }
    }
    for (i, pair) in pairs.iter_mut().enumerate().skip(inner.max(1)) {
        *pair = [
            0.25 * at(i - 1) + 0.75 * at(i),
            0.75 * at(i) + 0.25 * at(i + 1),
        ];
    }
    let i = pairs.len();
    for t in last {
        *t = if i == 0 {
            at(0)
        } else {
            0.25 * at(i - 1) + 0.75 * at(i)
        };
    }
}
