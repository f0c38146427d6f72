//! Ready pipelines: reads launch lines with variables from text files, and plays them.

mod library;
mod pictures;
mod play;
mod syntax;
mod template;

pub use library::{ALL, find};
pub use play::{Played, play};
pub use template::{Description, Template, Variable};
