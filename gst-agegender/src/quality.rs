//! How well a face can be seen, for estimates of age, gender and expression. The constants were
//! measured on shrunk and blurred copies of labelled faces: see
//! docs/decisions/016-age-gender-expression.md.

use face_core::align::{landmarks_in, to_source};
use face_core::image::{Picture, PixelShape, ReadFrame, Sampler, UnreadableFrame, warp_rows};
use face_core::model::{ColorOrder, Dimension, Input, Normalization, Template};
use face_gallery::quality::sharpness;
use face_meta::Face;
use face_meta::geometry::{Landmarks, Point};

/// The longer side of a box, in pixels, from which on a larger face is not seen better.
const FULL_SIZE: f64 = 60.0;

/// The sharpness of a face that counts half.
const HALF_SHARPNESS: f64 = 0.05;

/// The least weight of a frame, so that a track of only bad frames still has a mean.
const LEAST: f64 = 0.05;

/// Width and height of the chip whose sharpness is measured.
const SIDE: usize = 64;

/// Eyes and mouth in that chip. dlib's age estimator has the same.
const TEMPLATE: Template = Template {
    right_eye: Some([18.8, 17.55]),
    left_eye: Some([43.8, 17.55]),
    nose: None,
    right_mouth: None,
    left_mouth: None,
    mouth: Some([31.7, 44.0]),
};

/// How well a face can be seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// The longer side of the box, in square pixels of the frame.
    pub size: f64,
    /// 1 for a frontal face, falling to 0 in profile.
    pub frontality: f64,
    /// [`sharpness`] of a chip of 64x64 pixels.
    pub sharpness: f64,
}

/// Which faces are not worth a look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Least {
    /// In pixels.
    pub size: f64,
    pub frontality: f64,
    pub sharpness: f64,
}

/// 1 if the nose tip lies midway between the eyes along the line through them, falling to 0 where
/// it lies at or beyond one of them. 0.4 is a head turned by 25 degrees.
fn frontality(landmarks: &Landmarks) -> f64 {
    let [right, left, nose, ..] = *landmarks;
    let axis = Point::new(left.x - right.x, left.y - right.y);
    let square = axis.x * axis.x + axis.y * axis.y;
    let along = ((nose.x - right.x) * axis.x + (nose.y - right.y) * axis.y) / square;
    (1.0 - 2.0 * (along - 0.5).abs()).clamp(0.0, 1.0)
}

impl View {
    /// The weight of a frame in a mean over a track, 0.05..=1.
    pub fn weight(&self) -> f64 {
        let sharp = self.sharpness / (self.sharpness + HALF_SHARPNESS);
        let weight = (self.size / FULL_SIZE).min(1.0) * self.frontality * sharp;
        if weight.is_nan() {
            LEAST
        } else {
            weight.clamp(LEAST, 1.0)
        }
    }
}

/// Judges faces.
pub struct Judge {
    sampler: Sampler,
    unpacked: Vec<u8>,
    tensor: Vec<f32>,
    input: Input,
}

impl Default for Judge {
    fn default() -> Self {
        let side = Dimension::Fixed(SIDE as u32);
        Self {
            sampler: Sampler::default(),
            unpacked: Vec::new(),
            tensor: vec![0.0; 3 * SIDE * SIDE],
            input: Input {
                name: String::new(),
                shape: [Dimension::Fixed(1), Dimension::Fixed(3), side.clone(), side],
                color: ColorOrder::Rgb,
                mean: [0.0; 3],
                scale: [1.0; 3],
                multiple: 1,
                normalization: Normalization::Fixed,
            },
        }
    }
}

