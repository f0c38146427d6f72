//! BlazeFace, the detector of MediaPipe (Bazarevsky et al.: "BlazeFace: Sub-millisecond Neural Face
//! Detection on Mobile GPUs", 2019; anchors and decoding are those of MediaPipe's
//! `ssd_anchors_calculator` and `tensors_to_detections_calculator`).

use face_core::Error;
use face_core::session::Runner;
use face_meta::geometry::{Landmarks, Point, Rect};

use super::{Candidate, Decoder};

/// The grids of anchors: cells along a side, and anchors per cell. All anchors are points. The models with
/// inputs of 128 and of 256 pixels have the same.
const GRIDS: [(usize, usize); 2] = [(16, 2), (8, 6)];

/// Numbers per anchor: the box, and six points.
const NUMBERS: usize = 16;

/// The model finds the middle of the mouth, not its corners. Their distance is this share of that between
/// the eyes: as on MediaPipe's canonical face model.
const MOUTH_TO_EYES: f64 = 2.456 / 3.151;

/// Finds candidates in the outputs `classificators` and `regressors`.
pub struct BlazeFace;

impl Decoder for BlazeFace {
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        let [_, _, height, width] = runner.shape();
        let count = anchors().count();
        let scores = runner.output_of("classificators", &[1, count, 1])?;
        let boxes = runner.output_of("regressors", &[1, count, NUMBERS])?;
        Outputs { scores, boxes }.decode((width, height), threshold, found);
        Ok(())
    }
}

/// The places of the anchors, 0..=1, in the order of the outputs.
fn anchors() -> impl Iterator<Item = Point> {
    GRIDS.into_iter().flat_map(|(cells, each)| {
        (0..cells * cells * each).map(move |anchor| {
            let cell = anchor / each;
            let center = |index: usize| (index as f64 + 0.5) / cells as f64;
            Point::new(center(cell % cells), center(cell / cells))
        })
    })
}

/// The outputs, anchor after anchor.
pub struct Outputs<'a> {
    /// Values before the sigmoid.
    pub scores: &'a [f32],
    /// Centre relative to the anchor, width, height, and relative to the anchor the subject's right eye, left
    /// eye, nose tip, middle of the mouth, right and left ear, in pixels of the input.
    pub boxes: &'a [f32],
}

impl Outputs<'_> {
    fn decode(&self, (width, height): (usize, usize), threshold: f32, found: &mut Vec<Candidate>) {
        let (boxes, _) = self.boxes.as_chunks::<NUMBERS>();
        for ((score, numbers), anchor) in self.scores.iter().zip(boxes).zip(anchors()) {
            let confidence = 1.0 / (1.0 + (-score).exp());
            if confidence.is_nan() || confidence < threshold {
                continue;
            }
            let point = |i: usize| {
                Point::new(
                    anchor.x * width as f64 + f64::from(numbers[2 * i]),
                    anchor.y * height as f64 + f64::from(numbers[2 * i + 1]),
                )
            };
            let (center, w, h) = (point(0), f64::from(numbers[2]), f64::from(numbers[3]));
            if !(w > 0.0 && h > 0.0) {
                continue;
            }
            let candidate = Candidate {
                rect: Rect::new(center.x - w / 2.0, center.y - h / 2.0, w, h),
                landmarks: with_mouth_corners([2, 3, 4, 5].map(point)),
                confidence,
            };
            found.extend(Some(candidate).filter(Candidate::is_finite));
        }
    }
}

/// The landmarks of a face of which eyes, nose tip and middle of the mouth are known.
fn with_mouth_corners([right, left, nose, mouth]: [Point; 4]) -> Landmarks {
    let half = MOUTH_TO_EYES / 2.0;
    let (dx, dy) = (half * (left.x - right.x), half * (left.y - right.y));
    [
        right,
        left,
        nose,
        Point::new(mouth.x - dx, mouth.y - dy),
        Point::new(mouth.x + dx, mouth.y + dy),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn anchors_are_in_the_order_of_the_outputs() {
        let all: Vec<_> = anchors().collect();
        assert_eq!(all.len(), 896);
        let at = |x: f64, y: f64| Point::new(x, y);
        assert_eq!(all[1], at(1.0 / 32.0, 1.0 / 32.0));
        assert_eq!(all[2], at(3.0 / 32.0, 1.0 / 32.0));
        assert_eq!(all[32], at(1.0 / 32.0, 3.0 / 32.0));
        assert_eq!(all[512 + 6], at(3.0 / 16.0, 1.0 / 16.0));
    }

    #[test]
    fn mouth_corners_are_parallel_to_the_eyes() {
        let points = [(10.0, 10.0), (20.0, 20.0), (0.0, 0.0), (5.0, 30.0)];
        let found = with_mouth_corners(points.map(|(x, y)| Point::new(x, y)));
        assert!((found[3].x + found[4].x - 10.0).abs() < 1e-9);
        assert!((found[4].y - found[3].y - 10.0 * MOUTH_TO_EYES).abs() < 1e-9);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

        #[test]
        fn any_outputs_give_finite_candidates(
            scores in proptest::collection::vec(proptest::num::f32::ANY, 4),
            boxes in proptest::collection::vec(proptest::num::f32::ANY, 4 * NUMBERS),
            threshold in proptest::num::f32::ANY,
        ) {
            let mut found = Vec::new();
            let outputs = Outputs { scores: &scores, boxes: &boxes };
            outputs.decode((128, 128), threshold, &mut found);
            for candidate in found {
                prop_assert!(candidate.is_finite());
                prop_assert!((0.0..=1.0).contains(&candidate.confidence));
                prop_assert!(candidate.rect.w > 0.0 && candidate.rect.h > 0.0);
            }
        }
    }
}
