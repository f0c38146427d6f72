//! What is taken from the frames while they pass: of each track its embeddings and its best picture.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use face_core::align::{landmarks_in, to_source};
use face_core::frame;
use face_core::geometry::{Rect, Similarity};
use face_core::image::{Picture, ReadFrame, Sampler, warp_rows};
use face_core::meta::{self, Face};
use face_core::model::{ColorOrder, Descriptor, Dimension, Input};
use face_core::tracks::TrackEnded;
use gst::prelude::*;
use gstfacerecog::quality;
use gstfacerecog::recognizer::Embedded;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

/// Embeddings kept of a track: the heaviest.
const MOST_EMBEDDINGS: usize = 64;

/// Side of a thumbnail, in pixels.
const SIDE: u32 = 160;
/// Side of what a thumbnail shows, in sides of the face's box.
const MARGIN: f64 = 1.6;
/// JPEG quality, 1 to 100.
const QUALITY: u8 = 85;

/// What was collected of an input.
#[derive(Default)]
pub struct Collection {
    pub embeddings: BTreeMap<u64, Vec<Embedded>>,
    /// The picture of each track that has one, relative to the input's folder.
    pub thumbnails: BTreeMap<u64, String>,
}

impl Collection {
    pub fn embeddings_of(&self, track: u64) -> &[Embedded] {
        self.embeddings.get(&track).map_or(&[], Vec::as_slice)
    }
}

/// Collects from the frames on a pad.
pub struct Collector {
    eyes: Eyes,
    /// The input's folder.
    folder: PathBuf,
    /// The best picture so far of the tracks that live, and how good it is.
    live: HashMap<u64, (f64, RgbImage)>,
    found: Collection,
    error: Option<anyhow::Error>,
}

impl Collector {
    /// Writes thumbnails below `folder`; `model` is the recogniser's.
    pub fn new(model: &Descriptor, folder: &Path) -> Result<Self> {
        let thumbnails = folder.join("thumbnails");
        fs::create_dir(&thumbnails)
            .with_context(|| format!("{} cannot be made", thumbnails.display()))?;
        Ok(Self {
            eyes: Eyes::new(model)?,
            folder: folder.to_owned(),
            live: HashMap::new(),
            found: Collection::default(),
            error: None,
        })
    }

    /// Lets the collector see what passes `pad`.
    pub fn watch(self, pad: &gst::Pad) -> Watched {
        let shared = Watched(Arc::new(Mutex::new(self)));
        let watched = Watched(shared.0.clone());
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(mask, move |pad, info| {
            if let Some(buffer) = info.buffer() {
                watched.lock().frame(pad, buffer);
            } else if let Some(ended) = info.event().and_then(TrackEnded::from_event) {
                watched.lock().end(ended.id);
            }
            gst::PadProbeReturn::Ok
        });
        shared
    }

    fn frame(&mut self, pad: &gst::Pad, buffer: &gst::BufferRef) {
        if self.error.is_some() {
            return;
        }
        let faces = meta::read(buffer);
        if let Err(error) = self.faces(pad, buffer, faces) {
            self.error = Some(error);
        }
    }

    fn faces(&mut self, pad: &gst::Pad, buffer: &gst::BufferRef, faces: Vec<Face>) -> Result<()> {
        let mut mapped = None;
        for mut face in faces.into_iter().filter(|f| !f.is_predicted()) {
            let Some(id) = face.track.map(|t| t.id) else {
                continue;
            };
            let embedding = face.embedding.take();
            let best = self.live.get(&id).map_or(0.0, |(score, _)| *score);
            if embedding.is_none() && score(&face, f64::MAX) <= best {
                continue;
            }
            let frame = match &mapped {
                Some(frame) => frame,
                None => mapped.insert(map(pad, buffer)?),
            };
            let sharpness = self.eyes.sharpness(frame, &face)?;
            if let Some(embedding) = embedding {
                let weight = weight(&face, sharpness);
                let embedding = embedding.values;
                let kept = self.found.embeddings.entry(id).or_default();
                keep_heaviest(kept, Embedded { embedding, weight });
            }
            let score = score(&face, sharpness);
            if score > best {
                let picture = self.eyes.thumbnail(frame, &face.rect)?;
                self.live.insert(id, (score, picture));
            }
        }
        Ok(())
    }

