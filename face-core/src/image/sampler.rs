//! Resampling and warping into tensors.

use std::ops::Range;

use super::rows::{PlaneTaps, Scratch};
use super::{Picture, PixelShape, ToRgb, prefetch};
use crate::model::{ColorOrder, Input};
use face_meta::geometry::{Point, Rect, Similarity};

/// One resampled row, in the colour space of the frame.
struct Row<'a> {
    components: [&'a [f32]; 3],
    to_rgb: &'a ToRgb,
}

impl Row<'_> {
    /// Writes `value · scale + bias` for the row's red (0), green (1) or blue (2), 0..=255.
    #[inline(always)]
    fn channel(&self, rgb: usize, scale: f32, bias: f32, target: &mut [f32]) {
        let ([x, y, z], offset) = (self.to_rgb.matrix[rgb], self.to_rgb.bias[rgb]);
        let [a, b, c] = self.components;
        for (((t, a), b), c) in target.iter_mut().zip(a).zip(b).zip(c) {
            let value = x * a + y * b + z * c + offset;
            *t = value.clamp(0.0, 255.0) * scale + bias;
        }
    }
}

/// Takes resampled rows. (A trait, since closures are not inlined into the loop that is compiled
/// for wider registers.)
trait RowSink {
    fn row(&mut self, y: usize, row: Row);
}

/// The rows of a tensor (1, 3, H, `width`). The area outside the picture is black.
struct TensorRows<'a> {
    tensor: &'a mut [f32],
    plane: usize,
    width: usize,
    normalise: &'a Normalise,
}

impl RowSink for TensorRows<'_> {
    #[inline(always)]
    fn row(&mut self, y: usize, row: Row) {
        for (channel, rows) in self.tensor.chunks_exact_mut(self.plane).take(3).enumerate() {
            // The target of the next batch: it was last written a whole inference ago.
            if let Some(later) = rows.chunks_exact(self.width).nth(y + BATCH) {
                prefetch(later);
            }
            let target = &mut rows[y * self.width..(y + 1) * self.width];
            let (inside, beside) = target.split_at_mut(row.components[0].len());
            let (scale, bias) = (self.normalise.scale[channel], self.normalise.bias[channel]);
            row.channel(self.normalise.source[channel], scale, bias, inside);
            beside.fill(self.normalise.black(channel));
        }
    }
}

/// A pixel of the region around a face: red, green and blue in 0..=255, and padding, so that one
/// load reads it all.
type Pixel = [f32; 4];

/// Rows of `width` pixels each.
struct PixelRows<'a> {
    pixels: &'a mut [Pixel],
    width: usize,
    channels: &'a mut [Vec<f32>; 3],
}

impl RowSink for PixelRows<'_> {
    #[inline(always)]
    fn row(&mut self, y: usize, row: Row) {
        for (rgb, channel) in self.channels.iter_mut().enumerate() {
            row.channel(rgb, 1.0, 0.0, channel);
        }
        let [r, g, b] = &*self.channels;
        let target = &mut self.pixels[y * self.width..(y + 1) * self.width];
        for (((pixel, r), g), b) in target.iter_mut().zip(r).zip(g).zip(b) {
            *pixel = [*r, *g, *b, 0.0];
        }
    }
}

/// How many target rows to make from one plane before turning to the next plane. The source of a
/// batch is contiguous, and its result fits the second-level cache.
const BATCH: usize = 8;

/// How many target rows ahead to prefetch the source. (Measured: a 1080p frame takes 20 % less time
/// than without; the processor's own prefetching ends with each row.)
const AHEAD: usize = 2;

/// Resamples pictures. Keeps its buffers, so that nothing is allocated in steady state.
#[derive(Debug, Default)]
pub struct Sampler {
    taps: [PlaneTaps; 3],
    scratch: Scratch,
    /// [`BATCH`] target rows per component.
    rows: [Vec<f32>; 3],
    /// The region around a face, and one row of each of its channels.
    crop: Vec<Pixel>,
    crop_rows: [Vec<f32>; 3],
}

