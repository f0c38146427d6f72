//! From a mapped frame to faces: letterbox, run, decode, suppress.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use face_core::Error;
use face_core::geometry::{Point, Rect, non_maximum_suppression};
use face_core::image::{Picture, ReadFrame, Sampler};
use face_core::meta::Face;
use face_core::model::{Dimension, Model, Task};
use face_core::session::{self, Options, Place, Runner, SharedSession};
use face_core::stats::Work;
use face_core::turns::Asker;

use crate::decoder::{self, Candidate, Decoder};

/// What may change from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// The model's own default where `None`.
    pub confidence_threshold: Option<f64>,
    /// Of two boxes that overlap more (IoU), the less confident one is dropped.
    pub nms_threshold: f64,
    /// The longest side given to the model, in pixels; 0 = the frame's own.
    pub inference_size: u32,
    /// The most confident faces that are kept; 0 = all.
    pub max_faces: u32,
    /// Faces whose shorter side has fewer pixels of the frame are dropped.
    pub min_face_size: u32,
}

/// The confidence threshold where neither property nor descriptor sets one.
pub const CONFIDENCE_THRESHOLD: f64 = 0.7;

impl Default for Params {
    fn default() -> Self {
        Self {
            confidence_threshold: None,
            nms_threshold: 0.3,
            inference_size: 640,
            max_faces: 0,
            min_face_size: 0,
        }
    }
}

/// A detection model. Any number of threads may detect at a time.
pub struct Detector {
    session: Arc<SharedSession>,
    decoder: Box<dyn Decoder>,
    /// Those that no thread uses at the moment.
    lanes: Mutex<Vec<Lane>>,
    asker: Asker,
}

/// The buffers that one detection needs.
struct Lane {
    runner: Runner,
    sampler: Sampler,
    unpacked: Vec<u8>,
    candidates: Vec<Candidate>,
}

impl Lane {
    fn new(session: &Arc<SharedSession>, shape: [usize; 4]) -> Result<Self, Error> {
        Ok(Self {
            runner: Runner::new(session, shape)?,
            sampler: Sampler::new(),
            unpacked: Vec::new(),
            candidates: Vec::new(),
        })
    }
}

/// The smallest input that is tried when a model is loaded, in multiples of what it allows.
const PROBE: u32 = 2;

impl Detector {
    /// Loads `model` (name or path) and makes sure that its outputs fit its decoder.
    pub fn new(model: &str, options: &Options) -> Result<Self, Error> {
        let model = Model::find(model)?;
        model.expect_task(Task::Detection)?;
        let Some(decoder) = decoder::create(&model.descriptor.decoder) else {
            return Err(Error::invalid(
                model.weights.with_extension("json"),
                format!(
                    "no detection decoder `{}`; there are {}",
                    model.descriptor.decoder,
                    decoder::NAMES.join(", ")
                ),
            ));
        };
        let session = session::load(&model, options)?;
        let probe = (model.descriptor.input.multiple * PROBE) as usize;
        let (height, width) = tensor_size(&session, (probe, probe));
        let mut lane = Lane::new(&session, [1, 3, height, width])?;
        decoder.decode(&lane.runner, 1.0, &mut lane.candidates)?;
        Ok(Self {
            session,
            decoder,
            lanes: Mutex::new(vec![lane]),
            asker: Asker::detection(),
        })
    }

    fn lanes(&self) -> std::sync::MutexGuard<'_, Vec<Lane>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threshold that applies.
    pub fn confidence_threshold(&self, params: &Params) -> f64 {
        params
            .confidence_threshold
            .or(self.session.descriptor.confidence_threshold)
            .unwrap_or(CONFIDENCE_THRESHOLD)
    }

    /// A place for this thread to detect; see [`SharedSession::place`].
    pub fn place(&self, patience: Option<Duration>) -> Option<Place> {
        self.session.place(&self.asker, patience)
    }

    /// The faces of a frame, the most confident first, in pixels of the frame.
    pub fn detect(
        &self,
        frame: &ReadFrame,
        params: &Params,
        work: &mut Work,
    ) -> Result<Vec<Face>, Error> {
        let free = self.lanes().pop();
        let mut lane = match free {
            Some(lane) => lane,
            None => Lane::new(&self.session, self.shape(frame, params).1)?,
        };
        let faces = self.detect_in(&mut lane, frame, params, work)?;
        self.lanes().push(lane);
        Ok(faces)
    }