    /// Writes the picture of a track that ended.
    fn end(&mut self, id: u64) {
        let Some((_, picture)) = self.live.remove(&id) else {
            return;
        };
        let name = format!("thumbnails/{id}.jpg");
        match write(&picture, &self.folder.join(&name)) {
            Ok(()) => {
                self.found.thumbnails.insert(id, name);
            }
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }
}

/// A collector at work.
pub struct Watched(Arc<Mutex<Collector>>);

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Collector> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was collected, once no more frames come.
    pub fn finish(&self) -> Result<Collection> {
        let mut collector = self.lock();
        let live: Vec<u64> = collector.live.keys().copied().collect();
        for id in live {
            collector.end(id);
        }
        match collector.error.take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut collector.found)),
        }
    }
}

fn map<'a>(pad: &gst::Pad, buffer: &'a gst::BufferRef) -> Result<ReadFrame<'a>> {
    let caps = pad.current_caps().context("a frame came before its caps")?;
    Ok(frame::map(
        buffer,
        &gst_video::VideoInfo::from_caps(&caps)?,
    )?)
}

/// The weight of the face's embedding in a vote, as the recogniser has it.
fn weight(face: &Face, sharpness: f64) -> f64 {
    let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
    quality::weight(&landmarks, face.confidence.unwrap_or(1.0), sharpness)
}

/// How good a picture of the face would be, 0 to 1: what makes a good embedding, and as many pixels as
/// a thumbnail can show.
fn score(face: &Face, sharpness: f64) -> f64 {
    let pixels = face.rect.w.max(face.rect.h) * MARGIN / f64::from(SIDE);
    weight(face, sharpness) * pixels.clamp(0.0, 1.0)
}

/// Adds an embedding, or has it replace the lightest where there are enough.
fn keep_heaviest(kept: &mut Vec<Embedded>, new: Embedded) {
    if kept.len() < MOST_EMBEDDINGS {
        kept.push(new);
        return;
    }
    let lightest = kept.iter_mut().min_by(|a, b| a.weight.total_cmp(&b.weight));
    if let Some(lightest) = lightest.filter(|lightest| lightest.weight < new.weight) {
        *lightest = new;
    }
}

fn write(picture: &RgbImage, path: &Path) -> Result<()> {
    let written = || -> Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let encoder = JpegEncoder::new_with_quality(file, QUALITY);
        Ok(picture.write_with_encoder(encoder)?)
    };
    written().with_context(|| format!("{} cannot be written", path.display()))
}

/// Samples faces from frames.
struct Eyes {
    sampler: Sampler,
    unpacked: Vec<u8>,
    tensor: Vec<f32>,
    model: Descriptor,
    /// Of a chip of the model: width, height.
    chip: (usize, usize),
    thumbnail: Input,
}

impl Eyes {
    fn new(model: &Descriptor) -> Result<Self> {
        let (height, width) = model
            .fixed_size()
            .with_context(|| format!("the model `{}` takes no fixed size", model.name))?;
        let side = Dimension::Fixed(SIDE);
        let three = Dimension::Fixed(3);
        Ok(Self {
            sampler: Sampler::new(),
            unpacked: Vec::new(),
            tensor: Vec::new(),
            model: model.clone(),
            chip: (width, height),
            thumbnail: Input {
                name: String::new(),
                shape: [Dimension::Fixed(1), three, side.clone(), side],
                color: ColorOrder::Rgb,
                mean: [0.0; 3],
                scale: [1.0; 3],
                multiple: 1,
            },
        })
    }

    /// The sharpness of the face as the recogniser measures it, 0 for a face without extent.
    fn sharpness(&mut self, frame: &ReadFrame, face: &Face) -> Result<f64> {
        let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
        let alignment = self.model.alignment.as_ref();
        let Some(transform) = alignment.and_then(|a| to_source(&a.template, &landmarks)) else {
            return Ok(0.0);
        };
        let (width, height) = self.chip;
        self.tensor.resize(3 * width * height, 0.0);
        let rows = warp_rows(&transform, self.chip);
        let picture = Picture::new(frame, rows, &mut self.unpacked)?;
        self.sampler.warp(
            &picture,
            &transform,
            &self.model.input,
            &mut self.tensor,
            self.chip,
        );
        let green = &self.tensor[width * height..2 * width * height];
        Ok(quality::sharpness(green, width))
    }

