//! Hides boxes in a mapped frame.

use face_core::{Error, frame};
use face_meta::geometry::Rect;

use super::Mode;
use super::effect::{self, Block};
use super::paint::{Image, Paint};
use super::planes::{self, Component};
use super::region::{self, Region};
use super::settings::Settings;

/// Hides faces in frames of one format and size.
pub struct Hider {
    info: gst_video::VideoInfo,
    components: Vec<Component>,
    /// What covers faces, and the serial of the settings for which it was made.
    paint: Option<(u64, Paint)>,
    /// Reused buffers.
    blocks: Blocks,
}

/// Samples of the frame, of the cover, and the cover's opacity.
#[derive(Default)]
struct Blocks {
    under: Block,
    over: Block,
    alpha: Block,
}

impl Hider {
    /// `None` for a format whose samples cannot be accessed in place.
    pub fn new(info: gst_video::VideoInfo) -> Option<Self> {
        Some(Self {
            components: planes::components(&info.format_info())?,
            info,
            paint: None,
            blocks: Blocks::default(),
        })
    }

    pub fn size(&self) -> (u32, u32) {
        (self.info.width(), self.info.height())
    }

    /// Makes the cover, if its settings changed.
    fn refresh(
        &mut self,
        settings: &Settings,
        picture: Option<&Image>,
    ) -> Result<(), glib::BoolError> {
        if matches!(settings.mode, Mode::Blur | Mode::Pixelate) {
            self.paint = None;
            return Ok(());
        }
        if self
            .paint
            .as_ref()
            .is_none_or(|(serial, _)| *serial != settings.serial)
        {
            let plain = Image::plain(settings.color);
            let image = match (settings.mode, picture) {
                (Mode::Picture, Some(picture)) => picture,
                _ => &plain,
            };
            let paint = Paint::new(image, &self.info, &self.components)?;
            self.paint = Some((settings.serial, paint));
        }
        Ok(())
    }

    /// Hides `boxes`.
    pub fn hide(
        &mut self,
        buffer: &mut gst::BufferRef,
        boxes: &[Rect],
        settings: &Settings,
        picture: Option<&Image>,
    ) -> Result<(), Error> {
        let failed = |error: glib::BoolError| Error::Frame(format!("cannot hide faces: {error}"));
        let size = (self.info.width() as usize, self.info.height() as usize);
        let align = planes::alignment(&self.components);
        let regions: Vec<Region> = boxes
            .iter()
            .filter_map(|rect| Region::new(rect, settings.margin, settings.shape, align, size))
            .collect();
        let regions = region::bounded(regions, size);
        if regions.is_empty() {
            return Ok(());
        }
        self.refresh(settings, picture).map_err(failed)?;
        let paint = self.paint.as_ref().map(|(_, paint)| paint);
        let mut frame = frame::map_writable(buffer, &self.info)?;
        let Blocks { under, over, alpha } = &mut self.blocks;
        for region in &regions {
            let pixels = (region.columns.len(), region.rows.len());
            let size = settings.strength * region.side;
            for (i, component) in self.components.iter().enumerate() {
                let change = |block: &mut Block| {
                    if settings.mode == Mode::Pixelate {
                        return effect::pixelate(block, effect::pixelate_cells(pixels, size));
                    }
                    // Also under a translucent cover.
                    if paint.is_none_or(|paint| paint.alpha.is_some()) {
                        effect::blur(block, effect::blur_cells(pixels, size));
                    }
                    let Some(paint) = paint else { return };
                    let cover = |target: &mut Block, source: &Block| {
                        target.width = block.width;
                        target.height = block.height;
                        target.samples.resize(block.samples.len(), 0);
                        effect::stretch(source, target);
                    };
                    cover(over, &paint.components[i]);
                    match &paint.alpha {
                        Some(shares) => {
                            cover(alpha, shares);
                            effect::mix(block, over, alpha);
                        }
                        None => std::mem::swap(&mut block.samples, &mut over.samples),
                    }
                };
                component
                    .edit(&mut frame, region, under, change)
                    .map_err(failed)?;
            }
        }
        Ok(())
    }
}
