//! Sampling pixels out of a mapped video frame into a tensor.
//!
//! A [`Picture`] looks at the planes of a frame without copying them; a [`Sampler`] reads from it
//! just the pixels that a model needs, resamples them in the frame's own colour space and converts
//! the result to RGB, row by row. Making a picture smaller averages over the area of each target
//! pixel, so that thin structures do not alias; making it larger interpolates linearly.
//!
//! Every format with 8 bits a component is read in place (I420, NV12, YUY2, GRAY8, the packed RGB
//! family and their relatives); all others (10 bits and more, tiled, palettes) are unpacked by
//! GStreamer first, only the rows that are asked for.

use std::ops::Range;

use glib::translate::ToGlibPtr;
use gst_video::prelude::*;
use gst_video::{VideoColorMatrix, VideoColorRange};

use crate::geometry::{Point, Rect, Similarity};
use crate::model::{ColorOrder, Input};

/// A frame mapped for reading.
pub type ReadFrame<'a> = gst_video::VideoFrameRef<&'a gst::BufferRef>;

/// Why the pixels of a frame cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the pixels of this frame: {0}")]
pub struct UnreadableFrame(String);

/// Components that lie interleaved in one plane.
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    /// Bytes from one sample to the next.
    step: usize,
    /// In samples.
    width: usize,
    height: usize,
    /// Picture pixels a sample, horizontally and vertically.
    subsampling: (f64, f64),
    /// Component (0..3) and its byte offset in a sample.
    components: [Option<(usize, usize)>; 3],
}

/// `rgb = matrix · component + bias`, for components 0..=255.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ToRgb {
    matrix: [[f32; 3]; 3],
    bias: [f32; 3],
}

impl ToRgb {
    const IDENTITY: Self = Self {
        matrix: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        bias: [0.0; 3],
    };

    /// For 8-bit components of a frame of this colorimetry.
    fn new(info: &gst_video::VideoInfo) -> Self {
        let colorimetry = info.colorimetry();
        let full = match colorimetry.range() {
            VideoColorRange::Range0_255 => true,
            VideoColorRange::Range16_235 => false,
            _ => info.is_rgb(),
        };
        let (scale, black) = if full {
            (1.0, 0.0)
        } else {
            (255.0 / 219.0, 16.0)
        };
        if info.is_rgb() {
            return Self {
                matrix: Self::IDENTITY.matrix.map(|row| row.map(|v| v * scale)),
                bias: [-black * scale; 3],
            };
        }
        // Kr and Kb of the recommendations by the same names.
        let (kr, kb) = match colorimetry.matrix() {
            VideoColorMatrix::Bt709 => (0.2126, 0.0722),
            VideoColorMatrix::Fcc => (0.30, 0.11),
            VideoColorMatrix::Smpte240m => (0.212, 0.087),
            VideoColorMatrix::Bt2020 => (0.2627, 0.0593),
            _ => (0.299f32, 0.114f32),
        };
        let kg = 1.0 - kr - kb;
        let chroma = if full { 1.0 } else { 255.0 / 224.0 };
        let (rv, bu) = (2.0 * (1.0 - kr) * chroma, 2.0 * (1.0 - kb) * chroma);
        let (gu, gv) = (-bu * kb / kg, -rv * kr / kg);
        let matrix = [[scale, 0.0, rv], [scale, gu, gv], [scale, bu, 0.0]];
        let bias = matrix.map(|[y, u, v]| -y * black - (u + v) * 128.0);
        Self { matrix, bias }
    }
}

/// A video frame to sample from.
pub struct Picture<'a> {
    width: usize,
    height: usize,
    planes: [Option<Plane<'a>>; 3],
    gray: bool,
    to_rgb: ToRgb,
    /// The picture row that the planes begin with.
    first_row: usize,
}

