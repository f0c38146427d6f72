//! Makes target rows from the planes of a picture.

use std::ops::Range;

use super::taps::{
    EXACT_SUM, Ratio, Taps, blend_columns, blend_rows, pick, scale_sums, sum_halves, sum_pairs,
    sum_rows,
};
use super::{Plane, prefetch};

/// Prefetch at most this many bytes per target row. Larger rows, as of 4K, are slower with
/// prefetching.
const MOST_AHEAD: usize = 12_000;

/// The taps of one plane.
#[derive(Debug, Default)]
pub(super) struct PlaneTaps {
    pub(super) x: Taps,
    pub(super) y: Taps,
}

impl PlaneTaps {
    /// The columns from the first to the last tap. No others are read.
    #[inline(always)]
    fn columns(&self) -> Range<usize> {
        self.x.first[0]..self.x.first[self.x.first.len() - 1] + self.x.count
    }

    /// Prefetches the source of target row `y`.
    #[inline(always)]
    pub(super) fn prefetch(&self, plane: &Plane, y: usize) {
        let (columns, (first, weights)) = (self.columns(), self.y.at(y));
        let (skip, width) = (columns.start * plane.step, columns.len() * plane.step);
        if weights.len() * width <= MOST_AHEAD {
            for row in first..first + weights.len() {
                let samples = plane.row(row, skip);
                prefetch(&samples[..width.min(samples.len())]);
            }
        }
    }
}

/// Scratch buffers for one target row.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// One source row, blended vertically, and one component of it if several are interleaved.
    blended: Vec<f32>,
    picked: Vec<f32>,
    /// The same for exact sums.
    summed: Vec<u16>,
    picked_sums: Vec<u16>,
}

impl Scratch {
    /// Makes target row `y` of the components of `plane`, into `slot` of each of their `rows`.
    #[inline(always)]
    pub(super) fn fill(
        &mut self,
        plane: &Plane,
        taps: &PlaneTaps,
        y: usize,
        rows: &mut [Vec<f32>; 3],
        slot: Range<usize>,
    ) {
        let (columns, (first, weights)) = (taps.columns(), taps.y.at(y));
        let skip = columns.start * plane.step;
        if let (Ratio::Mean(n), Ratio::Mean(count)) = (taps.x.ratio, taps.y.ratio)
            && n * count <= EXACT_SUM
        {
            self.fill_means(plane, columns, (first, count), n, rows, slot);
            return;
        }
        if let (Some(component), Ratio::Same) = (plane.alone(), taps.x.ratio) {
            blend_rows(&mut rows[component][slot], plane, first, weights, skip);
            return;
        }
        self.blended.resize(columns.len() * plane.step, 0.0);
        blend_rows(&mut self.blended, plane, first, weights, skip);
        for &(component, offset) in plane.components.iter().flatten() {
            let target = &mut rows[component][slot.clone()];
            if plane.step == 1 {
                blend_columns(target, &self.blended, &taps.x, columns.start);
            } else if taps.x.ratio == Ratio::Same {
                pick(target, &self.blended, plane.step, offset);
            } else {
                self.picked.resize(columns.len(), 0.0);
                pick(&mut self.picked, &self.blended, plane.step, offset);
                blend_columns(target, &self.picked, &taps.x, columns.start);
            }
        }
    }

    /// The same where each target is the mean of `n` columns and `count` rows.
    #[inline(always)]
    fn fill_means(
        &mut self,
        plane: &Plane,
        columns: Range<usize>,
        (first, count): (usize, usize),
        n: usize,
        rows: &mut [Vec<f32>; 3],
        slot: Range<usize>,
    ) {
        let share = 1.0 / (n * count) as f32;
        let skip = columns.start * plane.step;
        if let (Some(component), 0) = (plane.alone(), n % 2) {
            self.summed.resize(columns.len() / 2, 0);
            sum_pairs(&mut self.summed, plane, first, count, skip);
            scale_sums(&mut rows[component][slot], &self.summed, n / 2, share);
        } else if let Some([even, odd]) = plane.pair() {
            self.summed.resize(columns.len(), 0);
            self.picked_sums.resize(columns.len(), 0);
            let sums = [&mut self.summed[..], &mut self.picked_sums[..]];
            sum_halves(sums, plane, first, count, skip);
            scale_sums(&mut rows[even][slot.clone()], &self.summed, n, share);
            scale_sums(&mut rows[odd][slot], &self.picked_sums, n, share);
        } else {
            self.summed.resize(columns.len() * plane.step, 0);
            sum_rows(&mut self.summed, plane, first, count, skip);
            for &(component, offset) in plane.components.iter().flatten() {
                let mut sums = &self.summed;
                if plane.step > 1 {
                    self.picked_sums.resize(columns.len(), 0);
                    pick(&mut self.picked_sums, &self.summed, plane.step, offset);
                    sums = &self.picked_sums;
                }
                scale_sums(&mut rows[component][slot.clone()], sums, n, share);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares every whole ratio with plain means, for single components and pairs.
    #[test]
    fn means_are_those_of_the_samples() {
        const OUT: (usize, usize) = (21, 5);
        let data: Vec<u8> = (0..100_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        let none: Option<(usize, usize)> = None;
        let components = [
            (1, [none, Some((1, 0)), none]),
            (2, [none, Some((1, 0)), Some((2, 1))]),
            (2, [none, Some((1, 1)), Some((2, 0))]),
            (3, [Some((0, 2)), Some((1, 0)), Some((2, 1))]),
        ];
        for (step, components) in components {
            for (nx, ny) in (2..=8).flat_map(|nx| (2..=8).map(move |ny| (nx, ny))) {
                let (width, height) = (OUT.0 * nx + 3, OUT.1 * ny);
                let plane = Plane {
                    data: &data,
                    stride: width * step + 5,
                    step,
                    width,
                    height,
                    subsampling: (1.0, 1.0),
                    components,
                };
                let mut taps = PlaneTaps::default();
                taps.x.prepare(2.0, nx as f64, OUT.0, width);
                taps.y.prepare(0.0, ny as f64, OUT.1, height);
                let mut scratch = Scratch::default();
                let mut rows = [(); 3].map(|()| vec![-1.0; OUT.0 + 4]);
                for y in 0..OUT.1 {
                    scratch.fill(&plane, &taps, y, &mut rows, 1..1 + OUT.0);
                    for &(component, offset) in components.iter().flatten() {
                        for x in 0..OUT.0 {
                            let mut sum = 0u32;
                            for (i, j) in (0..ny).flat_map(|i| (0..nx).map(move |j| (i, j))) {
                                let at = (y * ny + i) * plane.stride;
                                sum += u32::from(data[at + (2 + x * nx + j) * step + offset]);
                            }
                            let mean = sum as f32 / (nx * ny) as f32;
                            let made = rows[component][1 + x];
                            let place = format!("{components:?} {nx}x{ny} at {x}, {y}");
                            assert!((made - mean).abs() < 1e-3, "{made} for {mean}: {place}");
                        }
                        assert_eq!([rows[component][0], rows[component][1 + OUT.0]], [-1.0; 2]);
                    }
                }
            }
        }
    }
}
