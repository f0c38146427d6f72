//! Frames mapped for reading and writing. A buffer's `GstVideoMeta` comes from whoever made the
//! buffer, so a frame is mapped only if all of its rows lie in the mapped memory.

use glib::translate::IntoGlib;
use gst_video::prelude::*;
use gst_video::{
    VideoFormat, VideoFormatInfo, VideoFrameRef, VideoInfo, VideoOverlayComposition, ffi,
};

use crate::error::Error;

/// The most planes of a frame.
const PLANES: usize = ffi::GST_VIDEO_MAX_PLANES as usize;

/// Bytes of a palette of 256 colours.
const PALETTE: usize = 256 * 4;

/// Where a plane lies in the mapped memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Layout {
    /// Bytes from one row to the next. For tiles, as in GStreamer: the number of tiles across in
    /// the lower 16 bits, and down in the upper ones.
    pub stride: i32,
    /// Mapped bytes from the plane's first byte on.
    pub mapped: usize,
}

/// Why a plane cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    #[error("plane {plane} has a negative stride of {stride}")]
    Negative { plane: usize, stride: i32 },
    #[error("the rows of plane {plane} are {needed} bytes long, and only {stride} bytes apart")]
    Narrow {
        plane: usize,
        stride: i32,
        needed: usize,
    },
    #[error("plane {plane} has {across} x {down} tiles: too few, or not in pairs")]
    Tiles {
        plane: usize,
        across: usize,
        down: usize,
    },
    #[error("plane {plane} takes {needed} bytes, but only {mapped} are mapped")]
    Short {
        plane: usize,
        needed: u64,
        mapped: usize,
    },
}

/// The least that a plane takes.
enum Need {
    /// Rows, and bytes in each.
    Rows(usize, usize),
    /// Tiles across and down, and the bytes of one.
    Tiles(usize, usize, usize),
    Bytes(usize),
}

/// Tiles across and down.
fn tiles(stride: i32) -> (usize, usize) {
    let stride = stride as u32;
    ((stride & 0xffff) as usize, (stride >> 16) as usize)
}

fn need(info: &VideoInfo, format: &VideoFormatInfo, plane: usize) -> Need {
    if format.has_palette() && plane == 1 {
        return Need::Bytes(PALETTE);
    }
    let stride = info.stride()[plane];
    if format.is_tiled() {
        let (across, down) = tiles(stride);
        let end = info.offset().get(plane + 1).copied();
        let bytes = end.unwrap_or(info.size()) - info.offset()[plane];
        return Need::Tiles(across, down, bytes / (across * down).max(1));
    }
    let components = (0..format.n_components() as u8)
        .filter(|&component| format.plane()[usize::from(component)] as usize == plane);
    components.fold(Need::Rows(0, 0), |most, component| {
        let Need::Rows(rows, bytes) = most else {
            return most;
        };
        // Formats that pack pixels across bytes have no pixel stride. For them GStreamer's own row
        // length counts.
        let row = match format.pixel_stride()[usize::from(component)] {
            0 => stride,
            step => step * format.scale_width(component, info.width()) as i32,
        };
        let height = format.scale_height(component, info.height()) as usize;
        Need::Rows(rows.max(height), bytes.max(row as usize))
    })
}

/// The bytes of each plane in `planes` for a frame like `info`, with the padding between rows.
/// (`info` must have GStreamer's own layout, as [`VideoInfo::from_caps`] makes it.) Each length
/// covers every pixel and stays within the mapping.
pub fn extents(info: &VideoInfo, planes: &[Layout]) -> Result<[usize; PLANES], Misfit> {
    let format = info.format_info();
    let mut extents = [0; PLANES];
    for (plane, &Layout { stride, mapped }) in planes.iter().enumerate() {
        let (needed, most) = match need(info, &format, plane) {
            Need::Bytes(bytes) => (bytes as u64, bytes as u64),
            Need::Rows(rows, bytes) => {
                let Ok(step) = usize::try_from(stride) else {
                    return Err(Misfit::Negative { plane, stride });
                };
                if step < bytes && rows > 1 {
                    return Err(Misfit::Narrow {
                        plane,
                        stride,
                        needed: bytes,
                    });
                }
                // Both factors have fewer than 32 bits.
                let last = step as u64 * (rows as u64).saturating_sub(1);
                (last + bytes as u64, last + step.max(bytes) as u64)
            }
            Need::Tiles(least_across, least_down, bytes) => {
                let (across, down) = tiles(stride);
                // In pairs, as the zigzag order counts tiles, or as many as in GStreamer's own
                // layout.
                let paired = across % 2 == 0 || least_across % 2 == 1;
                if across < least_across || down < least_down || !paired {
                    return Err(Misfit::Tiles {
                        plane,
                        across,
                        down,
                    });
                }
                // Fewer than 65 536 in each direction, of some thousand bytes each.
                let all = across as u64 * down as u64 * bytes as u64;
                (all, all)
            }
        };
        if (mapped as u64) < needed {
            return Err(Misfit::Short {
                plane,
                needed,
                mapped,
            });
        }
        extents[plane] = most.min(mapped as u64) as usize;
    }
    Ok(extents)
}

