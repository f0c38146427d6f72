//! Turns surfaces into GStreamer's overlays, and blends them into frames.

use std::sync::Arc;

use face_core::frame::{self, ReadFrame, WriteFrame};
use gst_video::{
    VideoFormat, VideoFormatInfo, VideoInfo, VideoOverlayComposition, VideoOverlayFormatFlags,
    VideoOverlayRectangle, ffi,
};

use super::draw::{Overlay, Surface};

/// Cairo's ARGB32.
const FORMAT: VideoFormat = if cfg!(target_endian = "little") {
    VideoFormat::Bgra
} else {
    VideoFormat::Argb
};

/// A surface as the memory of a buffer.
struct Pixels(Arc<Surface>);

impl AsRef<[u8]> for Pixels {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// An overlay's surface as a buffer that shares it.
fn pixels(overlay: &Overlay) -> Result<gst::Buffer, glib::BoolError> {
    let surface = &overlay.surface;
    let mut buffer = gst::Buffer::from_slice(Pixels(surface.clone()));
    gst_video::VideoMeta::add(
        buffer.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        FORMAT,
        surface.width,
        surface.height,
    )?;
    Ok(buffer)
}

/// An overlay as a rectangle of a composition.
pub fn rectangle(overlay: &Overlay) -> Result<VideoOverlayRectangle, glib::BoolError> {
    let place = |v: u32| i32::try_from(v).map_err(|_| glib::bool_error!("{v} is too far out"));
    Ok(VideoOverlayRectangle::new_raw(
        &pixels(overlay)?,
        place(overlay.x)?,
        place(overlay.y)?,
        overlay.surface.width,
        overlay.surface.height,
        VideoOverlayFormatFlags::PREMULTIPLIED_ALPHA,
    ))
}

/// The side of a tile. It is a multiple of every chroma subsampling, so tiles share no samples.
const TILE: u32 = 16;

/// Blends an overlay into a frame, with the same result as a composition's own blending. That
/// converts whole rows of the frame for each overlay, but an outline is mostly empty. If the
/// format's layout is simple enough, this blends only tiles with something drawn in them.
pub fn blend(frame: &mut WriteFrame, overlay: &Overlay) -> Result<(), glib::BoolError> {
    let (format, width) = (frame.info().format(), frame.width());
    if is_overrun(format, width) {
        return Err(glib::bool_error!(
            "{format} of width {width} cannot be drawn on; put videoconvert in front of facemetaoverlay"
        ));
    }
    if !frame.is_aligned() {
        return Err(glib::bool_error!(
            "{format} cannot be drawn on if its rows do not begin at multiples of the sample size; change the \
             offsets or strides of the buffers"
        ));
    }
    let surface = &overlay.surface;
    let (right, bottom) = (overlay.x + surface.width, overlay.y + surface.height);
    if !is_plain(&frame.info().format_info()) || right > frame.width() || bottom > frame.height() {
        return frame.blend(&VideoOverlayComposition::new([&rectangle(overlay)?])?);
    }
    let info = VideoInfo::builder(FORMAT, surface.width, surface.height)
        .flags(gst_video::VideoFlags::PREMULTIPLIED_ALPHA)
        .build()?;
    let buffer = pixels(overlay)?;
    let source = frame::map(&buffer, &info).map_err(|error| glib::bool_error!("{error}"))?;
    let mut y0 = overlay.y / TILE * TILE;
    while y0 < bottom {
        let y1 = (y0 + TILE).min(frame.height());
        let mut x0 = overlay.x / TILE * TILE;
        while x0 < right {
            // Extends over all adjacent tiles with something to show.
            let mut x1 = x0;
            while x1 < right && !is_clear(overlay, x1, y0) {
                x1 += TILE;
            }
            if x1 > x0 {
                let area = (x0, y0, x1.min(frame.width()), y1);
                blend_area(frame, &source, area, (overlay.x, overlay.y))?;
            }
            x0 = x1.max(x0 + TILE);
        }
        y0 += TILE;
    }
    Ok(())
}

/// Whether GStreamer would write beyond the ends of rows.
fn is_overrun(format: VideoFormat, width: u32) -> bool {
    frame::columns(format, width) < width
}

/// Whether a pixel's samples lie at its coordinates, in whole bytes.
fn is_plain(format: &VideoFormatInfo) -> bool {
    !format.is_complex()
        && !format.is_tiled()
        && !format.has_palette()
        && format.pixel_stride().iter().all(|stride| *stride > 0)
        && format
            .w_sub()
            .iter()
            .chain(format.h_sub())
            .all(|sub| *sub < 32 && TILE.is_multiple_of(1 << sub))
}

/// Whether an overlay is transparent in the tile with the corner `(x, y)` of the frame.
fn is_clear(overlay: &Overlay, x: u32, y: u32) -> bool {
    let surface = &overlay.surface;
    let data = (**surface).as_ref();
    let columns = x.saturating_sub(overlay.x)..(x + TILE - overlay.x).min(surface.width);
    let rows = y.saturating_sub(overlay.y)..(y + TILE - overlay.y).min(surface.height);
    rows.into_iter().all(|row| {
        let at = |column: u32| 4 * (row as usize * surface.width as usize + column as usize);
        data[at(columns.start)..at(columns.end)]
            .iter()
            .fold(0, |all, byte| all | byte)
            == 0
    })
}

/// Blends the part of `source`, which has its corner at `corner`, that lies inside `area` (left,
/// top, right and bottom, in pixels of the frame; left and top are multiples of [`TILE`]).
fn blend_area(
    frame: &mut WriteFrame,
    source: &ReadFrame,
    (x0, y0, x1, y1): (u32, u32, u32, u32),
    corner: (u32, u32),
) -> Result<(), glib::BoolError> {
    let format = frame.info().format_info();
    let strides = frame.info().stride().to_vec();
    // SAFETY: both are copies of the descriptions of mapped frames. The frames outlive them, and
    // the copies are never unmapped. `x0` and `y0` are multiples of every subsampling, `is_plain`
    // found that a pixel's samples lie at its coordinates, and the area lies inside the frame. So
    // each plane that is moved holds at least `x1 - x0` times `y1 - y0` pixels from its new start.
    // The source is only read.
    unsafe {
        let mut window = std::ptr::read(frame.as_mut_ptr());
        let mut moved = [false; 4];
        for (component, &plane) in format.plane().iter().enumerate() {
            let plane = plane as usize;
            if !std::mem::replace(&mut moved[plane], true) {
                let row = (y0 >> format.h_sub()[component]) as isize;
                let column = (x0 >> format.w_sub()[component]) as isize;
                let step = format.pixel_stride()[component] as isize;
                let offset = row * strides[plane] as isize + column * step;
                window.data[plane] = window.data[plane].byte_offset(offset);
            }
        }
        window.info.width = (x1 - x0) as i32;
        window.info.height = (y1 - y0) as i32;
        let mut source = std::ptr::read(source.as_ptr());
        let (x, y) = (
            i64::from(corner.0) - i64::from(x0),
            i64::from(corner.1) - i64::from(y0),
        );
        let blended = ffi::gst_video_blend(&mut window, &mut source, x as i32, y as i32, 1.0);
        glib::result_from_gboolean!(blended, "cannot blend into {:?}", format.format())
    }
}

#[cfg(test)]
mod tests {
    use face_core::image::PixelShape;
    use face_meta::geometry::{Point, Rect};

