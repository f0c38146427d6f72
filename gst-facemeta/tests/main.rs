//! Tests the elements by pushing buffers into them.

mod facemetajson;
mod facemetaoverlay;
mod facepicturedecoder;
