//! What the places of boxes say about faces.

use face_meta::geometry::Rect;

use super::{Detection, MOST_DETECTIONS, is_usable};
use crate::kalman::limited;

/// The centres of two faces that can both be seen are further apart than this share of a face: heads are
/// solid, and the one behind would be covered.
const SAME_FACE: f64 = 1.0 / 3.0;
/// The boxes of one face differ in size by less than this factor.
const SAME_SIZE: f64 = 2.0;
/// A face is hidden if more than this share of its box lies behind another's.
const HIDDEN: f64 = 0.5;

/// The least ratio of the sides of two boxes, 0..=1.
fn alike(a: &Rect, b: &Rect) -> f64 {
    let ratio = |a: f64, b: f64| a.min(b) / a.max(b);
    ratio(a.w, b.w).min(ratio(a.h, b.h))
}

/// Whether the sizes may be those of one face.
pub fn same_size(a: &Rect, b: &Rect) -> bool {
    alike(a, b) >= 1.0 / SAME_SIZE
}

/// The distance of the centres, in sides of the larger box; not finite for boxes of no size.
pub fn distance(a: &Rect, b: &Rect) -> f64 {
    let (a_center, b_center) = (a.center(), b.center());
    let x = (a_center.x - b_center.x) / a.w.max(b.w);
    let y = (a_center.y - b_center.y) / a.h.max(b.h);
    x.hypot(y)
}

/// Whether two boxes sit on one face: two faces there could not both be seen.
pub fn same_face(a: &Rect, b: &Rect) -> bool {
    // Most pairs are far apart.
    (a.center().x - b.center().x).abs() < SAME_FACE * a.w.max(b.w)
        && distance(a, b) < SAME_FACE
        && same_size(a, b)
}

/// Whether a face at `behind` could not be seen, with another one at `front`.
pub fn hides(front: &Rect, behind: &Rect) -> bool {
    same_face(front, behind) || front.intersection(behind).area() > HIDDEN * behind.area()
}

/// The indices of the detections that count: with a usable box, and of those on one face only the most
/// confident, or the first of equals. Ascending.
pub fn counted(detections: &[Detection]) -> Vec<usize> {
    let rects: Vec<Rect> = detections.iter().map(|d| limited(&d.rect)).collect();
    let mut order: Vec<usize> = (0..detections.len())
        .filter(|&i| is_usable(&detections[i].rect))
        .take(MOST_DETECTIONS)
        .collect();
    // A confidence that is not a number is none.
    let confidence = |i: usize| detections[i].confidence.max(f64::MIN);
    order.sort_by(|&i, &j| confidence(j).total_cmp(&confidence(i)));
    let mut kept: Vec<usize> = Vec::with_capacity(order.len());
    for i in order {
        if !kept.iter().any(|&k| same_face(&rects[k], &rects[i])) {
            kept.push(i);
        }
    }
    kept.sort_unstable();
    kept
}