impl Judge {
    /// How well the face can be seen. `None` if it is worse than `least`.
    pub fn view(
        &mut self,
        frame: &ReadFrame,
        face: &Face,
        least: Least,
    ) -> Result<Option<View>, UnreadableFrame> {
        let pixels = PixelShape::of(frame.info());
        let rect = pixels.rect(&face.rect);
        let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
        let landmarks = pixels.landmarks(&landmarks);
        let size = rect.w.max(rect.h);
        let frontality = frontality(&landmarks);
        // Where landmarks coincide it is not a number.
        if size < least.size || frontality.is_nan() || frontality < least.frontality {
            return Ok(None);
        }
        let Some(transform) = to_source(&TEMPLATE, &landmarks) else {
            return Ok(None);
        };
        let chip = (SIDE, SIDE);
        let rows = warp_rows(&transform, chip, pixels);
        let picture = Picture::new(frame, rows, &mut self.unpacked)?;
        self.sampler
            .warp(&picture, &transform, &self.input, &mut self.tensor, chip);
        let green = &self.tensor[SIDE * SIDE..2 * SIDE * SIDE];
        let sharpness = sharpness(green, SIDE);
        Ok((sharpness >= least.sharpness).then_some(View {
            size,
            frontality,
            sharpness,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_frontal_sharp_faces_weigh_most() {
        let best = View {
            size: 100.0,
            frontality: 1.0,
            sharpness: 1.0,
        };
        assert!(best.weight() > 0.9);
        for worse in [
            View { size: 20.0, ..best },
            View {
                frontality: 0.3,
                ..best
            },
            View {
                sharpness: 0.01,
                ..best
            },
        ] {
            assert!(worse.weight() < 0.5 * best.weight(), "{worse:?}");
        }
        let odd = View {
            sharpness: f64::NAN,
            ..best
        };
        assert_eq!(odd.weight(), LEAST);
    }

    #[test]
    fn small_turned_and_blurred_faces_are_left_out() {
        use face_meta::geometry::{Point, Rect};

        gst::init().expect("GStreamer starts");
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, 128, 128)
            .build()
            .expect("a common format");
        // Stripes of 4 pixels, and a slow slope.
        let picture = |value: &dyn Fn(usize) -> u8| {
            let row: Vec<u8> = (0..128).flat_map(|x| [value(x); 3]).collect();
            gst::Buffer::from_slice(row.repeat(128))
        };
        let sharp = picture(&|x| if x / 4 % 2 == 0 { 200 } else { 50 });
        let blurred = picture(&|x| x as u8);
        let face = |nose: f64| {
            let points = [
                (44.0, 44.0),
                (84.0, 44.0),
                (nose, 64.0),
                (50.0, 84.0),
                (78.0, 84.0),
            ];
            Face {
                rect: Rect::new(24.0, 14.0, 80.0, 100.0),
                landmarks: Some(points.map(|(x, y)| Point::new(x, y))),
                ..Default::default()
            }
        };
        let least = Least {
            size: 50.0,
            frontality: 0.5,
            sharpness: 0.04,
        };
        let mut judge = Judge::default();
        let mut view = |buffer: &gst::Buffer, face: &Face, least: Least| {
            let frame = face_core::frame::map(buffer, &info).expect("a whole frame");
            judge.view(&frame, face, least).expect("a readable frame")
        };
        let found = view(&sharp, &face(64.0), least).expect("good enough");
        assert_eq!(found.size, 100.0);
        assert!((found.frontality - 1.0).abs() < 1e-9 && found.sharpness > 0.1);
        assert_eq!(view(&sharp, &face(80.0), least), None, "turned");
        assert_eq!(view(&blurred, &face(64.0), least), None, "blurred");
        let large = Least {
            size: 101.0,
            ..least
        };
        assert_eq!(view(&sharp, &face(64.0), large), None, "small");
        let mut odd = face(64.0);
        odd.landmarks = Some([Point::new(3.0, 3.0); 5]);
        let any = Least {
            size: 0.0,
            frontality: 0.0,
            sharpness: 0.0,
        };
        assert_eq!(view(&sharp, &odd, any), None, "no landmarks to speak of");
    }
}
