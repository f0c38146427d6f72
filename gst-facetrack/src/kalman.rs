//! Constant-velocity Kalman filters for boxes, in pixels and frames.

use face_meta::geometry::Rect;

/// The length of a measurement: a box is four numbers.
const MEASURED: usize = 4;

/// The largest coordinate and size, and the smallest size, in pixels, for filters and associations.
/// They lie far outside any video, and keep squares and ratios well inside `f64`.
const MAX_PIXELS: f64 = 1e7;
const MIN_SIZE: f64 = 1e-3;

/// The box that trackers use for a finite, non-empty `rect`.
pub fn limited(rect: &Rect) -> Rect {
    Rect::new(
        rect.x.clamp(-MAX_PIXELS, MAX_PIXELS),
        rect.y.clamp(-MAX_PIXELS, MAX_PIXELS),
        rect.w.clamp(MIN_SIZE, MAX_PIXELS),
        rect.h.clamp(MIN_SIZE, MAX_PIXELS),
    )
}

/// A model of how a box moves. Boxes passed in must be [`limited`].
pub trait Motion: Send {
    fn new(rect: &Rect) -> Self;
    /// Advances by one frame. `lost` means that the face was not found when last looked for. Its
    /// velocity is then trusted less with every frame.
    fn predict(&mut self, lost: bool);
    /// Updates the state with a detected box.
    fn update(&mut self, rect: &Rect);
    /// The estimated box; empty or not finite if the state makes no sense.
    fn rect(&self) -> Rect;
}

/// How much of a lost face's velocity remains after a frame. Heads turn back sooner than a constant
/// velocity assumes: in a second at 30 frames/s, the face moves half as far as it would.
const LOST_VELOCITY: f64 = 0.95;
/// The same for the change of its size, the noisiest part of the state.
const LOST_GROWTH: f64 = 0.5;

/// A filter whose state is four measured numbers and the velocities, per frame, of the first `N -
/// 4` of them. All noise is uncorrelated, so the numbers of a measurement are processed one by one,
/// without a matrix inverse.
#[derive(Debug, Clone)]
struct Kalman<const N: usize> {
    state: [f64; N],
    covariance: [[f64; N]; N],
}

impl<const N: usize> Kalman<N> {
    fn new(measurement: [f64; MEASURED], variance: [f64; N]) -> Self {
        let mut state = [0.0; N];
        state[..MEASURED].copy_from_slice(&measurement);
        let mut covariance = [[0.0; N]; N];
        for (i, v) in variance.into_iter().enumerate() {
            covariance[i][i] = v;
        }
        Self { state, covariance }
    }

    /// `x ← F·x`, `P ← F·P·Fᵀ + Q`, where `F` adds the velocities.
    fn predict(&mut self, noise: [f64; N]) {
        let p = &mut self.covariance;
        for i in MEASURED..N {
            self.state[i - MEASURED] += self.state[i];
            let velocity = p[i];
            for (a, b) in p[i - MEASURED].iter_mut().zip(velocity) {
                *a += b;
            }
        }
        for row in p.iter_mut() {
            for i in MEASURED..N {
                row[i - MEASURED] += row[i];
            }
        }
        for (i, q) in noise.into_iter().enumerate() {
            p[i][i] += q;
        }
        self.symmetrise();
    }

    /// `noise` holds the variances of the measured numbers, all above 0.
    fn update(&mut self, measurement: [f64; MEASURED], noise: [f64; MEASURED]) {
        for (i, (z, r)) in measurement.into_iter().zip(noise).enumerate() {
            let row = self.covariance[i];
            let variance = row[i] + r;
            let innovation = z - self.state[i];
            for (j, covariance) in self.covariance.iter_mut().enumerate() {
                let gain = row[j] / variance;
                self.state[j] += gain * innovation;
                for (p, k) in covariance.iter_mut().zip(row) {
                    *p -= gain * k;
                }
            }
            self.symmetrise();
        }
    }