impl Sampler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Resamples the region `source` of the picture to `width` x `height`, and passes each row to
    /// `sink`.
    fn resample(
        &mut self,
        picture: &Picture,
        source: &Rect,
        width: usize,
        height: usize,
        sink: &mut impl RowSink,
    ) {
        if width == 0 || height == 0 || !source.is_finite() || source.area() == 0.0 {
            return;
        }
        for (taps, plane) in self.taps.iter_mut().zip(&picture.planes) {
            let Some(plane) = plane else { continue };
            let (sx, sy) = plane.subsampling;
            let scale = (source.w / sx / width as f64, source.h / sy / height as f64);
            taps.x.prepare(source.x / sx, scale.0, width, plane.width);
            let top = (source.y - picture.first_row as f64) / sy;
            taps.y.prepare(top, scale.1, height, plane.height);
        }
        for row in &mut self.rows {
            row.resize(BATCH * width, 0.0);
        }
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: both features were just detected on this processor.
            unsafe { self.rows_avx2(picture, (width, height), sink) };
            return;
        }
        self.rows_portable(picture, (width, height), sink);
    }

    /// The portable loop, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn rows_avx2(&mut self, picture: &Picture, size: (usize, usize), sink: &mut impl RowSink) {
        self.rows_portable(picture, size, sink);
    }

    #[inline(always)]
    fn rows_portable(
        &mut self,
        picture: &Picture,
        (width, height): (usize, usize),
        sink: &mut impl RowSink,
    ) {
        for first_row in (0..height).step_by(BATCH) {
            let batch = first_row..height.min(first_row + BATCH);
            let slot = |y: usize| (y - first_row) * width..(y - first_row + 1) * width;
            for (taps, plane) in self.taps.iter().zip(&picture.planes) {
                let Some(plane) = plane else { continue };
                for y in batch.clone() {
                    if y + AHEAD < height {
                        taps.prefetch(plane, y + AHEAD);
                    }
                    let slot = slot(y);
                    self.scratch.fill(plane, taps, y, &mut self.rows, slot);
                }
            }
            for y in batch {
                let row = Row {
                    components: [0, 1, 2].map(|c| &self.rows[c][slot(y)]),
                    to_rgb: &picture.to_rgb,
                };
                sink.row(y, row);
            }
        }
    }

    /// Fills a tensor (1, 3, `height`, `width`) with the whole picture, scaled to `content` pixels
    /// (width, height) at the top left. The rest is black.
    pub fn letterbox(
        &mut self,
        picture: &Picture,
        content: (usize, usize),
        input: &Input,
        tensor: &mut [f32],
        (width, height): (usize, usize),
    ) {
        let normalise = Normalise::new(input);
        let plane = width * height;
        let content = (content.0.min(width), content.1.min(height));
        let source = Rect::new(0.0, 0.0, picture.width as f64, picture.height as f64);
        let mut rows = TensorRows {
            tensor,
            plane,
            width,
            normalise: &normalise,
        };
        self.resample(picture, &source, content.0, content.1, &mut rows);
        for (channel, rows) in tensor.chunks_exact_mut(plane).take(3).enumerate() {
            rows[content.1 * width..].fill(normalise.black(channel));
        }
    }

    /// Fills a tensor (1, 3, `size`, `size`) with the pixels to which `to_source` maps the tensor's
    /// pixel indices, in square pixels of the picture ([`PixelShape`]). Everything outside the picture is
    /// black.
    pub fn warp(
        &mut self,
        picture: &Picture,
        to_source: &Similarity,
        input: &Input,
        tensor: &mut [f32],
        (width, height): (usize, usize),
    ) {
        let normalise = Normalise::new(input);
        let plane = width * height;
        let Some(crop) = self.crop(picture, to_source, width, height) else {
            for (channel, values) in tensor.chunks_exact_mut(plane).take(3).enumerate() {
                values.fill(normalise.black(channel));
            }
            return;
        };
        let grid = Grid {
            pixels: &self.crop,
            to_crop: crop.place(to_source),
            width: crop.width,
            height: crop.height,
        };
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: both features were just detected on this processor.
            unsafe { grid.fill_avx2(&normalise, tensor, width, height) };
            return;
        }
        grid.fill(&normalise, tensor, width, height);
    }

    /// Samples the region that a warp reads into `self.crop`; `None` if it misses the picture.
    fn crop(
        &mut self,
        picture: &Picture,
        to_source: &Similarity,
        width: usize,
        height: usize,
    ) -> Option<Crop> {
        let (w, h) = (width as f64, height as f64);
        let corners = [
            (-0.5, -0.5),
            (w - 0.5, -0.5),
            (-0.5, h - 0.5),
            (w - 0.5, h - 0.5),
        ]
        .map(|(x, y)| to_source.apply(Point::new(x, y)));
        // Beyond the size of a picture there is nothing left to average.
        #[expect(clippy::manual_clamp, reason = "NaN becomes 1")]
        let factor = to_source.scale().floor().max(1.0).min(65_536.0);
        let margin = factor + 1.0;
        let bound = |value: f64, limit: usize| value.clamp(0.0, limit as f64);
        let fold = |f: fn(f64, f64) -> f64, pick: fn(&Point) -> f64| {
            corners.iter().map(pick).reduce(f).unwrap_or(f64::NAN)
        };
        let (square_width, square_height) = picture.pixels.size((picture.width, picture.height));
        // Indices + 0.5 are continuous coordinates.
        let x0 = bound(
            (fold(f64::min, |p| p.x) + 0.5 - margin).floor(),
            square_width,
        );
        let y0 = bound(
            (fold(f64::min, |p| p.y) + 0.5 - margin).floor(),
            square_height,
        );
        let x1 = bound(
            (fold(f64::max, |p| p.x) + 0.5 + margin).ceil(),
            square_width,
        );
        let y1 = bound(
            (fold(f64::max, |p| p.y) + 0.5 + margin).ceil(),
            square_height,
        );
        // Written so that NaN returns here, too.
        if !(x1 > x0 && y1 > y0) {
            return None;
        }
        let (cw, ch) = (((x1 - x0) / factor).ceil(), ((y1 - y0) / factor).ceil());
        let (cw, ch) = (cw as usize, ch as usize);
        let region = Rect::new(x0, y0, cw as f64 * factor, ch as f64 * factor);
        let mut pixels = std::mem::take(&mut self.crop);
        let mut channels = std::mem::take(&mut self.crop_rows);
        pixels.resize(cw * ch, [0.0; 4]);
        for channel in &mut channels {
            channel.resize(cw, 0.0);
        }
        let mut rows = PixelRows {
            pixels: &mut pixels,
            width: cw,
            channels: &mut channels,
        };
        let region = picture.pixels.in_frame(&region);
        self.resample(picture, &region, cw, ch, &mut rows);
        self.crop = pixels;
        self.crop_rows = channels;
        Some(Crop {
            x: x0,
            y: y0,
            factor,
            width: cw,
            height: ch,
        })
    }
}

