//! Finds faces in a mapped frame: letterbox, run, decode, suppress.

use std::sync::Arc;
use std::time::Duration;

use face_core::Error;
use face_core::image::{Picture, PixelShape, ReadFrame, Sampler};
use face_core::model::{Dimension, MOST_INPUT_PIXELS, Model, Task};
use face_core::session::{self, Options, Place, Runner, SharedSession};
use face_core::stats::Work;
use face_core::turns::Asker;
use face_meta::geometry::{Rect, non_maximum_suppression};
use face_meta::{Face, Pose};
use parking_lot::Mutex;

use crate::close_up;
use crate::decoder::{self, Candidate, Decoder};

/// Parameters that may change from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// `None` uses the model's own default.
    pub confidence_threshold: Option<f64>,
    /// If two boxes overlap more than this (IoU), the less confident one is dropped.
    pub nms_threshold: f64,
    /// The longest side of the model's input, in pixels; 0 = the frame's own, or the largest that is
    /// allowed.
    pub inference_size: u32,
    /// Keep only this many faces, the most confident ones; 0 = all.
    pub max_faces: u32,
    /// Faces whose shorter side has fewer pixels of the frame are dropped.
    pub min_face_size: u32,
}

/// The confidence threshold if neither property nor descriptor sets one.
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

/// A detection model. Any number of threads may detect at the same time.
pub struct Detector {
    session: Arc<SharedSession>,
    decoder: Box<dyn Decoder>,
    /// The lanes that no thread is using.
    lanes: Mutex<Vec<Lane>>,
    asker: Asker,
}

/// The buffers that one detection needs.
struct Lane {
    runner: Runner,
    /// For the small copy of a frame, if one is looked at.
    close_up: Option<Runner>,
    sampler: Sampler,
    unpacked: Vec<u8>,
    candidates: Vec<Candidate>,
    /// Those of the small copy.
    close: Vec<Candidate>,
}

impl Lane {
    fn new(session: &Arc<SharedSession>, shape: [usize; 4]) -> Result<Self, Error> {
        Ok(Self {
            runner: Runner::new(session, shape)?,
            close_up: None,
            sampler: Sampler::new(),
            unpacked: Vec::new(),
            candidates: Vec::new(),
            close: Vec::new(),
        })
    }
}

/// The smallest input, in multiples of what the model allows. It is tried when a model is loaded.
const PROBE: u32 = 2;

