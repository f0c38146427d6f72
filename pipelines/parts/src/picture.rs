//! Pictures as inputs of pipelines. GStreamer's own decoders take fewer formats, do not turn photos upright,
//! show what a damaged file still has, and play some animations for ever.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use face_picture::Kind;
use gst::prelude::*;

use crate::graph::{make, set};

/// What a regular file is, by its content and its name. `None` for anything that reading may change or that
/// may never end.
pub fn kind(path: &Path) -> Option<Kind> {
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    is_file.then(|| Kind::of_file(path).ok()).flatten()
}

/// Whether `path` is a picture that [`source`] can show.
pub fn is_picture(path: &Path) -> bool {
    kind(path).is_some_and(Kind::is_picture)
}

/// The file of a URI, if it is a picture.
pub fn file_of(uri: &str) -> Option<PathBuf> {
    let (path, _) = glib::filename_from_uri(uri).ok()?;
    is_picture(&path).then_some(path)
}

/// Adds elements to `pipeline` that show the picture at `path`, with all its frames if it moves. Returns the
/// pad where they come out.
pub fn source(pipeline: &gst::Pipeline, path: &Path) -> Result<gst::Pad> {
    let file = make("filesrc")?;
    file.set_property("location", path);
    let decoder = make(DECODER)?;
    set(&decoder, "animation", true)?;
    pipeline.add_many([&file, &decoder])?;
    file.link(&decoder)?;
    crate::graph::pad(&decoder, "src")
}

/// The element that decodes pictures.
pub const DECODER: &str = "facepicturedecoder";