/// The rows of a picture with pixels of the shape `pixels` that a warp of `height` x `width` pixels reads,
/// with a margin.
pub fn warp_rows(
    to_source: &Similarity,
    (width, height): (usize, usize),
    pixels: PixelShape,
) -> Range<usize> {
    let (w, h) = (width as f64, height as f64);
    let ys =
        [(0.0, 0.0), (w, 0.0), (0.0, h), (w, h)].map(|(x, y)| to_source.apply(Point::new(x, y)).y);
    let margin = 2.0 * to_source.scale() + 4.0;
    let top = ys.iter().copied().fold(f64::INFINITY, f64::min) - margin;
    let bottom = ys.iter().copied().fold(f64::NEG_INFINITY, f64::max) + margin;
    // `as` saturates: NaN and negative numbers become 0. The range is never empty.
    let top = (top as usize).min(usize::MAX - 1);
    pixels.rows_in_frame(top..(bottom.ceil() as usize).max(top + 1))
}

/// A region of the picture, with `factor` picture pixels per crop pixel.
struct Crop {
    x: f64,
    y: f64,
    factor: f64,
    width: usize,
    height: usize,
}

impl Crop {
    /// Maps the tensor's pixel indices to those of the crop.
    fn place(&self, to_source: &Similarity) -> Similarity {
        let index = |p: f64, origin: f64| (p + 0.5 - origin) / self.factor - 0.5;
        Similarity {
            a: to_source.a / self.factor,
            b: to_source.b / self.factor,
            tx: index(to_source.tx, self.x),
            ty: index(to_source.ty, self.y),
        }
    }
}

