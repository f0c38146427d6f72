//! Makes videos of people who cross and hide one another, with their truth as MOTChallenge text.
//!
//! `crossing OUT [DATA] [SCENE…]`: DATA is a folder with `people/NAME/*.jpg`; without it (or `-`),
//! the people are those of the media. Without scenes, all of them are made.

use std::path::Path;

use anyhow::{Context, Result};
use face_tests::crossing::{SCENES, make, of_folder, of_media};

fn main() -> Result<()> {
    face_tests::init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let out = Path::new(args.first().context("crossing OUT [DATA] [SCENE…]")?);
    std::fs::create_dir_all(out)?;
    let data = args.get(1).filter(|data| *data != "-");
    let wanted = args.get(2..).unwrap_or_default();
    let made = data.map(|data| {
        let most = SCENES.iter().map(|scene| scene.people).max().unwrap_or(0);
        of_folder(&Path::new(data).join("people"), most, 4)
    });
    let made = made.transpose()?;
    let cast = made.as_deref().unwrap_or_else(|| of_media());
    for scene in &SCENES {
        if wanted.is_empty() || wanted.iter().any(|name| name == scene.name) {
            let footage = make(scene, cast, out)?;
            let boxes: usize = footage.faces.iter().map(Vec::len).sum();
            println!("{}: {boxes} boxes", footage.video.display());
        }
    }
    Ok(())
}
