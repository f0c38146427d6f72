//! Computes the embedding of a face on a mapped frame, and its weight.

use std::sync::Arc;
use std::time::Duration;

use face_core::Error;
use face_core::align::{Chips, chip_runner, landmarks_in};
use face_core::image::{PixelShape, ReadFrame};
use face_core::model::{ColorOrder, Descriptor, Model, Task};
use face_core::session::{self, Options, Place, Runner, SharedSession};
use face_core::stats::Work;
use face_core::turns::Asker;
use face_gallery::evidence::Embedded;
use face_gallery::{ModelId, normalised, quality};
use face_meta::{Face, Quality};

/// A recognition model and its buffers.
pub struct Recognizer {
    session: Arc<SharedSession>,
    runner: Runner,
    chips: Chips,
    /// Where a full channel of the last chip lies in the input, to measure its sharpness.
    side: (usize, usize),
    asker: Asker,
}

impl Recognizer {
    /// Loads `model` (name or path) and checks that its output fits its descriptor.
    pub fn new(model: &str, options: &Options) -> Result<Self, Error> {
        let model = Model::find(model)?;
        model.expect_task(Task::Recognition)?;
        if model.descriptor.decoder != "embedding" {
            return Err(Error::invalid(
                model.weights.with_extension("json"),
                format!(
                    "no recognition decoder `{}`; use `embedding`",
                    model.descriptor.decoder
                ),
            ));
        }
        let session = session::load(&model, options)?;
        let runner = chip_runner(&session)?;
        let found = runner.only_output()?.len();
        let [_, _, height, width] = runner.shape();
        let recognizer = Self {
            session,
            runner,
            chips: Chips::default(),
            side: (height, width),
            asker: Asker::other(),
        };
        if found != recognizer.dimensions() {
            return Err(recognizer.session.unfit(format!(
                "its embedding has {found} dimensions; correct `dimensions` in its descriptor, \
                 which says {}",
                recognizer.dimensions()
            )));
        }
        Ok(recognizer)
    }

    /// The identification of this model in galleries.
    pub fn model_id(&self) -> ModelId {
        ModelId {
            name: self.session.descriptor.name.clone(),
            sha256: self.session.sha256.clone(),
        }
    }

    /// The length of an embedding.
    pub fn dimensions(&self) -> usize {
        self.session.descriptor.dimensions.unwrap_or(0)
    }

    /// The descriptor of the model.
    pub fn descriptor(&self) -> &Descriptor {
        &self.session.descriptor
    }

    /// Gets a place for this thread to embed faces; see [`SharedSession::place`].
    pub fn place(&self, patience: Option<Duration>) -> Option<Place> {
        self.session.place(&self.asker, patience)
    }

    /// Measures the quality of a face, and embeds it if that is at least `min_quality`; with `mirror`, as
    /// the mean of the embeddings of the face and of its mirror image. `None` if the quality is lower, the
    /// face has no extent, or the embedding has no direction.
    pub fn embed(
        &mut self,
        frame: &ReadFrame,
        face: &mut Face,
        min_quality: f64,
        mirror: bool,
        work: &mut Work,
    ) -> Result<Option<Embedded>, Error> {
        if !work.sample(|| self.chips.fill(frame, face, &mut self.runner))? {
            return Ok(None);
        }
        let quality = self.quality(frame, face);
        face.quality = Some(quality);
        if quality.quality < min_quality {
            return Ok(None);
        }
        work.infer(&mut self.runner)?;
        let Some(mut embedding) = normalised(self.runner.only_output()?) else {
            return Ok(None);
        };
        if mirror {
            // One after the other: the graph of SFace has a batch of one, and on a CPU two faces in
            // one run take as long as in two.
            flip(self.runner.input(), self.side.1);
            work.infer(&mut self.runner)?;
            let Some(mirrored) = normalised(self.runner.only_output()?) else {
                return Ok(None);
            };
            let numbers = embedding.iter_mut().zip(mirrored);
            numbers.for_each(|(number, mirrored)| *number += mirrored);
            let Some(mean) = normalised(&embedding) else {
                return Ok(None);
            };
            embedding = mean;
        }
        Ok(Some(Embedded {
            embedding: embedding.into(),
            weight: quality.quality,
        }))
    }

    /// The quality of the face in the model's input.
    fn quality(&mut self, frame: &ReadFrame, face: &Face) -> Quality {
        let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
        let landmarks = PixelShape::of(frame.info()).landmarks(&landmarks);
        let (height, width) = self.side;
        let descriptor = &self.session.descriptor.input;
        let chip = self.runner.input();
        let channel = |i: usize| &chip[i * height * width..(i + 1) * height * width];
        let order = match descriptor.color {
            ColorOrder::Rgb => [0, 1, 2],
            ColorOrder::Bgr => [2, 1, 0],
        };
        let means = order.map(|i| quality::mean(channel(i), width));
        // As the picture has them.
        let pixel = |i: usize| {
            let (mean, scale) = (descriptor.mean[order[i]], descriptor.scale[order[i]]);
            means[i] / f64::from(scale) + f64::from(mean)
        };
        quality::of(
            &landmarks,
            face.confidence.unwrap_or(1.0),
            quality::sharpness(channel(1), width),
            quality::brightness([0, 1, 2].map(pixel)),
        )
    }
}

/// Mirrors a picture of rows of `width` values, with any number of channels.
fn flip(tensor: &mut [f32], width: usize) {
    tensor.chunks_exact_mut(width).for_each(<[f32]>::reverse);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipping_reverses_each_row() {
        let mut tensor = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        flip(&mut tensor, 3);
        assert_eq!(tensor, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    }
}
