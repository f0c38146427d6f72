//! The pixels that hide a face.

use std::ops::Range;

use face_meta::geometry::Rect;

use super::Shape;

/// The part of a frame that covers one face.
#[derive(Debug, Clone, PartialEq)]
pub struct Region {
    /// Pixels inside the frame; never empty.
    pub columns: Range<usize>,
    pub rows: Range<usize>,
    /// The longer side of the face's box with its margin, in pixels.
    pub side: f64,
    ellipse: Option<Ellipse>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Ellipse {
    x: f64,
    y: f64,
    rx: f64,
    ry: f64,
}

/// Whole pixels from `start` to `end`, rounded outwards to multiples of `align`, within `0..limit`.
fn whole(start: f64, end: f64, align: usize, limit: usize) -> Range<usize> {
    // Casts saturate.
    let start = start.floor().max(0.0) as usize / align * align;
    let end = (end.ceil().max(0.0) as usize).min(limit);
    start..end.next_multiple_of(align).min(limit)
}

impl Region {
    /// The face's box, expanded on each side by `margin` times its width or height, and rounded
    /// outwards to multiples of `align` pixels, so that it shares no chroma sample with the
    /// outside. `None` if it lies outside the frame.
    pub fn new(
        face: &Rect,
        margin: f64,
        shape: Shape,
        align: (usize, usize),
        (width, height): (usize, usize),
    ) -> Option<Self> {
        let (dx, dy) = (margin * face.w, margin * face.h);
        let rect = Rect::new(
            face.x - dx,
            face.y - dy,
            face.w + 2.0 * dx,
            face.h + 2.0 * dy,
        );
        if rect.area() <= 0.0 {
            return None;
        }
        let (center, side) = (rect.center(), rect.w.max(rect.h));
        let ellipse = (shape == Shape::Ellipse).then_some(Ellipse {
            x: center.x,
            y: center.y,
            // The smallest ellipse through the corners.
            rx: rect.w * std::f64::consts::FRAC_1_SQRT_2,
            ry: rect.h * std::f64::consts::FRAC_1_SQRT_2,
        });
        let (rx, ry) = ellipse.map_or((rect.w / 2.0, rect.h / 2.0), |e| (e.rx, e.ry));
        let columns = whole(center.x - rx, center.x + rx, align.0, width);
        let rows = whole(center.y - ry, center.y + ry, align.1, height);
        (!columns.is_empty() && !rows.is_empty()).then_some(Self {
            columns,
            rows,
            side,
            ellipse,
        })
    }

    /// The columns to hide in the rows `rows`, which must lie within the region.
    pub fn span(&self, rows: Range<usize>) -> Range<usize> {
        let Some(e) = self.ellipse else {
            return self.columns.clone();
        };
        // Where the ellipse is widest in these rows.
        let y = e.y.clamp(rows.start as f64, rows.end as f64) - e.y;
        let dx = e.rx * (1.0 - (y / e.ry).powi(2)).max(0.0).sqrt();
        let start = ((e.x - dx).floor().max(0.0) as usize).max(self.columns.start);
        let end = ((e.x + dx).ceil().max(0.0) as usize).min(self.columns.end);
        start.min(end)..end
    }
}

/// If the regions have more pixels than this many frames, one region hides the whole frame.
const MOST_FRAMES: usize = 16;

/// Returns `regions`, or one region of the frame's size if hiding them one by one would take too
/// long.
pub fn bounded(regions: Vec<Region>, (width, height): (usize, usize)) -> Vec<Region> {
    let pixels = |region: &Region| region.columns.len() * region.rows.len();
    if regions.iter().map(pixels).sum::<usize>() <= MOST_FRAMES * width * height {
        return regions;
    }
    vec![Region {
        columns: 0..width,
        rows: 0..height,
        side: width.max(height) as f64,
        ellipse: None,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (101, 75);

    fn region(rect: Rect, shape: Shape) -> Option<Region> {
        Region::new(&rect, 0.0, shape, (2, 2), SIZE)
    }

    #[test]
    fn outwards_and_inside() {
        let found = region(Rect::new(10.9, 11.0, 20.2, 20.0), Shape::Rectangle).expect("inside");
        assert_eq!((found.columns, found.rows), (10..32, 10..32));
        let odd = region(Rect::new(90.0, 70.0, 50.0, 50.0), Shape::Rectangle).expect("inside");
        assert_eq!((odd.columns, odd.rows), (90..101, 70..75));
        let rect = Rect::new(20.0, 30.0, 10.0, 20.0);
        let wide = Region::new(&rect, 0.5, Shape::Rectangle, (1, 1), SIZE).expect("inside");
        assert_eq!((wide.columns, wide.rows), (15..35, 20..60));
    }

    #[test]
    fn very_many_regions_become_one_that_hides_no_less() {
        let whole = Rect::new(0.0, 0.0, 101.0, 75.0);
        let regions = |count| vec![region(whole, Shape::Ellipse).expect("inside"); count];
        assert_eq!(bounded(regions(16), SIZE).len(), 16);
        let one = bounded(regions(17), SIZE);
        assert_eq!(one.len(), 1);
        assert_eq!((&one[0].columns, &one[0].rows), (&(0..101), &(0..75)));
        assert_eq!(one[0].span(0..1), 0..101, "its corners, too");
    }

    #[test]
    fn what_cannot_be_hidden_is_left_out() {
        for (x, y, w, h) in [
            (200.0, 10.0, 5.0, 5.0),
            (-50.0, 10.0, 20.0, 5.0),
            (5.0, 5.0, 0.0, 9.0),
            (5.0, 5.0, -3.0, 9.0),
            (f64::NAN, 5.0, 3.0, 9.0),
            (5.0, 5.0, f64::INFINITY, 9.0),
        ] {
            for shape in [Shape::Rectangle, Shape::Ellipse] {
                assert_eq!(
                    region(Rect::new(x, y, w, h), shape),
                    None,
                    "{x} {y} {w} {h}"
                );
            }
        }
        let huge = Rect::new(-1e30, -1e30, 3e30, 3e30);
        for shape in [Shape::Rectangle, Shape::Ellipse] {
            let found = region(huge, shape).expect("all of the frame");
            assert_eq!((found.columns.clone(), found.rows.clone()), (0..101, 0..75));
            assert!((0..75).all(|y| found.span(y..y + 1) == (0..101)));
        }
    }

    #[test]
    fn the_ellipse_covers_the_box() {
        let rect = Rect::new(30.3, 20.7, 31.0, 29.0);
        let ellipse = region(rect, Shape::Ellipse).expect("inside");
        let mut area = 0;
        for y in ellipse.rows.clone() {
            let span = ellipse.span(y..y + 1);
            area += span.len();
            if y as f64 >= rect.y && y as f64 + 1.0 <= rect.bottom() {
                assert!(span.start as f64 <= rect.x && span.end as f64 >= rect.right());
            }
        }
        let share = area as f64 / rect.area();
        assert!((1.5..1.75).contains(&share), "{share}: pi / 2 and the edge");
    }
}