    use super::super::color::Color;
    use super::super::draw::{Mark, Painter};
    use super::super::label::Label;
    use super::*;

    fn overlays(size: (u32, u32)) -> Vec<Overlay> {
        let mark = |rect: Rect, predicted| Mark {
            rect,
            color: Color::of_track(3),
            predicted,
            outline: true,
            landmarks: Some(
                [rect.center(), Point::new(rect.x, rect.y)].repeat(3)[..5]
                    .try_into()
                    .expect("five"),
            ),
            label: Label {
                name: "penny".into(),
                detail: "83 %".into(),
                second: "27".into(),
            },
        };
        let marks = [
            mark(Rect::new(31.3, 41.7, 60.0, 70.0), false),
            mark(Rect::new(101.0, 20.0, 90.0, 200.0), true),
        ];
        Painter::default()
            .draw(size, PixelShape::SQUARE, &marks, "Sans", 1.0)
            .expect("cairo draws")
    }

    /// Blends with the composition's own code.
    fn whole(frame: &mut WriteFrame, rectangle: &VideoOverlayRectangle) {
        let composition = VideoOverlayComposition::new([rectangle]).expect("composes");
        frame.blend(&composition).expect("blends");
    }

    #[test]
    fn tiles_are_blended_as_the_whole() {
        gst::init().expect("GStreamer starts");
        let mut plain = Vec::new();
        for &format in gst_video::VIDEO_FORMATS_ALL.iter() {
            let info = VideoFormatInfo::from_format(format);
            if is_plain(&info) {
                plain.push(format);
            }
            for (width, height) in [(160, 128), (161, 131)] {
                // GStreamer swaps U and V of the last column each time it packs such a row.
                if format == VideoFormat::Nv61 && width % 2 == 1 || is_overrun(format, width) {
                    continue;
                }
                let info = VideoInfo::builder(format, width, height)
                    .build()
                    .expect("is a format");
                let mut seed = 1_u32;
                let noise = std::iter::repeat_with(|| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (seed >> 24) as u8
                });
                let noise: Vec<u8> = noise.take(info.size()).collect();
                let mut expected = gst::Buffer::from_mut_slice(noise);
                let found = {
                    let buffer = expected.make_mut();
                    let mut frame = frame::map_writable(buffer, &info).expect("maps");
                    // Once to and fro: blending rewrites whole rows, including noise in unused
                    // bits.
                    let mut clear =
                        gst::Buffer::with_size((width * height * 4) as usize).expect("memory");
                    let writable = clear.make_mut();
                    writable.map_writable().expect("maps").fill(0);
                    gst_video::VideoMeta::add(
                        writable,
                        gst_video::VideoFrameFlags::empty(),
                        FORMAT,
                        width,
                        height,
                    )
                    .expect("is a frame");
                    let clear = VideoOverlayRectangle::new_raw(
                        &clear,
                        0,
                        0,
                        width,
                        height,
                        VideoOverlayFormatFlags::PREMULTIPLIED_ALPHA,
                    );
                    whole(&mut frame, &clear);
                    drop(frame);
                    let mut found = expected.copy_deep().expect("memory");
                    let buffer = expected.make_mut();
                    let mut reference = frame::map_writable(buffer, &info).expect("maps");
                    let buffer = found.make_mut();
                    let mut frame = frame::map_writable(buffer, &info).expect("maps");
                    for overlay in overlays((width, height)) {
                        whole(&mut reference, &rectangle(&overlay).expect("is one"));
                        blend(&mut frame, &overlay).expect("blends");
                    }
                    drop(frame);
                    found
                };
                let (expected, found) = (
                    expected.map_readable().expect("maps"),
                    found.map_readable().expect("maps"),
                );
                let differs = expected.iter().zip(found.iter()).position(|(a, b)| a != b);
                assert_eq!(differs, None, "{format:?} {width}x{height}");
            }
        }
        for format in [
            VideoFormat::I420,
            VideoFormat::Nv12,
            VideoFormat::Yuy2,
            VideoFormat::Rgb,
            VideoFormat::Bgrx,
            VideoFormat::Gray8,
            VideoFormat::I42010le,
        ] {
            assert!(plain.contains(&format), "{format:?} is blended by tiles");
        }
    }
}
