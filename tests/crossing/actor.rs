//! People cut out of photographs and clips: a head and shoulders that sway, on a transparent pane.

use face_meta::geometry::{Point, Rect};
use image::RgbImage;
use image::imageops::{self, FilterType};

/// The size of a pane, in pixels.
pub const PANE: (u32, u32) = (220, 320);
/// The middle of the face on a pane, and its height.
pub const MIDDLE: Point = Point { x: 110.0, y: 126.0 };
pub const FACE: f64 = 120.0;
/// Half axes of what is shown of a head, relative to the sides of the face's box.
const HEAD: (f64, f64) = (0.66, 0.8);
/// How soft the edge is, as a share of the half axes.
const SOFT: f64 = 0.08;

/// A picture with a face.
#[derive(Clone)]
pub struct Still {
    pub picture: RgbImage,
    pub face: Rect,
}

/// A pane with its face.
pub struct Pane {
    /// RGBA.
    pub pixels: Vec<u8>,
    pub face: Rect,
}

/// How somebody sways, in degrees, and how the light on them changes.
#[derive(Clone, Copy)]
pub struct Sway {
    pub angle: f64,
    pub light: f64,
    /// Of the shoulders.
    pub shade: [u8; 3],
}

impl Still {
    /// The same, not much larger than a pane shows it. Sampling does not average.
    fn shrunk(&self) -> Self {
        let scale = 1.2 * FACE / self.face.h;
        if scale >= 1.0 {
            return self.clone();
        }
        let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
        let (width, height) = (side(self.picture.width()), side(self.picture.height()));
        let (sx, sy) = (
            f64::from(width) / f64::from(self.picture.width()),
            f64::from(height) / f64::from(self.picture.height()),
        );
        let face = &self.face;
        Self {
            picture: imageops::resize(&self.picture, width, height, FilterType::Triangle),
            face: Rect::new(face.x * sx, face.y * sy, face.w * sx, face.h * sy),
        }
    }

    /// Panes of the face, one per sway.
    pub fn panes(&self, sways: &[Sway]) -> Vec<Pane> {
        let small = self.shrunk();
        let center = small.face.center();
        let draw = |sway: &Sway| small.pane(center, small.face.h, sway);
        sways.iter().map(draw).collect()
    }

    /// A pane around `center`, scaled so that `height` becomes that of all panes.
    pub fn pane(&self, center: Point, height: f64, sway: &Sway) -> Pane {
        let scale = FACE / height;
        let (sin, cos) = sway.angle.to_radians().sin_cos();
        let own = self.face.center();
        let (dx, dy) = ((own.x - center.x) * scale, (own.y - center.y) * scale);
        let middle = Point::new(
            MIDDLE.x + cos * dx - sin * dy,
            MIDDLE.y + sin * dx + cos * dy,
        );
        let (w, h) = (self.face.w * scale, self.face.h * scale);
        let mut pixels = Vec::with_capacity((PANE.0 * PANE.1 * 4) as usize);
        for y in 0..PANE.1 {
            for x in 0..PANE.0 {
                let (x, y) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
                let (dx, dy) = (x - MIDDLE.x, y - MIDDLE.y);
                let u = center.x + (cos * dx + sin * dy) / scale - 0.5;
                let v = center.y + (cos * dy - sin * dx) / scale - 0.5;
                let head = head((x - middle.x) / w, (y - middle.y) / h);
                let body = shoulders((x - middle.x) / w, (y - middle.y) / h);
                let skin = match head > 0.0 {
                    true => linear(&self.picture, u, v),
                    false => [0.0; 3],
                };
                let fold = 0.8 + 0.2 * (y / 9.0).sin();
                for (skin, shade) in skin.into_iter().zip(sway.shade) {
                    let shoulder = f64::from(shade) * fold;
                    let value = skin * sway.light * head + shoulder * (1.0 - head);
                    pixels.push(value.round().clamp(0.0, 255.0) as u8);
                }
                pixels.push((255.0 * head.max(body)).round() as u8);
            }
        }
        let face = Rect::new(middle.x - w / 2.0, middle.y - h / 2.0, w, h);
        Pane { pixels, face }
    }
}

/// How much of the head is at a place relative to the face's middle and size: 0 to 1.
fn head(x: f64, y: f64) -> f64 {
    let radius = (x / HEAD.0).hypot((y + 0.04) / HEAD.1);
    ((1.0 - radius) / SOFT + 0.5).clamp(0.0, 1.0)
}

/// The same of neck and shoulders.
fn shoulders(x: f64, y: f64) -> f64 {
    let half = match y {
        ..0.4 => 0.0,
        0.4..0.7 => 0.38,
        _ => 0.38 + 0.6 * ((y - 0.7) / 0.35).min(1.0).sqrt(),
    };
    f64::from(x.abs() < half)
}

/// Whether a pane's picture is opaque at a place in pixels.
pub fn covers(face: &Rect, x: f64, y: f64) -> bool {
    let middle = face.center();
    let (x, y) = ((x - middle.x) / face.w, (y - middle.y) / face.h);
    head(x, y) > 0.5 || shoulders(x, y) > 0.5
}

/// Linear interpolation at pixel indices; outside, the nearest pixel.
fn linear(picture: &RgbImage, u: f64, v: f64) -> [f64; 3] {
    let (width, height) = (f64::from(picture.width()), f64::from(picture.height()));
    let (u, v) = (u.clamp(0.0, width - 1.0), v.clamp(0.0, height - 1.0));
    let (left, top) = (u.floor(), v.floor());
    let (fx, fy) = (u - left, v - top);
    let at = |dx: f64, dy: f64| {
        let x = (left + dx).min(width - 1.0) as u32;
        let y = (top + dy).min(height - 1.0) as u32;
        picture.get_pixel(x, y).0.map(f64::from)
    };
    let corners = [
        (at(0.0, 0.0), (1.0 - fx) * (1.0 - fy)),
        (at(1.0, 0.0), fx * (1.0 - fy)),
        (at(0.0, 1.0), (1.0 - fx) * fy),
        (at(1.0, 1.0), fx * fy),
    ];
    [0, 1, 2].map(|channel| corners.iter().map(|(c, weight)| c[channel] * weight).sum())
}
