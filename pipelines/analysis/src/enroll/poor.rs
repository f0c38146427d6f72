//! What makes a photo a poor one to recognise a person by.
//!
//! The limits were measured with SFace on 237 photos of 79 people (Labeled Faces in the Wild): beyond them,
//! the median distance to the other photos of the same person grows by an eighth or more.

use face_meta::Face;

/// The least distance between the eyes, in pixels of the photo.
const LEAST_EYES: f64 = 12.0;

/// See [`face_meta::Quality`].
const LEAST_SHARPNESS: f64 = 0.2;
const LEAST_BRIGHTNESS: f64 = 0.12;

/// The largest angle between the face and the camera, in degrees.
const FURTHEST_AWAY: f64 = 40.0;

/// What is poor about the face, with its measure. Empty for a good one.
pub fn complaints(face: &Face) -> Vec<String> {
    let mut found = Vec::new();
    let away = face.pose.map_or(0.0, |pose| pose.away());
    if let Some([right, left, ..]) = face.landmarks {
        // As they would be if the face looked into the camera.
        let shortening = away.min(60.0).to_radians().cos();
        let eyes = right.distance(left) / shortening;
        if eyes < LEAST_EYES {
            found.push(format!("small, {eyes:.0} pixels between the eyes"));
        }
    }
    if away > FURTHEST_AWAY {
        found.push(format!("turned away by {away:.0}°"));
    }
    if let Some(quality) = face.quality {
        if quality.sharpness < LEAST_SHARPNESS {
            found.push(format!("blurred, sharpness {:.2}", quality.sharpness));
        }
        if quality.brightness < LEAST_BRIGHTNESS {
            found.push(format!("dark, brightness {:.2}", quality.brightness));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_meta::geometry::Point;
    use face_meta::{Pose, Quality};

    fn face(eyes: f64, yaw: f64, sharpness: f64, brightness: f64) -> Face {
        let point = |x, y| Point::new(x * eyes, y * eyes);
        Face {
            landmarks: Some([
                point(0.0, 0.0),
                point(1.0, 0.0),
                point(0.5, 0.6),
                point(0.1, 1.1),
                point(0.9, 1.1),
            ]),
            pose: Some(Pose::from([yaw, 0.0, 90.0])),
            quality: Some(Quality {
                quality: 0.5,
                sharpness,
                brightness,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_poor_is_named() {
        assert!(complaints(&face(40.0, 20.0, 0.8, 0.5)).is_empty());
        for (face, word) in [
            (face(8.0, 20.0, 0.8, 0.5), "small"),
            (face(40.0, -60.0, 0.8, 0.5), "turned"),
            (face(40.0, 20.0, 0.05, 0.5), "blurred"),
            (face(40.0, 20.0, 0.8, 0.03), "dark"),
        ] {
            let found = complaints(&face);
            assert!(
                matches!(&found[..], [one] if one.starts_with(word)),
                "{found:?}"
            );
        }
        assert_eq!(complaints(&face(4.0, 60.0, 0.0, 0.0)).len(), 4);
        assert!(complaints(&Face::default()).is_empty(), "nothing is known");
    }
}