    /// The size that a frame is given to the model in, and the shape of the input around it.
    fn shape(&self, frame: &ReadFrame, params: &Params) -> ((usize, usize), [usize; 4]) {
        let frame_size = (frame.width() as usize, frame.height() as usize);
        let limit = match self.session.descriptor.fixed_size() {
            Some((height, width)) => (width, height),
            None => match params.inference_size as usize {
                0 => frame_size,
                size => (size, size),
            },
        };
        let content = fit(frame_size, limit);
        let (height, width) = tensor_size(&self.session, (content.1, content.0));
        (content, [1, 3, height, width])
    }

    fn detect_in(
        &self,
        lane: &mut Lane,
        frame: &ReadFrame,
        params: &Params,
        work: &mut Work,
    ) -> Result<Vec<Face>, Error> {
        let picture = work.sample(|| Picture::new(frame, 0..usize::MAX, &mut lane.unpacked))?;
        let frame_size = (picture.width(), picture.height());
        let (content, shape) = self.shape(frame, params);
        if lane.runner.shape() != shape {
            lane.runner = Runner::new(&self.session, shape)?;
        }
        let [_, _, height, width] = shape;
        work.sample(|| {
            lane.sampler.letterbox(
                &picture,
                content,
                &self.session.descriptor.input,
                lane.runner.input(),
                (width, height),
            )
        });
        work.infer(&mut lane.runner)?;
        lane.candidates.clear();
        let threshold = self.confidence_threshold(params) as f32;
        self.decoder
            .decode(&lane.runner, threshold, &mut lane.candidates)?;
        decoder::keep_best(&mut lane.candidates);
        let scale = (
            frame_size.0 as f64 / content.0 as f64,
            frame_size.1 as f64 / content.1 as f64,
        );
        let faces = self.select(&lane.candidates, scale, frame_size, params);
        work.faces += faces.len() as u64;
        Ok(faces)
    }

    fn select(
        &self,
        candidates: &[Candidate],
        (sx, sy): (f64, f64),
        frame: (usize, usize),
        params: &Params,
    ) -> Vec<Face> {
        let boxes: Vec<Rect> = candidates.iter().map(|c| c.rect.scaled(sx, sy)).collect();
        let scores: Vec<f32> = candidates.iter().map(|c| c.confidence).collect();
        let inside = Rect::new(0.0, 0.0, frame.0 as f64, frame.1 as f64);
        let most = if params.max_faces == 0 {
            usize::MAX
        } else {
            params.max_faces as usize
        };
        non_maximum_suppression(&boxes, &scores, params.nms_threshold)
            .into_iter()
            .filter(|&i| {
                boxes[i].w.min(boxes[i].h) >= f64::from(params.min_face_size)
                    && boxes[i].intersection(&inside).area() > 0.0
            })
            .take(most)
            .map(|i| Face {
                rect: boxes[i],
                landmarks: Some(
                    candidates[i]
                        .landmarks
                        .map(|p| Point::new(p.x * sx, p.y * sy)),
                ),
                confidence: Some(f64::from(candidates[i].confidence)),
                model: Some(self.session.descriptor.name.clone()),
                ..Default::default()
            })
            .collect()
    }
}

/// The size that a picture is given to the model in: it keeps its proportions, fits into `limit`
/// and is never made larger.
fn fit(picture: (usize, usize), limit: (usize, usize)) -> (usize, usize) {
    let ratio = |limit: usize, size: usize| limit as f64 / size.max(1) as f64;
    let scale = ratio(limit.0, picture.0)
        .min(ratio(limit.1, picture.1))
        .min(1.0);
    let scaled = |size: usize| ((size as f64 * scale).round() as usize).max(1);
    (scaled(picture.0), scaled(picture.1))
}

/// Height and width of the tensor that holds `content` (height, width).
fn tensor_size(session: &SharedSession, content: (usize, usize)) -> (usize, usize) {
    let input = &session.descriptor.input;
    let size = |dimension: &Dimension, content: usize| match dimension {
        Dimension::Fixed(size) => *size as usize,
        Dimension::Symbol(_) => content.next_multiple_of(input.multiple as usize),
    };
    (
        size(&input.shape[2], content.0),
        size(&input.shape[3], content.1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_keep_their_proportions_and_are_never_enlarged() {
        assert_eq!(fit((1920, 1080), (640, 640)), (640, 360));
        assert_eq!(fit((1080, 1920), (640, 640)), (360, 640));
        assert_eq!(fit((320, 240), (640, 640)), (320, 240));
        assert_eq!(fit((1, 8000), (640, 640)), (1, 640));
        assert_eq!(fit((1280, 886), (640, 640)), (640, 443));
        assert_eq!(fit((1920, 1080), (320, 320)), (320, 180));
    }
}
