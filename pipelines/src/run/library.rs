//! The ready pipelines that are built into the program.

use std::path::Path;

use anyhow::{Context, Result, bail};
use face_core::file::read_text_at_most;

use super::template::Template;

macro_rules! library {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../", $name, ".gst")))),*]
    };
}

/// Name and text of each.
pub const ALL: &[(&str, &str)] = library!(
    "file-to-json" "file-to-video" "file-to-names" "picture-to-json" "webcam-to-screen"
    "rtsp-to-screen" "rtsp-to-rtsp" "rtsp-to-hls" "cameras-to-mosaic" "anonymized-recording"
);

/// The longest file of a pipeline, in bytes.
const LONGEST: u64 = 1 << 20;

/// The pipeline of that name, or in the file of that path.
pub fn find(name: &str) -> Result<Template> {
    if let Some((_, text)) = ALL.iter().find(|(known, _)| *known == name) {
        return Template::parse(text).with_context(|| name.to_owned());
    }
    if !Path::new(name).exists() {
        let names: Vec<_> = ALL.iter().map(|(name, _)| *name).collect();
        bail!(
            "there is no pipeline and no file {name}; the pipelines are {}, and \
             `facepipe run --list` says what they are for",
            names.join(", ")
        );
    }
    let text = read_text_at_most(Path::new(name), LONGEST)?;
    Template::parse(&text).with_context(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_built_in() {
        let files = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the sources");
        let files: BTreeSet<String> = files
            .filter_map(|f| f.expect("an entry").file_name().into_string().ok())
            .filter_map(|f| f.strip_suffix(".gst").map(str::to_owned))
            .collect();
        assert_eq!(
            files,
            ALL.iter().map(|(name, _)| (*name).to_owned()).collect()
        );
    }

    #[test]
    fn all_parse() {
        gst::init().expect("GStreamer starts");
        crate::register_elements().expect("linked in");
        for (name, _) in ALL {
            let template = find(name).unwrap_or_else(|e| panic!("{e:#}"));
            assert!(!template.title.is_empty(), "{name}");
            let required = template.variables.iter().filter(|v| v.default.is_none());
            let values: BTreeMap<_, _> = required
                .map(|v| (v.name.clone(), "rtsp://host/stream".to_owned()))
                .collect();
            assert_eq!(template.objection(&values), None, "{name}");
            let line = template.fill(&values).expect("all values").launch();
            let pipeline = gst::parse::launch_full(&line, None, gst::ParseFlags::FATAL_ERRORS);
            assert!(pipeline.is_ok(), "{name}: {:?}", pipeline.err());
        }
    }
}
