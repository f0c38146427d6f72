//! Makes samples unrecognisable. Both effects reduce a block to the means of a few cells, from
//! which finer detail cannot be recovered, and fill it again from those. This takes one pass to
//! read the samples and one to write them, whatever the strength.

/// Samples of one component, in rows of equal length.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Block {
    pub width: usize,
    pub height: usize,
    pub samples: Vec<u16>,
}

/// How far a box blur reaches to either side, in cells. Three box blurs over cells of `sigma /
/// 6^0.5` pixels approximate a Gaussian blur with the standard deviation `sigma` to within 3 %.
const REACH: usize = 2;

/// How many cells of `cell` pixels cover a length of `pixels`; at least one.
fn cells(pixels: usize, cell: f64) -> usize {
    ((pixels as f64 / cell.max(1.0)).round() as usize).clamp(1, pixels.max(1))
}

/// The number of cells for blocks of one colour with a side of `side` pixels.
pub fn pixelate_cells((width, height): (usize, usize), side: f64) -> (usize, usize) {
    (cells(width, side), cells(height, side))
}

/// The number of cells for a blur with a standard deviation of `sigma` pixels.
pub fn blur_cells((width, height): (usize, usize), sigma: f64) -> (usize, usize) {
    let variance = REACH * (REACH + 1);
    pixelate_cells((width, height), sigma / (variance as f64).sqrt())
}

/// The means of a block's cells.
#[derive(Debug, Clone, PartialEq)]
struct Grid {
    width: usize,
    height: usize,
    means: Vec<f32>,
}

impl Grid {
    /// Divides a non-empty block into `width` by `height` cells, or one cell per sample if there
    /// are fewer samples.
    fn new(block: &Block, (width, height): (usize, usize)) -> Self {
        let (width, height) = (width.clamp(1, block.width), height.clamp(1, block.height));
        let mut means = Vec::with_capacity(width * height);
        let mut sums = vec![0_u32; block.width];
        for cell in 0..height {
            let rows = edge(cell, height, block.height)..edge(cell + 1, height, block.height);
            sums.fill(0);
            let samples = &block.samples[rows.start * block.width..rows.end * block.width];
            for row in samples.chunks_exact(block.width) {
                for (sum, sample) in sums.iter_mut().zip(row) {
                    *sum += u32::from(*sample);
                }
            }
            for cell in 0..width {
                let columns = edge(cell, width, block.width)..edge(cell + 1, width, block.width);
                let area = (rows.len() * columns.len()) as f64;
                let sum: u64 = sums[columns].iter().map(|s| u64::from(*s)).sum();
                means.push((sum as f64 / area) as f32);
            }
        }
        Self {
            width,
            height,
            means,
        }
    }

    /// Applies three box blurs. Edge values continue beyond the edge.
    fn blur(&mut self) {
        let mut line = Vec::new();
        for _ in 0..3 {
            for row in 0..self.height {
                box_blur(&mut self.means, row * self.width, 1, self.width, &mut line);
            }
            for column in 0..self.width {
                box_blur(&mut self.means, column, self.width, self.height, &mut line);
            }
        }
    }

    /// Interpolates linearly between the centres of the cells.
    fn fill_smooth(&self, block: &mut Block) {
        let across = positions(self.width, block.width);
        let mut line = vec![0.0; self.width];
        let rows = block.samples.chunks_exact_mut(block.width);
        for (row, (cell, next, share)) in rows.zip(positions(self.height, block.height)) {
            let of = |cell: usize| &self.means[cell * self.width..][..self.width];
            for ((out, a), b) in line.iter_mut().zip(of(cell)).zip(of(next)) {
                *out = a + (b - a) * share;
            }
            for (sample, &(cell, next, share)) in row.iter_mut().zip(&across) {
                let value = line[cell] + (line[next] - line[cell]) * share;
                *sample = (value + 0.5) as u16;
            }
        }
    }

    /// Fills each cell with one colour.
    fn fill_flat(&self, block: &mut Block) {
        let mut done = 0;
        for (i, means) in self.means.chunks_exact(self.width).enumerate() {
            let end = edge(i + 1, self.height, block.height);
            for row in
                block.samples[done * block.width..end * block.width].chunks_exact_mut(block.width)
            {
                for (cell, mean) in means.iter().enumerate() {
                    let columns =
                        edge(cell, self.width, row.len())..edge(cell + 1, self.width, row.len());
                    row[columns].fill((mean + 0.5) as u16);
                }
            }
            done = end;
        }
    }
}

/// Where cell `index` of `cells` begins in `length` samples.
fn edge(index: usize, cells: usize, length: usize) -> usize {
    index * length / cells
}

/// For each of `length` samples, the two cells between whose centres it lies, and the share of the
/// second.
fn positions(cells: usize, length: usize) -> Vec<(usize, usize, f32)> {
    let scale = cells as f32 / length as f32;
    (0..length)
        .map(|i| {
            let at = ((i as f32 + 0.5) * scale - 0.5).clamp(0.0, (cells - 1) as f32);
            let cell = at as usize;
            (cell, (cell + 1).min(cells - 1), at - cell as f32)
        })
        .collect()
}

/// Means over `2 · REACH + 1` values, for `count` values from `start` on, `step` apart.
fn box_blur(values: &mut [f32], start: usize, step: usize, count: usize, line: &mut Vec<f32>) {
    line.clear();
    line.extend((0..count).map(|i| values[start + i * step]));
    let at = |i: isize| line[i.clamp(0, count as isize - 1) as usize];
    let reach = REACH as isize;
    for i in 0..count as isize {
        let sum: f32 = (i - reach..=i + reach).map(at).sum();
        values[start + i as usize * step] = sum / (2 * REACH + 1) as f32;
    }
}

