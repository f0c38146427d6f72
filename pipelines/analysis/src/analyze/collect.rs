//! Collects the embeddings and the best picture of each track while the frames pass.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use face_core::align::{landmarks_in, transform};
use face_core::frame;
use face_core::image::{Picture, PixelShape, ReadFrame, Sampler, warp_rows};
use face_core::model::{ColorOrder, Descriptor, Dimension, Input};
use face_gallery::evidence::{Embedded, Heaviest};
use face_gallery::quality;
use face_meta::Face;
use face_meta::geometry::{Rect, Similarity};
use face_meta::track::TrackEnded;
use gst::prelude::*;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use parking_lot::Mutex;

/// How many embeddings to keep per track: the heaviest.
const MOST_EMBEDDINGS: usize = 64;

/// The side of a thumbnail, in pixels.
const SIDE: u32 = 160;
/// The side of a thumbnail's area, relative to the side of the face's box.
const MARGIN: f64 = 1.6;
/// JPEG quality, 1 to 100.
const QUALITY: u8 = 85;

/// The collected data of an input.
#[derive(Default)]
pub struct Collection {
    pub embeddings: BTreeMap<u64, Heaviest>,
    /// The pictures of the tracks, relative to the input's folder. A track may have none.
    pub thumbnails: BTreeMap<u64, String>,
}

impl Collection {
    pub fn embeddings_of(&self, track: u64) -> &[Embedded] {
        self.embeddings.get(&track).map_or(&[], Heaviest::as_slice)
    }
}

/// Collects data from the frames on a pad.
pub struct Collector {
    eyes: Eyes,
    /// The input's folder.
    folder: PathBuf,
    /// The best picture so far of each live track, with its score.
    live: HashMap<u64, (f64, RgbImage)>,
    found: Collection,
    error: Option<anyhow::Error>,
}

impl Collector {
    /// Writes thumbnails below `folder`. `model` is the recogniser's.
    pub fn new(model: &Descriptor, folder: &Path) -> Result<Self> {
        let thumbnails = folder.join("thumbnails");
        fs::create_dir(&thumbnails)
            .with_context(|| format!("{} cannot be created", thumbnails.display()))?;
        Ok(Self {
            eyes: Eyes::new(model)?,
            folder: folder.to_owned(),
            live: HashMap::new(),
            found: Collection::default(),
            error: None,
        })
    }

    /// Makes the collector inspect the frames that pass `pad`.
    pub fn watch(self, pad: &gst::Pad) -> Collecting {
        let shared = Collecting(Arc::new(Mutex::new(self)));
        let watched = Collecting(shared.0.clone());
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(mask, move |pad, info| {
            if let Some(buffer) = info.buffer() {
                watched.0.lock().frame(pad, buffer);
            } else if let Some(ended) = info.event().and_then(TrackEnded::from_event) {
                watched.0.lock().end(ended.id);
            }
            gst::PadProbeReturn::Ok
        });
        shared
    }

    fn frame(&mut self, pad: &gst::Pad, buffer: &gst::BufferRef) {
        if self.error.is_some() {
            return;
        }
        let faces = face_meta::read(buffer);
        if let Err(error) = self.faces(pad, buffer, faces) {
            self.error = Some(error);
        }
    }

