//! Draws marks: an outline and a label for each face, on surfaces that are just large enough.

mod text;

use std::collections::HashMap;
use std::f64::consts::{FRAC_PI_2, PI, TAU};
use std::sync::Arc;

use face_core::image::PixelShape;
use face_meta::geometry::{Landmarks, Point, Rect};

use self::text::render_label;
use super::color::Color;
use super::label::Label;

/// What to draw of a face.
#[derive(Debug, Clone)]
pub struct Mark {
    /// In pixels of the frame. May reach beyond it.
    pub rect: Rect,
    pub color: Color,
    /// Predicted faces are dashed and translucent.
    pub predicted: bool,
    pub outline: bool,
    pub landmarks: Option<Landmarks>,
    pub label: Label,
}

/// Premultiplied ARGB, 32 bits per pixel in native byte order, rows without padding.
pub struct Surface {
    pub width: u32,
    pub height: u32,
    data: cairo::ImageSurfaceDataOwned,
}

impl AsRef<[u8]> for Surface {
    fn as_ref(&self) -> &[u8] {
        self.data.as_ref()
    }
}

/// A surface and the position of its upper left corner. It lies inside the frame.
#[derive(Clone)]
pub struct Overlay {
    pub x: u32,
    pub y: u32,
    pub surface: Arc<Surface>,
}

/// Whole pixels of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    x0: i32,
    y0: i32,
    x1: i32,
    y1: i32,
}

impl Area {
    fn new(x: i32, y: i32, (w, h): (i32, i32)) -> Self {
        Self {
            x0: x,
            y0: y,
            x1: x.saturating_add(w),
            y1: y.saturating_add(h),
        }
    }

    /// The area that `rect` touches, grown by `margin` and clipped to `frame`.
    fn around(rect: &Rect, margin: f64, frame: Area) -> Option<Self> {
        // Casts from float saturate.
        let area = Self {
            x0: ((rect.x - margin).floor() as i32).max(frame.x0),
            y0: ((rect.y - margin).floor() as i32).max(frame.y0),
            x1: ((rect.right() + margin).ceil() as i32).min(frame.x1),
            y1: ((rect.bottom() + margin).ceil() as i32).min(frame.y1),
        };
        (area.x0 < area.x1 && area.y0 < area.y1).then_some(area)
    }

    fn union(self, other: Self) -> Self {
        Self {
            x0: self.x0.min(other.x0),
            y0: self.y0.min(other.y0),
            x1: self.x1.max(other.x1),
            y1: self.y1.max(other.y1),
        }
    }

    fn width(self) -> i32 {
        self.x1 - self.x0
    }

    fn height(self) -> i32 {
        self.y1 - self.y0
    }

    /// The number of common pixels.
    fn overlap(self, other: Self) -> i64 {
        let w = self.x1.min(other.x1) - self.x0.max(other.x0);
        let h = self.y1.min(other.y1) - self.y0.max(other.y0);
        i64::from(w.max(0)) * i64::from(h.max(0))
    }
}

/// Sizes in pixels, derived from the frame's size.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Metrics {
    line: f64,
    /// Width of the dark rim on either side of a line.
    rim: f64,
    font: f64,
}

impl Metrics {
    /// `scale` multiplies lines and text. The shorter side counts: 1080 for both 1920x1080 and
    /// 1080x1920.
    fn new((width, height): (u32, u32), scale: f64) -> Self {
        let side = f64::from(width.min(height));
        // At least two pixels, or chroma subsampling removes the colour of a line.
        let least = (2.0 * scale).round().max(1.0);
        let line = (side / 420.0 * scale).round().max(least);
        Self {
            line,
            rim: (line * 0.5).max(1.0),
            font: ((side * 0.022).max(11.0) * scale).max(6.0),
        }
    }