/// Blurs a block; see [`blur_cells`].
pub fn blur(block: &mut Block, cells: (usize, usize)) {
    if !block.samples.is_empty() {
        let mut grid = Grid::new(block, cells);
        grid.blur();
        grid.fill_smooth(block);
    }
}

/// Fills each cell of a block with its mean.
pub fn pixelate(block: &mut Block, cells: (usize, usize)) {
    if !block.samples.is_empty() {
        Grid::new(block, cells).fill_flat(block);
    }
}

/// Fills `target` with the stretched `source`: averages where it shrinks, interpolates linearly
/// where it grows.
pub fn stretch(source: &Block, target: &mut Block) {
    if !source.samples.is_empty() && !target.samples.is_empty() {
        Grid::new(source, (target.width, target.height)).fill_smooth(target);
    }
}

/// Blends `over` onto a block, with an `alpha` of 0..=255 for each sample.
pub fn mix(block: &mut Block, over: &Block, alpha: &Block) {
    for ((sample, over), alpha) in block
        .samples
        .iter_mut()
        .zip(&over.samples)
        .zip(&alpha.samples)
    {
        let alpha = u32::from(*alpha).min(255);
        let sum = u32::from(*over) * alpha + u32::from(*sample) * (255 - alpha);
        *sample = ((sum + 127) / 255) as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Block {
        let mut seed = 7_u32;
        let samples = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 22) as u16
        });
        Block {
            width,
            height,
            samples: samples.take(width * height).collect(),
        }
    }

    fn mean(block: &Block) -> f64 {
        block.samples.iter().map(|s| f64::from(*s)).sum::<f64>() / block.samples.len() as f64
    }

    #[test]
    fn a_flat_block_stays_as_it_is_to_the_last_value() {
        for value in [0, 1, 255, 1023, 65535] {
            let flat = Block {
                width: 13,
                height: 9,
                samples: vec![value; 13 * 9],
            };
            for cells in [(1, 1), (3, 2), (50, 50)] {
                let (mut a, mut b) = (flat.clone(), flat.clone());
                blur(&mut a, cells);
                pixelate(&mut b, cells);
                assert!(a == flat && b == flat, "{value} {cells:?}");
            }
        }
    }

    #[test]
    fn blocks_are_the_means_of_their_cells() {
        let before = noise(10, 7);
        let mut after = before.clone();
        pixelate(&mut after, (3, 2));
        let cell: Vec<u16> = (0..3)
            .flat_map(|y| before.samples[y * 10..y * 10 + 3].to_vec())
            .collect();
        let expected = cell.iter().map(|s| f64::from(*s)).sum::<f64>() / 9.0;
        assert!((f64::from(after.samples[0]) - expected).abs() <= 0.5);
        let mut values = after.samples.clone();
        values.sort_unstable();
        values.dedup();
        assert!(values.len() <= 6);
    }

    /// A step edge becomes the Gaussian's distribution function.
    #[test]
    fn blur_is_a_gaussian_of_the_deviation_asked_for() {
        let (width, sigma) = (400, 20.0);
        let row = (0..width).map(|x| if x < width / 2 { 0 } else { 1000 });
        let mut block = Block {
            width,
            height: 40,
            samples: row.cycle().take(width * 40).collect(),
        };
        blur(&mut block, blur_cells((width, 40), sigma));
        for (deviations, expected) in [(-2.0, 23.0), (-1.0, 159.0), (0.0, 500.0), (1.0, 841.0)] {
            let x = width as f64 / 2.0 + deviations * sigma;
            let found = f64::from(block.samples[20 * width + x as usize]);
            assert!((found - expected).abs() < 25.0, "{deviations}: {found}");
        }
    }

    #[test]
    fn detail_is_gone_and_the_mean_stays() {
        let before = noise(120, 90);
        let mut after = before.clone();
        blur(&mut after, blur_cells((120, 90), 12.0));
        assert!((mean(&before) - mean(&after)).abs() < 10.0);
        let range = after.samples.iter().max().zip(after.samples.iter().min());
        assert!(
            range.is_some_and(|(max, min)| max - min < 120),
            "{range:?} of 1024"
        );
    }

    #[test]
    fn sizes_of_one_and_none() {
        for (width, height) in [(0, 0), (1, 1), (1, 50), (50, 1)] {
            let mut block = noise(width, height);
            blur(&mut block, blur_cells((width, height), 1e9));
            pixelate(&mut block, pixelate_cells((width, height), 0.0));
            stretch(&noise(3, 3), &mut block);
        }
    }

    #[test]
    fn stretching_keeps_places_and_mixing_keeps_shares() {
        let ramp = Block {
            width: 4,
            height: 1,
            samples: vec![0, 100, 200, 300],
        };
        let mut wide = noise(8, 2);
        stretch(&ramp, &mut wide);
        assert_eq!(wide.samples[..8], [0, 25, 75, 125, 175, 225, 275, 300]);
        let mut half = noise(2, 1);
        stretch(&ramp, &mut half);
        assert_eq!(half.samples, [50, 250]);
        let alpha = Block {
            samples: vec![0, 255],
            ..half.clone()
        };
        let mut under = Block {
            samples: vec![7, 7],
            ..half.clone()
        };
        mix(&mut under, &half, &alpha);
        assert_eq!(under.samples, [7, 250]);
    }
}