    fn faces(&mut self, pad: &gst::Pad, buffer: &gst::BufferRef, faces: Vec<Face>) -> Result<()> {
        let (mut info, mut mapped) = (None, None);
        for mut face in faces.into_iter().filter(|f| !f.is_predicted()) {
            let Some(id) = face.track.map(|t| t.id) else {
                continue;
            };
            let embedding = face.embedding.take();
            let known = embedding.as_ref().and_then(|embedding| embedding.weight);
            if let Some(embedding) = embedding {
                let new = || Heaviest::new(MOST_EMBEDDINGS);
                let kept = self.found.embeddings.entry(id).or_insert_with(new);
                kept.add(Embedded::from(embedding));
            }
            let best = self.live.get(&id).map_or(0.0, |(score, _)| *score);
            let info = match &info {
                Some(info) => info,
                None => info.insert(video_info(pad)?),
            };
            let pixels = PixelShape::of(info);
            let most = known.unwrap_or_else(|| weight(&face, pixels, f64::MAX));
            if score(&face, most) <= best {
                continue;
            }
            let frame = match &mapped {
                Some(frame) => frame,
                None => mapped.insert(frame::map(buffer, info)?),
            };
            let weight = match known {
                Some(weight) => weight,
                None => weight(&face, pixels, self.eyes.sharpness(frame, &face)?),
            };
            let score = score(&face, weight);
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

/// A running collector.
pub struct Collecting(Arc<Mutex<Collector>>);

impl Collecting {
    /// Returns the collected data, once no more frames arrive.
    pub fn finish(&self) -> Result<Collection> {
        let mut collector = self.0.lock();
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

fn video_info(pad: &gst::Pad) -> Result<gst_video::VideoInfo> {
    let caps = pad.current_caps().context("a frame came before its caps")?;
    Ok(gst_video::VideoInfo::from_caps(&caps)?)
}

/// The weight that an embedding of the face would have.
fn weight(face: &Face, pixels: PixelShape, sharpness: f64) -> f64 {
    let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
    quality::weight(
        &pixels.landmarks(&landmarks),
        face.confidence.unwrap_or(1.0),
        sharpness,
    )
}

/// The quality of a picture of the face, 0 to 1. It combines the weight of its embedding and its
/// size, up to the size of a thumbnail.
fn score(face: &Face, weight: f64) -> f64 {
    let pixels = face.rect.w.max(face.rect.h) * MARGIN / f64::from(SIDE);
    weight * pixels.clamp(0.0, 1.0)
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
    /// The size of the model's chips: width, height.
    chip: (usize, usize),
    thumbnail: Input,
}

impl Eyes {
    fn new(model: &Descriptor) -> Result<Self> {
        let (height, width) = model
            .fixed_size()
            .with_context(|| format!("the model `{}` has no fixed input size", model.name))?;
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
                normalization: Default::default(),
            },
        })
    }

    /// The sharpness of the face as measured by the recogniser; 0 for a face without extent.
    fn sharpness(&mut self, frame: &ReadFrame, face: &Face) -> Result<f64> {
        let pixels = PixelShape::of(frame.info());
        let alignment = self.model.alignment.as_ref();
        let Some(transform) = alignment.and_then(|a| transform(a, face, pixels, self.chip)) else {
            return Ok(0.0);
        };
        let (width, height) = self.chip;
        self.tensor.resize(3 * width * height, 0.0);
        let rows = warp_rows(&transform, self.chip, pixels);
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

    /// A square picture of a face and its surroundings, shifted into the frame where possible.
    fn thumbnail(&mut self, frame: &ReadFrame, face: &Rect) -> Result<RgbImage> {
        let size = (SIDE as usize, SIDE as usize);
        let area = size.0 * size.1;
        let pixels = PixelShape::of(frame.info());
        let (width, height) = pixels.size((frame.width() as usize, frame.height() as usize));
        let shown = surroundings(&pixels.rect(face), width as f64, height as f64);
        let scale = shown.w / f64::from(SIDE);
        // Maps pixel indices of the thumbnail to those of the frame, in square pixels.
        let transform = Similarity {
            a: scale,
            b: 0.0,
            tx: shown.x + scale / 2.0 - 0.5,
            ty: shown.y + scale / 2.0 - 0.5,
        };
        self.tensor.resize(3 * area, 0.0);
        let rows = warp_rows(&transform, size, pixels);
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

/// The square around a face for its thumbnail, shifted into a frame of `width` and `height` if it
/// fits.
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
    fn a_thumbnail_shows_the_place_of_the_face() {
        gst::init().expect("GStreamer starts");
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 320, 240)
            .build()
            .expect("valid");
        let mut buffer = gst::Buffer::with_size(info.size()).expect("memory");
        {
            let buffer = buffer.get_mut().expect("not shared");
            let mut map = buffer.map_writable().expect("memory");
            // Red grows to the right and green downwards, by one per pixel; the rest is blue.
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
        // 160 pixels around (120, 100), at scale 1.
        assert_eq!(picture.get_pixel(0, 0).0, [40, 20, 7]);
        assert_eq!(picture.get_pixel(159, 100).0, [199, 120, 7]);
    }
}
