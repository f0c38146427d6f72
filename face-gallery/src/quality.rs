//! The weight of an embedding: sharp, frontal, large faces identify a person better.

use face_meta::geometry::Landmarks;
use face_meta::{Pose, Quality};

/// The least weight, so that a track of only bad frames still gets a name.
const LEAST: f64 = 0.02;

/// The distance between the eyes, in pixels of the frame, from which on a face is as large as the
/// models can use. In the 112-pixel ArcFace template it is 35.2 pixels.
const FULL_EYE_DISTANCE: f64 = 35.2;

/// The [`sharpness`] of a chip with half the weight. The aligned chips of the 36 faces of the
/// reference set have a median of 0.75 (0.14 to 1.3 from the 10th to the 90th percentile). Blurred
/// with a Gaussian of 3 pixels, they have 0.008 (0.004 to 0.010). This value lies between.
const HALF_SHARPNESS: f64 = 0.05;

/// The weight of an embedding, 0.02..=1: the product of
/// - size: eye distance over 35.2 pixels, at most 1;
/// - frontality: the squared cosine of the angle between the face and the camera ([`Pose::away`]);
/// - sharpness `s` of the chip: `s / (s + 0.05)`;
/// - the detector's confidence.
///
/// `landmarks` are in square pixels of the frame.
pub fn weight(landmarks: &Landmarks, confidence: f64, sharpness: f64) -> f64 {
    let eyes = landmarks[0].distance(landmarks[1]);
    let size = (eyes / FULL_EYE_DISTANCE).min(1.0);
    let weight =
        size * frontality(landmarks) * share_of_detail(sharpness) * confidence.clamp(0.0, 1.0);
    if weight.is_nan() {
        LEAST
    } else {
        weight.clamp(LEAST, 1.0)
    }
}

/// The quality of a face with these landmarks, of which a chip has this [`sharpness`] and
/// [`brightness`].
pub fn of(landmarks: &Landmarks, confidence: f64, sharpness: f64, brightness: f64) -> Quality {
    Quality {
        quality: weight(landmarks, confidence, sharpness),
        sharpness: share_of_detail(sharpness),
        brightness,
    }
}

/// A [`sharpness`] as a number in 0..=1.
fn share_of_detail(sharpness: f64) -> f64 {
    let share = sharpness / (sharpness + HALF_SHARPNESS);
    if share.is_nan() {
        0.0
    } else {
        share.clamp(0.0, 1.0)
    }
}

/// 1 for a face that looks into the camera, 0.5 at 45 degrees, 0 in profile or if the landmarks are not
/// those of a face.
fn frontality(landmarks: &Landmarks) -> f64 {
    Pose::of(landmarks).map_or(0.0, |pose| pose.away().min(90.0).to_radians().cos().powi(2))
}

/// The mean of the middle half of a chip (one channel, row-major, `width` values per row).
pub fn mean(channel: &[f32], width: usize) -> f64 {
    let height = channel.len().checked_div(width).unwrap_or(0);
    let mut moments = Moments::default();
    let rows = channel.chunks(width.max(1)).take(height * 3 / 4);
    for row in rows.skip(height / 4) {
        let middle = row.iter().take(width * 3 / 4).skip(width / 4);
        middle.for_each(|value| moments.add(f64::from(*value)));
    }
    moments.mean()
}

/// The brightness, 0..=1, of red, green and blue, each 0..=255 (luma of ITU-R BT.601).
pub fn brightness([red, green, blue]: [f64; 3]) -> f64 {
    let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
    if luma.is_nan() {
        0.0
    } else {
        (luma / 255.0).clamp(0.0, 1.0)
    }
}

