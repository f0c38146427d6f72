//! From a photo to the embeddings of the face in it.

use std::fmt;

use anyhow::{Result, anyhow, ensure};
use face_core::meta::{self, Face};
use gst::prelude::*;
use image::RgbImage;

use super::images::padded;
use super::variations::Variations;
use crate::graph;

/// How to look for the face in a photo, on the command line.
#[derive(clap::Args)]
pub struct Options {
    /// Where a photo shows several faces, take the largest instead of leaving the photo out
    #[arg(long)]
    pub largest: bool,

    /// Add N variations of each face: mirrored, turned and shifted a little, in another light,
    /// blurred, with noise, of low resolution; always the same ones. They have one vote with their
    /// photo
    #[arg(long, value_name = "N", default_value_t = AUGMENT,
          value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub augment: u32,

    /// The model that finds faces: a name, or the path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value = "yunet")]
    pub detector: String,

    /// What runs the models: cpu, cuda, tensorrt, openvino, …
    #[arg(long, value_name = "PROVIDER", default_value = "cpu")]
    pub execution_provider: String,
}

/// Variations of each face, unless asked otherwise: as measured by `tests/augment.rs` they find more small
/// and blurred faces, but give more strangers a name, and a looser threshold alone does nearly as well.
const AUGMENT: u32 = 0;

/// The longest side given to the detector, and the second try for small faces in large photos.
const INFERENCE_SIZES: [u32; 2] = [640, 1280];

/// Why a photo was left out.
pub enum Reason {
    Unreadable(String),
    NoFace,
    SeveralFaces(usize),
    NoEmbedding,
    /// It is in the gallery already, from this source.
    Known(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "no readable image: {cause}"),
            Self::NoFace => f.write_str("no face found"),
            Self::SeveralFaces(n) => write!(f, "{n} faces; --largest takes the largest"),
            Self::NoEmbedding => f.write_str("the face cannot be aligned for recognition"),
            Self::Known(source) => write!(f, "already in the gallery as {source}"),
        }
    }
}

/// A face of an image, and the image as the pipeline had it.
struct Found {
    sample: gst::Sample,
    faces: Vec<Face>,
}

/// One pipeline that finds and embeds the faces of images, so that the models are loaded once.
pub struct Embedder {
    pipeline: graph::Running,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    detector: gst::Element,
    pushed: u64,
    largest: bool,
    augment: usize,
    /// `None` if none are asked for.
    variations: Option<Variations>,
}

impl Embedder {
    /// With the recognition model `model`.
    pub fn start(options: &Options, model: &str) -> Result<Self> {
        let pipeline = graph::Running::new();
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
        let sink = gst_app::AppSink::builder().sync(false).build();
        let detector = graph::make("facedetector")?;
        let recognizer = graph::make("facerecognizer")?;
        graph::set(&detector, "model", &options.detector)?;
        graph::set(&recognizer, "model", model)?;
        for element in [&detector, &recognizer] {
            graph::set(element, "execution-provider", &options.execution_provider)?;
        }
        graph::set(&recognizer, "attach-embedding", true)?;
        graph::set(&recognizer, "interval", 0)?;
        graph::chain(
            &pipeline,
            &[
                source.upcast_ref(),
                &detector,
                &recognizer,
                sink.upcast_ref(),
            ],
        )?;
        graph::start(&pipeline)?;
        Ok(Self {
            pipeline,
            source,
            sink,
            detector,
            pushed: 0,
            largest: options.largest,
            augment: options.augment as usize,
            variations: match options.augment {
                0 => None,
                _ => Some(Variations::new(model, &options.execution_provider)?),
            },
        })
    }

