//! Finds who was on screen with whom.

use crate::record::{Together, TrackSummary};

/// The pairs of people on screen at the same time, longest together first. People are told apart by
/// the tracks' `person`.
pub fn together(_tracks: &[TrackSummary]) -> Vec<Together> {
    Vec::new()
}
