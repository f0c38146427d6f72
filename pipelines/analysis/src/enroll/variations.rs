//! Embeds variations of a face (`augment.rs`).

use anyhow::{Context, Result};
use face_core::align::{Chips, chip_runner, landmarks_in};
use face_core::model::{ColorOrder, Input, Model};
use face_core::session::{self, Options, Runner};
use face_meta::Face;
use image::{Rgb, RgbImage};

use super::augment::Variation;

/// The recognition model, run on chips without detection. It shares its session with the element.
pub struct Variations {
    runner: Runner,
    chips: Chips,
}

impl Variations {
    pub fn new(model: &str, provider: &str) -> Result<Self> {
        let options = Options {
            provider: provider.to_owned(),
            ..Default::default()
        };
        let session = session::load(&Model::find(model)?, &options)?;
        Ok(Self {
            runner: chip_runner(&session)?,
            chips: Chips::default(),
        })
    }

    /// The embeddings of `count` variations of a face in the picture of `sample`.
    pub fn embeddings(
        &mut self,
        sample: &gst::Sample,
        face: &Face,
        count: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let caps = sample.caps().context("a picture without caps")?;
        let info = gst_video::VideoInfo::from_caps(caps)?;
        let buffer = sample.buffer().context("a sample without a picture")?;
        let frame = face_core::frame::map(buffer, &info)?;
        let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
        let input = self.runner.session().descriptor.input.clone();
        let [_, _, height, width] = self.runner.shape();
        let mut embeddings = Vec::with_capacity(count);
        for variation in (1..=count).map(Variation::number) {
            let face = Face {
                landmarks: Some(variation.landmarks(&landmarks)),
                ..face.clone()
            };
            if !self.chips.fill(&frame, &face, &mut self.runner)? {
                continue;
            }
            let chip = picture(self.runner.input(), (width, height), &input);
            fill(self.runner.input(), &variation.apply(chip), &input);
            self.runner.run()?;
            embeddings.push(self.runner.only_output()?.to_vec());
        }
        Ok(embeddings)
    }
}

/// For each channel of a model's input, whether it is red, green or blue.
fn colors(input: &Input) -> [usize; 3] {
    match input.color {
        ColorOrder::Rgb => [0, 1, 2],
        ColorOrder::Bgr => [2, 1, 0],
    }
}

/// The picture in a model's input (1, 3, height, width).
fn picture(tensor: &[f32], (width, height): (usize, usize), input: &Input) -> RgbImage {
    let plane = width * height;
    let mut picture = RgbImage::new(width as u32, height as u32);
    for (i, Rgb(pixel)) in picture.pixels_mut().enumerate() {
        for (channel, color) in colors(input).into_iter().enumerate() {
            let value = tensor[channel * plane + i] / input.scale[channel] + input.mean[channel];
            pixel[color] = value.round() as u8;
        }
    }
    picture
}

/// Fills a model's input (1, 3, height, width) with a picture of the same size.
fn fill(tensor: &mut [f32], picture: &RgbImage, input: &Input) {
    let plane = picture.width() as usize * picture.height() as usize;
    for (i, Rgb(pixel)) in picture.pixels().enumerate() {
        for (channel, color) in colors(input).into_iter().enumerate() {
            tensor[channel * plane + i] =
                (f32::from(pixel[color]) - input.mean[channel]) * input.scale[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_core::model::Dimension;

    #[test]
    fn inputs_are_pictures_and_back() {
        let input = |color| Input {
            name: "x".into(),
            shape: [1, 3, 2, 3].map(Dimension::Fixed),
            color,
            mean: [10.0, 20.0, 30.0],
            scale: [0.5, 1.0 / 255.0, 2.0],
            multiple: 1,
            normalization: Default::default(),
        };
        let chip = RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8, 100 + y as u8, 255]));
        for color in [ColorOrder::Rgb, ColorOrder::Bgr] {
            let input = input(color);
            let mut tensor = [f32::NAN; 18];
            fill(&mut tensor, &chip, &input);
            assert_eq!(picture(&tensor, (3, 2), &input), chip);
            let red = if color == ColorOrder::Rgb { 0 } else { 2 };
            let first = (0.0 - input.mean[red]) * input.scale[red];
            assert_eq!(tensor[6 * red], first);
        }
    }
}
