//! Shared code of the benchmarks: medians of interleaved runs, made embeddings.

use std::time::{Duration, Instant};

use face_gallery::normalised;

/// Measures how long `work` takes.
pub fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// The median of some durations, in milliseconds.
pub fn median(durations: &mut [Duration]) -> f64 {
    durations.sort();
    durations
        .get(durations.len() / 2)
        .map_or(f64::NAN, |d| d.as_secs_f64() * 1e3)
}

/// SplitMix64, for numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Approximately normally distributed: the sum of four 16-bit numbers.
    pub fn number(&mut self) -> f32 {
        let bits = self.bits();
        let sum: f32 = (0..4).map(|i| ((bits >> (16 * i)) & 0xffff) as f32).sum();
        (sum / 65536.0 - 2.0) * 3f32.sqrt()
    }

    /// So many numbers.
    pub fn vector(&mut self, dimensions: usize) -> Vec<f32> {
        (0..dimensions).map(|_| self.number()).collect()
    }

    /// A vector of length 1 near `centre`, whose numbers differ by `noise`.
    pub fn around(&mut self, centre: &[f32], noise: f32) -> Vec<f32> {
        let face: Vec<f32> = centre.iter().map(|v| v + noise * self.number()).collect();
        normalised(&face).expect("random numbers have a direction")
    }
}
