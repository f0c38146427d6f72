//! Pose: what must follow when a picture is mirrored or turned.

use anyhow::Result;
use image::imageops;

use crate::line::{Found, Lines, middle, parallel};
use crate::measures::{mean, quantile};
use crate::portraits::Portrait;
use crate::scene::{Shown, compose};
use crate::table::{Table, number};

const ANGLES: [f64; 4] = [-30.0, -15.0, 15.0, 30.0];

/// Yaw, pitch and roll in degrees.
fn pose(face: &Found) -> Option<[f64; 3]> {
    let pose = face.json["pose"].as_array()?;
    let mut angles = [0.0; 3];
    for (angle, value) in angles.iter_mut().zip(pose) {
        *angle = value.as_f64()?;
    }
    Some(angles)
}

/// The pose of each portrait, shown so. `None` where no face or no pose is found.
fn poses(
    lines: &mut Lines,
    portraits: &[Portrait],
    shown: Shown,
    mirrored: bool,
) -> Result<Vec<Option<[f64; 3]>>> {
    let pictures = parallel(portraits, |portrait| {
        let picture = compose(&portrait.picture, &portrait.rect, shown).0;
        match mirrored {
            true => imageops::flip_horizontal(&picture),
            false => picture,
        }
    });
    let found = lines.look(&pictures)?;
    let faces = found.iter().zip(&pictures);
    Ok(faces
        .map(|(faces, picture)| middle(faces, picture).and_then(pose))
        .collect())
}

/// Differences between angles, in -180..180 degrees.
fn apart(a: f64, b: f64) -> f64 {
    (a - b + 180.0).rem_euclid(360.0) - 180.0
}

/// Adds the table of these portraits.
pub fn shown(portraits: &[Portrait], out: &mut String) -> Result<()> {
    let mut lines = Lines::start("facedetector")?;
    let plain = poses(&mut lines, portraits, Shown::PLAIN, false)?;
    if plain.iter().all(Option::is_none) {
        *out += "No detector tells poses.\n\n";
        return Ok(());
    }
    let mut table = Table::new([
        "shown",
        "faces",
        "yaw off °",
        "pitch off °",
        "roll off °",
        "nine of ten within (yaw, pitch, roll) °",
    ]);
    let mut row =
        |what: String, others: &[Option<[f64; 3]>], expected: &dyn Fn([f64; 3]) -> [f64; 3]| {
            let pairs = plain
                .iter()
                .zip(others)
                .filter_map(|(a, b)| Some(((*a)?, (*b)?)));
            let mut off: [Vec<f64>; 3] = Default::default();
            for (before, after) in pairs {
                let wanted = expected(before);
                for (i, off) in off.iter_mut().enumerate() {
                    off.push(apart(after[i], wanted[i]).abs());
                }
            }
            let [yaw, pitch, roll] = &off;
            let within = off.iter().map(|off| number(quantile(off, 0.9), 1));
            table.row([
                what,
                yaw.len().to_string(),
                number(mean(yaw), 1),
                number(mean(pitch), 1),
                number(mean(roll), 1),
                within.collect::<Vec<_>>().join(", "),
            ]);
        };
    let mirrored = poses(&mut lines, portraits, Shown::PLAIN, true)?;
    row(
        "mirrored: yaw and roll change sign".into(),
        &mirrored,
        &|[yaw, pitch, roll]| [-yaw, pitch, -roll],
    );
    for angle in ANGLES {
        let turned = poses(
            &mut lines,
            portraits,
            Shown {
                angle,
                ..Shown::PLAIN
            },
            false,
        )?;
        let pairs = plain
            .iter()
            .zip(&turned)
            .filter_map(|(a, b)| Some(apart((*b)?[2], (*a)?[2])));
        // Whichever direction the element calls positive: the pages say which.
        let sign = quantile(&pairs.collect::<Vec<_>>(), 0.5).signum() * angle.signum();
        let what = format!("turned clockwise by {angle}°: only roll changes");
        row(what, &turned, &|[yaw, pitch, roll]| {
            [yaw, pitch, roll + sign * angle]
        });
    }
    *out += &format!(
        "{} known faces, 100 pixels tall.\n\n{table}\n",
        portraits.len()
    );
    Ok(())
}
