//! Boxes, intersection over union, and similarity transforms.
//!
//! Coordinates are pixels, x to the right and y down, and continuous: the pixel `(i, j)` covers
//! the square from `(i, j)` to `(i + 1, j + 1)`.

/// A point in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    pub x: f64,
    pub y: f64,
}

impl Point {
    pub const fn new(x: f64, y: f64) -> Self {
        Self { x, y }
    }

    /// Euclidean distance.
    pub fn distance(self, other: Point) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// The five facial landmarks, in this order: the subject's right eye, left eye, nose tip, right
/// and left mouth corner (the subject's right is on the image's left in a frontal picture).
pub type Landmarks = [Point; 5];

/// An axis-aligned box. Boxes with a negative or non-finite size are treated as empty.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    pub const fn new(x: f64, y: f64, w: f64, h: f64) -> Self {
        Self { x, y, w, h }
    }

    pub fn right(&self) -> f64 {
        self.x + self.w
    }

    pub fn bottom(&self) -> f64 {
        self.y + self.h
    }

    pub fn center(&self) -> Point {
        Point::new(self.x + self.w / 2.0, self.y + self.h / 2.0)
    }

    pub fn is_finite(&self) -> bool {
        self.x.is_finite() && self.y.is_finite() && self.w.is_finite() && self.h.is_finite()
    }

    /// Area in square pixels; 0 for an empty box.
    pub fn area(&self) -> f64 {
        if self.is_finite() && self.w > 0.0 && self.h > 0.0 {
            self.w * self.h
        } else {
            0.0
        }
    }

    /// The common part of two boxes; empty (`w` or `h` = 0) if they do not overlap.
    pub fn intersection(&self, other: &Rect) -> Rect {
        if !self.is_finite() || !other.is_finite() {
            return Rect::default();
        }
        let x = self.x.max(other.x);
        let y = self.y.max(other.y);
        let w = self.right().min(other.right()) - x;
        let h = self.bottom().min(other.bottom()) - y;
        Rect::new(x, y, w.max(0.0), h.max(0.0))
    }

    /// Intersection over union, 0..=1; 0 if either box is empty.
    pub fn iou(&self, other: &Rect) -> f64 {
        let (a, b) = (self.area(), other.area());
        if a == 0.0 || b == 0.0 {
            return 0.0;
        }
        let common = self.intersection(other).area();
        let union = a + b - common;
        if union > 0.0 && union.is_finite() {
            (common / union).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The box with its sides multiplied by `sx` and `sy`, then moved by `(dx, dy)`.
    pub fn scaled(&self, sx: f64, sy: f64) -> Rect {
        Rect::new(self.x * sx, self.y * sy, self.w * sx, self.h * sy)
    }
}

/// A similarity transform: rotation, uniform scale and translation, no mirroring.
/// Maps `(x, y)` to `(a·x − b·y + tx, b·x + a·y + ty)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Similarity {
    pub a: f64,
    pub b: f64,
    pub tx: f64,
    pub ty: f64,
}

impl Similarity {
    /// The least-squares similarity that maps `from` to `to` (Umeyama 1991, restricted to
    /// rotations: in two dimensions it has this closed form). `None` if `from` has fewer than two
    /// points, if they coincide, or if any number is not finite.
    pub fn fit(from: &[Point], to: &[Point]) -> Option<Self> {
        let n = from.len().min(to.len());
        if n < 2 {
            return None;
        }
        let mean = |points: &[Point]| {
            let sum = points[..n]
                .iter()
                .fold(Point::default(), |s, p| Point::new(s.x + p.x, s.y + p.y));
            Point::new(sum.x / n as f64, sum.y / n as f64)
        };
        let (mf, mt) = (mean(from), mean(to));
        let (mut dot, mut cross, mut norm) = (0.0, 0.0, 0.0);
        for (f, t) in from[..n].iter().zip(&to[..n]) {
            let (fx, fy) = (f.x - mf.x, f.y - mf.y);
            let (tx, ty) = (t.x - mt.x, t.y - mt.y);
            dot += fx * tx + fy * ty;
            cross += fx * ty - fy * tx;
            norm += fx * fx + fy * fy;
        }
        let (a, b) = (dot / norm, cross / norm);
        let found = Self {
            a,
            b,
            tx: mt.x - (a * mf.x - b * mf.y),
            ty: mt.y - (b * mf.x + a * mf.y),
        };
        (norm > 0.0 && found.is_usable()).then_some(found)
    }

