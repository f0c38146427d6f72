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
        self.confidence.is_finite()
            && self.rect.is_finite()
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

/// The most candidates that are compared with each other, which takes time with the square of their
/// number: the best ones. (OpenCV's detector keeps as many.)
pub const MOST_CANDIDATES: usize = 5000;

/// Drops the least confident of more than [`MOST_CANDIDATES`].
pub fn keep_best(found: &mut Vec<Candidate>) {
    if found.len() > MOST_CANDIDATES {
        found.select_nth_unstable_by(MOST_CANDIDATES, |a, b| {
            b.confidence.total_cmp(&a.confidence)
        });
        found.truncate(MOST_CANDIDATES);
    }
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

#[cfg(test)]
mod tests {
    use face_core::geometry::Point;
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
