//! Shared code of the targets.

use face_analysis::evaluate::truth;

/// Checks what must hold for all labels, whatever the file said.
pub fn check(truth: &truth::Truth) {
    assert!(truth.step > 0 && truth.end <= truth::LAST_FRAME);
    let mut sweep = truth.sweep();
    let mut labels = Vec::new();
    for frame in [0, 1, truth.first, truth.end, truth::LAST_FRAME, u64::MAX] {
        truth.covers(frame);
    }
    let near = truth.first.saturating_add(20).min(truth.end);
    for frame in (truth.first..=near).chain([truth.end]) {
        sweep.at(frame, &mut labels);
        for label in &labels {
            assert!(label.rect.is_finite(), "{label:?}");
            assert!(label.person < truth.people.len());
        }
    }
}