impl<'a> Picture<'a> {
    /// Looks at the rows `rows` of `frame` (others may be read as their nearest neighbour). A format
    /// that cannot be read in place is unpacked into `unpacked`.
    pub fn new(
        frame: &'a ReadFrame<'a>,
        rows: Range<usize>,
        unpacked: &'a mut Vec<u8>,
    ) -> Result<Self, UnreadableFrame> {
        let info = frame.info();
        let format = info.format_info();
        let simple = !format.is_complex()
            && !format.is_tiled()
            && !format.has_palette()
            // GStreamer's table has its chroma in the order of UYVY, its pack functions do not.
            && format.format() != gst_video::VideoFormat::Vyuy
            && (0..format.n_components().min(3) as usize).all(|c| {
                format.depth()[c] == 8 && format.shift()[c] == 0 && format.pixel_stride()[c] > 0
            });
        if simple {
            Self::in_place(frame)
        } else {
            Self::unpacked(frame, rows, unpacked)
        }
    }

    /// A packed 8-bit RGB picture, rows of `3 · width` bytes. `None` if `data` is too short.
    pub fn from_rgb(data: &'a [u8], width: usize, height: usize) -> Option<Self> {
        let stride = width.checked_mul(3)?;
        if width == 0 || height == 0 || data.len() < stride.checked_mul(height)? {
            return None;
        }
        let plane = Plane {
            data,
            stride,
            step: 3,
            width,
            height,
            subsampling: (1.0, 1.0),
            components: [Some((0, 0)), Some((1, 1)), Some((2, 2))],
        };
        Some(Self {
            width,
            height,
            planes: [Some(plane), None, None],
            gray: false,
            to_rgb: ToRgb::IDENTITY,
            first_row: 0,
        })
    }

