//! The pose of a head, from the five landmarks of its face.
//!
//! A rigid model of a face is rotated, scaled and shifted until its projection fits the landmarks best
//! (weak perspective, least squares by Gauss-Newton).

use crate::geometry::{Landmarks, Similarity};

/// The landmarks on the model, in centimetres: x to the image's right, y down, z away from the camera.
/// From MediaPipe's canonical face model (Apache-2.0, `canonical_face_model.obj`): the middle between the
/// corners of an eye (vertices 33 and 133, 263 and 362), the nose tip (1), the corners of the mouth
/// (61 and 291).
const MODEL: [[f64; 3]; 5] = [
    [-3.151_146, -2.624_618, -3.465_663],
    [3.151_146, -2.624_618, -3.465_663],
    [0.0, 1.126_865, -7.475_604],
    [-2.456_206, 4.342_621, -4.283_884],
    [2.456_206, 4.342_621, -4.283_884],
];

/// More steps change an angle by less than a hundredth of a degree.
const STEPS: usize = 12;

/// The landmarks may differ by this share of the face's extent from the model's (root mean square).
/// Beyond it, they are not those of a face.
const WORST_FIT: f64 = 0.25;

/// Where a head is turned, in degrees; all 0 if it faces the camera. The camera sees the head turned
/// first by `pitch`, then by `yaw`, then by `roll`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pose {
    /// −90..=90, positive if the face looks to the image's right, which is the subject's left.
    pub yaw: f64,
    /// −180..=180, positive if it looks up.
    pub pitch: f64,
    /// −180..=180: the angle of the line through the eyes, positive if the head is turned clockwise in
    /// the image.
    pub roll: f64,
}

impl From<[f64; 3]> for Pose {
    /// From yaw, pitch, roll.
    fn from([yaw, pitch, roll]: [f64; 3]) -> Self {
        Self { yaw, pitch, roll }
    }
}

impl From<Pose> for [f64; 3] {
    fn from(pose: Pose) -> Self {
        [pose.yaw, pose.pitch, pose.roll]
    }
}

impl Pose {
    /// The pose of a head with these landmarks, in square pixels. `None` if they are not finite, coincide,
    /// or are not those of a face.
    pub fn of(landmarks: &Landmarks) -> Option<Self> {
        let center = |values: [f64; 5]| {
            let mean = values.iter().sum::<f64>() / 5.0;
            values.map(|value| value - mean)
        };
        let (x, y) = (
            center(landmarks.map(|p| p.x)),
            center(landmarks.map(|p| p.y)),
        );
        let [mx, my, mz] = [0, 1, 2].map(|axis| center(MODEL.map(|point| point[axis])));
        let model = [0, 1, 2, 3, 4].map(|i| [mx[i], my[i], mz[i]]);

        // Begins with a face that looks at the camera, turned in the plane of the image only.
        let flat = MODEL.map(|[x, y, _]| crate::geometry::Point::new(x, y));
        let start = Similarity::fit(&flat, landmarks)?;
        let mut scale = start.scale();
        let (c, s) = (start.a / scale, start.b / scale);
        let mut turn = [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]];
        for _ in 0..STEPS {
            // The unknowns: a small rotation about each axis, and the growth of the scale.
            let (mut normal, mut right) = ([[0.0; 4]; 4], [0.0; 4]);
            for (i, point) in model.iter().enumerate() {
                let [px, py, pz] = apply(&turn, *point).map(|v| v * scale);
                let rows = [
                    ([0.0, pz, -py, px], x[i] - px),
                    ([-pz, 0.0, px, py], y[i] - py),
                ];
                for (row, rest) in rows {
                    for j in 0..4 {
                        right[j] += row[j] * rest;
                        for k in 0..4 {
                            normal[j][k] += row[j] * row[k];
                        }
                    }
                }
            }
            let [wx, wy, wz, growth] = solve(normal, right)?;
            turn = multiply(&rotation([wx, wy, wz]), &turn);
            scale *= growth.clamp(-0.5, 1.0) + 1.0;
        }
        let extent = |a: &[f64; 5], b: &[f64; 5]| a.iter().chain(b).map(|v| v * v).sum::<f64>();
        let rest = model.iter().enumerate().map(|(i, point)| {
            let [px, py, _] = apply(&turn, *point).map(|v| v * scale);
            (x[i] - px).powi(2) + (y[i] - py).powi(2)
        });
        let fit = (rest.sum::<f64>() / extent(&x, &y)).sqrt();
        let pose = Self::of_rotation(&turn);
        (fit <= WORST_FIT && <[f64; 3]>::from(pose).iter().all(|v| v.is_finite())).then_some(pose)
    }

    fn of_rotation(turn: &[[f64; 3]; 3]) -> Self {
        let [yaw, pitch, roll] = [
            turn[2][0].clamp(-1.0, 1.0).asin(),
            -turn[2][1].atan2(turn[2][2]),
            turn[1][0].atan2(turn[0][0]),
        ]
        .map(f64::to_degrees);
        Self { yaw, pitch, roll }
    }

    /// The angle between the direction in which the face looks and that to the camera, in degrees.
    pub fn away(&self) -> f64 {
        let [yaw, pitch] = [self.yaw, self.pitch].map(f64::to_radians);
        (yaw.cos() * pitch.cos())
            .clamp(-1.0, 1.0)
            .acos()
            .to_degrees()
    }
}