    /// Removes the asymmetry that rounding causes in the covariance.
    fn symmetrise(&mut self) {
        for i in 0..N {
            self.covariance[i][i] = self.covariance[i][i].max(0.0);
            for j in 0..i {
                let mean = (self.covariance[i][j] + self.covariance[j][i]) / 2.0;
                self.covariance[i][j] = mean;
                self.covariance[j][i] = mean;
            }
        }
    }

    /// Reduces the velocities, those of the centre (the first two numbers) less than those of the
    /// size.
    fn damp(&mut self) {
        for (i, velocity) in self.state[MEASURED..].iter_mut().enumerate() {
            *velocity *= if i < 2 { LOST_VELOCITY } else { LOST_GROWTH };
        }
    }
}

/// SORT's filter (Bewley et al., "Simple online and realtime tracking", ICIP 2016), which OC-SORT
/// uses unchanged: `[cx, cy, area, w/h]` and the velocities of the first three.
#[derive(Debug, Clone)]
pub struct AreaFilter(Kalman<7>);

impl AreaFilter {
    // Variances as in SORT's published code, in px², px⁴ and 1. Velocities start out unknown.
    const INITIAL: [f64; 7] = [10.0, 10.0, 10.0, 10.0, 1e4, 1e4, 1e4];
    const PROCESS: [f64; 7] = [1.0, 1.0, 1.0, 1.0, 1e-2, 1e-2, 1e-4];
    const MEASUREMENT: [f64; 4] = [1.0, 1.0, 10.0, 10.0];

    fn measurement(rect: &Rect) -> [f64; 4] {
        let center = rect.center();
        [center.x, center.y, rect.w * rect.h, rect.w / rect.h]
    }
}

impl Motion for AreaFilter {
    fn new(rect: &Rect) -> Self {
        Self(Kalman::new(Self::measurement(rect), Self::INITIAL))
    }

    fn predict(&mut self, lost: bool) {
        if lost {
            self.0.damp();
        }
        // As in SORT: a face's area stays positive.
        if self.0.state[2] + self.0.state[6] <= 0.0 {
            self.0.state[6] = 0.0;
        }
        self.0.predict(Self::PROCESS);
    }

    fn update(&mut self, rect: &Rect) {
        self.0.update(Self::measurement(rect), Self::MEASUREMENT);
    }

    fn rect(&self) -> Rect {
        let [cx, cy, area, aspect, ..] = self.0.state;
        let w = (area * aspect).max(0.0).sqrt();
        let h = area / w;
        Rect::new(cx - w / 2.0, cy - h / 2.0, w, h)
    }
}

/// ByteTrack's filter, which is that of DeepSORT (Wojke et al., ICIP 2017):
/// `[cx, cy, w/h, h]` and their velocities, with noise in proportion to the height.
#[derive(Debug, Clone)]
pub struct HeightFilter(Kalman<8>);

impl HeightFilter {
    // Standard deviations as in DeepSORT's published code: of position and size, and of their
    // velocities per frame, in heights; and of the aspect ratio.
    const POSITION: f64 = 1.0 / 20.0;
    const VELOCITY: f64 = 1.0 / 160.0;
    const ASPECT: f64 = 1e-2;
    const ASPECT_MEASURED: f64 = 1e-1;
    const ASPECT_VELOCITY: f64 = 1e-5;

    fn measurement(rect: &Rect) -> [f64; 4] {
        let center = rect.center();
        [center.x, center.y, rect.w / rect.h, rect.h]
    }

    /// Variances for standard deviations of `position` pixels and velocities of `velocity`.
    fn variance(position: f64, velocity: f64) -> [f64; 8] {
        let (p, v) = (position, velocity);
        let (a, b) = (Self::ASPECT, Self::ASPECT_VELOCITY);
        [p, p, a, p, v, v, b, v].map(|deviation| deviation * deviation)
    }
}

