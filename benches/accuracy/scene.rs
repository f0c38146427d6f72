//! Places a known face at a chosen size, angle, blur and light: pictures whose labels are known
//! without anybody labelling them.

use face_meta::geometry::{Point, Rect};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use crate::measures::Random;

/// How a face is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shown {
    /// The height of its box, in pixels.
    pub height: f64,
    /// Clockwise, in degrees.
    pub angle: f64,
    /// The standard deviation of a Gaussian blur, as a share of the height.
    pub blur: f64,
    /// What its right half is multiplied by, and its left half; a smooth ramp in between.
    pub light: [f64; 2],
    /// The standard deviation of noise, in steps of 255.
    pub noise: f64,
}

impl Shown {
    /// As it is, at a height of 100 pixels.
    pub const PLAIN: Self = Self {
        height: 100.0,
        angle: 0.0,
        blur: 0.0,
        light: [1.0, 1.0],
        noise: 0.0,
    };
}

/// The background, and what lies beyond the photo.
const GREY: [u8; 3] = [110; 3];

/// The side of the made picture, in pixels, and at least this many heights of the face.
const SIDE: f64 = 320.0;
const HEIGHTS: f64 = 2.5;

/// A picture with the face of `photo` whose box is `face` in its middle. Its box there comes second.
///
/// The photo is shrunk first, averaging over areas, and then turned with linear interpolation.
pub fn compose(photo: &RgbImage, face: &Rect, shown: Shown) -> (RgbImage, Rect) {
    let scale = shown.height / face.h;
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let (width, height) = (side(photo.width()), side(photo.height()));
    let filter = FilterType::Triangle;
    let small = imageops::resize(photo, width, height, filter);
    let (sx, sy) = (
        f64::from(width) / f64::from(photo.width()),
        f64::from(height) / f64::from(photo.height()),
    );
    let middle = Point::new((face.x + face.w / 2.0) * sx, (face.y + face.h / 2.0) * sy);
    let side = SIDE.max(HEIGHTS * shown.height).round();
    let center = side / 2.0;
    let (sin, cos) = shown.angle.to_radians().sin_cos();
    let (box_width, box_height) = (face.w * sx, face.h * sy);
    let mut random = Random(7);
    let mut picture = RgbImage::from_fn(side as u32, side as u32, |x, y| {
        // Indices + 0.5 are continuous coordinates.
        let (dx, dy) = (f64::from(x) + 0.5 - center, f64::from(y) + 0.5 - center);
        let u = middle.x + cos * dx + sin * dy - 0.5;
        let v = middle.y - sin * dx + cos * dy - 0.5;
        let across = (0.5 + (cos * dx + sin * dy) / box_width).clamp(0.0, 1.0);
        let gain = shown.light[0] + (shown.light[1] - shown.light[0]) * across;
        Rgb(linear(&small, u, v).map(|value| {
            let noise = match shown.noise {
                0.0 => 0.0,
                deviation => deviation * random.normal(),
            };
            (value * gain + noise).round() as u8
        }))
    });
    if shown.blur > 0.0 {
        picture = imageops::blur(&picture, (shown.blur * shown.height) as f32);
    }
    let rect = Rect::new(
        center - box_width / 2.0,
        center - box_height / 2.0,
        box_width,
        box_height,
    );
    (picture, rect)
}

/// Linear interpolation at pixel indices, grey outside.
fn linear(picture: &RgbImage, u: f64, v: f64) -> [f64; 3] {
    let at = |x: f64, y: f64| {
        let inside = x >= 0.0
            && y >= 0.0
            && x < f64::from(picture.width())
            && y < f64::from(picture.height());
        let pixel = match inside {
            true => picture.get_pixel(x as u32, y as u32).0,
            false => GREY,
        };
        pixel.map(f64::from)
    };
    let (left, top) = (u.floor(), v.floor());
    let (fx, fy) = (u - left, v - top);
    let corners = [
        (at(left, top), (1.0 - fx) * (1.0 - fy)),
        (at(left + 1.0, top), fx * (1.0 - fy)),
        (at(left, top + 1.0), (1.0 - fx) * fy),
        (at(left + 1.0, top + 1.0), fx * fy),
    ];
    [0, 1, 2].map(|channel| corners.iter().map(|(c, weight)| c[channel] * weight).sum())
}

