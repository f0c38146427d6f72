//! Recognises people by their faces.
//!
//! - this module: the gallery, its file and its search ([`Gallery`])
//! - [`archive`]: where somebody was seen, among millions of tracks
//! - [`vote`]: turns neighbours into a name, and is the only place that does
//! - [`confidence`]: how likely a name is to be right
//! - [`rivals`]: names several faces at once, each person only once
//! - [`evidence`]: what is known of a track, in one embedding
//! - [`quality`]: the weight of an embedding
//! - [`edit`]: changes to galleries
//! - [`group`]: groups embeddings by person, without a gallery
//! - [`verify`]: finds doubtful entries in a gallery
//! - [`watch`]: shares galleries between users and watches their files

pub mod archive;
pub mod confidence;
pub mod edit;
pub mod evidence;
mod gallery;
pub mod group;
mod normal;
pub mod quality;
pub mod rivals;
pub mod verify;
pub mod vote;

pub use gallery::*;
