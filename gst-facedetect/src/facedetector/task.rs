//! What the element does with one frame.

use std::sync::Arc;

use face_core::Error;
use face_core::late::Share;
use face_core::stats::Work;
use face_meta::Face;

use super::imp::CAT;
use crate::detector::{Detector, Params};

/// The work on one frame.
pub struct Task {
    /// `None` if the frame is skipped.
    pub detector: Option<Arc<Detector>>,
    /// How much work the frame gets.
    pub share: Share,
    /// Whether it is this frame's turn.
    pub due: bool,
    /// Frames skipped since the last examined one, if any was examined.
    pub before: Option<u32>,
    pub info: gst_video::VideoInfo,
    pub params: Params,
}

impl Task {
    /// Detects the faces and adds them to the frame.
    pub fn run(
        &self,
        detector: &Detector,
        buffer: &mut gst::BufferRef,
        work: &mut Work,
    ) -> Result<(), Error> {
        let frame = face_core::frame::map(buffer, &self.info)?;
        let found = detector.detect(&frame, &self.params, work)?;
        drop(frame);
        gst::log!(CAT, "{} faces at {:?}", found.len(), buffer.pts());
        let size = (self.info.width(), self.info.height());
        attach(buffer, size, found, self.params.nms_threshold);
        Ok(())
    }

    /// Records whether the frame was examined, and its shape.
    pub fn mark(&self, buffer: &mut gst::BufferRef, examined: bool) {
        face_meta::set_examined(buffer, examined);
        if let Some(shape) = face_meta::Shape::of(&self.info) {
            face_meta::set_shape(buffer, &shape);
        }
    }
}

/// Adds the faces found. If another detector has found a face already, its missing fields are
/// filled in instead.
fn attach(buffer: &mut gst::BufferRef, size: (u32, u32), found: Vec<Face>, nms_threshold: f64) {
    let mut before = face_meta::claim(buffer);
    let mut completed = Vec::new();
    for face in found {
        let same = before
            .iter()
            .enumerate()
            .map(|(i, known)| (i, known.rect.iou(&face.rect)))
            .filter(|(_, iou)| *iou > nms_threshold)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        match same {
            Some((i, _)) => {
                let known = before.swap_remove(i);
                completed.push(Face {
                    landmarks: known.landmarks.or(face.landmarks),
                    pose: known.pose.or(face.pose),
                    confidence: known.confidence.or(face.confidence),
                    model: known.model.clone().or(face.model),
                    ..known
                });
            }
            None => {
                face_meta::add(buffer, size, &face);
            }
        }
    }
    face_meta::update(buffer, &completed);
}
