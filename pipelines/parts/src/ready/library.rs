//! The built-in ready pipelines.

use std::path::Path;

use anyhow::{Context, Result, bail};
use face_core::file::read_text_at_most;

use super::template::Template;

macro_rules! library {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../ready/", $name, ".gst")))),*]
    };
}

/// The name and text of each.
pub const ALL: &[(&str, &str)] = library!(
    "file-to-json" "file-to-video" "file-to-names" "picture-to-json" "webcam-to-screen"
    "rtsp-to-screen" "rtsp-to-rtsp" "rtsp-to-hls" "cameras-to-mosaic" "anonymized-recording"
);

/// The longest pipeline file, in bytes.
const LONGEST: u64 = 1 << 20;

/// Finds the pipeline called `name`, or reads the file at this path.
pub fn find(name: &str) -> Result<Template> {
    if let Some((_, text)) = ALL.iter().find(|(known, _)| *known == name) {
        return Template::parse(text).with_context(|| name.to_owned());
    }
    if !Path::new(name).exists() {
        let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        bail!(
            "there is no pipeline and no file {name}; the available pipelines are {}, and \
             `facepipe run --list` explains them",
            names.join(", ")
        );
    }
    let text = read_text_at_most(Path::new(name), LONGEST)?;
    Template::parse(&text).with_context(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../ready"))
            .expect("the sources");
        let files: BTreeSet<String> = files
            .filter_map(|f| f.expect("an entry").file_name().into_string().ok())
            .filter_map(|f| f.strip_suffix(".gst").map(str::to_owned))
            .collect();
        assert_eq!(
            files,
            ALL.iter().map(|(name, _)| (*name).to_owned()).collect()
        );
    }
}