    fn in_place(frame: &'a ReadFrame<'a>) -> Result<Self, UnreadableFrame> {
        let info = frame.info();
        let format = info.format_info();
        let mut planes: [Option<Plane<'a>>; 3] = [None, None, None];
        for component in 0..format.n_components().min(3) as usize {
            let index = format.plane()[component];
            let step = format.pixel_stride()[component] as usize;
            let subsampling = (
                f64::from(1u32 << format.w_sub()[component]),
                f64::from(1u32 << format.h_sub()[component]),
            );
            let offset = frame.comp_poffset(component as u32) as usize;
            let data = frame
                .plane_data(index)
                .map_err(|e| UnreadableFrame(format!("plane {index}: {e}")))?;
            let stride = usize::try_from(frame.plane_stride()[index as usize])
                .map_err(|_| UnreadableFrame(format!("plane {index} has a negative stride")))?;
            // Components that share plane, step and resolution are read together.
            let slot = planes.iter().position(|p| match p {
                Some(p) => {
                    std::ptr::eq(p.data, data) && p.step == step && p.subsampling == subsampling
                }
                None => true,
            });
            let Some(plane) = slot.map(|slot| &mut planes[slot]) else {
                return Err(UnreadableFrame("more planes than components".into()));
            };
            plane
                .get_or_insert(Plane {
                    data,
                    stride,
                    step,
                    width: format.scale_width(component as u8, frame.width()) as usize,
                    height: format.scale_height(component as u8, frame.height()) as usize,
                    subsampling,
                    components: [None; 3],
                })
                .components[component] = Some((component, offset));
        }
        Ok(Self {
            width: frame.width() as usize,
            height: frame.height() as usize,
            planes,
            gray: format.n_components() == 1,
            to_rgb: ToRgb::new(info),
            first_row: 0,
        })
    }

    fn unpacked(
        frame: &'a ReadFrame<'a>,
        rows: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Self, UnreadableFrame> {
        let info = frame.info();
        let format = info.format_info();
        let target = gst_video::VideoFormatInfo::from_format(format.unpack_format());
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let bytes = match target.bits() {
            8 => 1,
            16 => 2,
            bits => return Err(UnreadableFrame(format!("{bits} bits a component"))),
        };
        let rows = rows.start.min(height.saturating_sub(1))..rows.end.min(height);
        let stride = width * 4 * bytes;
        buffer.resize(stride * rows.len(), 0);
        let raw = frame.as_ptr();
        for (row, line) in rows.clone().zip(buffer.chunks_exact_mut(stride)) {
            // SAFETY: `raw` is a frame that is mapped for reading as long as `frame` is borrowed, so
            // its planes and strides are what the unpack function of its own format expects, and
            // `row` lies inside; `line` holds `width` pixels of the unpack format. (The safe wrapper
            // panics on formats whose chroma has fewer rows, and on tiles and palettes.)
            unsafe {
                let info = format.to_glib_none().0;
                let Some(unpack) = (*info).unpack_func else {
                    return Err(UnreadableFrame(format!(
                        "{} has no unpacking",
                        format.name()
                    )));
                };
                unpack(
                    info,
                    gst_video::ffi::GST_VIDEO_PACK_FLAG_NONE,
                    line.as_mut_ptr().cast(),
                    (*raw).data.as_ptr().cast(),
                    (*raw).info.stride.as_ptr(),
                    0,
                    row as i32,
                    width as i32,
                );
            }
        }
        // Unpacked formats lead with alpha; of 16-bit components (native endian) the high byte counts.
        let high = if bytes == 2 && cfg!(target_endian = "little") {
            1
        } else {
            0
        };
        let plane = Plane {
            data: buffer,
            stride,
            step: 4 * bytes,
            width,
            height: rows.len(),
            subsampling: (1.0, 1.0),
            components: [0, 1, 2].map(|c| Some((c, (c + 1) * bytes + high))),
        };
        Ok(Self {
            width,
            height,
            planes: [Some(plane), None, None],
            gray: false,
            to_rgb: ToRgb::new(info),
            first_row: rows.start,
        })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }
}

/// For each target position the source samples that it is made of: `count` of them from `first`
/// on, with their weights (which sum to 1).
#[derive(Debug, Default)]
struct Taps {
    key: (u64, u64, usize, usize),
    count: usize,
    first: Vec<usize>,
    weights: Vec<f32>,
}

impl Taps {
    /// Taps for `length` targets, each `scale` source samples wide, the first beginning at `start`,
    /// on an axis of `available` samples. Outside of it the outermost samples repeat.
    fn prepare(&mut self, start: f64, scale: f64, length: usize, available: usize) {
        let key = (start.to_bits(), scale.to_bits(), length, available);
        if self.key == key && self.count > 0 {
            return;
        }
        self.key = key;
        self.first.clear();
        self.weights.clear();
        let exact = scale == 1.0 && start.fract() == 0.0;
        let area = scale > 1.0;
        self.count = match (exact, area) {
            (true, _) => 1,
            (_, false) => 2,
            (_, true) if scale.fract() == 0.0 && start.fract() == 0.0 => scale as usize,
            (_, true) => scale.ceil() as usize + 1,
        }
        .min(available);
        let last_first = available - self.count;
        for i in 0..length {
            let (from, to) = if area {
                let from = start + i as f64 * scale;
                (from, from + scale)
            } else {
                // A window one sample wide around the centre weighs its two samples linearly.
                let center = start + (i as f64 + 0.5) * scale;
                (center - 0.5, center + 0.5)
            };
            let first = (from.floor().max(0.0) as usize).min(last_first);
            self.first.push(first);
            let base = self.weights.len();
            let mut sum = 0.0;
            for k in 0..self.count {
                let (left, right) = ((first + k) as f64, (first + k + 1) as f64);
                // What lies outside of the axis belongs to its outermost sample.
                let left = if first + k == 0 {
                    f64::NEG_INFINITY
                } else {
                    left
                };
                let right = if first + k + 1 == available {
                    f64::INFINITY
                } else {
                    right
                };
                let weight = (to.min(right) - from.max(left)).max(0.0) as f32;
                sum += weight;
                self.weights.push(weight);
            }
            for weight in &mut self.weights[base..] {
                *weight /= sum;
            }
        }
    }

    fn at(&self, i: usize) -> (usize, &[f32]) {
        (
            self.first[i],
            &self.weights[i * self.count..(i + 1) * self.count],
        )
    }
}

/// `target[i] = Σ weight · row[i]` over the rows of a plane.
#[inline(always)]
fn blend_rows(target: &mut [f32], plane: &Plane, first: usize, weights: &[f32], skip: usize) {
    for (k, &weight) in weights.iter().enumerate() {
        let start = ((first + k) * plane.stride + skip).min(plane.data.len());
        let row = &plane.data[start..(start + target.len()).min(plane.data.len())];
        if k == 0 {
            for (t, &s) in target.iter_mut().zip(row) {
                *t = weight * f32::from(s);
            }
        } else if weight != 0.0 {
            for (t, &s) in target.iter_mut().zip(row) {
                *t += weight * f32::from(s);
            }
        }
    }
}

/// `target[i] = Σ weight · row[i]` along a row; `origin` is the sample that `row` begins with.
#[inline(always)]
fn blend_columns(target: &mut [f32], row: &[f32], step: usize, taps: &Taps, origin: usize) {
    #[inline(always)]
    fn run<const N: usize>(
        target: &mut [f32],
        row: &[f32],
        step: usize,
        taps: &Taps,
        origin: usize,
    ) {
        let (weights, _) = taps.weights.as_chunks::<N>();
        for ((t, &first), weights) in target.iter_mut().zip(&taps.first).zip(weights) {
            let samples = &row[(first - origin) * step..];
            let mut sum = 0.0;
            for k in 0..N {
                sum += weights[k] * samples[k * step];
            }
            *t = sum;
        }
    }
    if taps.count == 1 && step == 1 && taps.first.first() == Some(&origin) {
        // Equal resolution: nothing to weigh.
        target.copy_from_slice(&row[..target.len()]);
        return;
    }
    match taps.count {
        1 => run::<1>(target, row, step, taps, origin),
        2 => run::<2>(target, row, step, taps, origin),
        3 => run::<3>(target, row, step, taps, origin),
        4 => run::<4>(target, row, step, taps, origin),
        _ => {
            for (i, t) in target.iter_mut().enumerate() {
                let (first, weights) = taps.at(i);
                let samples = row[(first - origin) * step..].iter().step_by(step);
                *t = weights.iter().zip(samples).map(|(w, s)| w * s).sum();
            }
        }
    }
}

/// Converts a row of components to RGB 0..=255, in place.
#[inline(always)]
fn convert(rows: &mut [Vec<f32>; 3], to_rgb: &ToRgb, gray: bool) {
    let [a, b, c] = rows;
    if gray {
        let ([scale, ..], bias) = (
            to_rgb.matrix[0],
            to_rgb.bias[0] + 128.0 * (to_rgb.matrix[0][1] + to_rgb.matrix[0][2]),
        );
        for ((a, b), c) in a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut()) {
            let value = (scale * *a + bias).clamp(0.0, 255.0);
            (*a, *b, *c) = (value, value, value);
        }
    } else if *to_rgb != ToRgb::IDENTITY {
        let ToRgb { matrix: m, bias } = *to_rgb;
        for ((a, b), c) in a.iter_mut().zip(b.iter_mut()).zip(c.iter_mut()) {
            let (x, y, z) = (*a, *b, *c);
            *a = (m[0][0] * x + m[0][1] * y + m[0][2] * z + bias[0]).clamp(0.0, 255.0);
            *b = (m[1][0] * x + m[1][1] * y + m[1][2] * z + bias[1]).clamp(0.0, 255.0);
            *c = (m[2][0] * x + m[2][1] * y + m[2][2] * z + bias[2]).clamp(0.0, 255.0);
        }
    }
}

/// The taps of one plane.
#[derive(Debug, Default)]
struct PlaneTaps {
    x: Taps,
    y: Taps,
}

/// Resamples pictures; keeps its buffers, so that nothing is allocated in steady state.
#[derive(Debug, Default)]
pub struct Sampler {
    taps: [PlaneTaps; 3],
    /// One source row, blended vertically.
    blended: Vec<f32>,
    /// One target row a component.
    rows: [Vec<f32>; 3],
    /// The region around a face, planar RGB.
    crop: Vec<f32>,
}

impl Sampler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Resamples the region `source` of the picture to `width` x `height` and hands over each row
    /// of red, green and blue, 0..=255.
    pub fn resample(
        &mut self,
        picture: &Picture,
        source: &Rect,
        width: usize,
        height: usize,
        sink: impl FnMut(usize, [&[f32]; 3]),
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
            row.resize(width, 0.0);
        }
        #[cfg(target_arch = "x86_64")]
        if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
            // SAFETY: both features were just found on this processor.
            unsafe { self.rows_avx2(picture, height, sink) };
            return;
        }
        self.rows_portable(picture, height, sink);
    }

    /// The portable loop, compiled for wider registers.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn rows_avx2(
        &mut self,
        picture: &Picture,
        height: usize,
        sink: impl FnMut(usize, [&[f32]; 3]),
    ) {
        self.rows_portable(picture, height, sink);
    }

    #[inline(always)]
    fn rows_portable(
        &mut self,
        picture: &Picture,
        height: usize,
        mut sink: impl FnMut(usize, [&[f32]; 3]),
    ) {
        for y in 0..height {
            for (taps, plane) in self.taps.iter().zip(&picture.planes) {
                let Some(plane) = plane else { continue };
                // Only the columns between the first and the last tap are touched.
                let origin = taps.x.first[0];
                let end = taps.x.first[taps.x.first.len() - 1] + taps.x.count;
                self.blended.resize((end - origin) * plane.step, 0.0);
                let (first, weights) = taps.y.at(y);
                blend_rows(
                    &mut self.blended,
                    plane,
                    first,
                    weights,
                    origin * plane.step,
                );
                for (component, offset) in plane.components.iter().flatten() {
                    let samples = &self.blended[*offset..];
                    blend_columns(
                        &mut self.rows[*component],
                        samples,
                        plane.step,
                        &taps.x,
                        origin,
                    );
                }
            }
            convert(&mut self.rows, &picture.to_rgb, picture.gray);
            sink(y, [&self.rows[0], &self.rows[1], &self.rows[2]]);
        }
    }

    /// Fills a tensor (1, 3, `height`, `width`) with the whole picture, made smaller or larger to
    /// `content` pixels (width, height) at the top left; what remains is black.
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
        self.resample(picture, &source, content.0, content.1, |y, rgb| {
            for (channel, rows) in tensor.chunks_exact_mut(plane).take(3).enumerate() {
                let row = &mut rows[y * width..(y + 1) * width];
                normalise.row(channel, rgb, &mut row[..content.0]);
                row[content.0..].fill(normalise.black(channel));
            }
        });
        for (channel, rows) in tensor.chunks_exact_mut(plane).take(3).enumerate() {
            rows[content.1 * width..].fill(normalise.black(channel));
        }
    }

    /// Fills a tensor (1, 3, `size`, `size`) with the pixels that `to_source` takes the tensor's
    /// pixel indices to. Outside of the picture everything is black.
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
        // The crop is at most twice as fine as the tensor: four samples a pixel average what remains.
        let fine = to_source.scale() / crop.factor > 1.25;
        let offsets: &[f64] = if fine { &[-0.25, 0.25] } else { &[0.0] };
        let share = 1.0 / (offsets.len() * offsets.len()) as f32;
        for i in 0..plane {
            let (x, y) = ((i % width) as f64, (i / width) as f64);
            let mut sum = [0.0; 3];
            for dy in offsets {
                for dx in offsets {
                    let p = to_source.apply(Point::new(x + dx, y + dy));
                    let sample = crop.sample(&self.crop, p);
                    for (sum, sample) in sum.iter_mut().zip(sample) {
                        *sum += sample;
                    }
                }
            }
            for channel in 0..3 {
                let value = sum[normalise.source[channel]] * share;
                tensor[channel * plane + i] = normalise.value(channel, value);
            }
        }
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
        let factor = to_source.scale().floor().max(1.0);
        let margin = factor + 1.0;
        let bound = |value: f64, limit: usize| value.clamp(0.0, limit as f64);
        let fold = |f: fn(f64, f64) -> f64, pick: fn(&Point) -> f64| {
            corners.iter().map(pick).reduce(f).unwrap_or(f64::NAN)
        };
        // Indices + 0.5 are continuous coordinates.
        let x0 = bound(
            (fold(f64::min, |p| p.x) + 0.5 - margin).floor(),
            picture.width,
        );
        let y0 = bound(
            (fold(f64::min, |p| p.y) + 0.5 - margin).floor(),
            picture.height,
        );
        let x1 = bound(
            (fold(f64::max, |p| p.x) + 0.5 + margin).ceil(),
            picture.width,
        );
        let y1 = bound(
            (fold(f64::max, |p| p.y) + 0.5 + margin).ceil(),
            picture.height,
        );
        // Written so that a NaN leaves here too.
        if !(x1 > x0 && y1 > y0) {
            return None;
        }
        let (cw, ch) = (((x1 - x0) / factor).ceil(), ((y1 - y0) / factor).ceil());
        let (cw, ch) = (cw as usize, ch as usize);
        let region = Rect::new(x0, y0, cw as f64 * factor, ch as f64 * factor);
        let mut pixels = std::mem::take(&mut self.crop);
        pixels.resize(3 * cw * ch, 0.0);
        self.resample(picture, &region, cw, ch, |y, rgb| {
            for (channel, row) in rgb.iter().enumerate() {
                let start = (channel * ch + y) * cw;
                pixels[start..start + cw].copy_from_slice(row);
            }
        });
        self.crop = pixels;
        Some(Crop {
            x: x0,
            y: y0,
            factor,
            width: cw,
            height: ch,
        })
    }
}

