//! Recognises people by their faces.
//!
//! - this module: the gallery, its file and its search ([`Gallery`])
//! - [`vote`]: turns neighbours into a name, and is the only place that does
//! - [`rivals`]: names several faces at once, each person only once
//! - [`evidence`]: the votes over a track and its heaviest embeddings
//! - [`quality`]: the weight of an embedding
//! - [`edit`]: changes to galleries
//! - [`group`]: groups embeddings by person, without a gallery
//! - [`verify`]: finds doubtful entries in a gallery
//! - [`watch`]: shares galleries between users and watches their files

pub mod edit;
pub mod evidence;
mod gallery;
pub mod group;
pub mod quality;
pub mod rivals;
pub mod verify;
pub mod vote;

pub use gallery::*;
