//! Faces whose person is known, cut out where the detector finds them, and the ways to show them.

use std::path::PathBuf;

use anyhow::Result;
use face_meta::geometry::Rect;
use image::RgbImage;

use crate::data::PORTRAITS;
use crate::line::{Lines, middle, read};
use crate::scene::{Shown, bordered};

/// A face on a picture.
#[derive(Clone)]
pub struct Portrait {
    pub person: String,
    pub picture: RgbImage,
    pub rect: Rect,
}

/// The height below which a face cannot be shown at 100 pixels.
const LEAST_HEIGHT: f64 = 60.0;

/// How faces are shown, and what the tables call it.
pub const CONDITIONS: [(&str, Shown); 14] = {
    const P: Shown = Shown::PLAIN;
    const fn tall(height: f64) -> Shown {
        Shown { height, ..P }
    }
    const fn turned(angle: f64) -> Shown {
        Shown { angle, ..P }
    }
    const fn blurred(blur: f64) -> Shown {
        Shown { blur, ..P }
    }
    const fn lit(light: [f64; 2], noise: f64) -> Shown {
        Shown { light, noise, ..P }
    }
    [
        ("100 pixels tall", P),
        ("60 pixels", tall(60.0)),
        ("40 pixels", tall(40.0)),
        ("25 pixels", tall(25.0)),
        ("blurred by 2 % of the height", blurred(0.02)),
        ("blurred by 4 %", blurred(0.04)),
        ("light × 0.4", lit([0.4, 0.4], 0.0)),
        ("light × 0.15, noise 8", lit([0.15, 0.15], 8.0)),
        ("light from the side, × 0.15 to 1", lit([0.15, 1.0], 0.0)),
        ("turned by 15°", turned(15.0)),
        ("turned by 30°", turned(30.0)),
        ("turned by 45°", turned(45.0)),
        ("turned by 90°", turned(90.0)),
        ("upside down", turned(180.0)),
    ]
};

/// The portraits of the media: every face of [`PORTRAITS`].
pub fn of_media() -> Result<Vec<Portrait>> {
    let mut lines = Lines::start("facedetector")?;
    let paths: Vec<PathBuf> = PORTRAITS.map(face_tests::media).to_vec();
    let pictures = read(&paths)?;
    let found = lines.look(&pictures)?;
    let mut portraits = Vec::new();
    for ((name, picture), faces) in PORTRAITS.iter().zip(pictures).zip(found) {
        for (i, face) in faces.iter().enumerate() {
            portraits.push(Portrait {
                person: format!("{name} {i}"),
                picture: picture.clone(),
                rect: face.rect,
            });
        }
    }
    Ok(portraits)
}

/// The face in the middle of each photo. Photos without one are left out, and counted.
pub fn of_photos(
    photos: &[(String, PathBuf)],
    tight: impl Fn(usize) -> bool,
) -> Result<(Vec<(usize, Portrait)>, usize)> {
    let mut lines = Lines::start("facedetector")?;
    let paths: Vec<PathBuf> = photos.iter().map(|(_, path)| path.clone()).collect();
    let mut pictures = read(&paths)?;
    for (i, picture) in pictures.iter_mut().enumerate() {
        if tight(i) {
            *picture = bordered(picture);
        }
    }
    let found = lines.look(&pictures)?;
    let mut portraits = Vec::new();
    for (i, (picture, faces)) in pictures.into_iter().zip(&found).enumerate() {
        let face = middle(faces, &picture).filter(|face| face.rect.h >= LEAST_HEIGHT);
        if let Some(face) = face {
            portraits.push((
                i,
                Portrait {
                    person: photos[i].0.clone(),
                    rect: face.rect,
                    picture,
                },
            ));
        }
    }
    let lost = photos.len() - portraits.len();
    Ok((portraits, lost))
}
