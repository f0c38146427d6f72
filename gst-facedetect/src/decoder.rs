//! Decoders for the outputs of detection models: one interface, and one file per model family.

mod blazeface;
mod centerface;
pub mod heads;
mod retinaface;
mod scrfd;
mod yunet;

use face_core::Error;
use face_core::session::{Edit, Runner};
use face_meta::geometry::{Landmarks, Point, Rect};

/// A face that a model proposes, in pixels of the model's input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    pub rect: Rect,
    pub landmarks: Landmarks,
    /// 0..=1.
    pub confidence: f32,
}

impl Candidate {
    /// The same on an input of another size.
    pub fn scaled(&self, sx: f64, sy: f64) -> Self {
        Self {
            rect: self.rect.scaled(sx, sy),
            landmarks: self.landmarks.map(|p| Point::new(p.x * sx, p.y * sy)),
            confidence: self.confidence,
        }
    }

    /// Whether all numbers are finite.
    fn is_finite(&self) -> bool {
        self.confidence.is_finite()
            && self.rect.is_finite()
            && self
                .landmarks
                .iter()
                .all(|p| p.x.is_finite() && p.y.is_finite())
    }
}

/// Finds candidates in a model's outputs.
pub trait Decoder: Send + Sync {
    /// Appends the candidates with a confidence of at least `threshold` to `found`, before
    /// overlapping ones are suppressed. Fails if the outputs' shapes do not match the input's.
    fn decode(
        &self,
        runner: &Runner,
        threshold: f32,
        found: &mut Vec<Candidate>,
    ) -> Result<(), Error>;

    /// The edit that the model's graph needs before it is loaded.
    fn edit(&self) -> Option<Edit> {
        None
    }
}

/// The most candidates that are compared with each other; only the best are kept. The time grows
/// with the square of their number. (OpenCV's detector keeps as many.)
pub const MOST_CANDIDATES: usize = 5000;

/// Keeps the [`MOST_CANDIDATES`] most confident candidates.
pub fn keep_best(found: &mut Vec<Candidate>) {
    if found.len() > MOST_CANDIDATES {
        found.select_nth_unstable_by(MOST_CANDIDATES, |a, b| {
            b.confidence.total_cmp(&a.confidence)
        });
        found.truncate(MOST_CANDIDATES);
    }
}

/// The decoder with the name that a descriptor gives.
pub fn create(name: &str) -> Option<Box<dyn Decoder>> {
    match name {
        "yunet" => Some(Box::new(yunet::YuNet)),
        "centerface" => Some(Box::new(centerface::CenterFace)),
        "scrfd" => Some(Box::new(scrfd::Scrfd)),
        "retinaface" => Some(Box::new(retinaface::RetinaFace)),
        "blazeface" => Some(Box::new(blazeface::BlazeFace)),
        _ => None,
    }
}

/// The names that [`create`] knows.
pub const NAMES: &[&str] = &["yunet", "centerface", "scrfd", "retinaface", "blazeface"];

#[cfg(test)]
mod tests {
    use face_meta::geometry::Point;
    use proptest::prelude::*;

    use super::*;

    fn candidate(confidence: f32) -> Candidate {
        Candidate {
            rect: Rect::default(),
            landmarks: [Point::default(); 5],
            confidence,
        }
    }

    #[test]
    fn the_best_candidates_are_kept() {
        let all = 3 * MOST_CANDIDATES;
        // Shuffled: 7919 has no factor in common with their number.
        let confidence = |i: usize| (i * 7919 % all) as f32 / all as f32;
        let mut found: Vec<_> = (0..all).map(|i| candidate(confidence(i))).collect();
        keep_best(&mut found);
        assert_eq!(found.len(), MOST_CANDIDATES);
        assert!(found.iter().all(|c| c.confidence >= 2.0 / 3.0));
    }

    fn output() -> impl Strategy<Value = f32> {
        let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e30];
        prop_oneof![
            3 => -1.0f32..2.0,
            1 => proptest::sample::select(special.to_vec()),
            1 => proptest::num::f32::ANY,
        ]
    }

    fn outputs(length: usize) -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(output(), length)
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(512)
        })]

        #[test]
        fn any_outputs_give_finite_candidates(
            scores in outputs(12),
            objects in outputs(6),
            sizes in outputs(24),
            points in outputs(60),
            threshold in output(),
        ) {
            let mut found = Vec::new();
            let maps = centerface::Maps {
                heatmap: &scores[..6],
                size: &sizes[..12],
                offset: &sizes[12..],
                points: &points,
                columns: 3,
            };
            maps.decode(threshold, &mut found);
            let level = scrfd::Level {
                scores: &scores[..6],
                boxes: &sizes,
                points: &points,
                columns: 3,
                stride: 8,
            };
            level.decode(threshold, &mut found);
            let outputs = retinaface::Outputs {
                boxes: &sizes,
                scores: &scores,
                points: &points,
            };
            outputs.decode((64, 32), threshold, &mut found);
            let level = yunet::Level {
                scores: yunet::Scores::Probabilities,
                class: &scores[6..],
                object: &objects,
                boxes: yunet::Values::by_cell(&sizes, 4),
                points: yunet::Values::by_cell(&points, 10),
            };
            level.decode((3, 8), threshold, &mut found);
            let head: Vec<f32> = [scores, sizes, points].concat();
            yunet::Level::of_head(&head, 6).decode((3, 8), threshold, &mut found);
            for candidate in found {
                prop_assert!(candidate.is_finite());
                prop_assert!((0.0..=1.0).contains(&candidate.confidence), "{candidate:?}");
                let any = threshold.is_nan() || threshold > 1.0;
                prop_assert!(any || candidate.confidence >= threshold - 1e-3);
                prop_assert!(candidate.rect.w >= 0.0 && candidate.rect.h >= 0.0);
            }
        }
    }
}
