//! The elements on real models and media.

mod blur;
mod company;
mod converters;
mod crowd;
mod errors;
mod expression;
mod flight;
mod footage;
mod formats;
mod galleries;
mod gallery_watch;
mod late;
mod launch;
mod lifecycle;
mod pages;
mod parity;
mod people;
mod properties;
mod quality;
mod recognizers;
mod rivals;
mod runtime;
mod shapes;
mod streams;
mod tracking;
mod turned;
