//! RetinaFace with prior boxes on three strides (Deng et al.: "RetinaFace: Single-stage Dense Face
//! Localisation in the Wild", 2019; priors and decoding are those of its MobileNet variant, which follow SSD).

use face_core::Error;
use face_core::session::Runner;
use face_meta::geometry::{Point, Rect};

use super::{Candidate, Decoder};

/// The strides, and the sides of the square priors on each, in pixels of the input.
const PRIORS: [(usize, [f64; 2]); 3] =
    [(8, [16.0, 32.0]), (16, [64.0, 128.0]), (32, [256.0, 512.0])];

/// SSD's variances: of places and of sizes.
const PLACE: f64 = 0.1;
const SIZE: f64 = 0.2;

/// Finds candidates in the outputs `loc`, `conf` and `landmarks`.
pub struct RetinaFace;

impl Decoder for RetinaFace {
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        let [_, _, height, width] = runner.shape();
        let count = priors((width, height)).count();
        Outputs {
            boxes: runner.output_of("loc", &[1, count, 4])?,
            scores: runner.output_of("conf", &[1, count, 2])?,
            points: runner.output_of("landmarks", &[1, count, 10])?,
        }
        .decode((width, height), threshold, found);
        Ok(())
    }
}

/// Centre and side of each prior on an input of this width and height, in the order of the outputs.
fn priors((width, height): (usize, usize)) -> impl Iterator<Item = (Point, f64)> {
    PRIORS.into_iter().flat_map(move |(stride, sides)| {
        let columns = width.div_ceil(stride);
        (0..height.div_ceil(stride) * columns).flat_map(move |cell| {
            let center = |index: usize| (index as f64 + 0.5) * stride as f64;
            let center = Point::new(center(cell % columns), center(cell / columns));
            sides.map(|side| (center, side))
        })
    })
}

/// The outputs, prior after prior.
pub struct Outputs<'a> {
    /// Offset of the centre and logarithm of the size, relative to the prior and divided by the variances.
    pub boxes: &'a [f32],
    /// Probabilities of background and face.
    pub scores: &'a [f32],
    /// Offsets of the landmarks from the prior's centre, likewise.
    pub points: &'a [f32],
}

impl Outputs<'_> {
    pub fn decode(&self, input: (usize, usize), threshold: f32, found: &mut Vec<Candidate>) {
        let (scores, _) = self.scores.as_chunks::<2>();
        let (boxes, _) = self.boxes.as_chunks::<4>();
        let (points, _) = self.points.as_chunks::<10>();
        let outputs = scores.iter().zip(boxes).zip(points);
        for ((([_, confidence], sides), points), (center, side)) in outputs.zip(priors(input)) {
            if confidence.is_nan() || *confidence < threshold {
                continue;
            }
            let [dx, dy, log_w, log_h] = sides.map(f64::from);
            let (w, h) = (side * (log_w * SIZE).exp(), side * (log_h * SIZE).exp());
            let place = |dx: f64, dy: f64| {
                Point::new(center.x + dx * PLACE * side, center.y + dy * PLACE * side)
            };
            let middle = place(dx, dy);
            let candidate = Candidate {
                rect: Rect::new(middle.x - w / 2.0, middle.y - h / 2.0, w, h),
                landmarks: [0, 1, 2, 3, 4]
                    .map(|i| place(points[2 * i].into(), points[2 * i + 1].into())),
                confidence: confidence.clamp(0.0, 1.0),
            };
            found.extend(Some(candidate).filter(Candidate::is_finite));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priors_are_in_the_order_of_the_outputs() {
        let all: Vec<_> = priors((64, 32)).collect();
        assert_eq!(all.len(), 2 * (8 * 4 + 4 * 2 + 2));
        assert_eq!(all[0], (Point::new(4.0, 4.0), 16.0));
        assert_eq!(all[1], (Point::new(4.0, 4.0), 32.0));
        assert_eq!(all[2], (Point::new(12.0, 4.0), 16.0));
        assert_eq!(all[16], (Point::new(4.0, 12.0), 16.0));
        assert_eq!(all[64], (Point::new(8.0, 8.0), 64.0));
        assert_eq!(all[83], (Point::new(48.0, 16.0), 512.0));
    }
}
