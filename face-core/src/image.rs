//! Samples pixels of a mapped video frame into a tensor.
//!
//! A [`Picture`] refers to the planes of a frame without copying them. A [`Sampler`] reads from it
//! only the pixels that a model needs, resamples them in the frame's own colour space and converts
//! the result to RGB, row by row. When it shrinks a picture, it averages over the area of each
//! target pixel, so that thin structures do not alias. When it enlarges, it interpolates linearly.
//!
//! Formats with 8 bits per component are read in place (I420, NV12, YUY2, GRAY8, the packed RGB
//! family and their relatives). For all others (10 bits and more, tiled, palettes), GStreamer first
//! unpacks the rows that are needed.

use std::ops::Range;

use glib::translate::ToGlibPtr;
use gst_video::{VideoColorMatrix, VideoColorRange};

mod pixels;
mod rows;
mod sampler;
mod taps;
#[cfg(test)]
mod tests;

pub use pixels::PixelShape;
pub use sampler::{Sampler, warp_rows};

use crate::frame::columns;

pub use crate::frame::ReadFrame;

/// Why the pixels of a frame cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the pixels of this frame: {0}")]
pub struct UnreadableFrame(String);

/// Prefetches the bytes into the processor's second-level cache.
#[inline(always)]
fn prefetch<T>(data: &[T]) {
    #[cfg(not(target_arch = "x86_64"))]
    let _ = data;
    #[cfg(target_arch = "x86_64")]
    for line in data.chunks((64 / size_of::<T>()).max(1)) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: any address may be prefetched; only caches are affected.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}

/// Components that are interleaved in one plane.
struct Plane<'a> {
    data: &'a [u8],
    stride: usize,
    /// Bytes from one sample to the next.
    step: usize,
    /// In samples.
    width: usize,
    height: usize,
    /// Picture pixels per sample, horizontally and vertically.
    subsampling: (f64, f64),
    /// Component (0..3) and its byte offset in a sample.
    components: [Option<(usize, usize)>; 3],
}

impl Plane<'_> {
    /// The bytes of a row from column `skip` (in bytes) on.
    fn row(&self, row: usize, skip: usize) -> &[u8] {
        self.data.get(row * self.stride + skip..).unwrap_or(&[])
    }

    /// The component of a plane that holds only one.
    fn alone(&self) -> Option<usize> {
        let mut components = self.components.iter().flatten();
        match (components.next(), components.next(), self.step) {
            (Some((component, 0)), None, 1) => Some(*component),
            _ => None,
        }
    }

    /// The components of a plane that holds two alternately, such as NV12's chroma.
    fn pair(&self) -> Option<[usize; 2]> {
        let mut components = self.components.iter().flatten();
        match (components.next(), components.next(), components.next()) {
            (Some(&(a, 0)), Some(&(b, 1)), None) if self.step == 2 => Some([a, b]),
            (Some(&(a, 1)), Some(&(b, 0)), None) if self.step == 2 => Some([b, a]),
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

    /// For the 8-bit components of a frame with this colorimetry.
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
        // Kr and Kb of the recommendations with these names.
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
            // There is no chroma when read in place; unpacked it is neutral.
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
    pixels: PixelShape,
    /// The picture row at which the planes begin.
    first_row: usize,
}

impl<'a> Picture<'a> {
    /// Refers to the rows `rows` of `frame` (others may be read as their nearest neighbour). A
    /// format that cannot be read in place is unpacked into `unpacked`.
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
            // GStreamer's table has the chroma in the order of UYVY; its pack functions do not.
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

    /// A packed 8-bit RGB picture with rows of `3 · width` bytes. `None` if `data` is too short.
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
            pixels: PixelShape::SQUARE,
            first_row: 0,
        })
    }

    fn in_place(frame: &'a ReadFrame<'a>) -> Result<Self, UnreadableFrame> {
        let info = frame.info();
        let format = info.format_info();
        let mut planes: [Option<Plane<'a>>; 3] = [None, None, None];
        for component in 0..format.n_components().min(3) as usize {
            let index = format.plane()[component] as usize;
            let step = format.pixel_stride()[component] as usize;
            let subsampling = (
                f64::from(1u32 << format.w_sub()[component]),
                f64::from(1u32 << format.h_sub()[component]),
            );
            let offset = format.poffset()[component] as usize;
            let (data, stride) = (frame.plane(index), frame.stride(index));
            // Components with the same plane, step and resolution are read together.
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
            pixels: PixelShape::of(info),
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
            bits => return Err(UnreadableFrame(format!("{bits} bits per component"))),
        };
        let rows = rows.start.min(height.saturating_sub(1))..rows.end.min(height);
        let stride = width * 4 * bytes;
        buffer.resize(stride * rows.len(), 0);
        // If reading the last column would go beyond the end of its row, it takes the colour of the
        // one before.
        let whole = columns(format.format(), frame.width()) as usize;
        let raw = frame.as_ptr();
        for (row, line) in rows.clone().zip(buffer.chunks_exact_mut(stride)) {
            // SAFETY: `raw` is mapped for reading while `frame` is borrowed, so its planes and
            // strides are what the unpack function of its own format expects. `row` lies inside,
            // `line` holds `width` pixels of the unpack format, and `whole` is at most that. (The
            // safe wrapper panics on formats whose chroma has fewer rows, and on tiles and
            // palettes.)
            unsafe {
                let info = format.to_glib_none().0;
                let Some(unpack) = (*info).unpack_func else {
                    return Err(UnreadableFrame(format!(
                        "GStreamer cannot unpack {}",
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
                    whole as i32,
                );
            }
            let last = line.len() - 4 * bytes;
            if whole < width && last > 0 {
                line.copy_within(last - 4 * bytes..last, last);
            }
        }
        // Unpacked formats lead with alpha. Of 16-bit components (native endian) the high byte is
        // used.
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
            pixels: PixelShape::of(info),
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
