//! YuNet: anchor-free detection on three strides (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level
//! Face Detector", 2023; the decoding is that of OpenCV's `FaceDetectorYN`).

use face_core::Error;
use face_core::geometry::{Point, Rect};
use face_core::session::Runner;

use super::{Candidate, Decoder};

const STRIDES: [usize; 3] = [8, 16, 32];
const OUTPUTS: [[&str; 4]; 3] = [
    ["cls_8", "obj_8", "bbox_8", "kps_8"],
    ["cls_16", "obj_16", "bbox_16", "kps_16"],
    ["cls_32", "obj_32", "bbox_32", "kps_32"],
];

pub struct YuNet;

impl Decoder for YuNet {
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        let [_, _, height, width] = runner.shape();
        for (stride, [class, object, boxes, points]) in STRIDES.into_iter().zip(OUTPUTS) {
            let columns = width / stride;
            let cells = columns * (height / stride);
            Level {
                class: runner.output_of(class, &[1, cells, 1])?,
                object: runner.output_of(object, &[1, cells, 1])?,
                boxes: runner.output_of(boxes, &[1, cells, 4])?.as_chunks().0,
                points: runner.output_of(points, &[1, cells, 10])?.as_chunks().0,
                columns,
                stride,
            }
            .decode(threshold, found);
        }
        Ok(())
    }
}

/// The outputs of one stride, cell by cell.
pub struct Level<'a> {
    pub class: &'a [f32],
    pub object: &'a [f32],
    pub boxes: &'a [[f32; 4]],
    pub points: &'a [[f32; 10]],
    pub columns: usize,
    pub stride: usize,
}

impl Level<'_> {
    pub fn decode(&self, threshold: f32, found: &mut Vec<Candidate>) {
        // The score is the geometric mean of both outputs; comparing squares spares the root.
        let least = threshold.max(0.0).powi(2);
        for (cell, (class, object)) in self.class.iter().zip(self.object).enumerate() {
            let square = class.clamp(0.0, 1.0) * object.clamp(0.0, 1.0);
            if square >= least {
                let place = (cell % self.columns, cell / self.columns);
                let (boxes, points) = (&self.boxes[cell], &self.points[cell]);
                let candidate = candidate(place, self.stride as f64, boxes, points, square.sqrt());
                found.extend(Some(candidate).filter(Candidate::is_finite));
            }
        }
    }
}

fn candidate(
    (column, row): (usize, usize),
    stride: f64,
    offsets: &[f32; 4],
    points: &[f32; 10],
    confidence: f32,
) -> Candidate {
    let [dx, dy, log_w, log_h] = offsets.map(f64::from);
    let (column, row) = (column as f64, row as f64);
    let (w, h) = (log_w.exp() * stride, log_h.exp() * stride);
    let point = |i: usize| {
        Point::new(
            (column + f64::from(points[2 * i])) * stride,
            (row + f64::from(points[2 * i + 1])) * stride,
        )
    };
    Candidate {
        rect: Rect::new(
            (column + dx) * stride - w / 2.0,
            (row + dy) * stride - h / 2.0,
            w,
            h,
        ),
        landmarks: [0, 1, 2, 3, 4].map(point),
        confidence,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_becomes_a_box_around_its_centre() {
        let mut points = [0.0; 10];
        points[9] = 1.0;
        let c = candidate((2, 1), 8.0, &[0.5, 0.25, 0.0, 0.0], &points, 0.9);
        assert_eq!(c.rect, Rect::new(16.0, 6.0, 8.0, 8.0));
        assert_eq!(c.landmarks[0], Point::new(16.0, 8.0));
        assert_eq!(c.landmarks[4], Point::new(16.0, 16.0));
        assert!(!candidate((0, 0), 8.0, &[0.0, 0.0, 1e9, 0.0], &points, 0.9).is_finite());
    }
}
