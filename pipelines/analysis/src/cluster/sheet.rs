//! Contact sheets: the pictures of a cluster's tracks in a grid, with their origins.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{Rgb, RgbImage, imageops};

/// The side of a picture, in pixels.
const SIDE: u32 = 160;
const GAP: u32 = 12;
/// The height of the two lines below a picture, and of the heading.
const CAPTION: u32 = 40;
const HEAD: u32 = 44;
const MOST_COLUMNS: u32 = 6;
/// The limit of pictures on a sheet.
pub const MOST_TILES: usize = 60;
/// The least number of columns, to keep the heading readable.
const FEWEST_COLUMNS: u32 = 2;

/// A picture and the two lines below it.
pub struct Tile {
    /// `None` if there is none.
    pub picture: Option<RgbImage>,
    pub lines: [String; 2],
}

/// Draws `tiles`, at most [`MOST_TILES`], below a heading.
pub fn draw(head: &str, tiles: &[Tile]) -> Result<RgbImage> {
    let tiles = &tiles[..tiles.len().min(MOST_TILES)];
    // Square, or slightly wider.
    let columns =
        ((tiles.len() as f64 * 1.2).sqrt().ceil() as u32).clamp(FEWEST_COLUMNS, MOST_COLUMNS);
    let rows = (tiles.len() as u32).div_ceil(columns).max(1);
    let (across, down) = (SIDE + GAP, SIDE + CAPTION + GAP);
    let (width, height) = (columns * across + GAP, HEAD + rows * down);
    let mut text = Text::new(width, height)?;
    text.line(head, 17.0, GAP, 10, width - 2 * GAP)?;
    for (i, tile) in (0u32..).zip(tiles) {
        let (x, y) = (GAP + i % columns * across, HEAD + i / columns * down);
        text.line(&tile.lines[0], 13.0, x, y + SIDE + 3, SIDE)?;
        text.line(&tile.lines[1], 12.0, x, y + SIDE + 20, SIDE)?;
    }
    let mut sheet = text.finish()?;
    for (i, tile) in (0u32..).zip(tiles) {
        let (x, y) = (GAP + i % columns * across, HEAD + i / columns * down);
        let picture = match &tile.picture {
            Some(picture) if picture.dimensions() == (SIDE, SIDE) => picture.clone(),
            Some(picture) => imageops::resize(picture, SIDE, SIDE, imageops::FilterType::Triangle),
            None => RgbImage::from_pixel(SIDE, SIDE, Rgb([90; 3])),
        };
        imageops::replace(&mut sheet, &picture, x.into(), y.into());
    }
    Ok(sheet)
}

/// Draws a sheet and writes it as PNG.
pub fn write(head: &str, tiles: &[Tile], to: &Path) -> Result<()> {
    draw(head, tiles)?
        .save_with_format(to, image::ImageFormat::Png)
        .with_context(|| format!("{} cannot be written", to.display()))
}

/// A dark page with light text.
struct Text {
    surface: cairo::ImageSurface,
    fonts: pango::Context,
}

impl Text {
    fn new(width: u32, height: u32) -> Result<Self> {
        use pango::prelude::FontMapExt;
        let surface =
            cairo::ImageSurface::create(cairo::Format::Rgb24, width as i32, height as i32)?;
        let context = cairo::Context::new(&surface)?;
        context.set_source_rgb(0.11, 0.11, 0.12);
        context.paint()?;
        let fonts = pangocairo::FontMap::default().create_context();
        Ok(Self { surface, fonts })
    }

    /// Writes a line with a height of `size` pixels and its upper left corner at `x`, `y`,
    /// shortened in the middle to `width`.
    fn line(&mut self, text: &str, size: f64, x: u32, y: u32, width: u32) -> Result<()> {
        let context = cairo::Context::new(&self.surface)?;
        context.set_source_rgb(0.92, 0.92, 0.92);
        let mut font = pango::FontDescription::from_string("Sans");
        font.set_absolute_size(size * f64::from(pango::SCALE));
        let layout = pango::Layout::new(&self.fonts);
        layout.set_font_description(Some(&font));
        layout.set_single_paragraph_mode(true);
        // For pango, a text ends at a null character.
        layout.set_text(&text.replace('\0', ""));
        layout.set_ellipsize(pango::EllipsizeMode::Middle);
        layout.set_width(width as i32 * pango::SCALE);
        context.move_to(x.into(), y.into());
        pangocairo::functions::update_layout(&context, &layout);
        pangocairo::functions::show_layout(&context, &layout);
        Ok(())
    }

    fn finish(self) -> Result<RgbImage> {
        let Self { mut surface, .. } = self;
        surface.flush();
        let (width, height) = (surface.width() as u32, surface.height() as u32);
        let stride = surface.stride() as usize;
        let data = surface.data()?;
        ensure!(
            data.len() >= stride * height as usize,
            "the sheet has no pixels"
        );
        Ok(RgbImage::from_fn(width, height, |x, y| {
            let start = y as usize * stride + 4 * x as usize;
            let pixel = [
                data[start],
                data[start + 1],
                data[start + 2],
                data[start + 3],
            ];
            let [_, red, green, blue] = u32::from_ne_bytes(pixel).to_be_bytes();
            Rgb([red, green, blue])
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(shade: u8, side: u32) -> Tile {
        Tile {
            picture: (side > 0).then(|| RgbImage::from_pixel(side, side, Rgb([shade, 0, 0]))),
            lines: [
                "a very long name of a folder.mp4".into(),
                "00:01 – 00:02".into(),
            ],
        }
    }

    #[test]
    fn pictures_are_in_their_places_and_text_between_them() {
        let tiles = [tile(200, SIDE), tile(100, 40), tile(0, 0)];
        let sheet = draw("stranger-1", &tiles).expect("drawn");
        assert_eq!(sheet.dimensions(), (2 * 172 + 12, 44 + 2 * 212));
        let at = |x, y| sheet.get_pixel(x, y).0;
        assert_eq!(at(GAP + 80, HEAD + 80), [200, 0, 0]);
        assert_eq!(at(GAP + 172 + 80, HEAD + 80), [100, 0, 0]);
        assert_eq!(at(GAP + 80, HEAD + 212 + 80), [90, 90, 90]);
        assert_eq!(at(GAP + 172 + 80, HEAD + 212 + 80), at(0, 0), "no fourth");
        let light = |y: std::ops::Range<u32>| {
            let mut pixels = y.flat_map(|y| (0..sheet.width()).map(move |x| (x, y)));
            pixels.any(|(x, y)| at(x, y)[1] > 200)
        };
        assert!(light(0..HEAD), "a head");
        assert!(light(HEAD + SIDE..HEAD + SIDE + CAPTION), "a caption");
    }

    #[test]
    fn none_and_too_many() {
        assert_eq!(draw("", &[]).expect("drawn").width(), 2 * 172 + 12);
        let tiles: Vec<Tile> = (0..200).map(|_| tile(1, 8)).collect();
        assert_eq!(draw("x\0y", &tiles).expect("drawn").height(), 44 + 10 * 212);
    }
}
