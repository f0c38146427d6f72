//! Measures the quality of a result against manual labels.

mod compare;
pub mod confusion;
pub mod cvat;
pub mod hota;
mod identity;
mod input;
pub mod measures;
pub mod mot;
pub mod score;
pub mod truth;

pub use compare::{Comparison, compare};
