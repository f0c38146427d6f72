//! What the outputs of a detection model mean: one file a model family behind one interface.

mod centerface;
mod yunet;

use face_core::Error;
use face_core::geometry::{Landmarks, Rect};
use face_core::session::Runner;

/// A face that a model proposes, in pixels of the model's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub rect: Rect,
    pub landmarks: Landmarks,
    /// 0..=1.
    pub confidence: f32,
}

impl Candidate {
    /// Whether every number is one.
    fn is_finite(&self) -> bool {
        self.rect.is_finite()
            && self
                .landmarks
                .iter()
                .all(|p| p.x.is_finite() && p.y.is_finite())
    }
}

/// Reads candidates out of a model's outputs.
pub trait Decoder: Send + Sync {
    /// Appends the candidates of at least `threshold` confidence to `found`, before suppression of
    /// overlapping ones. Fails if the outputs do not have the shapes that belong to the input.
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error>;
}

/// The decoder that a descriptor names.
pub fn create(name: &str) -> Option<Box<dyn Decoder>> {
    match name {
        "yunet" => Some(Box::new(yunet::YuNet)),
        "centerface" => Some(Box::new(centerface::CenterFace)),
        _ => None,
    }
}

/// The names that [`create`] knows.
pub const NAMES: &[&str] = &["yunet", "centerface"];