/// How many columns of a frame GStreamer's own functions can read and write without leaving its
/// rows: all but the last one for some formats. They process UYVP pixels in pairs, whatever the
/// width. Where three pixels share a word, or where their bits fill tiles, they have no room for
/// the chroma of an odd number of pixels.
pub fn columns(format: VideoFormat, width: u32) -> u32 {
    // Tiles are eight bytes wide.
    let tiles = |columns: u32| (u64::from(columns) * 10).div_ceil(64);
    match format {
        VideoFormat::Nv1210be8l128 if tiles(width.next_multiple_of(2)) > tiles(width) => width - 1,
        VideoFormat::Uyvp => width & !1,
        VideoFormat::Nv1210le32 | VideoFormat::Nv1610le32 if width % 6 == 3 => width - 1,
        _ => width,
    }
}

/// A mapped frame. Its planes are as long as [`extents`] says.
pub struct Frame<B> {
    frame: VideoFrameRef<B>,
    extents: [usize; PLANES],
}

/// A frame mapped for reading.
pub type ReadFrame<'a> = Frame<&'a gst::BufferRef>;

/// A frame mapped for reading and writing.
pub type WriteFrame<'a> = Frame<&'a mut gst::BufferRef>;

/// Maps a frame for reading. `info` is that of the caps. Fails if the buffer's metadata or memory
/// does not fit.
pub fn map<'a>(buffer: &'a gst::BufferRef, info: &VideoInfo) -> Result<ReadFrame<'a>, Error> {
    let failed = Failed::new(buffer, info);
    failed.unless_same(buffer, info)?;
    let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info);
    Frame::new(frame.map_err(|_| failed.to_map())?, info, &failed)
}

/// Maps a frame for reading and writing, as [`map`] does.
pub fn map_writable<'a>(
    buffer: &'a mut gst::BufferRef,
    info: &VideoInfo,
) -> Result<WriteFrame<'a>, Error> {
    let failed = Failed::new(buffer, info);
    failed.unless_same(buffer, info)?;
    let frame = VideoFrameRef::from_buffer_ref_writable(buffer, info);
    Frame::new(frame.map_err(|_| failed.to_map())?, info, &failed)
}

/// The frame as error texts describe it.
struct Failed<'a> {
    bytes: usize,
    info: &'a VideoInfo,
}

impl<'a> Failed<'a> {
    fn new(buffer: &gst::BufferRef, info: &'a VideoInfo) -> Self {
        let bytes = buffer.size();
        Self { bytes, info }
    }

    fn because(&self, cause: impl std::fmt::Display) -> Error {
        Error::Frame(format!(
            "a buffer of {} bytes does not hold a {}x{} {} frame: {cause}",
            self.bytes,
            self.info.width(),
            self.info.height(),
            self.info.format()
        ))
    }

    fn to_map(&self) -> Error {
        self.because("it cannot be mapped as one")
    }

    /// Fails if the buffer's metadata describe another frame than the caps do.
    fn unless_same(&self, buffer: &gst::BufferRef, info: &VideoInfo) -> Result<(), Error> {
        if !info.is_valid() {
            return Err(self.because("there is no such frame"));
        }
        // SAFETY: the buffer is borrowed, and so is its metadata; the pointer is null if there is
        // none.
        let meta = unsafe { ffi::gst_buffer_get_video_meta(buffer.as_mut_ptr()).as_ref() };
        let Some(meta) = meta else { return Ok(()) };
        let planes = info.n_planes();
        if meta.format != info.format().into_glib() || meta.n_planes != planes {
            return Err(self.because("its GstVideoMeta is of another format"));
        }
        if (meta.width, meta.height) != (info.width(), info.height()) {
            let (width, height) = (meta.width, meta.height);
            return Err(self.because(format!("its GstVideoMeta says {width}x{height}")));
        }
        Ok(())
    }
}

