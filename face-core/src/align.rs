//! Aligned face chips: maps a model's input onto the frame by the face's landmarks.

use crate::error::Error;
use crate::image::{Picture, PixelShape, ReadFrame, Sampler, UnreadableFrame, warp_rows};
use crate::model::{Alignment, Template};
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

/// The transform from pixel indices of a model's input of `size` (width, height) to indices of square
/// pixels of the frame, for a square of `scale` times the longer side of `rect`, around its centre.
/// `None` if the box has no extent.
pub fn square(rect: &Rect, scale: f64, size: (usize, usize)) -> Option<Similarity> {
    let side = rect.w.max(rect.h) * scale;
    if !(rect.is_finite() && side > 0.0) {
        return None;
    }
    let (width, height) = (size.0 as f64, size.1 as f64);
    let step = side / width.min(height);
    // The centres of pixels have whole indices, so the input reaches from -0.5 to its size - 0.5.
    let on_frame = |x: f64, y: f64| {
        Point::new(
            rect.x + rect.w / 2.0 + (x + 0.5 - width / 2.0) * step - 0.5,
            rect.y + rect.h / 2.0 + (y + 0.5 - height / 2.0) * step - 0.5,
        )
    };
    let corners = [(0.0, 0.0), (width - 1.0, 0.0), (0.0, height - 1.0)];
    Similarity::fit(
        &corners.map(|(x, y)| Point::new(x, y)),
        &corners.map(|(x, y)| on_frame(x, y)),
    )
}

/// The transform from pixel indices of a model's input of `size` (width, height) to indices of square
/// pixels of the frame, as the model's descriptor wants it. A face without landmarks gets those of a
/// frontal face in its box. `None` if the face has no extent.
pub fn transform(
    alignment: &Alignment,
    face: &Face,
    pixels: PixelShape,
    size: (usize, usize),
) -> Option<Similarity> {
    match alignment {
        Alignment::Template(template) => {
            let landmarks = face.landmarks.unwrap_or_else(|| landmarks_in(&face.rect));
            to_source(template, &pixels.landmarks(&landmarks))
        }
        Alignment::Box(scale) => square(&pixels.rect(&face.rect), *scale, size),
    }
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
        let pixels = PixelShape::of(frame.info());
        let [_, _, height, width] = runner.shape();
        let size = (width, height);
        let Some(to_source) = transform(alignment, face, pixels, size) else {
            return Ok(false);
        };
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
    fn a_square_covers_the_box_upright() {
        let rect = Rect::new(10.0, 20.0, 50.0, 100.0);
        let found = square(&rect, 1.0, (100, 100)).expect("a box with an extent");
        // One pixel of the input is one of the frame; the square reaches from x = -15 to 85.
        let corner = found.apply(Point::new(0.0, 0.0));
        assert!(
            corner.distance(Point::new(-15.0, 20.0)) < 1e-9,
            "{corner:?}"
        );
        let double = square(&rect, 2.0, (50, 50)).expect("a box with an extent");
        let (first, last) = (Point::new(0.0, 0.0), Point::new(49.0, 49.0));
        // A pixel covers 4x4 of the frame, from its edge at -65, -30.
        assert!(double.apply(first).distance(Point::new(-63.5, -28.5)) < 1e-9);
        assert!(double.apply(last).distance(Point::new(132.5, 167.5)) < 1e-9);
        for empty in [Rect::default(), Rect::new(f64::NAN, 0.0, 1.0, 1.0)] {
            assert!(square(&empty, 1.0, (10, 10)).is_none());
        }
    }

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
