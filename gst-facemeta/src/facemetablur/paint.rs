//! What covers a face: a colour or a picture, as samples in the frame's format and colour space.

use std::path::Path;

use face_core::file::read_at_most;
use face_core::{Error, frame};
use gst_video::{VideoConverter, VideoFormat, VideoFrameRef, VideoInfo};

use super::effect::Block;
use super::planes::Component;

/// The largest picture file, in bytes.
const LARGEST: u64 = 64 << 20;
/// Pictures are shrunk to this side, in pixels.
const LONGEST: u32 = 512;
/// The side of a colour patch. It holds whole chroma samples in every format.
const PATCH: u32 = 16;

/// An RGB picture with alpha, in rows of `4 · width` bytes.
#[derive(Clone)]
pub struct Image {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Image {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let bytes = read_at_most(path, LARGEST)?;
        let decoded = face_picture::decode(&bytes, path)
            .map_err(|e| Error::invalid(path, format!("cannot be read as a picture: {e}")))?
            .image;
        let decoded = if decoded.width().max(decoded.height()) > LONGEST {
            decoded.thumbnail(LONGEST, LONGEST)
        } else {
            decoded
        };
        let mut rgba = decoded.to_rgba8();
        // Invisible pixels get the mean colour of the visible ones, so that edges get no fringe.
        let mut sums = [0_u64; 4];
        for pixel in rgba.pixels() {
            for (sum, value) in sums.iter_mut().zip(pixel.0) {
                *sum += u64::from(value) * u64::from(pixel.0[3]);
            }
        }
        let weight = (sums[3] / 255).max(1);
        let mean = [0, 1, 2].map(|i| (sums[i] / weight).min(255) as u8);
        for pixel in rgba.pixels_mut().filter(|pixel| pixel.0[3] == 0) {
            pixel.0 = [mean[0], mean[1], mean[2], 0];
        }
        Ok(Self {
            width: rgba.width(),
            height: rgba.height(),
            data: rgba.into_raw(),
        })
    }

    /// A colour, `0xAARRGGBB`.
    pub fn plain(color: u32) -> Self {
        let [alpha, red, green, blue] = color.to_be_bytes();
        Self {
            width: PATCH,
            height: PATCH,
            data: [red, green, blue, alpha].repeat((PATCH * PATCH) as usize),
        }
    }
}

/// An image in a frame's format: one block per component, and alpha.
pub struct Paint {
    pub components: Vec<Block>,
    /// `None` if it is fully opaque.
    pub alpha: Option<Block>,
}

impl Paint {
    /// `info` describes the frames, `components` those of its format.
    pub fn new(
        image: &Image,
        info: &VideoInfo,
        components: &[Component],
    ) -> Result<Self, glib::BoolError> {
        let (width, height) = (image.width, image.height);
        let from = VideoInfo::builder(VideoFormat::Rgba, width, height).build()?;
        let to = VideoInfo::builder(info.format(), width, height)
            .colorimetry(&info.colorimetry())
            .build()?;
        let source = gst::Buffer::from_slice(image.data.clone());
        let source = VideoFrameRef::from_buffer_ref_readable(&source, &from)?;
        let mut converted = gst::Buffer::with_size(to.size())?;
        let mut target = VideoFrameRef::from_buffer_ref_writable(converted.make_mut(), &to)?;
        VideoConverter::new(&from, &to, None)?.frame_ref(&source, &mut target);
        drop(target);
        let failed = |error| glib::bool_error!("{error}");
        let converted = frame::map(&converted, &to).map_err(failed)?;
        let alpha: Vec<u16> = image
            .data
            .chunks_exact(4)
            .map(|p| u16::from(p[3]))
            .collect();
        Ok(Self {
            components: components
                .iter()
                .map(|component| component.read(&converted))
                .collect(),
            alpha: alpha.iter().any(|a| *a < 255).then_some(Block {
                width: width as usize,
                height: height as usize,
                samples: alpha,
            }),
        })
    }
}