impl<B> Frame<B> {
    /// `info` is that of the caps.
    fn new(frame: VideoFrameRef<B>, info: &VideoInfo, failed: &Failed) -> Result<Self, Error> {
        // SAFETY: the frame is mapped until it is dropped.
        let raw = unsafe { &*frame.as_ptr() };
        let mut planes = [Layout::default(); PLANES];
        let count = (frame.n_planes() as usize).min(PLANES);
        for (plane, layout) in planes[..count].iter_mut().enumerate() {
            // Without metadata, all planes lie in the first mapping.
            let map = &raw.map[if raw.meta.is_null() { 0 } else { plane }];
            let skipped = (raw.data[plane] as usize).checked_sub(map.data as usize);
            let mapped = skipped.and_then(|skipped| map.size.checked_sub(skipped));
            *layout = Layout {
                stride: raw.info.stride[plane],
                mapped: mapped.unwrap_or(0),
            };
        }
        let extents = extents(info, &planes[..count]).map_err(|cause| failed.because(cause))?;
        Ok(Self { frame, extents })
    }

    pub fn info(&self) -> &VideoInfo {
        self.frame.info()
    }

    /// In pixels.
    pub fn width(&self) -> u32 {
        self.frame.width()
    }

    /// In pixels.
    pub fn height(&self) -> u32 {
        self.frame.height()
    }

    /// Bytes from one row of a plane to the next; see [`Layout::stride`].
    pub fn stride(&self, plane: usize) -> usize {
        // The strides of rows are not negative; those of tiles are bit fields.
        self.frame.plane_stride()[plane] as u32 as usize
    }

    /// The bytes of a plane: its rows with the padding between them, and the mapped part of the
    /// last row's padding. Empty for a plane that the format does not have.
    pub fn plane(&self, plane: usize) -> &[u8] {
        let bytes = self.extents.get(plane).copied().unwrap_or(0);
        if bytes == 0 {
            return &[];
        }
        // SAFETY: `extents` found that this many bytes are mapped, and they stay so until the frame
        // is dropped.
        unsafe { std::slice::from_raw_parts((*self.as_ptr()).data[plane].cast(), bytes) }
    }

    /// Whether GStreamer's own functions can write the frame. They write samples of 2, 4 and 8
    /// bytes as words, and crash if rows do not begin at a multiple of that size.
    pub fn is_aligned(&self) -> bool {
        let format = self.info().format_info();
        // SAFETY: the frame is mapped until it is dropped.
        let raw = unsafe { &*self.as_ptr() };
        (0..format.n_components() as usize).all(|component| {
            let plane = format.plane()[component] as usize;
            let size = match format.pixel_stride()[component] {
                0 => 1,
                step => 1 << step.trailing_zeros().min(3),
            };
            let stride = match format.is_tiled() {
                true => 0,
                false => self.stride(plane),
            };
            (raw.data[plane] as usize | stride).is_multiple_of(size)
        })
    }

    /// For GStreamer's own functions, which may touch every pixel.
    pub fn as_ptr(&self) -> *const ffi::GstVideoFrame {
        self.frame.as_ptr()
    }
}

