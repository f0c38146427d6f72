//! Finds the face in a photo and computes its embeddings.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, ensure};
use face_core::model::Model;
use face_core::still;
use face_meta::Face;
use face_picture::Picture;
use gst::prelude::*;
use image::{RgbImage, imageops};

use super::images::padded;
use super::variations::Variations;
use super::{poor, turn};
use face_parts::detection::Detection;
use face_parts::graph;

/// How to find the face in a photo, as command line options.
#[derive(Clone, clap::Args)]
pub struct Options {
    /// If a photo shows several faces, take the largest instead of leaving the photo out
    #[arg(long)]
    pub largest: bool,

    /// Add N variations of each face: mirrored, slightly turned and shifted, in another light,
    /// blurred, noisy, or in low resolution. They are the same every time, and count as one with
    /// their photo
    #[arg(long, value_name = "N", default_value_t = AUGMENT,
          value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub augment: u32,

    /// What finds faces: the preset `fast` (yunet) or `accurate` (centerface, slower, for small, turned and
    /// masked faces); or a model: a name, or the path of an .onnx file
    #[arg(long, value_name = "MODEL", default_value = "yunet")]
    pub detector: String,

    /// What runs the models: cpu, cuda, tensorrt, openvino, …
    #[arg(long, value_name = "PROVIDER", default_value = "cpu")]
    pub execution_provider: String,
}

/// The default number of variations. According to `tests/augment.rs`, variations find more small
/// and blurred faces, but also give more strangers a name, and a looser threshold alone does nearly
/// as well.
const AUGMENT: u32 = 0;

/// The longest side given to the detector first, in pixels.
const FIRST_SIZE: u32 = 640;

/// The least one for small faces in large photos, in which it finds none at first.
const SECOND_SIZE: u32 = 1280;

/// Why a photo was left out.
pub enum Reason {
    Unreadable(String),
    NoFace,
    SeveralFaces(usize),
    NoEmbedding,
    /// The gallery already contains it, from this source.
    Known(String),
    /// It is not in this folder.
    Missing(PathBuf),
    /// A face that is not to be named, in a gallery that is converted.
    NotNamed,
    /// It is not to be named, but this person has it, from this source.
    Named(String, String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(cause) => write!(f, "no readable image: {cause}"),
            Self::NoFace => f.write_str("no face found"),
            Self::SeveralFaces(n) => write!(f, "{n} faces; --largest takes the largest"),
            Self::NoEmbedding => f.write_str("the face cannot be aligned for recognition"),
            Self::Known(source) => write!(f, "already in the gallery as {source}"),
            Self::Missing(folder) => write!(f, "no such photo in {}", folder.display()),
            Self::Named(person, source) => write!(
                f,
                "it is {person}'s {source}; remove that first, or {person} will not be named any more"
            ),
            Self::NotNamed => f.write_str(
                "not to be named; add it to the new gallery with `gallery add --stranger`",
            ),
        }
    }
}

/// The faces of an image, and the image as it was in the pipeline.
struct Found {
    sample: gst::Sample,
    faces: Vec<Face>,
}

impl Found {
    /// That of the clearest face. (The largest may be cut off by the edge, and clearest upside down.)
    fn confidence(&self) -> Option<f64> {
        let confidences = self.faces.iter().filter_map(|face| face.confidence);
        confidences.max_by(f64::total_cmp)
    }
}

/// What the gallery gets of a photo.
pub struct Embedded {
    /// The embeddings of the face and of its variations.
    pub rows: Vec<Vec<f32>>,
    /// By how many degrees clockwise the photo was turned, which its file does not say.
    pub turned: u32,
    /// What users may not expect of the file.
    pub notes: Vec<String>,
    /// Why the face is hard to recognise.
    pub poor: Vec<String>,
}

/// A pipeline that finds and embeds the faces of many images, so that the models are loaded once.
pub struct Embedder {
    pipeline: graph::Running,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    detector: gst::Element,
    pushed: u64,
    /// The longest sides given to the detector, one after the other until it finds a face.
    sizes: [u32; 2],
    largest: bool,
    augment: usize,
    /// `None` if no variations are requested.
    variations: Option<Variations>,
}

