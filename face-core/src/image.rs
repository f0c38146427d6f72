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

impl Plane<'_> {
    /// The bytes from column `skip` (in bytes) of a row on.
    fn row(&self, row: usize, skip: usize) -> &[u8] {
        self.data.get(row * self.stride + skip..).unwrap_or(&[])
    }

    /// The component of a plane that holds nothing else.
    fn alone(&self) -> Option<usize> {
        let mut components = self.components.iter().flatten();
        match (components.next(), components.next(), self.step) {
            (Some((component, 0)), None, 1) => Some(*component),
            _ => None,
        }
    }
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
        if info.format_info().n_components() == 1 && info.format_info().bits() == 8 {
            // Read in place there is no chroma; unpacked it is neutral.
            return Self {
                matrix: [[scale, 0.0, 0.0]; 3],
                bias: [-black * scale; 3],
            };
        }
        Self { matrix, bias }
    }
}

/// A video frame to sample from.
pub struct Picture<'a> {
    width: usize,
    height: usize,
    planes: [Option<Plane<'a>>; 3],
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
                format.depth()[c] == 8 && format.shift()[c] == 0 && (1..=4).contains(&format.pixel_stride()[c])
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

/// Ratios of source to target that have a loop of their own.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Ratio {
    #[default]
    Any,
    /// Each target is one sample, in order.
    Same,
    /// Each target is the mean of this many samples, one group after the other.
    Mean(usize),
    /// Two targets a sample from the first sample on: chroma of 4:2:0 at full size.
    Double,
    /// Two targets for every three samples: chroma of 1920 pixels made 640.
    ThreeHalves,
}

