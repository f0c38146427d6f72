//! Still pictures as video frames.

use gst_video::{VideoFormat, VideoInfo};

/// A picture as a frame of RGB video without a rate. `rgb` holds its rows, of `3 · width` bytes each; what
/// is missing there stays black.
///
/// # Errors
/// If GStreamer does not take the size, or has no memory.
pub fn frame(
    rgb: &[u8],
    (width, height): (u32, u32),
) -> Result<(gst::Buffer, VideoInfo), glib::BoolError> {
    let info = VideoInfo::builder(VideoFormat::Rgb, width, height)
        .fps(gst::Fraction::new(0, 1))
        .par(gst::Fraction::new(1, 1))
        .build()?;
    let mut buffer = gst::Buffer::with_size(info.size())?;
    let writable = buffer.make_mut();
    writable.set_pts(gst::ClockTime::ZERO);
    {
        let mut map = writable.map_writable()?;
        let stride = info.stride().first().copied().unwrap_or(0);
        let rows = map.chunks_exact_mut(usize::try_from(stride).unwrap_or(0).max(1));
        for (to, from) in rows.zip(rgb.chunks_exact(3 * width as usize)) {
            let (to, padding) = to.split_at_mut(from.len());
            to.copy_from_slice(from);
            padding.fill(0);
        }
    }
    Ok((buffer, info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_where_the_caps_say() {
        gst::init().expect("GStreamer starts");
        let rgb: Vec<u8> = (0..5 * 2 * 3).collect();
        let (buffer, info) = frame(&rgb, (5, 2)).expect("a frame");
        let frame = gst_video::VideoFrame::from_buffer_readable(buffer, &info).expect("it fits");
        let stride = info.stride()[0] as usize;
        let plane = frame.plane_data(0).expect("one plane");
        assert_eq!(plane[..15], rgb[..15]);
        assert_eq!(plane[stride..stride + 15], rgb[15..]);
    }
}