    fn is_finite(&self) -> bool {
        [self.a, self.b, self.tx, self.ty]
            .iter()
            .all(|v| v.is_finite())
    }

    /// Whether it can be inverted. Scales whose squares overflow or vanish cannot.
    fn is_usable(&self) -> bool {
        self.is_finite() && self.scale() > 0.0 && self.inverse().is_finite()
    }

    /// The factor by which lengths grow.
    pub fn scale(&self) -> f64 {
        self.a.hypot(self.b)
    }

    pub fn apply(&self, p: Point) -> Point {
        Point::new(
            self.a * p.x - self.b * p.y + self.tx,
            self.b * p.x + self.a * p.y + self.ty,
        )
    }

    /// The transform that undoes this one.
    pub fn inverse(&self) -> Self {
        let d = self.a * self.a + self.b * self.b;
        let (a, b) = (self.a / d, -self.b / d);
        Self {
            a,
            b,
            tx: -(a * self.tx - b * self.ty),
            ty: -(b * self.tx + a * self.ty),
        }
    }
}

/// Greedy non-maximum suppression: returns the indices of the boxes to keep, best score first. A
/// box is dropped if it overlaps a better one by more than `threshold` (IoU).
pub fn non_maximum_suppression(boxes: &[Rect], scores: &[f32], threshold: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..boxes.len().min(scores.len())).collect();
    order.sort_by(|&i, &j| scores[j].total_cmp(&scores[i]));
    let mut kept: Vec<usize> = Vec::new();
    for i in order {
        if kept.iter().all(|&k| boxes[k].iou(&boxes[i]) <= threshold) {
            kept.push(i);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iou_of_halves_and_strangers() {
        let a = Rect::new(0.0, 0.0, 10.0, 10.0);
        assert_eq!(a.iou(&a), 1.0);
        assert!((a.iou(&Rect::new(5.0, 0.0, 10.0, 10.0)) - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(a.iou(&Rect::new(20.0, 0.0, 10.0, 10.0)), 0.0);
        assert_eq!(a.iou(&Rect::new(f64::NAN, 0.0, 10.0, 10.0)), 0.0);
        assert_eq!(a.iou(&Rect::new(0.0, 0.0, -10.0, 10.0)), 0.0);
        let huge = Rect::new(0.0, 0.0, f64::MAX, f64::MAX);
        assert_eq!(huge.iou(&huge), 0.0, "an infinite area overlaps nothing");
    }

    #[test]
    fn similarity_recovers_what_was_applied() {
        let s = Similarity {
            a: 1.2,
            b: -0.7,
            tx: 13.0,
            ty: -4.5,
        };
        let from = [(0.0, 0.0), (10.0, 1.0), (4.0, 7.0), (1.0, 9.0), (8.0, 8.0)]
            .map(|(x, y)| Point::new(x, y));
        let to = from.map(|p| s.apply(p));
        let found = Similarity::fit(&from, &to).expect("five points in general position");
        for (p, q) in from.iter().zip(&to) {
            assert!(found.apply(*p).distance(*q) < 1e-9);
            assert!(found.inverse().apply(*q).distance(*p) < 1e-9);
        }
    }

    #[test]
    fn similarity_refuses_degenerate_points() {
        let same = [Point::new(3.0, 3.0); 5];
        let spread = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (2.0, 2.0)]
            .map(|(x, y)| Point::new(x, y));
        assert!(Similarity::fit(&same, &spread).is_none());
        assert!(Similarity::fit(&spread, &same).is_none());
        assert!(Similarity::fit(&[Point::new(f64::NAN, 0.0); 5], &spread).is_none());
        assert!(Similarity::fit(&spread[..1], &spread[..1]).is_none());
    }

    #[test]
    fn suppression_keeps_the_best_of_each_pile() {
        let boxes = [
            Rect::new(0.0, 0.0, 10.0, 10.0),
            Rect::new(1.0, 0.0, 10.0, 10.0),
            Rect::new(50.0, 0.0, 10.0, 10.0),
        ];
        assert_eq!(
            non_maximum_suppression(&boxes, &[0.8, 0.9, 0.7], 0.3),
            [1, 2]
        );
        assert_eq!(
            non_maximum_suppression(&boxes, &[0.8, 0.9, 0.7], 1.0),
            [1, 0, 2]
        );
    }
}
