//! The interface of all trackers.
//!
//! Times are nanoseconds on any one clock. Motion is measured per frame, as in the papers: one call
//! of [`Tracker::step`] is one frame.

use crate::bytetrack::ByteTrack;
use crate::iou::Iou;
use crate::ocsort::OcSort;
use crate::sight::{Blind, Eyes};
use face_meta::geometry::Rect;

#[cfg(test)]
mod appearance;
#[cfg(test)]
mod painted;
pub(crate) mod pairs;
pub(crate) mod place;
#[cfg(test)]
mod properties;
#[cfg(test)]
pub(crate) mod tests;
mod tracks;

pub(crate) use tracks::{Track, TrackSet};

/// The most detections per frame that are tracked; later ones are ignored. The time of an
/// association grows with the square of their number.
pub const MOST_DETECTIONS: usize = 1000;
/// The most live tracks. Beyond it, tracks that went undetected longest end.
pub const MOST_TRACKS: usize = 2000;

/// A face found in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Detection {
    /// In pixels.
    pub rect: Rect,
    /// 0..=1.
    pub confidence: f64,
}

/// A frame, as trackers see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scene<'a> {
    /// Only the first [`MOST_DETECTIONS`] with a finite, non-empty box count.
    pub detections: &'a [Detection],
    /// False for a frame that no detector examined. Such a frame has no detections, and that does not
    /// count as a miss.
    pub examined: bool,
    /// In ns.
    pub time: u64,
    /// Width and height in pixels, if known: a face that was lost is not predicted outside.
    pub size: Option<(f64, f64)>,
}

/// The result of a step for one face.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tracked {
    pub id: u64,
    /// The detection's own box, or the predicted one.
    pub rect: Rect,
    /// Presentation time of the frame on which the face was first detected, in ns.
    pub first_seen: u64,
    /// Index into the step's detections; `None` if the box is predicted.
    pub detection: Option<usize>,
}

/// A track that has ended. Its id is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub id: u64,
    /// Presentation times of the first and the last frame on which the face was detected, in ns.
    /// Always in order, even if time ran backwards in between.
    pub first_seen: u64,
    pub last_seen: u64,
}

impl Ended {
    pub(crate) fn new(id: u64, first_seen: u64, last_seen: u64) -> Self {
        Self {
            id,
            first_seen,
            last_seen: last_seen.max(first_seen),
        }
    }
}

/// The result of a step.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    /// Detected faces in the order of the detections, then predicted ones.
    pub tracked: Vec<Tracked>,
    pub ended: Vec<Ended>,
}

/// Parameters, which may change from step to step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Params {
    /// For [`Algorithm::Iou`]: the least overlap (IoU) of a face's boxes in consecutive frames,
    /// 0..1.
    pub iou_threshold: f64,
    /// How long a face may go undetected before its track ends, in ns.
    pub max_lost: u64,
    /// How long a face that is no longer found is still reported at predicted positions, in ns.
    pub max_predicted: u64,
    /// Which faces are compared by what they look like.
    pub appearance: Appearance,
}

/// When faces are compared by what they look like, if the tracker can see them.
/// [`Algorithm::Iou`] never compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Appearance {
    /// Where their places leave a doubt.
    #[default]
    Auto,
    None,
    /// On every frame.
    Always,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            iou_threshold: 0.5,
            max_lost: 3_000_000_000,
            max_predicted: 250_000_000,
            appearance: Appearance::default(),
        }
    }
}

/// Gives the faces of a video ids that stay the same. Deterministic.
pub trait Tracker: Send {
    /// Processes the next frame. Of detections that sit on one face the most
    /// confident counts. Each that counts appears once in the result (except with
    /// [`Algorithm::ByteTrack`]), and no two boxes of the result sit on one face.
    ///
    /// `eyes` see this frame.
    fn follow(&mut self, scene: &Scene, params: &Params, eyes: &mut dyn Eyes) -> Step;

    /// [`follow`](Self::follow) without seeing the frame or knowing its size.
    fn step(
        &mut self,
        detections: &[Detection],
        examined: bool,
        time: u64,
        params: &Params,
    ) -> Step {
        let scene = Scene {
            detections,
            examined,
            time,
            size: None,
        };
        self.follow(&scene, params, &mut Blind)
    }

    /// Ends all tracks. For a flush, the end of the stream or a discontinuity.
    fn finish(&mut self) -> Vec<Ended>;

    /// The number of live tracks.
    fn live(&self) -> usize;

    /// The id of the next new face, for handing over to another tracker.
    fn next_id(&self) -> u64;
}

/// How faces are matched from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Algorithm {
    #[default]
    OcSort,
    /// Does not report detections of low confidence that match no track.
    ByteTrack,
    Iou,
}

/// A tracker without tracks. `next_id` is its first id: 1, or the previous tracker's
/// [`Tracker::next_id`].
pub fn create(algorithm: Algorithm, next_id: u64) -> Box<dyn Tracker> {
    let next_id = next_id.max(1);
    match algorithm {
        Algorithm::OcSort => Box::new(OcSort::new(next_id)),
        Algorithm::ByteTrack => Box::new(ByteTrack::new(next_id)),
        Algorithm::Iou => Box::new(Iou::new(next_id)),
    }
}

/// Whether a box can be tracked.
pub(crate) fn is_usable(rect: &Rect) -> bool {
    rect.is_finite() && rect.w > 0.0 && rect.h > 0.0
}