/// For each target position the source samples that it is made of: `count` of them from `first`
/// on, with their weights (which sum to 1).
#[derive(Debug, Default)]
struct Taps {
    key: (u64, u64, usize, usize),
    ratio: Ratio,
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
        let whole = start >= 0.0 && start.fract() == 0.0 && scale.fract() == 0.0;
        let inside = whole && start + scale * length as f64 <= available as f64;
        self.ratio = match scale {
            1.0 if inside => Ratio::Same,
            _ if inside && scale > 1.0 => Ratio::Mean(scale as usize),
            1.5 if start == 0.0 && length.is_multiple_of(2) && 3 * length / 2 <= available => {
                Ratio::ThreeHalves
            }
            0.5 if start == 0.0 && available > 1 && length <= 2 * available => Ratio::Double,
            _ => Ratio::Any,
        };
        let area = scale > 1.0;
        self.count = match self.ratio {
            Ratio::Same => 1,
            Ratio::Mean(count) => count,
            _ if area => scale.ceil() as usize + 1,
            _ => 2,
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
        let row = plane.row(first + k, skip);
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

/// The largest number of 8-bit samples whose sum fits 16 bits.
const EXACT_SUM: usize = 257;

/// `target[i] = Σ row[i]` over `count` rows of a plane.
#[inline(always)]
fn sum_rows(target: &mut [u16], plane: &Plane, first: usize, count: usize, skip: usize) {
    match count {
        2 => sum_rows_of::<2>(target, plane, first, skip),
        3 => sum_rows_of::<3>(target, plane, first, skip),
        4 => sum_rows_of::<4>(target, plane, first, skip),
        6 => sum_rows_of::<6>(target, plane, first, skip),
        _ => {
            target.fill(0);
            for row in first..first + count {
                for (t, &s) in target.iter_mut().zip(plane.row(row, skip)) {
                    *t += u16::from(s);
                }
            }
        }
    }
}

/// The same in one pass: each sum stays in a register.
#[inline(always)]
fn sum_rows_of<const N: usize>(target: &mut [u16], plane: &Plane, first: usize, skip: usize) {
    let rows: [&[u8]; N] = std::array::from_fn(|k| plane.row(first + k, skip));
    let length = rows
        .iter()
        .map(|r| r.len())
        .min()
        .unwrap_or(0)
        .min(target.len());
    let rows = rows.map(|row| &row[..length]);
    for (i, t) in target[..length].iter_mut().enumerate() {
        *t = rows.iter().map(|row| u16::from(row[i])).sum();
    }
}

/// The mean of each `n` x `rows` samples, from the sums of the rows.
#[inline(always)]
fn mean_of_sums(target: &mut [f32], sums: &[u16], n: usize, rows: usize) {
    #[inline(always)]
    fn run<const N: usize>(target: &mut [f32], sums: &[u16], share: f32) {
        let (groups, _) = sums.as_chunks::<N>();
        for (t, group) in target.iter_mut().zip(groups) {
            *t = f32::from(group.iter().sum::<u16>()) * share;
        }
    }
    let share = 1.0 / (n * rows) as f32;
    match n {
        2 => run::<2>(target, sums, share),
        3 => run::<3>(target, sums, share),
        4 => run::<4>(target, sums, share),
        6 => run::<6>(target, sums, share),
        _ => {
            for (t, group) in target.iter_mut().zip(sums.chunks_exact(n)) {
                *t = f32::from(group.iter().sum::<u16>()) * share;
            }
        }
    }
}

/// Every `step`th value of an interleaved row, from `offset` on.
#[inline(always)]
fn pick<T: Copy>(target: &mut [T], row: &[T], step: usize, offset: usize) {
    #[inline(always)]
    fn run<T: Copy, const STEP: usize>(target: &mut [T], row: &[T], offset: usize) {
        let (groups, _) = row.as_chunks::<STEP>();
        for (t, group) in target.iter_mut().zip(groups) {
            *t = group[offset];
        }
    }
    match step {
        2 => run::<T, 2>(target, row, offset),
        3 => run::<T, 3>(target, row, offset),
        4 => run::<T, 4>(target, row, offset),
        8 => run::<T, 8>(target, row, offset),
        // `Picture` makes no others.
        _ => {}
    }
}

/// `target[i] = Σ weight · row[i]` along a row; `origin` is the sample that `row` begins with.
#[inline(always)]
fn blend_columns(target: &mut [f32], row: &[f32], taps: &Taps, origin: usize) {
    match (taps.ratio, taps.count) {
        (Ratio::Same, _) => target.copy_from_slice(&row[..target.len()]),
        (Ratio::Double, _) => double(target, row),
        (Ratio::ThreeHalves, _) => three_halves(target, row),
        (Ratio::Mean(2), _) => mean::<2>(target, row),
        (Ratio::Mean(3), _) => mean::<3>(target, row),
        (Ratio::Mean(4), _) => mean::<4>(target, row),
        (Ratio::Mean(6), _) => mean::<6>(target, row),
        (_, 1) => weigh::<1>(target, row, taps, origin),
        (_, 2) => weigh::<2>(target, row, taps, origin),
        (_, 3) => weigh::<3>(target, row, taps, origin),
        (_, 4) => weigh::<4>(target, row, taps, origin),
        _ => {
            for (i, t) in target.iter_mut().enumerate() {
                let (first, weights) = taps.at(i);
                let samples = &row[first - origin..];
                *t = weights.iter().zip(samples).map(|(w, s)| w * s).sum();
            }
        }
    }
}

#[inline(always)]
fn weigh<const N: usize>(target: &mut [f32], row: &[f32], taps: &Taps, origin: usize) {
    let (weights, _) = taps.weights.as_chunks::<N>();
    for ((t, &first), weights) in target.iter_mut().zip(&taps.first).zip(weights) {
        let samples = &row[first - origin..][..N];
        *t = (0..N).map(|k| weights[k] * samples[k]).sum();
    }
}

#[inline(always)]
fn mean<const N: usize>(target: &mut [f32], row: &[f32]) {
    let (groups, _) = row.as_chunks::<N>();
    for (t, group) in target.iter_mut().zip(groups) {
        *t = group.iter().sum::<f32>() * (1.0 / N as f32);
    }
}

#[inline(always)]
fn three_halves(target: &mut [f32], row: &[f32]) {
    let (pairs, _) = target.as_chunks_mut::<2>();
    let (groups, _) = row.as_chunks::<3>();
    for (pair, [a, b, c]) in pairs.iter_mut().zip(groups) {
        *pair = [2.0 * a + b, b + 2.0 * c].map(|sum| sum * (1.0 / 3.0));
    }
}

/// Linear interpolation at a quarter and three quarters of each sample.
#[inline(always)]
fn double(target: &mut [f32], row: &[f32]) {
    let at = |i: usize| row[i.min(row.len() - 1)];
    let (pairs, last) = target.as_chunks_mut::<2>();
    if let Some(first) = pairs.first_mut() {
        *first = [at(0), 0.75 * at(0) + 0.25 * at(1)];
    }
    let inner = pairs.len().min(row.len() - 1);
    if inner > 1 {
        // Three neighbours a pair, without a check for each.
        for (pair, window) in pairs[1..inner].iter_mut().zip(row.windows(3)) {
            let [a, b, c] = [window[0], window[1], window[2]];
            *pair = [0.25 * a + 0.75 * b, 0.75 * b + 0.25 * c];
        }
    }
    for (i, pair) in pairs.iter_mut().enumerate().skip(inner.max(1)) {
        *pair = [
            0.25 * at(i - 1) + 0.75 * at(i),
            0.75 * at(i) + 0.25 * at(i + 1),
        ];
    }
    let i = pairs.len();
    for t in last {
        *t = if i == 0 {
            at(0)
        } else {
            0.25 * at(i - 1) + 0.75 * at(i)
        };
    }
}

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

/// Where resampled rows go. (A trait and no closure: closures are not inlined into the loop that is
/// compiled for wider registers.)
trait RowSink {
    fn row(&mut self, y: usize, row: Row);
}

/// The rows of a tensor (1, 3, H, `width`), the part beside the picture black.
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
            let target = &mut rows[y * self.width..(y + 1) * self.width];
            let (inside, beside) = target.split_at_mut(row.components[0].len());
            let (scale, bias) = (self.normalise.scale[channel], self.normalise.bias[channel]);
            row.channel(self.normalise.source[channel], scale, bias, inside);
            beside.fill(self.normalise.black(channel));
        }
    }
}