    /// From the middle of a line to the outermost pixel that it touches.
    fn reach(&self) -> f64 {
        (self.line / 2.0 + self.rim).ceil()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LabelKey {
    label: Label,
    color: [u64; 3],
    predicted: bool,
    font: String,
    /// In 1/1024 px.
    size: i64,
    width: i32,
    pixels: [u64; 2],
}

struct Cached {
    surface: Arc<Surface>,
    used: u64,
}

/// The most faces that are drawn, and the most memory for their outlines, in frames.
const MOST_MARKS: usize = 1000;
const MOST_FRAMES: i64 = 4;

/// The most labels that are kept in addition to those of the last frame.
const MOST_LABELS: usize = 2000;

/// A label that was not drawn for this many frames is forgotten.
const FORGET: u64 = 50;

/// Draws marks, and caches their labels.
#[derive(Default)]
pub struct Painter {
    labels: HashMap<LabelKey, Cached>,
    frame: u64,
}

impl Painter {
    /// Draws `marks` for a frame of `size` and pixels of the shape `pixels`, in which text has its true
    /// proportions, in the font `font`, with everything `scale` times as
    /// large: first all outlines, then all labels. Anything outside the frame is omitted, and so
    /// are faces beyond [`MOST_MARKS`], which nobody could tell apart.
    pub fn draw(
        &mut self,
        size: (u32, u32),
        pixels: PixelShape,
        marks: &[Mark],
        font: &str,
        scale: f64,
    ) -> Result<Vec<Overlay>, cairo::Error> {
        let square = pixels.size((size.0 as usize, size.1 as usize));
        let metrics = Metrics::new((square.0 as u32, square.1 as u32), scale);
        let side = |v: u32| i32::try_from(v).unwrap_or(i32::MAX);
        let frame = Area::new(0, 0, (side(size.0), side(size.1)));
        self.frame += 1;
        // Boxes use whole pixels, so that lines are crisp.
        let marks = &marks[..marks.len().min(MOST_MARKS)];
        let reach = metrics.reach();
        let mut room = MOST_FRAMES * frame.overlap(frame);
        let boxes: Vec<Option<Rect>> = marks
            .iter()
            .map(|mark| {
                let rect = snapped(&mark.rect, frame)?;
                let area = Area::around(&rect, reach, frame)?;
                room -= area.overlap(area);
                (room >= 0).then_some(rect)
            })
            .collect();
        let mut overlays = Vec::with_capacity(2 * marks.len());
        for (mark, rect) in marks.iter().zip(&boxes) {
            if let Some(rect) = rect {
                overlays.extend(outline(mark, rect, &metrics, frame)?);
            }
        }
        let faces: Vec<Option<Area>> = boxes
            .iter()
            .map(|b| Area::around(b.as_ref()?, reach, frame))
            .collect();
        let mut placed: Vec<Area> = Vec::new();
        for (i, mark) in marks.iter().enumerate() {
            let Some(face) = faces[i].filter(|_| !mark.label.is_empty()) else {
                continue;
            };
            let Some(surface) = self.label(mark, &metrics, font, frame, pixels)? else {
                continue;
            };
            let others = faces.iter().enumerate().filter(|(k, _)| *k != i);
            let others: Vec<Area> = others.filter_map(|(_, f)| *f).collect();
            let size = (side(surface.width), side(surface.height));
            let area = place(size, face, &placed, &others, frame, reach as i32);
            placed.push(area);
            overlays.push(Overlay {
                x: area.x0.unsigned_abs(),
                y: area.y0.unsigned_abs(),
                surface,
            });
        }
        let oldest = match self.labels.len() > MOST_LABELS {
            true => self.frame,
            false => self.frame.saturating_sub(FORGET),
        };
        self.labels.retain(|_, cached| cached.used >= oldest);
        Ok(overlays)
    }

    /// The surface of a label. `None` if the frame is too small for any.
    fn label(
        &mut self,
        mark: &Mark,
        metrics: &Metrics,
        font: &str,
        frame: Area,
        pixels: PixelShape,
    ) -> Result<Option<Arc<Surface>>, cairo::Error> {
        let room = |side: i32, pixel: f64| (f64::from(side) * pixel) as i32;
        let width = room(frame.width(), pixels.width).min((metrics.font * 18.0) as i32);
        let height = room(frame.height(), pixels.height);
        let key = LabelKey {
            label: mark.label.clone(),
            color: [mark.color.r, mark.color.g, mark.color.b].map(f64::to_bits),
            predicted: mark.predicted,
            font: font.to_owned(),
            size: (metrics.font * 1024.0) as i64,
            width,
            pixels: [pixels.width, pixels.height].map(f64::to_bits),
        };
        if let Some(cached) = self.labels.get_mut(&key) {
            cached.used = self.frame;
            return Ok(Some(cached.surface.clone()));
        }
        let Some(surface) = render_label(mark, metrics, font, (width, height), pixels)? else {
            return Ok(None);
        };
        let surface = Arc::new(surface);
        let cached = Cached {
            surface: surface.clone(),
            used: self.frame,
        };
        self.labels.insert(key, cached);
        Ok(Some(surface))
    }
}

/// `rect` in whole pixels. `None` if it is not a box, or lies outside the frame. Edges far outside
/// are moved nearer, to stay within cairo's numbers.
fn snapped(rect: &Rect, frame: Area) -> Option<Rect> {
    let (w, h) = (f64::from(frame.width()), f64::from(frame.height()));
    let inside = rect.intersection(&Rect::new(0.0, 0.0, w, h));
    if !rect.is_finite() || rect.w <= 0.0 || rect.h <= 0.0 || inside.area() == 0.0 {
        return None;
    }
    let x = rect.x.round().max(-w - 1000.0);
    let y = rect.y.round().max(-h - 1000.0);
    let right = rect.right().round().min(2.0 * w + 1000.0);
    let bottom = rect.bottom().round().min(2.0 * h + 1000.0);
    Some(Rect::new(x, y, (right - x).max(1.0), (bottom - y).max(1.0)))
}

/// Where to put a label of `size`: above the face, below it, or inside it, wherever it hides least,
/// and never beyond the frame if it fits.
fn place(
    size: (i32, i32),
    face: Area,
    placed: &[Area],
    others: &[Area],
    frame: Area,
    gap: i32,
) -> Area {
    let (w, h) = size;
    let clamp_x = |x: i32| x.min(frame.x1 - w).max(frame.x0);
    let clamp_y = |y: i32| y.min(frame.y1 - h).max(frame.y0);
    let (left, right) = (clamp_x(face.x0), clamp_x(face.x1 - w));
    let (above, below) = (face.y0 - h - gap / 2, face.y1 + gap / 2);
    let inside = (face.y0 + gap, face.y1 - h - gap);
    let candidates = [
        (left, above),
        (left, below),
        (right, above),
        (right, below),
        (left, inside.0),
        (left, inside.1),
        // Next to the face.
        (clamp_x(face.x1 + gap), face.y0),
        (clamp_x(face.x0 - w - gap), face.y0),
    ];
    let hidden = |area: Area| -> i64 {
        let labels: i64 = placed.iter().map(|p| p.overlap(area)).sum();
        let faces: i64 = others.iter().map(|o| o.overlap(area)).sum();
        // Hides its own face only if nothing else is free.
        4 * labels + 2 * faces + area.overlap(face)
    };
    candidates
        .into_iter()
        .map(|(x, y)| Area::new(x, clamp_y(y), size))
        .min_by_key(|area| hidden(*area))
        // There are always candidates.
        .unwrap_or(Area::new(left, clamp_y(above), size))
}

fn finish(context: cairo::Context, surface: cairo::ImageSurface) -> Result<Surface, cairo::Error> {
    // The surface must have no other owner.
    drop(context);
    surface.flush();
    let (width, height) = (surface.width(), surface.height());
    let data = surface
        .take_data()
        .map_err(|_| cairo::Error::SurfaceFinished)?;
    Ok(Surface {
        width: width.unsigned_abs(),
        height: height.unsigned_abs(),
        data,
    })
}

fn set_color(context: &cairo::Context, color: Color, alpha: f64) {
    context.set_source_rgba(color.r, color.g, color.b, alpha);
}

fn rounded_rectangle(context: &cairo::Context, rect: &Rect, radius: f64) {
    let r = radius.min(rect.w / 2.0).min(rect.h / 2.0).max(0.0);
    let (x0, y0, x1, y1) = (rect.x, rect.y, rect.right(), rect.bottom());
    context.new_sub_path();
    context.arc(x1 - r, y0 + r, r, -FRAC_PI_2, 0.0);
    context.arc(x1 - r, y1 - r, r, 0.0, FRAC_PI_2);
    context.arc(x0 + r, y1 - r, r, FRAC_PI_2, PI);
    context.arc(x0 + r, y0 + r, r, PI, PI + FRAC_PI_2);
    context.close_path();
}

/// The four corners of a rounded rectangle, each with straight arms of length `arm`.
fn corners(context: &cairo::Context, rect: &Rect, radius: f64, arm: f64) {
    let r = radius.min(rect.w / 2.0).min(rect.h / 2.0).max(0.0);
    let (x0, y0, x1, y1) = (rect.x, rect.y, rect.right(), rect.bottom());
    for (x, y, dx, dy, start) in [
        (x0, y0, 1.0, 1.0, PI),
        (x1, y0, -1.0, 1.0, -FRAC_PI_2),
        (x1, y1, -1.0, -1.0, 0.0),
        (x0, y1, 1.0, -1.0, FRAC_PI_2),
    ] {
        // Clockwise: the arm that begins the arc is vertical at two of the corners.
        let vertical = (x, y + dy * arm);
        let horizontal = (x + dx * arm, y);
        let (from, to) = if dx == dy {
            (vertical, horizontal)
        } else {
            (horizontal, vertical)
        };
        context.new_sub_path();
        context.move_to(from.0, from.1);
        context.arc(x + dx * r, y + dy * r, r, start, start + FRAC_PI_2);
        context.line_to(to.0, to.1);
    }
}

/// The landmarks that can belong to the box: finite, and not far from it.
fn dots(mark: &Mark, rect: &Rect) -> Vec<Point> {
    let near = Rect::new(
        rect.x - rect.w / 2.0,
        rect.y - rect.h / 2.0,
        2.0 * rect.w,
        2.0 * rect.h,
    );
    let belongs =
        |p: &Point| p.x >= near.x && p.x <= near.right() && p.y >= near.y && p.y <= near.bottom();
    let points = mark.landmarks.iter().flatten().copied();
    points.filter(belongs).collect()
}

/// Box and landmarks of a mark.
fn outline(
    mark: &Mark,
    rect: &Rect,
    metrics: &Metrics,
    frame: Area,
) -> Result<Option<Overlay>, cairo::Error> {
    let line = metrics.line;
    let side = rect.w.min(rect.h);
    let dots = dots(mark, rect);
    let radius = (line * 1.1).min(side * 0.03).max(0.9);
    let around_dot = |p: &Point| {
        let dot = Rect::new(p.x, p.y, 0.0, 0.0);
        Area::around(&dot, radius + metrics.rim + 1.0, frame)
    };
    let area = dots
        .iter()
        .filter_map(around_dot)
        .chain(Area::around(rect, metrics.reach(), frame).filter(|_| mark.outline))
        .reduce(Area::union);
    let Some(area) = area else { return Ok(None) };
    let surface = cairo::ImageSurface::create(cairo::Format::ARgb32, area.width(), area.height())?;
    let context = cairo::Context::new(&surface)?;
    context.translate(-f64::from(area.x0), -f64::from(area.y0));
    let alpha = if mark.predicted { 0.85 } else { 1.0 };
    if mark.outline {
        // A line of odd width is crisp at the centre of a pixel.
        let shift = if line % 2.0 == 1.0 { 0.5 } else { 0.0 };
        let rect = Rect::new(rect.x + shift, rect.y + shift, rect.w, rect.h);
        let rounding = (4.0 * line).min(side * 0.12);
        if mark.predicted {
            context.set_dash(&[4.0 * line, 3.0 * line], 0.0);
        }
        rounded_rectangle(&context, &rect, rounding);
        context.set_source_rgba(0.0, 0.0, 0.0, 0.25);
        context.set_line_width(line + 2.0 * metrics.rim);
        context.stroke_preserve()?;
        set_color(&context, mark.color, alpha);
        context.set_line_width(line);
        context.stroke()?;
        if !mark.predicted && side > 12.0 * line {
            corners(&context, &rect, rounding, side * 0.18);
            context.set_line_width(2.0 * line);
            context.set_line_cap(cairo::LineCap::Round);
            context.stroke()?;
        }
    }
    context.set_dash(&[], 0.0);
    for (grown, color, alpha) in [
        (metrics.rim * 0.75, Color::new(0.0, 0.0, 0.0), 0.45 * alpha),
        (0.0, Color::new(1.0, 1.0, 1.0), alpha),
    ] {
        for p in &dots {
            context.new_sub_path();
            context.arc(p.x, p.y, radius + grown, 0.0, TAU);
        }
        set_color(&context, color, alpha);
        context.fill()?;
    }
    Ok(Some(Overlay {
        x: area.x0.unsigned_abs(),
        y: area.y0.unsigned_abs(),
        surface: Arc::new(finish(context, surface)?),
    }))
}

#[cfg(test)]
mod tests;
