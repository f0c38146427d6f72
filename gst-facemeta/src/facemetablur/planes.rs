//! Loads the samples of a region from a frame's planes, and stores them again.

use std::ops::Range;

use face_core::frame::{ReadFrame, WriteFrame};
use gst_video::{VideoFormat, VideoFormatInfo};

use super::effect::Block;
use super::region::Region;

/// How a sample is stored: in a byte, or in two, with the value shifted left by `shift` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Byte,
    Little(u32),
    Big(u32),
}

/// Where the samples of one component lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component {
    /// Its index in the format.
    index: u8,
    plane: usize,
    /// Bytes to the first sample of a row, and from one sample to the next.
    offset: usize,
    step: usize,
    word: Word,
    /// Binary logarithms of the pixels per sample, across and down.
    subsampling: (u32, u32),
}

/// The components of a format except alpha. `None` unless all their samples are whole bytes or
/// words at the position that the pixel's coordinates give. (Formats with tighter packing, tiles or
/// palettes are not.)
pub fn components(format: &VideoFormatInfo) -> Option<Vec<Component>> {
    let colours = if format.has_alpha() {
        3.min(format.n_components())
    } else {
        format.n_components()
    };
    let plain = !format.is_complex()
        && !format.is_tiled()
        && !format.has_palette()
        && !matches!(
            format.format(),
            // GStreamer's table and its pack functions disagree about the position of this format's
            // chroma.
            VideoFormat::Vyuy | VideoFormat::Unknown | VideoFormat::Encoded
        )
        && (1..=3).contains(&colours);
    if !plain {
        return None;
    }
    let found: Vec<Component> = (0..colours as usize)
        .map(|i| {
            let (depth, shift) = (format.depth()[i], format.shift()[i]);
            let step = usize::try_from(format.pixel_stride()[i]).ok()?;
            let native = matches!(format.format(), VideoFormat::Argb64 | VideoFormat::Ayuv64);
            // Some formats lack the flag LE.
            let little = if native {
                cfg!(target_endian = "little")
            } else {
                !format.name().ends_with("BE")
            };
            let mut offset = format.poffset()[i] as usize;
            if depth > 8 && offset % 2 == 1 {
                // For some formats (P010) the table counts words, not bytes.
                offset *= 2;
            }
            let word = match (depth, shift) {
                (8, 0) if step > 0 => Word::Byte,
                (9..=16, _) if depth + shift <= 16 && step >= 2 && step % 2 == 0 => {
                    if little {
                        Word::Little(shift)
                    } else {
                        Word::Big(shift)
                    }
                }
                _ => return None,
            };
            Some(Component {
                index: i as u8,
                plane: format.plane()[i] as usize,
                offset,
                step,
                word,
                subsampling: (format.w_sub()[i], format.h_sub()[i]),
            })
        })
        .collect::<Option<_>>()?;
    // Several samples in one word: packed more tightly than their depth says.
    let apart = |(i, a): (usize, &Component)| {
        let place = |c: &Component| (c.plane, c.offset);
        found[..i].iter().all(|b| place(a) != place(b))
    };
    found.iter().enumerate().all(apart).then_some(found)
}

/// The pixels, across and down, that share a sample of some component.
pub fn alignment(components: &[Component]) -> (usize, usize) {
    let most = |side: fn(&Component) -> u32| components.iter().map(side).max().unwrap_or(0);
    (
        1 << most(|c| c.subsampling.0),
        1 << most(|c| c.subsampling.1),
    )
}

/// The samples that cover `pixels`.
fn samples(pixels: &Range<usize>, subsampling: u32) -> Range<usize> {
    pixels.start >> subsampling..pixels.end.div_ceil(1 << subsampling)
}

impl Component {
    /// Loads the samples of a region into `block`, applies `change` to them, and stores those
    /// within the region's shape.
    pub fn edit(
        &self,
        frame: &mut WriteFrame,
        region: &Region,
        block: &mut Block,
        change: impl FnOnce(&mut Block),
    ) -> Result<(), glib::BoolError> {
        let stride = frame.stride(self.plane);
        let data = frame.plane_mut(self.plane);
        let columns = samples(&region.columns, self.subsampling.0);
        let rows = samples(&region.rows, self.subsampling.1);
        block.width = columns.len();
        block.height = rows.len();
        block.samples.clear();
        let at = |row: usize, column: usize| row * stride + self.offset + column * self.step;
        let short = || glib::bool_error!("a plane is shorter than its rows");
        for row in rows.clone() {
            let line = data.get(at(row, columns.start)..).ok_or_else(short)?;
            self.load(line, columns.len(), &mut block.samples);
        }
        if block.samples.len() != block.width * block.height {
            return Err(short());
        }
        change(block);
        for (row, samples_) in rows.zip(block.samples.chunks_exact(block.width)) {
            let pixels = row << self.subsampling.1..(row + 1) << self.subsampling.1;
            let span = samples(&region.span(pixels), self.subsampling.0);
            if let Some(line) = data.get_mut(at(row, span.start)..) {
                self.store(
                    line,
                    &samples_[span.start - columns.start..span.end - columns.start],
                );
            }
        }
        Ok(())
    }

    /// All samples of a read-only frame.
    pub fn read(&self, frame: &ReadFrame) -> Block {
        let (data, stride) = (frame.plane(self.plane), frame.stride(self.plane));
        let format = frame.info().format_info();
        let mut block = Block {
            width: format.scale_width(self.index, frame.width()) as usize,
            height: format.scale_height(self.index, frame.height()) as usize,
            samples: Vec::new(),
        };
        for row in 0..block.height {
            let line = data.get(row * stride + self.offset..).unwrap_or(&[]);
            self.load(line, block.width, &mut block.samples);
        }
        block
    }

    /// Appends `count` samples from the start of `line`.
    fn load(&self, line: &[u8], count: usize, samples: &mut Vec<u16>) {
        let pixels = line.chunks(self.step).take(count);
        match self.word {
            Word::Byte => samples.extend(pixels.map(|p| u16::from(p[0]))),
            Word::Little(shift) => {
                samples.extend(pixels.map(|p| u16::from_le_bytes(word(p)) >> shift));
            }
            Word::Big(shift) => {
                samples.extend(pixels.map(|p| u16::from_be_bytes(word(p)) >> shift));
            }
        }
    }

    fn store(&self, line: &mut [u8], samples: &[u16]) {
        for (pixel, &sample) in line.chunks_mut(self.step).zip(samples) {
            match self.word {
                Word::Byte => pixel[0] = sample as u8,
                Word::Little(shift) => put(pixel, (sample << shift).to_le_bytes()),
                Word::Big(shift) => put(pixel, (sample << shift).to_be_bytes()),
            }
        }
    }
}

/// The first two bytes.
fn word(pixel: &[u8]) -> [u8; 2] {
    match pixel {
        [a, b, ..] => [*a, *b],
        _ => [0; 2],
    }
}

fn put(pixel: &mut [u8], bytes: [u8; 2]) {
    if let Some(word) = pixel.get_mut(..2) {
        word.copy_from_slice(&bytes);
    }
}