impl Embedder {
    /// Starts with the recognition model `model`.
    pub fn start(options: &Options, model: &str) -> Result<Self> {
        let pipeline = graph::Running::new();
        let source = gst_app::AppSrc::builder().format(gst::Format::Time).build();
        let sink = gst_app::AppSink::builder().sync(false).build();
        let detection = Detection::of(&options.detector, None);
        Model::find(detection.model).context("--detector")?;
        let detector = graph::make("facedetector")?;
        let recognizer = graph::make("facerecognizer")?;
        graph::set(&detector, "model", detection.model)?;
        graph::set(&recognizer, "model", model)?;
        for element in [&detector, &recognizer] {
            graph::set(element, "execution-provider", &options.execution_provider)?;
        }
        graph::set(&recognizer, "attach-embedding", true)?;
        graph::set(&recognizer, "interval", 0)?;
        graph::set(&recognizer, "mirror", true)?;
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
            sizes: [FIRST_SIZE, detection.inference_size.max(SECOND_SIZE)],
            largest: options.largest,
            augment: options.augment as usize,
            variations: match options.augment {
                0 => None,
                _ => Some(Variations::new(model, &options.execution_provider)?),
            },
        })
    }

    /// The embedding of the only face in a picture and those of its variations, or the reason why
    /// there is none. The outer error means that the pipeline has failed for good.
    pub fn embeddings(
        &mut self,
        picture: Result<Picture, String>,
    ) -> Result<Result<Embedded, Reason>> {
        let Picture { image, notes, .. } = match picture {
            Ok(picture) => picture,
            Err(cause) => return Ok(Err(Reason::Unreadable(cause))),
        };
        let (found, turned) = self.look_upright(&image)?;
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
        Ok(Ok(Embedded {
            rows: embeddings,
            turned,
            notes,
            poor: poor::complaints(&face),
        }))
    }

    /// Finds the faces of an image. If the image seems to be turned, turns it, and returns by how many
    /// degrees clockwise.
    fn look_upright(&mut self, image: &RgbImage) -> Result<(Found, u32)> {
        let as_it_is = self.look_hard(image)?;
        if as_it_is.confidence() >= Some(turn::SURE) {
            return Ok((as_it_is, 0));
        }
        let mut looks = vec![as_it_is];
        for turned in [imageops::rotate90, imageops::rotate180, imageops::rotate270] {
            looks.push(self.look_hard(&turned(image))?);
        }
        let confidence = |turns: usize| looks.get(turns).and_then(Found::confidence);
        let turns = turn::best([0, 1, 2, 3].map(confidence));
        Ok((looks.swap_remove(turns), 90 * turns as u32))
    }

    /// Finds the faces of an image, including small ones in large photos and the one that fills a
    /// tight crop.
    fn look_hard(&mut self, image: &RgbImage) -> Result<Found> {
        let longest = image.width().max(image.height());
        for (i, size) in self.sizes.into_iter().enumerate() {
            // The first size already shows everything in an image that is not larger.
            if i == 0 || longest > self.sizes[i - 1] {
                let found = self.faces(image, size)?;
                if !found.faces.is_empty() {
                    return Ok(found);
                }
            }
        }
        self.faces(&padded(image), self.sizes[0])
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
                let faces = sample.buffer().map(face_meta::read).unwrap_or_default();
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
            .unwrap_or_else(|| anyhow!("the pipeline rejects an image and gives no reason"))
    }

    fn sample(&mut self, image: &RgbImage) -> Result<gst::Sample> {
        let (mut buffer, info) = still::frame(image.as_raw(), image.dimensions())?;
        // One second between images, so that no stage takes them for one scene.
        let time = gst::ClockTime::from_seconds(self.pushed);
        buffer.make_mut().set_pts(time);
        self.pushed += 1;
        Ok(gst::Sample::builder()
            .buffer(&buffer)
            .caps(&info.to_caps()?)
            .build())
    }
}

/// Chooses the face to use.
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
    use face_meta::geometry::Rect;

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