    /// The embedding of the one face in `image` and those of its variations, or why there is none.
    /// The outer error is one of the pipeline, after which nothing works any more.
    pub fn embeddings(
        &mut self,
        image: Result<RgbImage, String>,
    ) -> Result<Result<Vec<Vec<f32>>, Reason>> {
        let image = match image {
            Ok(image) => image,
            Err(cause) => return Ok(Err(Reason::Unreadable(cause))),
        };
        let found = self.look_hard(&image)?;
        let face = match choose(found.faces, self.largest) {
            Ok(face) => face,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(embedding) = &face.embedding else {
            return Ok(Err(Reason::NoEmbedding));
        };
        let mut embeddings = vec![embedding.values.clone()];
        if let Some(variations) = &mut self.variations {
            embeddings.extend(variations.embeddings(&found.sample, &face, self.augment)?);
        }
        Ok(Ok(embeddings))
    }

    /// The faces of an image: in large photos also small ones, and in a tight crop the one that
    /// fills it.
    fn look_hard(&mut self, image: &RgbImage) -> Result<Found> {
        let longest = image.width().max(image.height());
        for (i, size) in INFERENCE_SIZES.into_iter().enumerate() {
            // The first size holds all there is to see of an image that is not larger.
            if i == 0 || longest > INFERENCE_SIZES[i - 1] {
                let found = self.faces(image, size)?;
                if !found.faces.is_empty() {
                    return Ok(found);
                }
            }
        }
        self.faces(&padded(image), INFERENCE_SIZES[0])
    }

    /// Sends one image through the pipeline.
    fn faces(&mut self, image: &RgbImage, inference_size: u32) -> Result<Found> {
        graph::set(&self.detector, "inference-size", inference_size)?;
        let sample = self.sample(image)?;
        if self.source.push_sample(&sample).is_err() {
            return Err(self.error());
        }
        loop {
            if let Some(sample) = self
                .sink
                .try_pull_sample(gst::ClockTime::from_mseconds(100))
            {
                let faces = sample.buffer().map(meta::read).unwrap_or_default();
                return Ok(Found { sample, faces });
            }
            if let Some(error) = graph::first_error(&self.pipeline) {
                return Err(error);
            }
            ensure!(!self.sink.is_eos(), "the pipeline ended before its input");
        }
    }

    fn error(&self) -> anyhow::Error {
        graph::first_error(&self.pipeline)
            .unwrap_or_else(|| anyhow!("the pipeline takes no image, and does not say why"))
    }

    fn sample(&mut self, image: &RgbImage) -> Result<gst::Sample> {
        let (width, height) = image.dimensions();
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
            .fps(gst::Fraction::new(0, 1))
            .build()?;
        let mut buffer = gst::Buffer::with_size(info.size())?;
        {
            let buffer = buffer.make_mut();
            // A second between two images, so that no stage takes them for one scene.
            buffer.set_pts(gst::ClockTime::from_seconds(self.pushed));
            let mut map = buffer.map_writable()?;
            let rows = map.chunks_exact_mut(info.stride()[0] as usize);
            for (to, from) in rows.zip(image.as_raw().chunks_exact(3 * width as usize)) {
                to[..from.len()].copy_from_slice(from);
            }
        }
        self.pushed += 1;
        Ok(gst::Sample::builder()
            .buffer(&buffer)
            .caps(&info.to_caps()?)
            .build())
    }
}

/// The face to take.
fn choose(faces: Vec<Face>, largest: bool) -> Result<Face, Reason> {
    if faces.len() > 1 && !largest {
        return Err(Reason::SeveralFaces(faces.len()));
    }
    let area = |face: &Face| face.rect.w * face.rect.h;
    faces
        .into_iter()
        .max_by(|a, b| area(a).total_cmp(&area(b)))
        .ok_or(Reason::NoFace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_core::geometry::Rect;

    fn face(size: f64) -> Face {
        Face {
            rect: Rect::new(0.0, 0.0, size, size),
            ..Default::default()
        }
    }

    #[test]
    fn several_faces_are_a_choice_of_the_user() {
        assert!(matches!(choose(vec![], true), Err(Reason::NoFace)));
        assert!(choose(vec![face(9.0)], false).is_ok());
        let three = || vec![face(3.0), face(9.0), face(5.0)];
        assert!(matches!(
            choose(three(), false),
            Err(Reason::SeveralFaces(3))
        ));
        assert!(choose(three(), true).is_ok_and(|f| f.rect.w == 9.0));
    }
}
