//! Finds out who is in videos and pictures, and when. Whole files, from the first frame to the last.

mod batch;
mod collect;
pub mod inputs;
pub mod job;
pub mod naming;
pub mod people;
pub mod stitch;
pub mod tally;
pub mod together;
mod write;

use face_parts::stages;

pub use batch::{AnalyzedInput, Batch, Headline, InputState, analyze_all};
pub use inputs::Lock;
pub use job::{Analyzer, Ended, Marks};

use naming::Smoothing;
use people::MainPersons;

/// How to analyse an input.
#[derive(Debug, Clone, clap::Args)]
// The commands that flatten this type have their own group of this name.
#[group(skip)]
pub struct Options {
    /// Where the name, age and gender of a face on a frame come from
    #[arg(long, value_enum, default_value_t = Smoothing::Track)]
    pub smoothing: Smoothing,

    /// Name only the main persons of each input: this many, longest on screen (3), or all who are
    /// on screen for at least this share of it (5% or 0.05). All other tracks are renamed to one of
    /// these, or to Unknown
    #[arg(long, value_name = "N|SHARE", requires = "gallery")]
    pub main_persons: Option<MainPersons>,

    #[command(flatten)]
    pub stages: stages::Options,
}