type Matrix = [[f64; 3]; 3];

fn apply(m: &Matrix, p: [f64; 3]) -> [f64; 3] {
    m.map(|row| row[0] * p[0] + row[1] * p[1] + row[2] * p[2])
}

fn multiply(a: &Matrix, b: &Matrix) -> Matrix {
    a.map(|row| [0, 1, 2].map(|j| row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]))
}

/// The rotation about an axis by its length in radians (Rodrigues' formula), by at most half a radian.
fn rotation(axis: [f64; 3]) -> Matrix {
    let length = axis.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length == 0.0 {
        return [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    }
    let [x, y, z] = axis.map(|v| v / length);
    let (s, c) = length.min(0.5).sin_cos();
    let d = 1.0 - c;
    [
        [c + x * x * d, x * y * d - z * s, x * z * d + y * s],
        [y * x * d + z * s, c + y * y * d, y * z * d - x * s],
        [z * x * d - y * s, z * y * d + x * s, c + z * z * d],
    ]
}

/// Solves `a · x = b` for a symmetric positive definite `a`, by Gaussian elimination.
fn solve(mut a: [[f64; 4]; 4], mut b: [f64; 4]) -> Option<[f64; 4]> {
    // A little damping: seen exactly from the side, two unknowns look alike.
    let trace = (0..4).map(|i| a[i][i]).sum::<f64>();
    for (i, row) in a.iter_mut().enumerate() {
        row[i] += 1e-9 * trace;
    }
    for i in 0..4 {
        let upper = a[i];
        if upper[i].is_nan() || upper[i] <= 0.0 {
            return None;
        }
        for j in i + 1..4 {
            let factor = a[j][i] / upper[i];
            for (value, above) in a[j].iter_mut().zip(upper) {
                *value -= factor * above;
            }
            b[j] -= factor * b[i];
        }
    }
    let mut x = [0.0; 4];
    for i in (0..4).rev() {
        let known: f64 = (i + 1..4).map(|k| a[i][k] * x[k]).sum();
        x[i] = (b[i] - known) / a[i][i];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Point;

    fn turned(pose: Pose) -> Matrix {
        let [yaw, pitch, roll] = <[f64; 3]>::from(pose).map(f64::to_radians);
        let about_x = rotation_by([1.0, 0.0, 0.0], -pitch);
        let about_y = rotation_by([0.0, 1.0, 0.0], -yaw);
        let about_z = rotation_by([0.0, 0.0, 1.0], roll);
        multiply(&about_z, &multiply(&about_y, &about_x))
    }

    /// In steps that [`rotation`] allows.
    fn rotation_by(axis: [f64; 3], angle: f64) -> Matrix {
        let step = rotation(axis.map(|v| v * angle / 8.0));
        (1..8).fold(step, |turn, _| multiply(&turn, &step))
    }

    /// The model as a camera sees it from `distance` centimetres, 80 pixels per centimetre at 1 m.
    fn seen(pose: Pose, distance: f64) -> Landmarks {
        let turn = turned(pose);
        MODEL.map(|point| {
            let [x, y, z] = apply(&turn, point);
            let scale = 8000.0 / 100.0 * distance / (distance + z);
            Point::new(500.0 + x * scale, 300.0 + y * scale)
        })
    }

    fn poses() -> impl Iterator<Item = Pose> {
        let yaws = (-7..=7).map(|i| f64::from(i) * 10.0);
        yaws.flat_map(|yaw| {
            (-3..=3).flat_map(move |pitch| {
                [-170.0, -90.0, -30.0, 0.0, 10.0, 90.0, 180.0]
                    .map(|roll| Pose::from([yaw, f64::from(pitch) * 10.0, roll]))
            })
        })
    }

    /// The largest difference of yaw, pitch and roll.
    fn difference(a: Pose, b: Pose) -> f64 {
        let (a, b): ([f64; 3], [f64; 3]) = (a.into(), b.into());
        let apart = |a: f64, b: f64| ((a - b + 540.0).rem_euclid(360.0) - 180.0).abs();
        a.iter()
            .zip(b)
            .map(|(a, b)| apart(*a, b))
            .fold(0.0, f64::max)
    }

    #[test]
    fn projections_of_the_model_give_its_pose() {
        for pose in poses() {
            let found = Pose::of(&seen(pose, 1e9)).expect("a face");
            assert!(difference(found, pose) < 0.1, "{found:?} {pose:?}");
        }
    }

    #[test]
    fn a_near_camera_changes_little() {
        for pose in poses().filter(|pose| pose.yaw.abs() < 50.0) {
            let found = Pose::of(&seen(pose, 80.0)).expect("a face");
            assert!(difference(found, pose) < 7.0, "{found:?} {pose:?}");
        }
    }

    #[test]
    fn signs_are_as_documented() {
        let frontal = seen(Pose::default(), 1e9);
        let mut moved = frontal;
        moved[2].x += 60.0;
        assert!(
            Pose::of(&moved).expect("a face").yaw > 10.0,
            "nose to the right"
        );
        let mut moved = frontal;
        moved[2].y -= 60.0;
        assert!(Pose::of(&moved).expect("a face").pitch > 10.0, "nose up");
        let mut moved = frontal;
        moved[1].y += 60.0;
        moved[4].y += 60.0;
        assert!(
            Pose::of(&moved).expect("a face").roll > 1.0,
            "left side down"
        );
    }

    #[test]
    fn a_mirrored_face_looks_the_other_way() {
        for pose in poses().filter(|pose| pose.roll.abs() < 180.0) {
            let [re, le, nose, rm, lm] = seen(pose, 90.0).map(|p| Point::new(-p.x, p.y));
            let found = Pose::of(&[re, le, nose, rm, lm].map(|p| Point::new(-p.x, p.y)));
            let mirrored = Pose::of(&[le, re, nose, lm, rm]);
            let (found, mirrored) = (found.expect("a face"), mirrored.expect("a face"));
            let expected = Pose::from([-found.yaw, found.pitch, -found.roll]);
            assert!(
                difference(mirrored, expected) < 0.1,
                "{mirrored:?} {expected:?}"
            );
        }
    }

    #[test]
    fn what_is_no_face_has_no_pose() {
        let face = seen(Pose::default(), 1e9);
        for bad in [f64::NAN, f64::INFINITY, 1e200, -1e9] {
            let mut points = face;
            points[3].x = bad;
            assert_eq!(Pose::of(&points), None, "{bad}");
        }
        assert_eq!(Pose::of(&[Point::new(4.0, 4.0); 5]), None);
        let line = [0.0, 1.0, 2.0, 3.0, 4.0].map(|x| Point::new(x, x));
        let _ = Pose::of(&line);
    }

    #[test]
    fn away_is_the_angle_to_the_camera() {
        assert_eq!(Pose::from([0.0, 0.0, 77.0]).away(), 0.0);
        assert!((Pose::from([30.0, 0.0, 0.0]).away() - 30.0).abs() < 1e-9);
        assert!((Pose::from([0.0, -40.0, 0.0]).away() - 40.0).abs() < 1e-9);
    }
}
