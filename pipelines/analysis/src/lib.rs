//! Works on whole files.
//!
//! - [`analyze`]: finds out who is in videos and pictures, and when
//! - [`annotate`]: marks the faces in videos
//! - [`record`]: the format of the results
//! - [`cluster`]: groups strangers that may be one person
//! - [`enroll`]: turns photos into embeddings
//! - [`name`]: gives analysed inputs the names of a changed gallery
//! - [`names`]: lists who is in which input from when to when
//! - [`evaluate`]: compares results with labels
//! - [`report`]: shows results on a page
//! - [`search`]: finds where a face was seen
//! - [`forget`]: removes a person from files
//! - [`gallery`]: writes galleries like all other files
//! - [`media`]: pictures and videos among other files
//! - [`speed`]: measures how fast a machine is

pub mod analyze;
pub mod annotate;
pub mod cluster;
pub mod enroll;
pub mod evaluate;
pub mod forget;
pub mod gallery;
pub mod media;
pub mod name;
pub mod names;
pub mod record;
pub mod report;
pub mod search;
pub mod speed;
