//! SCRFD: distances from points on three strides, with two anchors per point (Guo, Deng, Lattas, Zafeiriou:
//! "Sample and Computation Redistribution for Efficient Face Detection", 2021; the decoding is that of
//! InsightFace).

use face_core::Error;
use face_core::session::Runner;
use face_meta::geometry::{Point, Rect};

use super::{Candidate, Decoder};

const STRIDES: [usize; 3] = [8, 16, 32];

/// Anchors per point.
const ANCHORS: usize = 2;

/// Finds candidates in the outputs `score_S`, `bbox_S` and `kps_S` of each stride S.
pub struct Scrfd;

impl Decoder for Scrfd {
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        let [_, _, height, width] = runner.shape();
        for stride in STRIDES {
            let (columns, rows) = (width / stride, height / stride);
            let anchors = columns * rows * ANCHORS;
            let output = |name: &str, numbers| {
                runner.output_of(&format!("{name}_{stride}"), &[1, anchors, numbers])
            };
            Level {
                scores: output("score", 1)?,
                boxes: output("bbox", 4)?,
                points: output("kps", 10)?,
                columns,
                stride,
            }
            .decode(threshold, found);
        }
        Ok(())
    }
}

/// The outputs of one stride, anchor after anchor.
pub struct Level<'a> {
    /// Probabilities.
    pub scores: &'a [f32],
    /// Distances from the anchor's point to the left, top, right and bottom, in strides.
    pub boxes: &'a [f32],
    /// The landmarks' places relative to that point, in strides.
    pub points: &'a [f32],
    pub columns: usize,
    pub stride: usize,
}

impl Level<'_> {
    pub fn decode(&self, threshold: f32, found: &mut Vec<Candidate>) {
        let stride = self.stride as f64;
        let (boxes, _) = self.boxes.as_chunks::<4>();
        let (points, _) = self.points.as_chunks::<10>();
        for (anchor, ((&confidence, sides), points)) in
            self.scores.iter().zip(boxes).zip(points).enumerate()
        {
            if confidence.is_nan() || confidence < threshold {
                continue;
            }
            let cell = anchor / ANCHORS;
            let x = (cell % self.columns) as f64 * stride;
            let y = (cell / self.columns) as f64 * stride;
            let [left, top, right, bottom] = sides.map(|side| f64::from(side) * stride);
            let candidate = Candidate {
                rect: Rect::new(
                    x - left,
                    y - top,
                    (left + right).max(0.0),
                    (top + bottom).max(0.0),
                ),
                landmarks: [0, 1, 2, 3, 4].map(|i| {
                    let [dx, dy] = [points[2 * i], points[2 * i + 1]].map(f64::from);
                    Point::new(x + dx * stride, y + dy * stride)
                }),
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
    fn distances_are_in_strides_from_the_point_of_the_anchor() {
        // Two columns and two rows with two anchors each; the sixth is the second anchor of the point in
        // the second row and first column.
        let (mut scores, mut boxes, mut points) = ([0.1; 8], [9.0; 32], [9.0; 80]);
        scores[5] = 0.9;
        boxes[20..24].copy_from_slice(&[0.5, 0.25, 1.5, 2.0]);
        points[50..60].copy_from_slice(&[0.0, 0.5, 1.0, 0.5, 0.5, 1.0, 0.25, 1.5, 0.75, 1.5]);
        let level = Level {
            scores: &scores,
            boxes: &boxes,
            points: &points,
            columns: 2,
            stride: 8,
        };
        let mut found = Vec::new();
        level.decode(0.5, &mut found);
        let [face] = found.as_slice() else {
            panic!("{} faces", found.len());
        };
        assert_eq!(face.rect, Rect::new(-4.0, 6.0, 16.0, 18.0));
        let places = [
            (0.0, 12.0),
            (8.0, 12.0),
            (4.0, 16.0),
            (2.0, 20.0),
            (6.0, 20.0),
        ];
        assert_eq!(face.landmarks, places.map(|(x, y)| Point::new(x, y)));
        assert_eq!(face.confidence, 0.9);
    }
}
