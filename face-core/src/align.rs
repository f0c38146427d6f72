//! Aligned face chips: maps a model's input onto the frame by the face's landmarks.

use crate::error::Error;
use crate::image::{Picture, PixelShape, ReadFrame, Sampler, UnreadableFrame, warp_rows};
use crate::model::Template;
use crate::session::Runner;
use face_meta::Face;
use face_meta::geometry::{Landmarks, Point, Rect, Similarity};

/// Mean positions of the landmarks in a detected box, as fractions of its sides, made symmetric.
/// Measured on 36 faces of the test media (standard deviation 0.05 to 0.1 across, 0.03 down).
const IN_BOX: [(f64, f64); 5] = [
    (0.2706, 0.3792),
    (0.7294, 0.3792),
    (0.5, 0.5794),
    (0.3015, 0.7297),
    (0.6985, 0.7297),
];

/// Where the landmarks of an upright frontal face in `rect` would be. For detectors that give no
/// landmarks.
pub fn landmarks_in(rect: &Rect) -> Landmarks {
    IN_BOX.map(|(x, y)| Point::new(rect.x + x * rect.w, rect.y + y * rect.h))
}

/// The transform from pixel indices of a model's input to indices of square pixels of the frame
/// ([`PixelShape`]), in which the landmarks are given: the
/// least-squares fit over the template's points. `None` if the landmarks coincide or are not
/// finite.
pub fn to_source(template: &Template, landmarks: &Landmarks) -> Option<Similarity> {
    let [.., right_mouth, left_mouth] = *landmarks;
    let mouth = Point::new(
        (right_mouth.x + left_mouth.x) / 2.0,
        (right_mouth.y + left_mouth.y) / 2.0,
    );
    let points = template.points();
    let on_frame: Vec<Point> = points
        .iter()
        .map(|&(i, _)| landmarks.get(i).copied().unwrap_or(mouth))
        .collect();
    let on_input: Vec<Point> = points.iter().map(|&(_, p)| p).collect();
    // Fitted in this direction and then inverted, as OpenCV and dlib do: the residual of the fit is
    // then in pixels of the input.
    Some(Similarity::fit(&on_frame, &on_input)?.inverse())
}

/// Samples aligned faces into the input of models.
#[derive(Debug, Default)]
pub struct Chips {
    sampler: Sampler,
    unpacked: Vec<u8>,
}

impl Chips {
    /// Fills the runner's input (1, 3, H, W) with the face, aligned as its descriptor says. A face
    /// without landmarks gets those of a frontal face in its box. Returns `false` if the face has
    /// no extent.
    pub fn fill(
        &mut self,
        frame: &ReadFrame,
        face: &Face,
        runner: &mut Runner,
    ) -> Result<bool, UnreadableFrame> {
        let session = runner.session().clone();
        let Some(alignment) = &session.descriptor.alignment else {
            return Ok(false);
        };
        let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
        let pixels = PixelShape::of(frame.info());
        let landmarks = pixels.landmarks(&landmarks);
        let Some(to_source) = to_source(&alignment.template, &landmarks) else {
            return Ok(false);
        };
        let [_, _, height, width] = runner.shape();
        let size = (width, height);
        let picture = Picture::new(
            frame,
            warp_rows(&to_source, size, pixels),
            &mut self.unpacked,
        )?;
        self.sampler.warp(
            &picture,
            &to_source,
            &session.descriptor.input,
            runner.input(),
            size,
        );
        Ok(true)
    }
}

/// A runner for one aligned face, for a model whose input has a fixed size.
pub fn chip_runner(
    session: &std::sync::Arc<crate::session::SharedSession>,
) -> Result<Runner, Error> {
    let descriptor = &session.descriptor;
    let Some((height, width)) = descriptor.fixed_size() else {
        return Err(session.unfit("its descriptor does not fix the height and width of the input"));
    };
    if descriptor.alignment.is_none() {
        return Err(session.unfit("its descriptor has no `alignment`"));
    }
    Runner::new(session, [1, 3, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_points_land_on_the_landmarks() {
        let template = Template {
            right_eye: Some([30.0, 40.0]),
            left_eye: Some([70.0, 40.0]),
            nose: None,
            right_mouth: None,
            left_mouth: None,
            mouth: Some([50.0, 80.0]),
        };
        // The same face, twice as large and shifted.
        let on_frame = [
            (160.0, 180.0),
            (240.0, 180.0),
            (0.0, 0.0),
            (190.0, 260.0),
            (210.0, 260.0),
        ]
        .map(|(x, y)| Point::new(x, y));
        let found = to_source(&template, &on_frame).expect("not degenerate");
        assert!(found.apply(Point::new(30.0, 40.0)).distance(on_frame[0]) < 1e-9);
        assert!(
            found
                .apply(Point::new(50.0, 80.0))
                .distance(Point::new(200.0, 260.0))
                < 1e-9
        );
        assert!(to_source(&template, &[Point::new(1.0, 1.0); 5]).is_none());
    }
}
