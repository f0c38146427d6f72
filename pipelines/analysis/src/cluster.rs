//! Groups the tracks of unknown people into persons.

mod people;
pub mod sheet;
mod strangers;
pub mod tracks;

pub use strangers::{Clustering, Grouping, UnreadableFolder, find_strangers};
pub use tracks::{Embeddings, LARGEST_FILE};
