//! The shape of a frame's pixels: models see square ones, whatever the caps say.

use std::ops::Range;

use face_meta::geometry::{Landmarks, Point, Rect};

/// The size of one pixel of a frame, in square pixels. One side is 1, the other at least that: a frame
/// is stretched, never shrunk, to become square.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PixelShape {
    pub width: f64,
    pub height: f64,
}

/// The most that a frame is stretched. Caps may hold any fraction.
const MOST: f64 = 8.0;

impl PixelShape {
    pub const SQUARE: Self = Self {
        width: 1.0,
        height: 1.0,
    };

    /// The shape that the pixel aspect ratio of the caps stands for.
    pub fn of(info: &gst_video::VideoInfo) -> Self {
        Self::new(info.par().numer(), info.par().denom())
    }

    /// Pixels of `numerator / denominator` times their height. Square if that is no positive number.
    pub fn new(numerator: i32, denominator: i32) -> Self {
        if numerator <= 0 || denominator <= 0 {
            return Self::SQUARE;
        }
        let ratio = f64::from(numerator) / f64::from(denominator);
        Self {
            width: ratio.clamp(1.0, MOST),
            height: (1.0 / ratio).clamp(1.0, MOST),
        }
    }

    pub fn is_square(&self) -> bool {
        *self == Self::SQUARE
    }

    /// Width and height of a frame in square pixels.
    pub fn size(&self, (width, height): (usize, usize)) -> (usize, usize) {
        let side = |pixels: usize, shape: f64| (pixels as f64 * shape).round() as usize;
        (side(width, self.width), side(height, self.height))
    }

    pub fn point(&self, point: Point) -> Point {
        Point::new(point.x * self.width, point.y * self.height)
    }

    pub fn landmarks(&self, landmarks: &Landmarks) -> Landmarks {
        landmarks.map(|point| self.point(point))
    }

    pub fn rect(&self, rect: &Rect) -> Rect {
        rect.scaled(self.width, self.height)
    }

    /// The part of a frame, in its own pixels, that a part in square pixels is.
    pub(super) fn in_frame(&self, square: &Rect) -> Rect {
        square.scaled(1.0 / self.width, 1.0 / self.height)
    }

    /// The rows of a frame that rows in square pixels lie on.
    pub(super) fn rows_in_frame(&self, square: Range<usize>) -> Range<usize> {
        if self.height == 1.0 {
            return square;
        }
        // `as` saturates. There is always a row.
        let top = (square.start as f64 / self.height).floor() as usize;
        let bottom = (square.end as f64 / self.height).ceil() as usize;
        let top = top.min(usize::MAX - 1);
        top..bottom.max(top + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_stretched_to_square_pixels() {
        let wide = PixelShape::new(2, 1);
        assert_eq!(wide.size((320, 360)), (640, 360));
        let high = PixelShape::new(8, 9);
        assert_eq!(high.size((720, 480)), (720, 540));
        let rect = Rect::new(10.0, 20.0, 30.0, 40.0);
        assert_eq!(wide.rect(&rect), Rect::new(20.0, 20.0, 60.0, 40.0));
        for shape in [wide, high, PixelShape::SQUARE] {
            let back = shape.in_frame(&shape.rect(&rect));
            assert!(back.iou(&rect) > 1.0 - 1e-9);
        }
        assert_eq!(wide.rows_in_frame(10..20), 10..20);
        assert_eq!(PixelShape::new(1, 2).rows_in_frame(11..20), 5..10);
    }

    #[test]
    fn odd_fractions_are_taken_for_square_or_limited() {
        for (n, d) in [(0, 1), (1, 0), (-1, 1), (1, -1), (1, 1), (7, 7)] {
            assert!(PixelShape::new(n, d).is_square(), "{n}/{d}");
        }
        assert_eq!(PixelShape::new(i32::MAX, 1).width, MOST);
        assert_eq!(PixelShape::new(1, i32::MAX).height, MOST);
    }
}
