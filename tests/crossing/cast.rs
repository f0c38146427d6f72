//! The people of made videos, and what is behind them.

use std::path::Path;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use image::imageops::{self, FilterType};
use image::{RgbImage, RgbaImage};

use super::actor::Still;
use crate::{Frame, Picture, Running, media, run_picture};

/// Somebody, and how they are shown.
#[derive(Clone)]
pub struct Person {
    pub name: String,
    /// One for each visit, again and again: a photo, or the frames of a clip.
    pub takes: Vec<Vec<Still>>,
}

/// Clips of one person each.
const CLIPS: [&str; 2] = ["WolfgangLanger_Pexels.mp4", "single_face.mp4"];
/// Pictures whose faces are all different people, and not those of the clips.
const PICTURES: [&str; 8] = [
    "t1.jpg",
    "0-f1-su-ph.jpg",
    "0-f15-hao-ph.jpg",
    "15-f13-anc-ph.jpg",
    "45-m7-di-ph.jpg",
    "Tom_Hanks_54745.png",
    "single_face.jpg",
    "multi_face.jpg",
];
/// The most frames of a clip.
const MOST_FRAMES: usize = 100;
const DETECT: &str = "facedetector inference-size=0";

/// The people of the media of the set-up: two who move by themselves, and those on pictures.
pub fn of_media() -> &'static [Person] {
    static CAST: LazyLock<Vec<Person>> = LazyLock::new(|| {
        let clips = CLIPS.iter().map(|name| clip(name).expect("the clip plays"));
        let mut cast: Vec<Person> = clips.collect();
        for name in PICTURES {
            let stills = stills(&media(name)).expect("a readable picture");
            cast.extend(stills.into_iter().enumerate().map(|(i, still)| Person {
                name: format!("{name} {i}"),
                takes: vec![vec![still]],
            }));
        }
        cast
    });
    &CAST
}

/// The people in a folder with one folder of photos for each. In a photo, the face nearest the
/// middle is theirs. Every visit shows the next photo.
///
/// # Errors
/// If the folder cannot be read.
pub fn of_folder(folder: &Path, people: usize, photos: usize) -> Result<Vec<Person>> {
    let list = |folder: &Path| -> Result<Vec<_>> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        Ok(paths)
    };
    let mut cast = Vec::new();
    for person in list(folder)?.into_iter().take(people) {
        let mut takes = Vec::new();
        for photo in list(&person)?.into_iter().take(photos) {
            let middle = |still: &Still| {
                let center = still.face.center();
                let (w, h) = still.picture.dimensions();
                (center.x - f64::from(w) / 2.0).hypot(center.y - f64::from(h) / 2.0)
            };
            let found = stills(&photo)?;
            let nearest = found
                .into_iter()
                .min_by(|a, b| middle(a).total_cmp(&middle(b)));
            takes.extend(nearest.map(|still| vec![still]));
        }
        let name = person.file_name().unwrap_or_default().to_string_lossy();
        if !takes.is_empty() {
            cast.push(Person {
                name: name.into_owned(),
                takes,
            });
        }
    }
    Ok(cast)
}

/// The faces on a picture.
fn stills(path: &Path) -> Result<Vec<Still>> {
    let picture = image::open(path)
        .with_context(|| path.display().to_string())?
        .to_rgb8();
    let frame = run_picture(
        &Picture {
            width: picture.width(),
            height: picture.height(),
            data: picture.as_raw().clone(),
        },
        DETECT,
    )?;
    let still = |face: &face_meta::Face| Still {
        picture: picture.clone(),
        face: face.rect,
    };
    Ok(frame.faces.iter().map(still).collect())
}

/// A person who moves.
fn clip(name: &str) -> Result<Person> {
    let pipeline = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! videorate ! videoconvert ! videoscale ! \
         video/x-raw,format=RGB,height=540,framerate=25/1,pixel-aspect-ratio=1/1 ! {DETECT} ! \
         appsink name=out sync=false",
        media(name).display()
    ))?;
    pipeline.play()?;
    let mut take: Vec<Still> = Vec::new();
    while let Some(frame) = pipeline.next()? {
        let largest = frame.faces.iter().map(|face| face.rect);
        let largest = largest.max_by(|a, b| a.area().total_cmp(&b.area()));
        match largest.or(take.last().map(|still| still.face)) {
            Some(face) => take.push(Still {
                picture: picture(&frame)?,
                face,
            }),
            None => continue,
        }
        if take.len() == MOST_FRAMES {
            break;
        }
    }
    Ok(Person {
        name: name.into(),
        takes: vec![take],
    })
}

fn picture(frame: &Frame) -> Result<RgbImage> {
    let buffer = frame.sample.buffer().context("a sample has a buffer")?;
    let map = buffer.map_readable()?;
    let row = frame.width as usize * 3;
    let stride = row.next_multiple_of(4);
    let rows = map.chunks(stride).take(frame.height as usize);
    let pixels = rows.flat_map(|line| line[..row].iter().copied());
    RgbImage::from_raw(frame.width, frame.height, pixels.collect()).context("a whole picture")
}

/// A frame of a clip without faces, as RGBA.
pub fn background(width: u32, height: u32) -> Result<gst::Buffer> {
    let pipeline = Running::new(&format!(
        "filesrc location=\"{}\" ! decodebin ! videoconvert ! video/x-raw,format=RGB ! \
         appsink name=out sync=false",
        media("no_face.mp4").display()
    ))?;
    pipeline.play()?;
    let frame = pipeline.next()?.context("the clip has frames")?;
    let small = picture(&frame)?;
    let large = imageops::resize(&small, width, height, FilterType::Triangle);
    let pixels: RgbaImage = image::DynamicImage::ImageRgb8(large).to_rgba8();
    Ok(gst::Buffer::from_slice(pixels.into_raw()))
}
