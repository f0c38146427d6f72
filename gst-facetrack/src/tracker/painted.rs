//! Faces painted on a wall, for tests of what trackers see.

use face_meta::geometry::Rect;

use super::tests::Rng;
use crate::descriptor::{Chip, Descriptor, SIDE};
use crate::sight::Eyes;

/// A picture of faces, each as large as its box; the later ones lie over the earlier ones.
pub struct Painted(pub Vec<(Rect, Person)>);

/// A pattern of colours that nobody else has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person(pub u64);

impl Person {
    /// The colour at a place in the face, each 0..1.
    fn color(self, x: f64, y: f64) -> [f32; 3] {
        let (column, row) = ((x * 5.0) as u64, (y * 5.0) as u64);
        let mut rng = Rng(self.0 * 1000 + 5 * row + column);
        let skin = Rng(self.0).range(40.0, 120.0);
        std::array::from_fn(|channel| {
            (skin + 30.0 * channel as f64 * (self.0 % 3) as f64 + rng.range(0.0, 80.0)) as f32
        })
    }
}

impl Painted {
    fn color(&self, x: f64, y: f64) -> [f32; 3] {
        let over =
            self.0.iter().rev().find(|(rect, _)| {
                x >= rect.x && x < rect.right() && y >= rect.y && y < rect.bottom()
            });
        match over {
            Some((rect, person)) => person.color((x - rect.x) / rect.w, (y - rect.y) / rect.h),
            // A wall of even brightness.
            None => [128.0, 130.0, 126.0],
        }
    }
}

impl Eyes for Painted {
    fn look(&mut self, rect: &Rect) -> Option<Descriptor> {
        let mut chip: Chip = [0.0; 3 * SIDE * SIDE];
        for i in 0..SIDE * SIDE {
            let share = |i: usize| (i as f64 + 0.5) / SIDE as f64;
            let x = rect.x + rect.w * share(i % SIDE);
            let y = rect.y + rect.h * share(i / SIDE);
            for (channel, value) in self.color(x, y).into_iter().enumerate() {
                chip[channel * SIDE * SIDE + i] = value;
            }
        }
        Some(Descriptor::new(&chip))
    }
}
