//! Colours: one per track, and the legible text colour for each.

/// sRGB, each 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Color {
    pub r: f64,
    pub g: f64,
    pub b: f64,
}

const BLACK: Color = Color::new(0.04, 0.04, 0.05);
const WHITE: Color = Color::new(1.0, 1.0, 1.0);

/// The colour of faces without a track.
pub const UNTRACKED: Color = Color::new(0.35, 0.86, 0.56);

impl Color {
    pub const fn new(r: f64, g: f64, b: f64) -> Self {
        Self { r, g, b }
    }

    /// The colour of a track, always the same. Hues advance by the golden angle in OKLCH, where
    /// equal steps look equal. So the colours of a few consecutive tracks are far apart.
    pub fn of_track(id: u64) -> Self {
        const GOLDEN: f64 = 0.618_033_988_749_895;
        // Track numbers start at 1. No stream reaches this period, which keeps the product exact.
        let n = (id % 1_000_000_007) as f64;
        let turn = (0.09 + n * GOLDEN).fract();
        let lightness = [0.76, 0.66, 0.84][(id % 3) as usize];
        // The most vivid colour of this hue and lightness inside sRGB.
        let mut chroma = 0.19;
        loop {
            let (color, inside) = oklch(lightness, chroma, turn * std::f64::consts::TAU);
            if inside || chroma <= 0.0 {
                return color;
            }
            chroma -= 0.01;
        }
    }

    /// Relative luminance, 0..=1 (WCAG 2).
    pub fn luminance(self) -> f64 {
        let linear = |v: f64| {
            if v <= 0.040_45 {
                v / 12.92
            } else {
                ((v + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(self.r) + 0.7152 * linear(self.g) + 0.0722 * linear(self.b)
    }

    /// Black or white, whichever has the higher contrast on this colour.
    pub fn text(self) -> Self {
        if contrast(self, BLACK) >= contrast(self, WHITE) {
            BLACK
        } else {
            WHITE
        }
    }
}

/// The contrast of two colours, 1..=21 (WCAG 2).
fn contrast(a: Color, b: Color) -> f64 {
    let (a, b) = (a.luminance(), b.luminance());
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// An OKLCH colour in sRGB, clipped, and whether it was inside sRGB.
fn oklch(lightness: f64, chroma: f64, hue: f64) -> (Color, bool) {
    let (a, b) = (chroma * hue.cos(), chroma * hue.sin());
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    let linear = [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s,
    ];
    let inside = linear.iter().all(|v| (-0.001..=1.001).contains(v));
    let [r, g, b] = linear.map(|v| {
        let v = v.clamp(0.0, 1.0);
        if v <= 0.003_130_8 {
            12.92 * v
        } else {
            1.055 * v.powf(1.0 / 2.4) - 0.055
        }
    });
    (Color::new(r, g, b), inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklch_of_known_colours() {
        // Red (#ff0000) is oklch(0.628, 0.2577, 29.23 degrees).
        let (red, _) = oklch(0.627_955, 0.257_683, 29.2339_f64.to_radians());
        assert!(
            (red.r - 1.0).abs() < 0.01 && red.g < 0.02 && red.b < 0.02,
            "{red:?}"
        );
        let (white, inside) = oklch(1.0, 0.0, 0.0);
        assert!(inside && (white.r - 1.0).abs() < 1e-3 && (white.b - 1.0).abs() < 1e-3);
    }

    #[test]
    fn neighbours_are_far_apart() {
        let distance = |a: Color, b: Color| {
            ((a.r - b.r).powi(2) + (a.g - b.g).powi(2) + (a.b - b.b).powi(2)).sqrt()
        };
        for first in 0..200 {
            for next in 1..=4 {
                let (a, b) = (Color::of_track(first), Color::of_track(first + next));
                assert!(
                    distance(a, b) > 0.15,
                    "{first} and {}: {a:?} {b:?}",
                    first + next
                );
            }
        }
        assert_eq!(Color::of_track(7), Color::of_track(7));
    }

    #[test]
    fn every_text_is_legible() {
        for id in (0..1000).chain([u64::MAX - 1, u64::MAX]) {
            let color = Color::of_track(id);
            assert!(
                [color.r, color.g, color.b]
                    .iter()
                    .all(|v| (0.0..=1.0).contains(v))
            );
            assert!(contrast(color, color.text()) > 4.5, "{id}: {color:?}");
        }
        assert_eq!(UNTRACKED.text(), BLACK);
        assert_eq!(Color::new(0.1, 0.1, 0.5).text(), WHITE);
    }
}