    /// A square picture of a face and what is around it, moved into the frame where that goes.
    fn thumbnail(&mut self, frame: &ReadFrame, face: &Rect) -> Result<RgbImage> {
        let size = (SIDE as usize, SIDE as usize);
        let area = size.0 * size.1;
        let shown = surroundings(
            face,
            f64::from(frame.info().width()),
            f64::from(frame.info().height()),
        );
        let scale = shown.w / f64::from(SIDE);
        // From pixel indices of the thumbnail to those of the frame.
        let transform = Similarity {
            a: scale,
            b: 0.0,
            tx: shown.x + scale / 2.0 - 0.5,
            ty: shown.y + scale / 2.0 - 0.5,
        };
        self.tensor.resize(3 * area, 0.0);
        let rows = warp_rows(&transform, size);
        let picture = Picture::new(frame, rows, &mut self.unpacked)?;
        let tensor = &mut self.tensor[..3 * area];
        self.sampler
            .warp(&picture, &transform, &self.thumbnail, tensor, size);
        Ok(RgbImage::from_fn(SIDE, SIDE, |x, y| {
            let at = (y * SIDE + x) as usize;
            image::Rgb([0, 1, 2].map(|channel| tensor[channel * area + at].round() as u8))
        }))
    }
}

/// The square around a face that a thumbnail shows, within a frame of `width` and `height` as far as it
/// fits in.
fn surroundings(face: &Rect, width: f64, height: f64) -> Rect {
    let side = (face.w.max(face.h) * MARGIN).max(1.0);
    let center = face.center();
    let place = |center: f64, length: f64| match length > side {
        true => (center - side / 2.0).clamp(0.0, length - side),
        false => (length - side) / 2.0,
    };
    Rect::new(place(center.x, width), place(center.y, height), side, side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_square_of_a_thumbnail_stays_in_the_frame() {
        let shown = surroundings(&Rect::new(100.0, 50.0, 40.0, 50.0), 640.0, 360.0);
        assert_eq!(shown, Rect::new(80.0, 35.0, 80.0, 80.0));
        let corner = surroundings(&Rect::new(-10.0, 340.0, 40.0, 50.0), 640.0, 360.0);
        assert_eq!(corner, Rect::new(0.0, 280.0, 80.0, 80.0));
        let large = surroundings(&Rect::new(0.0, 0.0, 300.0, 400.0), 320.0, 1000.0);
        assert_eq!(large, Rect::new(-160.0, 0.0, 640.0, 640.0));
    }

    #[test]
    fn the_heaviest_embeddings_are_kept() {
        let mut kept = Vec::new();
        let embedded = |weight: f64| Embedded {
            embedding: Vec::new(),
            weight,
        };
        for i in 0..200 {
            keep_heaviest(&mut kept, embedded(f64::from(i % 100)));
        }
        assert_eq!(kept.len(), MOST_EMBEDDINGS);
        assert!(kept.iter().all(|e| e.weight >= 68.0));
    }

    #[test]
    fn a_thumbnail_shows_the_place_of_the_face() {
        gst::init().expect("GStreamer starts");
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 320, 240)
            .build()
            .expect("valid");
        let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
        {
            let buffer = buffer.get_mut().expect("not shared");
            let mut map = buffer.map_writable().expect("memory");
            // Red grows to the right and green downwards, by one a pixel; the rest is blue.
            for (y, row) in map.chunks_exact_mut(info.stride()[0] as usize).enumerate() {
                for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
                    pixel.copy_from_slice(&[x.min(255) as u8, y as u8, 7]);
                }
            }
        }
        let frame = frame::map(&buffer, &info).expect("mappable");
        let model = face_core::model::Model::find("sface").expect("set up");
        let mut eyes = Eyes::new(&model.descriptor).expect("a fixed size");
        let picture = eyes
            .thumbnail(&frame, &Rect::new(70.0, 50.0, 100.0, 100.0))
            .expect("readable");
        // 160 pixels around (120, 100), one to one.
        assert_eq!(picture.get_pixel(0, 0).0, [40, 20, 7]);
        assert_eq!(picture.get_pixel(159, 100).0, [199, 120, 7]);
    }
}