impl WriteFrame<'_> {
    /// Like [`plane`](Self::plane), for writing.
    pub fn plane_mut(&mut self, plane: usize) -> &mut [u8] {
        let bytes = self.extents.get(plane).copied().unwrap_or(0);
        if bytes == 0 {
            return &mut [];
        }
        // SAFETY: as in `plane`; mapped for writing and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut((*self.as_ptr()).data[plane].cast(), bytes) }
    }

    /// Like [`as_ptr`](Self::as_ptr), for functions that write.
    pub fn as_mut_ptr(&mut self) -> *mut ffi::GstVideoFrame {
        self.frame.as_mut_ptr()
    }

    /// Blends overlays into the frame.
    pub fn blend(&mut self, overlays: &VideoOverlayComposition) -> Result<(), glib::BoolError> {
        overlays.blend(&mut self.frame)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(format: VideoFormat, width: u32, height: u32) -> VideoInfo {
        gst::init().expect("GStreamer starts");
        let info = VideoInfo::builder(format, width, height).build();
        info.expect("a valid size")
    }

    /// GStreamer's own layout, in a buffer that holds exactly that.
    fn own(info: &VideoInfo) -> Vec<Layout> {
        let planes = info.stride().iter().zip(info.offset());
        let layout = |(stride, offset): (&i32, &usize)| Layout {
            stride: *stride,
            mapped: info.size() - offset,
        };
        planes.map(layout).collect()
    }

    #[test]
    fn the_last_column_counts_only_where_its_row_has_room_for_it() {
        use VideoFormat::{I420, Nv1210be8l128, Nv1210le32, Uyvp};
        for (format, width, expected) in [
            (I420, 115, 115),
            (Uyvp, 7, 6),
            (Uyvp, 8, 8),
            (Nv1210le32, 9, 8),
            (Nv1210le32, 5, 5),
            // 58 pairs of 10 bits each need one tile more than 115 pixels.
            (Nv1210be8l128, 115, 114),
            (Nv1210be8l128, 113, 113),
            (Nv1210be8l128, 1, 1),
        ] {
            assert_eq!(columns(format, width), expected, "{format:?}, {width}");
        }
    }

    #[test]
    fn every_formats_own_layout_fits_and_nothing_shorter() {
        gst::init().expect("GStreamer starts");
        for format in VideoFormat::iter_raw() {
            for (width, height) in [(1, 1), (2, 2), (101, 75), (161, 121), (640, 360)] {
                let info = info(format, width, height);
                let planes = own(&info);
                let what = format!("{format:?} {width}x{height}");
                let fits = extents(&info, &planes).expect(&what);
                for plane in 0..planes.len() {
                    assert!(fits[plane] <= planes[plane].mapped, "{what}");
                    let mut less = planes.clone();
                    // First without the padding of the last row, then without the last byte.
                    let needed = (0..=fits[plane]).rev().find(|&mapped| {
                        less[plane].mapped = mapped;
                        extents(&info, &less).is_err()
                    });
                    less[plane].mapped = needed.expect("nothing is too little") + 1;
                    let kept = extents(&info, &less).expect(&what)[plane];
                    assert_eq!(kept, less[plane].mapped, "{what}");
                    assert!(
                        fits[plane] - kept < 256,
                        "{what}: at most one row's padding"
                    );
                }
            }
        }
    }

    #[test]
    fn strides_that_cannot_be_are_told_apart() {
        let yuv = info(VideoFormat::I420, 640, 360);
        let with = |stride: i32, mapped: usize| {
            let mut planes = own(&yuv);
            planes[0] = Layout { stride, mapped };
            extents(&yuv, &planes)
        };
        let plane = 0;
        let stride = -640;
        assert_eq!(with(-640, 1 << 20), Err(Misfit::Negative { plane, stride }));
        let (stride, needed) = (639, 640);
        let narrow = Misfit::Narrow {
            plane,
            stride,
            needed,
        };
        assert_eq!(with(639, 1 << 20), Err(narrow));
        let short = |needed, mapped| {
            Err(Misfit::Short {
                plane,
                needed,
                mapped,
            })
        };
        assert_eq!(with(2000, 345_600), short(718_640, 345_600));
        let needed = i32::MAX as u64 * 359 + 640;
        assert_eq!(with(i32::MAX, 345_600), short(needed, 345_600));
        assert_eq!(with(2000, 718_640).map(|e| e[0]), Ok(718_640));
        assert_eq!(with(2000, 1 << 20).map(|e| e[0]), Ok(720_000));
    }

    proptest! {
        /// Every accepted layout lies within the mapping, to the last pixel.
        #[test]
        fn every_pixel_of_what_fits_is_mapped(
            format in 0..VideoFormat::iter_raw().count(),
            size in (1..200_u32, 1..200_u32),
            strides in prop::array::uniform4(prop_oneof![
                -10..2000_i32, any::<i32>(), (1..9_i32, 1..9_i32).prop_map(|(x, y)| y << 16 | x)
            ]),
            mapped in prop::array::uniform4(0..1_000_000_usize),
        ) {
            let format = VideoFormat::iter_raw().nth(format).expect("counted");
            let info = info(format, size.0, size.1);
            let planes: Vec<Layout> = (0..info.n_planes() as usize)
                .map(|plane| Layout { stride: strides[plane], mapped: mapped[plane] })
                .collect();
            let Ok(found) = extents(&info, &planes) else { return Ok(()) };
            let format = info.format_info();
            for component in (0..format.n_components() as u8).filter(|_| !format.is_tiled()) {
                let plane = format.plane()[usize::from(component)] as usize;
                let rows = format.scale_height(component, size.1) as usize;
                let step = format.pixel_stride()[usize::from(component)] as usize;
                let row = step * format.scale_width(component, size.0) as usize;
                if format.has_palette() && plane == 1 {
                    prop_assert_eq!(found[1], PALETTE);
                    continue;
                }
                prop_assert!(found[plane] <= mapped[plane]);
                prop_assert!(strides[plane] as usize * (rows - 1) + row <= found[plane]);
            }
        }
    }
}
