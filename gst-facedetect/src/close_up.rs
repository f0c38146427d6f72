//! Faces that are too large for a detector at the size of its input, found on a small copy of the frame.
//!
//! YuNet sees as far as its layers reach: on an input of 1920 pixels a face that fills it is missed, or
//! found in parts (an eye region, half a face). On a copy of 320 pixels the same face is an easy one.

use face_meta::geometry::non_maximum_suppression;

use crate::decoder::Candidate;

/// The longest side of the small copy, in pixels. It costs a thirty-sixth of an input of 1920.
pub const SIDE: usize = 320;

/// Up to this longest side of an input, no face is too large.
pub const FROM: usize = 640;

/// The least size of a face for which the small copy decides: the longer side of its box, in pixels of the
/// large input.
const LARGE: f64 = 300.0;

/// The least overlap (IoU) of two boxes of one large face.
const SAME: f64 = 0.6;

/// A box with this share of its area in a large face is a part of it. A very small one may be a face in
/// front of it.
const INSIDE: f64 = 0.7;
const LEAST_PART: f64 = 0.05;

/// Adds the large faces of the small copy, in `close`, to those of the large input, in `found`, and removes
/// the parts of them. Both are in pixels of the large input. Boxes that overlap more than `nms_threshold`
/// (IoU) are of one face.
pub fn merge(found: &mut Vec<Candidate>, close: &[Candidate], nms_threshold: f64) {
    let large = close.iter().filter(|c| c.rect.w.max(c.rect.h) >= LARGE);
    let large: Vec<Candidate> = large.copied().collect();
    let boxes: Vec<_> = large.iter().map(|c| c.rect).collect();
    let scores: Vec<f32> = large.iter().map(|c| c.confidence).collect();
    for i in non_maximum_suppression(&boxes, &scores, nms_threshold) {
        let face = large[i];
        // What the large input shows whole, it shows in more detail.
        if found.iter().any(|c| c.rect.iou(&face.rect) >= SAME) {
            continue;
        }
        found.retain(|c| {
            let area = c.rect.area();
            let inside = c.rect.intersection(&face.rect).area() / area;
            let is_part = inside >= INSIDE && area >= LEAST_PART * face.rect.area();
            // A part that is more certain would suppress the face later.
            !is_part && c.rect.iou(&face.rect) <= nms_threshold
        });
        found.push(face);
    }
}

#[cfg(test)]
mod tests {
    use face_meta::geometry::{Point, Rect};

    use super::*;

    fn candidate(x: f64, y: f64, side: f64, confidence: f32) -> Candidate {
        Candidate {
            rect: Rect::new(x, y, side, side),
            landmarks: [Point::default(); 5],
            confidence,
        }
    }

    fn merged(found: &[Candidate], close: &[Candidate]) -> Vec<Candidate> {
        let mut found = found.to_vec();
        merge(&mut found, close, 0.3);
        found
    }

    #[test]
    fn a_large_face_takes_the_place_of_its_parts() {
        let face = candidate(100.0, 100.0, 800.0, 0.8);
        let part = candidate(150.0, 150.0, 400.0, 0.9);
        let beside = candidate(1000.0, 100.0, 400.0, 0.9);
        let in_front = candidate(200.0, 300.0, 60.0, 0.9);
        assert_eq!(
            merged(&[part, beside, in_front], &[face]),
            [beside, in_front, face]
        );
        let half = candidate(-140.0, 100.0, 780.0, 0.99);
        assert_eq!(
            merged(&[half], &[face]),
            [face],
            "it would suppress the face"
        );
        assert_eq!(
            merged(&[], &[face, candidate(110.0, 100.0, 780.0, 0.7)]),
            [face]
        );
    }

    #[test]
    fn what_the_large_input_shows_whole_stays() {
        let face = candidate(100.0, 100.0, 800.0, 0.75);
        let same = candidate(120.0, 90.0, 790.0, 0.9);
        assert_eq!(merged(&[face], &[same]), [face]);
        let small = candidate(500.0, 500.0, 200.0, 0.9);
        assert_eq!(merged(&[], &[small]), [], "the large input finds those");
    }
}
