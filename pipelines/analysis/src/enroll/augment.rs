//! Variations of an aligned face: the same face as another camera, another light or another moment
//! might show it.
//!
//! Variation `n` is the same for every face and every call: a generator seeded with `n` gives its
//! parameters. Nearby poses are sampled again from the photo, with slightly displaced landmarks, so
//! that no corner of the chip is empty. The rest is applied to the chip.

use face_meta::geometry::{Landmarks, Point};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

/// What degrades the picture, in turn.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    /// Only another light.
    None,
    /// As if the face had been smaller by this factor.
    LowResolution(f64),
    /// Gaussian; the standard deviation in pixels of the chip.
    Blur(f32),
    /// Gaussian; the standard deviation in steps of 255.
    Noise(f64),
}

/// One way to change a face.
#[derive(Debug, Clone, PartialEq)]
pub struct Variation {
    mirror: bool,
    /// Clockwise, in radians.
    angle: f64,
    scale: f64,
    /// In eye distances.
    shift: (f64, f64),
    /// The value to which medium grey is mapped, 0..=255.
    grey: f64,
    contrast: f64,
    flaw: Flaw,
    /// The seed of the noise.
    seed: u64,
}

impl Variation {
    /// Variation `number`, counted from 1.
    pub fn number(number: usize) -> Self {
        let mut random = Random(number as u64);
        let flaw = |random: &mut Random| match number % 4 {
            1 => Flaw::None,
            2 => Flaw::LowResolution(random.between(2.0, 4.0)),
            3 => Flaw::Blur(random.between(1.0, 2.5) as f32),
            _ => Flaw::Noise(random.between(6.0, 18.0)),
        };
        Self {
            // Of each flaw, one variation is mirrored and one is not.
            mirror: (number + number / 4) % 2 == 1,
            angle: random.between(-8.0, 8.0).to_radians(),
            scale: random.between(0.94, 1.06),
            shift: (random.between(-0.05, 0.05), random.between(-0.05, 0.05)),
            grey: random.between(80.0, 176.0),
            contrast: random.between(0.65, 1.25),
            flaw: flaw(&mut random),
            seed: random.next(),
        }
    }

    /// The landmarks that make the alignment turn, scale and shift the face.
    pub fn landmarks(&self, landmarks: &Landmarks) -> Landmarks {
        let count = landmarks.len() as f64;
        let mean = |of: fn(&Point) -> f64| landmarks.iter().map(of).sum::<f64>() / count;
        let (cx, cy) = (mean(|p| p.x), mean(|p| p.y));
        let eyes = landmarks[0].distance(landmarks[1]);
        let (sin, cos) = self.angle.sin_cos();
        landmarks.map(|p| {
            let (x, y) = (self.scale * (p.x - cx), self.scale * (p.y - cy));
            Point::new(
                cx + cos * x - sin * y + eyes * self.shift.0,
                cy + sin * x + cos * y + eyes * self.shift.1,
            )
        })
    }

    /// Changes a chip.
    pub fn apply(&self, chip: RgbImage) -> RgbImage {
        let mut chip = chip;
        if self.mirror {
            imageops::flip_horizontal_in_place(&mut chip);
        }
        let light = |v: u8| (f64::from(v) - 128.0) * self.contrast + self.grey;
        for Rgb(pixel) in chip.pixels_mut() {
            *pixel = pixel.map(|v| light(v).round() as u8);
        }
        match self.flaw {
            Flaw::None => chip,
            Flaw::LowResolution(factor) => {
                let (width, height) = chip.dimensions();
                let small = |side: u32| ((f64::from(side) / factor) as u32).max(1);
                let few =
                    imageops::resize(&chip, small(width), small(height), FilterType::Triangle);
                imageops::resize(&few, width, height, FilterType::Triangle)
            }
            Flaw::Blur(sigma) => imageops::blur(&chip, sigma),
            Flaw::Noise(sigma) => {
                let mut random = Random(self.seed);
                for Rgb(pixel) in chip.pixels_mut() {
                    *pixel = pixel.map(|v| (f64::from(v) + sigma * random.normal()).round() as u8);
                }
                chip
            }
        }
    }
}

/// SplitMix64 (Steele et al. 2014). It gives the same numbers everywhere and for ever, which the
/// generators of crates do not promise.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal, with mean 0 and variance 1: the sum of twelve uniform numbers. (An exact one
    /// needs logarithms and sines, which differ between systems.)
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.between(0.0, 1.0)).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_meta::geometry::Similarity;

    fn chip() -> RgbImage {
        RgbImage::from_fn(112, 112, |x, y| {
            Rgb([
                (2 * x) as u8,
                (2 * y) as u8,
                if (x / 8 + y / 8) % 2 == 0 { 90 } else { 150 },
            ])
        })
    }

    fn mean(chip: &RgbImage) -> f64 {
        let values = chip.as_raw();
        values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn a_variation_is_always_the_same_and_like_no_other() {
        let all: Vec<RgbImage> = (1..=12)
            .map(|n| Variation::number(n).apply(chip()))
            .collect();
        for (i, a) in all.iter().enumerate() {
            assert_eq!(*a, Variation::number(i + 1).apply(chip()));
            assert_eq!(a.dimensions(), (112, 112));
            assert!(all[..i].iter().all(|b| a != b) && *a != chip());
            assert!((60.0..200.0).contains(&mean(a)), "{i}: still a picture");
        }
    }

    #[test]
    fn eight_variations_have_each_flaw_mirrored_and_not() {
        let mut kinds: Vec<_> = (1..=8)
            .map(|n| {
                let v = Variation::number(n);
                (std::mem::discriminant(&v.flaw), v.mirror)
            })
            .collect();
        for kind in std::mem::take(&mut kinds) {
            assert!(!kinds.contains(&kind));
            kinds.push(kind);
        }
    }

    #[test]
    fn landmarks_are_turned_scaled_and_shifted() {
        let found = [
            (40.0, 50.0),
            (70.0, 52.0),
            (55.0, 70.0),
            (44.0, 90.0),
            (68.0, 91.0),
        ]
        .map(|(x, y)| Point::new(x, y));
        for n in 1..=20 {
            let variation = Variation::number(n);
            let moved = variation.landmarks(&found);
            let fit = Similarity::fit(&found, &moved).expect("five points");
            assert!((fit.scale() - variation.scale).abs() < 1e-9);
            assert!((fit.b.atan2(fit.a) - variation.angle).abs() < 1e-9);
            assert!((0.94..1.06).contains(&fit.scale()));
            for (a, b) in found.iter().zip(&moved) {
                assert!(fit.apply(*a).distance(*b) < 1e-9);
                assert!(a.distance(*b) < 12.0, "nearby");
            }
        }
        let nan = [Point::new(f64::NAN, 0.0); 5];
        assert!(Variation::number(1).landmarks(&nan)[0].x.is_nan());
    }

    #[test]
    fn the_smallest_chips_are_no_trouble() {
        for n in 1..=8 {
            for size in [(1, 1), (3, 1)] {
                let chip = RgbImage::new(size.0, size.1);
                assert_eq!(Variation::number(n).apply(chip).dimensions(), size);
            }
        }
    }

    #[test]
    fn noise_is_of_mean_0_and_variance_1() {
        let mut random = Random(5);
        let values: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03,
            "{mean} {variance}"
        );
    }
}
