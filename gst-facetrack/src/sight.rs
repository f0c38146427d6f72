//! What a tracker sees of the faces: descriptors of detections, made when they are asked for, and what
//! each track looked like.

use std::cell::RefCell;
use std::collections::VecDeque;

use face_meta::geometry::Rect;

use crate::descriptor::Descriptor;
use crate::tracker::place::distance;
use crate::tracker::{Appearance, Detection};

/// Sees the pixels of one frame.
pub trait Eyes {
    /// What is in `rect`; `None` if the frame cannot be seen.
    fn look(&mut self, rect: &Rect) -> Option<Descriptor>;
}

/// Sees nothing.
pub struct Blind;

impl Eyes for Blind {
    fn look(&mut self, _: &Rect) -> Option<Descriptor> {
        None
    }
}

/// How many descriptors of a track are kept: heads turn, and the nearest one counts (DeepSORT's gallery,
/// Wojke et al., ICIP 2017).
const LOOKS: usize = 6;
/// How long the look of a track lasts until it is looked at again, in ns: by itself, and with another face
/// close by, which may hide it soon.
const PAUSE: u64 = 400_000_000;
const PAUSE_CLOSE: u64 = 120_000_000;

/// What a track looked like.
#[derive(Debug, Clone, Default)]
pub struct Looks {
    descriptors: VecDeque<Descriptor>,
    /// When it was looked at last, in ns.
    time: Option<u64>,
}

impl Looks {
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    pub fn is_due(&self, time: u64, close: bool) -> bool {
        let close = close || self.descriptors.len() < LOOKS / 2;
        let pause = if close { PAUSE_CLOSE } else { PAUSE };
        self.time.is_none_or(|last| time.abs_diff(last) >= pause)
    }

    pub fn add(&mut self, descriptor: Descriptor, time: u64) {
        if self.descriptors.len() == LOOKS {
            self.descriptors.pop_front();
        }
        self.descriptors.push_back(descriptor);
        self.time = Some(time);
    }

    /// Puts the looks of an earlier time before these.
    pub fn follow(&mut self, mut earlier: Self) {
        earlier.descriptors.append(&mut self.descriptors);
        let excess = earlier.descriptors.len().saturating_sub(LOOKS);
        earlier.descriptors.drain(..excess);
        self.descriptors = earlier.descriptors;
    }

    /// The distance of `descriptor` to the nearest look; `None` without any.
    pub fn distance(&self, descriptor: &Descriptor) -> Option<f64> {
        let distances = self.descriptors.iter().map(|d| d.distance(descriptor));
        distances.min_by(f64::total_cmp)
    }
}

/// The detections of a frame, looked at as far as necessary.
pub struct Sight<'a> {
    eyes: RefCell<&'a mut dyn Eyes>,
    mode: Appearance,
    detections: &'a [Detection],
    seen: RefCell<Vec<Option<Option<Descriptor>>>>,
}

/// A face is covered if others lie over more than this share of its box: what is seen there may be theirs.
const COVERED: f64 = 0.1;
/// Faces whose centres are closer than this many faces are about to meet.
const CLOSE: f64 = 1.5;

impl<'a> Sight<'a> {
    pub fn new(eyes: &'a mut dyn Eyes, mode: Appearance, detections: &'a [Detection]) -> Self {
        Self {
            eyes: RefCell::new(eyes),
            mode,
            detections,
            seen: RefCell::new(vec![None; detections.len()]),
        }
    }

    pub fn detections(&self) -> &'a [Detection] {
        self.detections
    }

    pub fn is_always(&self) -> bool {
        self.mode == Appearance::Always
    }

    /// Whether other faces cover a part of detection `d`.
    pub fn is_covered(&self, d: usize) -> bool {
        let rect = &self.detections[d].rect;
        let over = |(i, other): (usize, &Detection)| {
            i != d && other.rect.intersection(rect).area() > COVERED * rect.area()
        };
        self.detections.iter().enumerate().any(over)
    }

    /// Whether another face is close to detection `d`.
    pub fn is_close(&self, d: usize) -> bool {
        let rect = &self.detections[d].rect;
        let near = |(i, other): (usize, &Detection)| i != d && distance(rect, &other.rect) < CLOSE;
        self.detections.iter().enumerate().any(near)
    }

    /// What detection `d` looks like.
    pub fn descriptor(&self, d: usize) -> Option<Descriptor> {
        if self.mode == Appearance::None {
            return None;
        }
        let mut seen = self.seen.borrow_mut();
        let look = || self.eyes.borrow_mut().look(&self.detections[d].rect);
        seen[d].get_or_insert_with(look).clone()
    }

    /// How unlike `looks` detection `d` is; `None` if one of them is unknown.
    pub fn unlike(&self, looks: &Looks, d: usize) -> Option<f64> {
        if looks.descriptors.is_empty() {
            return None;
        }
        looks.distance(&self.descriptor(d)?)
    }
}
