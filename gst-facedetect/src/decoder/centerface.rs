//! CenterFace: faces as points of a heatmap at a quarter of the input's resolution (Xu, Yan, Yang,
//! Xiong: "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019).

use face_core::Error;
use face_core::session::Runner;
use face_meta::geometry::{Point, Rect};

use super::{Candidate, Decoder};

const STRIDE: usize = 4;

pub struct CenterFace;

impl Decoder for CenterFace {
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        let [_, _, height, width] = runner.shape();
        let (rows, columns) = (height / STRIDE, width / STRIDE);
        Maps {
            heatmap: runner.output_of("heatmap", &[1, 1, rows, columns])?,
            size: runner.output_of("size", &[1, 2, rows, columns])?,
            offset: runner.output_of("offset", &[1, 2, rows, columns])?,
            points: runner.output_of("landmarks", &[1, 10, rows, columns])?,
            columns,
        }
        .decode(threshold, found);
        Ok(())
    }
}

/// The outputs: planes with one number per cell of the heatmap.
pub struct Maps<'a> {
    pub heatmap: &'a [f32],
    pub size: &'a [f32],
    pub offset: &'a [f32],
    pub points: &'a [f32],
    pub columns: usize,
}

impl Maps<'_> {
    pub fn decode(&self, threshold: f32, found: &mut Vec<Candidate>) {
        let cells = self.heatmap.len();
        let columns = self.columns;
        for (cell, &confidence) in self.heatmap.iter().enumerate() {
            if confidence.is_nan() || confidence < threshold {
                continue;
            }
            // All pairs are stored y first.
            let at = |plane: &[f32], channel: usize| f64::from(plane[channel * cells + cell]);
            let stride = STRIDE as f64;
            let (h, w) = (
                at(self.size, 0).exp() * stride,
                at(self.size, 1).exp() * stride,
            );
            let cy = ((cell / columns) as f64 + at(self.offset, 0) + 0.5) * stride;
            let cx = ((cell % columns) as f64 + at(self.offset, 1) + 0.5) * stride;
            let rect = Rect::new(cx - w / 2.0, cy - h / 2.0, w, h);
            let point = |i: usize| {
                Point::new(
                    rect.x + at(self.points, 2 * i + 1) * w,
                    rect.y + at(self.points, 2 * i) * h,
                )
            };
            let candidate = Candidate {
                rect,
                landmarks: [0, 1, 2, 3, 4].map(point),
                confidence: confidence.clamp(0.0, 1.0),
            };
            found.extend(Some(candidate).filter(Candidate::is_finite));
        }
    }
}
