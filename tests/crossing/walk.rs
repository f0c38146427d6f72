//! Where people are, when: they cross the picture, hide one another, pass behind pillars, leave and
//! return.

/// How people move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Across the whole picture, out, and back after a pause.
    Cross,
    /// To and fro within the picture, with stops.
    Stroll,
}

/// What is made.
#[derive(Debug, Clone, Copy)]
pub struct Scene {
    pub name: &'static str,
    pub width: u32,
    pub height: u32,
    /// Frames per second.
    pub rate: u32,
    pub seconds: u32,
    pub people: usize,
    /// The smallest and the largest height of a face, in pixels.
    pub faces: [f64; 2],
    /// Widths of a face per second: the slowest and the fastest.
    pub speed: [f64; 2],
    pub manner: Manner,
    /// Walls in front of everybody.
    pub pillars: usize,
    /// The standard deviation of the noise, in steps of 255.
    pub noise: f64,
    pub seed: u64,
}

/// Where a face's middle is, and how tall the face is, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Seconds.
    pub time: f64,
    pub x: f64,
    pub y: f64,
    pub face: f64,
}

/// The way of one person. Between keys they move evenly.
#[derive(Debug, Clone, Default)]
pub struct Way {
    pub keys: Vec<Key>,
    /// Times, in seconds, at which a new visit begins; out of the picture before it.
    pub visits: Vec<f64>,
}

/// xorshift64*: the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// 0 to 1.
    pub fn share(&mut self) -> f64 {
        (self.number() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn between(&mut self, [least, most]: [f64; 2]) -> f64 {
        least + (most - least) * self.share()
    }

    /// Normally distributed, with mean 0 and deviation 1.
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.share().max(1e-300).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.share()).cos()
    }
}

/// The width of a face, as a share of its height.
const WIDTH: f64 = 0.78;

impl Scene {
    /// The ways of all people.
    pub fn ways(&self) -> Vec<Way> {
        let mut random = Random::new(self.seed);
        (0..self.people)
            .map(|person| match self.manner {
                Manner::Cross => self.cross(person, &mut random),
                Manner::Stroll => self.stroll(&mut random),
            })
            .collect()
    }

    /// The height of eyes: nearer people are larger, and a little lower.
    fn lane(&self, face: f64, random: &mut Random) -> f64 {
        f64::from(self.height) * 0.4 + face * random.between([-0.35, 0.45])
    }

    fn cross(&self, person: usize, random: &mut Random) -> Way {
        let mut way = Way::default();
        let mut rightward = person.is_multiple_of(2);
        // Somebody is in the middle at once.
        let mut time = -random.between([0.0, 4.0]);
        while time < f64::from(self.seconds) {
            let face = random.between(self.faces);
            let y = self.lane(face, random);
            let margin = 2.0 * face;
            let width = f64::from(self.width) + 2.0 * margin;
            let end = time + width / (random.between(self.speed) * face * WIDTH);
            let (from, to) = match rightward {
                true => (-margin, f64::from(self.width) + margin),
                false => (f64::from(self.width) + margin, -margin),
            };
            way.visits.push(time);
            let bob = face * random.between([-0.15, 0.15]);
            way.keys.push(Key {
                time,
                x: from,
                y,
                face,
            });
            way.keys.push(Key {
                time: (time + end) / 2.0,
                x: (from + to) / 2.0,
                y: y + bob,
                face,
            });
            way.keys.push(Key {
                time: end,
                x: to,
                y,
                face,
            });
            time = end + random.between([1.0, 4.0]);
            rightward = !rightward;
        }
        way
    }

    fn stroll(&self, random: &mut Random) -> Way {
        let mut face = random.between(self.faces);
        let y = self.lane(face, random);
        let sides = [0.15, 0.85].map(|share| share * f64::from(self.width));
        let mut key = Key {
            time: 0.0,
            x: random.between(sides),
            y,
            face,
        };
        let mut way = Way {
            keys: vec![key],
            visits: vec![0.0],
        };
        while key.time < f64::from(self.seconds) {
            // A stop.
            key.time += random.between([0.2, 1.2]);
            way.keys.push(key);
            let x = random.between(sides);
            face = (face * random.between([0.9, 1.1])).clamp(self.faces[0], self.faces[1]);
            let seconds = (x - key.x).abs() / (random.between(self.speed) * face * WIDTH);
            key = Key {
                time: key.time + seconds.max(0.3),
                x,
                y,
                face,
            };
            way.keys.push(key);
        }
        way
    }

    /// The left edges of the pillars.
    pub fn pillars(&self) -> Vec<f64> {
        let count = self.pillars as f64;
        let place = |i: usize| f64::from(self.width) * (i as f64 + 1.0) / (count + 1.0);
        (0..self.pillars)
            .map(|i| place(i) - self.pillar_width() / 2.0)
            .collect()
    }

    /// In pixels: somewhat more than a head.
    pub fn pillar_width(&self) -> f64 {
        self.faces[1] * 1.1
    }
}

impl Way {
    /// Where the person is at a time in seconds. Before and after the keys: at the nearest one.
    pub fn at(&self, time: f64) -> Key {
        let next = self.keys.partition_point(|key| key.time <= time);
        let (Some(before), Some(after)) = (
            self.keys.get(next.saturating_sub(1)),
            self.keys.get(next).or(self.keys.last()),
        ) else {
            return Key {
                time,
                x: 0.0,
                y: 0.0,
                face: 1.0,
            };
        };
        let share = match after.time > before.time {
            true => ((time - before.time) / (after.time - before.time)).clamp(0.0, 1.0),
            false => 0.0,
        };
        // Nobody glides from one visit to the next.
        if self.visits.contains(&after.time) && share > 0.0 {
            return *before;
        }
        let between = |a: f64, b: f64| a + (b - a) * share;
        Key {
            time,
            x: between(before.x, after.x),
            y: between(before.y, after.y),
            face: between(before.face, after.face),
        }
    }

    /// Which visit a time belongs to.
    pub fn visit(&self, time: f64) -> usize {
        self.visits
            .partition_point(|visit| *visit <= time)
            .saturating_sub(1)
    }
}