impl Detector {
    /// Loads `model` (name or path) and checks that its outputs fit its decoder.
    pub fn new(model: &str, options: &Options) -> Result<Self, Error> {
        let model = Model::find(model)?;
        model.expect_task(Task::Detection)?;
        let Some(decoder) = decoder::create(&model.descriptor.decoder) else {
            return Err(Error::invalid(
                model.weights.with_extension("json"),
                format!(
                    "no detection decoder `{}`; the available ones are {}",
                    model.descriptor.decoder,
                    decoder::NAMES.join(", ")
                ),
            ));
        };
        let options = Options {
            edit: decoder.edit(),
            ..options.clone()
        };
        let session = session::load(&model, &options)?;
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

    /// The confidence threshold that applies.
    pub fn confidence_threshold(&self, params: &Params) -> f64 {
        params
            .confidence_threshold
            .or(self.session.descriptor.confidence_threshold)
            .unwrap_or(CONFIDENCE_THRESHOLD)
    }

    /// Gets a place for this thread to detect; see [`SharedSession::place`].
    pub fn place(&self, patience: Option<Duration>) -> Option<Place> {
        self.session.place(&self.asker, patience)
    }

    /// Finds the faces of a frame. Returns the most confident first, in pixels of the frame.
    pub fn detect(
        &self,
        frame: &ReadFrame,
        params: &Params,
        work: &mut Work,
    ) -> Result<Vec<Face>, Error> {
        let free = self.lanes.lock().pop();
        let mut lane = match free {
            Some(lane) => lane,
            None => Lane::new(&self.session, self.shape(frame, params).1)?,
        };
        let faces = self.detect_in(&mut lane, frame, params, work)?;
        self.lanes.lock().push(lane);
        Ok(faces)
    }

    /// The size that a frame is given to the model in, and the shape of the input around it.
    fn shape(&self, frame: &ReadFrame, params: &Params) -> ((usize, usize), [usize; 4]) {
        let limit = match (self.session.descriptor.fixed_size(), params.inference_size) {
            (Some((height, width)), _) => Some((width, height)),
            (None, 0) => None,
            (None, size) => Some((size as usize, size as usize)),
        };
        self.shape_within(frame, limit)
    }

    /// The same, within a limit on width and height; `None` is the size of the frame itself. Never more
    /// than [`MOST_INPUT_PIXELS`].
    fn shape_within(
        &self,
        frame: &ReadFrame,
        limit: Option<(usize, usize)>,
    ) -> ((usize, usize), [usize; 4]) {
        let frame_size = square_size(frame.info());
        let input = |content: (usize, usize)| tensor_size(&self.session, (content.1, content.0));
        let content = within(MOST_INPUT_PIXELS, frame_size, limit, input);
        let (height, width) = input(content);
        (content, [1, 3, height, width])
    }

    /// The size in which frames are given to the model if their own, which `inference_size` = 0 asks for,
    /// is too large.
    pub fn reduced(&self, info: &gst_video::VideoInfo, params: &Params) -> Option<(usize, usize)> {
        if params.inference_size != 0 || self.session.descriptor.fixed_size().is_some() {
            return None;
        }
        let size = square_size(info);
        let input = |content: (usize, usize)| tensor_size(&self.session, (content.1, content.0));
        let content = within(MOST_INPUT_PIXELS, size, None, input);
        (content != size).then_some(content)
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
        let threshold = self.confidence_threshold(params) as f32;
        lane.candidates.clear();
        let mut look = |runner: &mut Runner, content, found: &mut Vec<Candidate>| {
            let [_, _, height, width] = runner.shape();
            let input = &self.session.descriptor.input;
            work.sample(|| {
                let size = (width, height);
                lane.sampler
                    .letterbox(&picture, content, input, runner.input(), size);
            });
            work.infer(runner)?;
            self.decoder.decode(runner, threshold, found)
        };
        look(&mut lane.runner, content, &mut lane.candidates)?;
        let free_size = self.session.descriptor.fixed_size().is_none();
        if free_size && content.0.max(content.1) > close_up::FROM {
            let limit = (close_up::SIDE, close_up::SIDE);
            let (small, shape) = self.shape_within(frame, Some(limit));
            let runner = match lane.close_up.take().filter(|r| r.shape() == shape) {
                Some(runner) => lane.close_up.insert(runner),
                None => lane.close_up.insert(Runner::new(&self.session, shape)?),
            };
            lane.close.clear();
            look(runner, small, &mut lane.close)?;
            let (sx, sy) = factors(content, small);
            for candidate in &mut lane.close {
                *candidate = candidate.scaled(sx, sy);
            }
            close_up::merge(&mut lane.candidates, &lane.close, params.nms_threshold);
        }
        decoder::keep_best(&mut lane.candidates);
        let (sx, sy) = factors(frame_size, content);
        for candidate in &mut lane.candidates {
            *candidate = candidate.scaled(sx, sy);
        }
        let pixels = PixelShape::of(frame.info());
        let faces = self.select(&lane.candidates, frame_size, pixels, params);
        work.faces += faces.len() as u64;
        Ok(faces)
    }

    /// The faces to report, of candidates in pixels of the frame.
    fn select(
        &self,
        candidates: &[Candidate],
        frame: (usize, usize),
        pixels: PixelShape,
        params: &Params,
    ) -> Vec<Face> {
        let boxes: Vec<Rect> = candidates.iter().map(|c| c.rect).collect();
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
                landmarks: Some(candidates[i].landmarks),
                pose: Pose::of(&pixels.landmarks(&candidates[i].landmarks)),
                confidence: Some(f64::from(candidates[i].confidence)),
                model: Some(self.session.descriptor.name.clone()),
                ..Default::default()
            })
            .collect()
    }
}

/// How much larger `size` is than `of`, across and down.
fn factors(size: (usize, usize), of: (usize, usize)) -> (f64, f64) {
    (size.0 as f64 / of.0 as f64, size.1 as f64 / of.1 as f64)
}

/// The size of a frame in square pixels, which models see.
fn square_size(info: &gst_video::VideoInfo) -> (usize, usize) {
    PixelShape::of(info).size((info.width() as usize, info.height() as usize))
}

/// The size of a picture in the model's input, within a limit on width and height. It is reduced further
/// until `input`, which maps it to height and width of the tensor around it, has at most `most` pixels.
fn within(
    most: usize,
    picture: (usize, usize),
    limit: Option<(usize, usize)>,
    input: impl Fn((usize, usize)) -> (usize, usize),
) -> (usize, usize) {
    let mut content = fit(picture, limit.unwrap_or(picture));
    loop {
        let (height, width) = input(content);
        let pixels = height.saturating_mul(width);
        let longest = content.0.max(content.1);
        if pixels <= most || longest == 1 {
            return content;
        }
        let shrunk = longest as f64 * (most as f64 / pixels as f64).sqrt();
        let side = (shrunk as usize).clamp(1, longest - 1);
        content = fit(picture, (side, side));
    }
}

/// The size of a picture in the model's input. It keeps its proportions, fits into `limit` and is
/// never enlarged.
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

    #[test]
    fn an_input_has_no_more_pixels_than_are_allowed() {
        let input = |(w, h): (usize, usize)| (h.next_multiple_of(32), w.next_multiple_of(32));
        let within = |picture| within(MOST_INPUT_PIXELS, picture, None, input);
        assert_eq!(within((1920, 1080)), (1920, 1080));
        for picture in [(8660, 5774), (5774, 8660), (100_000, 100_000), (1, 1 << 30)] {
            let content = within(picture);
            let (height, width) = input(content);
            assert!(height * width <= MOST_INPUT_PIXELS, "{picture:?}");
            if picture.0.min(picture.1) > 1 {
                assert!(height * width > MOST_INPUT_PIXELS * 9 / 10, "{content:?}");
                let ratio = |(w, h): (usize, usize)| w as f64 / h as f64;
                assert!((ratio(content) / ratio(picture) - 1.0).abs() < 1e-3);
            }
        }
    }
}