/// A crop, and the tensor's place on it.
struct Grid<'a> {
    pixels: &'a [Pixel],
    to_crop: Similarity,
    width: usize,
    height: usize,
}

impl Grid<'_> {
    /// The portable loop, compiled for wider registers (and for rounding without a call).
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn fill_avx2(&self, normalise: &Normalise, tensor: &mut [f32], width: usize, height: usize) {
        self.fill(normalise, tensor, width, height);
    }

    /// Fills a tensor (1, 3, `height`, `width`).
    #[inline(always)]
    fn fill(&self, normalise: &Normalise, tensor: &mut [f32], width: usize, height: usize) {
        let Similarity { a, b, .. } = self.to_crop;
        // The crop is at most twice as fine as the tensor: four samples per pixel average the rest.
        let fine = self.to_crop.scale() > 1.25;
        let offsets: &[f64] = if fine { &[-0.25, 0.25] } else { &[0.0] };
        let share = 1.0 / (offsets.len() * offsets.len()) as f32;
        let [first, second, third] = normalise.source;
        for y in 0..height {
            for x in 0..width {
                let center = self.to_crop.apply(Point::new(x as f64, y as f64));
                let mut sum = [0.0; 4];
                for dy in offsets {
                    for dx in offsets {
                        let (du, dv) = (a * dx - b * dy, b * dx + a * dy);
                        let sample = self.sample(center.x + du, center.y + dv);
                        for (sum, sample) in sum.iter_mut().zip(sample) {
                            *sum += sample;
                        }
                    }
                }
                for (channel, rgb) in [first, second, third].into_iter().enumerate() {
                    tensor[(channel * height + y) * width + x] =
                        normalise.value(channel, sum[rgb] * share);
                }
            }
        }
    }

    /// Linear interpolation at a pixel index, black outside.
    #[inline(always)]
    fn sample(&self, u: f64, v: f64) -> Pixel {
        if !(u > -1.0 && v > -1.0 && u < self.width as f64 && v < self.height as f64) {
            return [0.0; 4];
        }
        let (left, top) = (u.floor(), v.floor());
        let (fx, fy) = ((u - left) as f32, (v - top) as f32);
        let (left, top) = (left as isize, top as isize);
        let inside = left >= 0
            && top >= 0
            && (left as usize) + 1 < self.width
            && (top as usize) + 1 < self.height;
        let weights = [
            (1.0 - fx) * (1.0 - fy),
            fx * (1.0 - fy),
            (1.0 - fx) * fy,
            fx * fy,
        ];
        let corners = if inside {
            let i = top as usize * self.width + left as usize;
            let [upper, lower] = [i, i + self.width].map(|i| &self.pixels[i..i + 2]);
            [upper[0], upper[1], lower[0], lower[1]]
        } else {
            [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| self.at(left + dx, top + dy))
        };
        let mut out = [0.0; 4];
        for (weight, corner) in weights.into_iter().zip(corners) {
            for (out, value) in out.iter_mut().zip(corner) {
                *out += weight * value;
            }
        }
        out
    }

    fn at(&self, x: isize, y: isize) -> Pixel {
        match (usize::try_from(x), usize::try_from(y)) {
            (Ok(x), Ok(y)) if x < self.width && y < self.height => self.pixels[y * self.width + x],
            _ => [0.0; 4],
        }
    }
}

/// A model's channel order, mean and scale.
struct Normalise {
    /// Which of red, green and blue each channel holds.
    source: [usize; 3],
    scale: [f32; 3],
    bias: [f32; 3],
}

impl Normalise {
    fn new(input: &Input) -> Self {
        Self {
            source: match input.color {
                ColorOrder::Rgb => [0, 1, 2],
                ColorOrder::Bgr => [2, 1, 0],
            },
            scale: input.scale,
            bias: [0, 1, 2].map(|c| -input.mean[c] * input.scale[c]),
        }
    }

    #[inline(always)]
    fn value(&self, channel: usize, value: f32) -> f32 {
        value * self.scale[channel] + self.bias[channel]
    }

    fn black(&self, channel: usize) -> f32 {
        self.bias[channel]
    }
}