/// Planar RGB, 0..=255.
struct PlanarRows<'a> {
    pixels: &'a mut [f32],
    width: usize,
    height: usize,
}

impl RowSink for PlanarRows<'_> {
    #[inline(always)]
    fn row(&mut self, y: usize, row: Row) {
        for channel in 0..3 {
            let start = (channel * self.height + y) * self.width;
            row.channel(
                channel,
                1.0,
                0.0,
                &mut self.pixels[start..start + self.width],
            );
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
    /// One source row, blended vertically, and its like for exact sums.
    blended: Vec<f32>,
    summed: Vec<u16>,
    /// One component of an interleaved row.
    picked: Vec<f32>,
    picked_sums: Vec<u16>,
    /// One target row a component.
    rows: [Vec<f32>; 3],
    /// The region around a face, planar RGB.
    crop: Vec<f32>,
}

impl Sampler {
    pub fn new() -> Self {
        Self::default()
    }

    /// Resamples the region `source` of the picture to `width` x `height` and hands over each
    /// row.
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
    fn rows_avx2(&mut self, picture: &Picture, height: usize, sink: &mut impl RowSink) {
        self.rows_portable(picture, height, sink);
    }

    #[inline(always)]
    fn rows_portable(&mut self, picture: &Picture, height: usize, sink: &mut impl RowSink) {
        for y in 0..height {
            for (taps, plane) in self.taps.iter().zip(&picture.planes) {
                let Some(plane) = plane else { continue };
                // Only the columns between the first and the last tap are touched.
                let origin = taps.x.first[0];
                let end = taps.x.first[taps.x.first.len() - 1] + taps.x.count;
                let (first, weights) = taps.y.at(y);
                let skip = origin * plane.step;
                let width = (end - origin) * plane.step;
                if let (Ratio::Mean(n), Ratio::Mean(rows)) = (taps.x.ratio, taps.y.ratio)
                    && n * rows <= EXACT_SUM
                {
                    self.summed.resize(width, 0);
                    sum_rows(&mut self.summed, plane, first, rows, skip);
                    for &(component, offset) in plane.components.iter().flatten() {
                        let mut sums = &self.summed;
                        if plane.step > 1 {
                            self.picked_sums.resize(end - origin, 0);
                            pick(&mut self.picked_sums, &self.summed, plane.step, offset);
                            sums = &self.picked_sums;
                        }
                        mean_of_sums(&mut self.rows[component], sums, n, rows);
                    }
                    continue;
                }
                if let (Some(component), Ratio::Same) = (plane.alone(), taps.x.ratio) {
                    blend_rows(&mut self.rows[component], plane, first, weights, skip);
                    continue;
                }
                self.blended.resize(width, 0.0);
                blend_rows(&mut self.blended, plane, first, weights, skip);
                for &(component, offset) in plane.components.iter().flatten() {
                    let target = &mut self.rows[component];
                    if plane.step == 1 {
                        blend_columns(target, &self.blended, &taps.x, origin);
                    } else if taps.x.ratio == Ratio::Same {
                        pick(target, &self.blended, plane.step, offset);
                    } else {
                        self.picked.resize(end - origin, 0.0);
                        pick(&mut self.picked, &self.blended, plane.step, offset);
                        blend_columns(target, &self.picked, &taps.x, origin);
                    }
                }
            }
            let [a, b, c] = &self.rows;
            sink.row(
                y,
                Row {
                    components: [a, b, c],
                    to_rgb: &picture.to_rgb,
                },
            );
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
        let mut rows = PlanarRows {
            pixels: &mut pixels,
            width: cw,
            height: ch,
        };
        self.resample(picture, &region, cw, ch, &mut rows);
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
}

#[cfg(test)]
mod tests;