/// The picture with a grey border of half its size on each side: tight crops are found only so.
pub fn bordered(picture: &RgbImage) -> RgbImage {
    let (width, height) = picture.dimensions();
    let mut out = RgbImage::from_pixel(2 * width, 2 * height, Rgb(GREY));
    imageops::replace(&mut out, picture, (width / 2).into(), (height / 2).into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// White, with a red square of 40 pixels whose lower right quarter is blue.
    fn photo() -> (RgbImage, Rect) {
        let photo = RgbImage::from_fn(200, 160, |x, y| {
            match ((60..100).contains(&x) && (50..90).contains(&y), x, y) {
                (false, ..) => Rgb([255; 3]),
                (true, 80.., 70..) => Rgb([0, 0, 255]),
                (true, ..) => Rgb([255, 0, 0]),
            }
        });
        (photo, Rect::new(60.0, 50.0, 40.0, 40.0))
    }

    #[test]
    fn the_face_lies_where_the_box_says() {
        let (photo, face) = photo();
        for height in [20.0, 40.0, 100.0] {
            let (picture, rect) = compose(
                &photo,
                &face,
                Shown {
                    height,
                    ..Shown::PLAIN
                },
            );
            assert!((rect.h - height).abs() < 1.0);
            let at = |fx: f64, fy: f64| {
                let (x, y) = (rect.x + fx * rect.w, rect.y + fy * rect.h);
                picture.get_pixel(x as u32, y as u32).0
            };
            assert_eq!(at(0.25, 0.25), [255, 0, 0], "{height}");
            assert_eq!(at(0.75, 0.75), [0, 0, 255], "{height}");
            assert_eq!(at(1.2, 0.5), [255; 3], "{height}");
        }
    }

    #[test]
    fn a_quarter_turn_is_clockwise() {
        let (photo, face) = photo();
        let shown = Shown {
            angle: 90.0,
            ..Shown::PLAIN
        };
        let (picture, rect) = compose(&photo, &face, shown);
        let at = |fx: f64, fy: f64| {
            let (x, y) = (rect.x + fx * rect.w, rect.y + fy * rect.h);
            picture.get_pixel(x as u32, y as u32).0
        };
        // Lower right becomes lower left.
        assert_eq!(at(0.25, 0.75), [0, 0, 255]);
        assert_eq!(at(0.75, 0.75), [255, 0, 0]);
    }

    #[test]
    fn light_falls_from_one_side_and_noise_is_the_same_every_time() {
        let (photo, face) = photo();
        let shown = Shown {
            light: [0.2, 1.0],
            ..Shown::PLAIN
        };
        let (picture, rect) = compose(&photo, &face, shown);
        let red = |fx: f64| {
            let (x, y) = (rect.x + fx * rect.w, rect.y + 0.25 * rect.h);
            picture.get_pixel(x as u32, y as u32).0[0]
        };
        assert!(red(0.1) < 90 && red(0.9) > 200, "{} {}", red(0.1), red(0.9));
        let noisy = Shown {
            noise: 8.0,
            ..Shown::PLAIN
        };
        let made = || compose(&photo, &face, noisy).0;
        assert_eq!(made(), made());
        assert_ne!(made(), compose(&photo, &face, Shown::PLAIN).0);
    }

    #[test]
    fn a_border_doubles_the_sides() {
        let picture = bordered(&RgbImage::from_pixel(9, 4, Rgb([1, 2, 3])));
        assert_eq!(picture.dimensions(), (18, 8));
        assert_eq!(picture.get_pixel(4, 2).0, [1, 2, 3]);
    }
}