/// The rows of `picture_height` that a warp of `height` x `width` pixels reads, with a margin.
pub fn warp_rows(to_source: &Similarity, (width, height): (usize, usize)) -> Range<usize> {
    let (w, h) = (width as f64, height as f64);
    let ys =
        [(0.0, 0.0), (w, 0.0), (0.0, h), (w, h)].map(|(x, y)| to_source.apply(Point::new(x, y)).y);
    let margin = 2.0 * to_source.scale() + 4.0;
    let top = ys.iter().copied().fold(f64::INFINITY, f64::min) - margin;
    let bottom = ys.iter().copied().fold(f64::NEG_INFINITY, f64::max) + margin;
    // `as` saturates: a NaN or a negative number becomes 0.
    top as usize..(bottom.ceil() as usize).max(top as usize + 1)
}

/// A region of the picture, `factor` picture pixels a crop pixel.
struct Crop {
    x: f64,
    y: f64,
    factor: f64,
    width: usize,
    height: usize,
}

impl Crop {
    /// Linear interpolation at the picture's pixel index `p`, black outside.
    #[inline(always)]
    fn sample(&self, pixels: &[f32], p: Point) -> [f32; 3] {
        let u = (p.x + 0.5 - self.x) / self.factor - 0.5;
        let v = (p.y + 0.5 - self.y) / self.factor - 0.5;
        if !(u > -1.0 && v > -1.0 && u < self.width as f64 && v < self.height as f64) {
            return [0.0; 3];
        }
        let (left, top) = (u.floor(), v.floor());
        let (fx, fy) = ((u - left) as f32, (v - top) as f32);
        let (left, top) = (left as isize, top as isize);
        let size = self.width * self.height;
        let mut out = [0.0; 3];
        for (dy, wy) in [(0, 1.0 - fy), (1, fy)] {
            for (dx, wx) in [(0, 1.0 - fx), (1, fx)] {
                let (x, y) = (left + dx, top + dy);
                if x < 0 || y < 0 || x >= self.width as isize || y >= self.height as isize {
                    continue;
                }
                let i = y as usize * self.width + x as usize;
                let weight = wx * wy;
                for (channel, out) in out.iter_mut().enumerate() {
                    *out += weight * pixels[channel * size + i];
                }
            }
        }
        out
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

    #[inline(always)]
    fn row(&self, channel: usize, rgb: [&[f32]; 3], target: &mut [f32]) {
        let (scale, bias) = (self.scale[channel], self.bias[channel]);
        for (t, s) in target.iter_mut().zip(rgb[self.source[channel]]) {
            *t = s * scale + bias;
        }
    }
}

#[cfg(test)]
mod tests;
