//! YuNet: anchor-free detection on three strides (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level
//! Face Detector", 2023; the decoding is that of OpenCV's `FaceDetectorYN`).

use face_core::Error;
use face_core::session::{Edit, Runner};
use face_meta::geometry::{Point, Rect};

use super::heads::{MERGE_YUNET, YUNET};
use super::{Candidate, Decoder};

const STRIDES: [usize; 3] = [8, 16, 32];

pub struct YuNet;

impl Decoder for YuNet {
    fn edit(&self) -> Option<Edit> {
        Some(MERGE_YUNET)
    }

    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error> {
        let [_, _, height, width] = runner.shape();
        for (stride, head) in STRIDES.into_iter().zip(YUNET) {
            let (columns, rows) = (width / stride, height / stride);
            let cells = columns * rows;
            let level = if runner.has_output(head.output) {
                Level::of_head(
                    runner.output_of(head.output, &[1, 16, rows, columns])?,
                    cells,
                )
            } else {
                let [class, object, boxes, points] = head.parts.map(|part| part.output);
                Level {
                    scores: Scores::Probabilities,
                    class: runner.output_of(class, &[1, cells, 1])?,
                    object: runner.output_of(object, &[1, cells, 1])?,
                    boxes: Values::by_cell(runner.output_of(boxes, &[1, cells, 4])?, 4),
                    points: Values::by_cell(runner.output_of(points, &[1, cells, 10])?, 10),
                }
            };
            level.decode((columns, stride), threshold, found);
        }
        Ok(())
    }
}

/// Several numbers per cell.
pub struct Values<'a> {
    data: &'a [f32],
    /// The distance from one number of a cell to the next, and from one cell to the next.
    step: usize,
    cell: usize,
}

impl<'a> Values<'a> {
    /// All `count` numbers of one cell, then those of the next.
    pub fn by_cell(data: &'a [f32], count: usize) -> Self {
        Self {
            data,
            step: 1,
            cell: count,
        }
    }

    /// One number for all `cells`, then the next number.
    pub fn by_channel(data: &'a [f32], cells: usize) -> Self {
        Self {
            data,
            step: cells,
            cell: 1,
        }
    }

    fn of<const N: usize>(&self, cell: usize) -> [f32; N] {
        std::array::from_fn(|i| self.data[cell * self.cell + i * self.step])
    }
}

#[derive(Clone, Copy)]
pub enum Scores {
    Probabilities,
    /// Values before the sigmoid.
    Logits,
}

/// The outputs of one stride.
pub struct Level<'a> {
    pub scores: Scores,
    pub class: &'a [f32],
    pub object: &'a [f32],
    pub boxes: Values<'a>,
    pub points: Values<'a>,
}

impl<'a> Level<'a> {
    /// Reads 16 channels with `cells` numbers each: a [head](super::heads::YUNET).
    pub fn of_head(head: &'a [f32], cells: usize) -> Self {
        let (scores, others) = head.split_at(2 * cells);
        let (class, object) = scores.split_at(cells);
        let (boxes, points) = others.split_at(4 * cells);
        Self {
            scores: Scores::Logits,
            class,
            object,
            boxes: Values::by_channel(boxes, cells),
            points: Values::by_channel(points, cells),
        }
    }

    pub fn decode(
        &self,
        (columns, stride): (usize, usize),
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) {
        // The score is the geometric mean of both outputs. Comparing squares saves the root.
        let least = threshold.max(0.0).powi(2);
        // Neither factor exceeds 1, so neither may be less than this. Almost all cells end here.
        // The margin exceeds any rounding error.
        let enough = match self.scores {
            Scores::Probabilities => least,
            Scores::Logits => logit(least) - 1e-3,
        };
        for (cell, (&class, &object)) in self.class.iter().zip(self.object).enumerate() {
            if !(class >= enough && object >= enough) {
                continue;
            }
            let square = self.scores.probability(class) * self.scores.probability(object);
            if square >= least {
                let place = (cell % columns, cell / columns);
                let (boxes, points) = (self.boxes.of(cell), self.points.of(cell));
                let candidate = candidate(place, stride as f64, &boxes, &points, square.sqrt());
                found.extend(Some(candidate).filter(Candidate::is_finite));
            }
        }
    }
}

impl Scores {
    fn probability(self, score: f32) -> f32 {
        match self {
            Self::Probabilities => score.clamp(0.0, 1.0),
            Self::Logits => 1.0 / (1.0 + (-score).exp()),
        }
    }
}

/// The inverse of the sigmoid: -∞ for 0, ∞ for 1, NaN outside 0..=1.
fn logit(probability: f32) -> f32 {
    (probability / (1.0 - probability)).ln()
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
    fn both_layouts_are_read_alike() {
        let cells = 6;
        let value =
            |channel: usize, cell: usize| ((channel * 7 + cell * 5) % 11) as f32 / 4.0 - 1.0;
        let by_channel: Vec<f32> = (0..16 * cells)
            .map(|i| value(i / cells, i % cells))
            .collect();
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        let channel = |c| (0..cells).map(|i| sigmoid(value(c, i))).collect::<Vec<_>>();
        let by_cell = |channels: std::ops::Range<usize>| {
            (0..cells)
                .flat_map(|cell| channels.clone().map(move |c| value(c, cell)))
                .collect::<Vec<_>>()
        };
        let (class, object) = (channel(0), channel(1));
        let (boxes, points) = (by_cell(2..6), by_cell(6..16));
        let separate = Level {
            scores: Scores::Probabilities,
            class: &class,
            object: &object,
            boxes: Values::by_cell(&boxes, 4),
            points: Values::by_cell(&points, 10),
        };
        let lengths = [0.0, 0.5, 0.7].map(|threshold| {
            let (mut one, mut other) = (Vec::new(), Vec::new());
            separate.decode((3, 8), threshold, &mut one);
            Level::of_head(&by_channel, cells).decode((3, 8), threshold, &mut other);
            assert_eq!(one, other);
            one.len()
        });
        assert!(
            lengths[0] == cells && lengths[1] > lengths[2],
            "{lengths:?}"
        );
    }

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