impl Motion for HeightFilter {
    fn new(rect: &Rect) -> Self {
        let (position, velocity) = (2.0 * Self::POSITION, 10.0 * Self::VELOCITY);
        Self(Kalman::new(
            Self::measurement(rect),
            Self::variance(position * rect.h, velocity * rect.h),
        ))
    }

    fn predict(&mut self, lost: bool) {
        if lost {
            self.0.damp();
        }
        let height = self.0.state[3].clamp(MIN_SIZE, MAX_PIXELS);
        let noise = Self::variance(Self::POSITION * height, Self::VELOCITY * height);
        self.0.predict(noise);
    }

    fn update(&mut self, rect: &Rect) {
        let position = Self::POSITION * rect.h;
        let noise = [position, position, Self::ASPECT_MEASURED, position];
        self.0.update(
            Self::measurement(rect),
            noise.map(|deviation| deviation * deviation),
        );
    }

    fn rect(&self) -> Rect {
        let [cx, cy, aspect, h, ..] = self.0.state;
        let w = aspect * h;
        Rect::new(cx - w / 2.0, cy - h / 2.0, w, h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tracker::tests::Rng;

    fn follows<M: Motion>() {
        let truth = |t: f64| Rect::new(10.0 + 4.0 * t, 500.0 - 3.0 * t, 60.0 + t, 80.0 + t);
        let mut motion = M::new(&truth(0.0));
        for t in 1..30 {
            motion.predict(false);
            motion.update(&truth(f64::from(t)));
        }
        for t in 30..35 {
            motion.predict(false);
            assert!(motion.rect().iou(&truth(f64::from(t))) > 0.9);
        }
    }

    #[test]
    fn filters_follow_constant_motion() {
        follows::<AreaFilter>();
        follows::<HeightFilter>();
    }

    #[test]
    fn number_by_number_equals_the_textbook_for_one_dimension() {
        // With prior variance p and noise r, the posterior is p·r / (p + r).
        let mut filter = Kalman::<7>::new([0.0; 4], [4.0; 7]);
        filter.update([10.0; 4], [1.0; 4]);
        for i in 0..4 {
            assert!((filter.state[i] - 8.0).abs() < 1e-12);
            assert!((filter.covariance[i][i] - 0.8).abs() < 1e-12);
        }
        assert_eq!(filter.state[4..], [0.0; 3]);
    }

    fn stays_sound<const N: usize>(filter: &Kalman<N>) {
        assert!(filter.state.iter().all(|v| v.is_finite()));
        for i in 0..N {
            for j in 0..N {
                let p = filter.covariance[i][j];
                assert!(p.is_finite() && p == filter.covariance[j][i]);
                let bound = (filter.covariance[i][i] * filter.covariance[j][j]).sqrt();
                assert!(
                    p.abs() <= bound * (1.0 + 1e-6) + 1e-9,
                    "{p} exceeds {bound}"
                );
            }
        }
    }

    #[test]
    fn covariance_stays_sound_under_wild_boxes() {
        let mut rng = Rng(11);
        let wild = |rng: &mut Rng| {
            let size = 10f64.powf(rng.range(-6.0, 12.0));
            limited(&Rect::new(
                rng.range(-1e9, 1e9),
                rng.range(-1e3, 1e3),
                size,
                rng.range(1e-9, 1e9),
            ))
        };
        let first = wild(&mut rng);
        let (mut area, mut height) = (AreaFilter::new(&first), HeightFilter::new(&first));
        for _ in 0..20_000 {
            for _ in 0..rng.below(4) {
                let lost = rng.below(2) == 0;
                area.predict(lost);
                height.predict(lost);
            }
            let rect = wild(&mut rng);
            area.update(&rect);
            height.update(&rect);
            stays_sound(&area.0);
            stays_sound(&height.0);
        }
    }
}