/// The variance of the Laplacian over the variance of the values, in the middle half of a chip (one
/// channel, row-major, `width` values per row). It is high for fine detail, near 0 for blur, and
/// independent of contrast. (Variance of the Laplacian as a measure of focus: Pech-Pacheco et al.
/// 2000.)
pub fn sharpness(channel: &[f32], width: usize) -> f64 {
    let height = channel.len().checked_div(width).unwrap_or(0);
    let (mut laplacian, mut value) = (Moments::default(), Moments::default());
    for y in (height / 4).max(1)..(height * 3 / 4).min(height.saturating_sub(1)) {
        for x in (width / 4).max(1)..(width * 3 / 4).min(width.saturating_sub(1)) {
            let at = |x: usize, y: usize| f64::from(channel[y * width + x]);
            let center = at(x, y);
            value.add(center);
            laplacian.add(at(x - 1, y) + at(x + 1, y) + at(x, y - 1) + at(x, y + 1) - 4.0 * center);
        }
    }
    if value.variance() > 0.0 {
        laplacian.variance() / value.variance()
    } else {
        0.0
    }
}

#[derive(Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.squares += value * value;
    }

    fn mean(&self) -> f64 {
        if self.count == 0.0 {
            0.0
        } else {
            self.sum / self.count
        }
    }

    fn variance(&self) -> f64 {
        if self.count == 0.0 {
            return 0.0;
        }
        let mean = self.sum / self.count;
        (self.squares / self.count - mean * mean).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use face_meta::geometry::Point;

    fn face(nose: f64, eyes: f64) -> Landmarks {
        [
            (0.0, 0.0),
            (eyes, 0.0),
            (nose, 0.6 * eyes),
            (0.1 * eyes, 1.1 * eyes),
            (0.9 * eyes, 1.1 * eyes),
        ]
        .map(|(x, y)| Point::new(x, y))
    }

    #[test]
    fn frontal_large_and_sharp_faces_weigh_more() {
        let best = weight(&face(20.0, 40.0), 1.0, 1.0);
        assert!(best > 0.95);
        // The same face, turned by 60 degrees, and four times as large.
        let turned = [
            (-10.0, 0.0),
            (10.0, 0.0),
            (22.0, 24.0),
            (-3.3, 44.0),
            (12.3, 44.0),
        ];
        let turned = turned.map(|(x, y)| Point::new(4.0 * x, 4.0 * y));
        assert!(weight(&turned, 1.0, 1.0) < 0.4 * best, "turned away");
        assert!(weight(&face(5.0, 10.0), 1.0, 1.0) < 0.5 * best, "small");
        assert!(
            weight(&face(20.0, 40.0), 1.0, 0.001) < 0.5 * best,
            "blurred"
        );
        assert!(weight(&face(20.0, 40.0), 0.3, 1.0) < 0.5 * best, "doubtful");
        for bad in [face(f64::NAN, 40.0), face(0.0, 0.0), face(-150.0, 40.0)] {
            assert_eq!(weight(&bad, 1.0, 1.0), LEAST);
        }
    }

    #[test]
    fn blur_lowers_sharpness_and_contrast_does_not_matter() {
        let width = 64;
        let texture: Vec<f32> = (0..width * width)
            .map(|i| ((i * 7919 + (i / width) * 104_729) % 251) as f32)
            .collect();
        let blurred: Vec<f32> = (0..texture.len())
            .map(|i| {
                let window = &texture[i.saturating_sub(4)..(i + 5).min(texture.len())];
                window.iter().sum::<f32>() / window.len() as f32
            })
            .collect();
        let faint: Vec<f32> = texture.iter().map(|v| 100.0 + v * 0.1).collect();
        let sharp = sharpness(&texture, width);
        assert!(sharpness(&blurred, width) < 0.7 * sharp);
        assert!((sharpness(&faint, width) / sharp - 1.0).abs() < 1e-3);
        assert_eq!(sharpness(&[5.0; 64], 8), 0.0);
        assert_eq!(sharpness(&[], 8), 0.0);
        assert_eq!(sharpness(&[], 0), 0.0);
    }

    #[test]
    fn brightness_is_that_of_the_middle() {
        assert_eq!(brightness([0.0; 3]), 0.0);
        assert!((brightness([255.0; 3]) - 1.0).abs() < 1e-9);
        assert!((brightness([0.0, 255.0, 0.0]) - 0.587).abs() < 1e-9);
        let mut bright_border = [255.0; 64];
        for row in 2..6 {
            bright_border[row * 8 + 2..row * 8 + 6].fill(51.0);
        }
        assert_eq!(mean(&bright_border, 8), 51.0);
        assert_eq!(mean(&[], 0), 0.0);
    }
}
