//! A cheap description of what a face looks like, to tell the faces of one scene apart for some seconds.
//!
//! It knows the person of a minute ago, not the person: clothes, hair, skin and light count as much as
//! features do. A model for recognition is far better and a hundred times dearer.

/// The width and height of a [`Chip`], in pixels.
pub const SIDE: usize = 16;
const PIXELS: usize = SIDE * SIDE;

/// A face and what is around it, in red, green and blue planes of `SIDE` x `SIDE` numbers in 0..=255.
pub type Chip = [f32; 3 * PIXELS];

/// Cells across and down, and directions, of the histograms of gradients.
const CELLS: usize = 4;
const DIRECTIONS: usize = 8;
/// Levels of each of the two colour axes, and of brightness.
const LEVELS: usize = 8;
/// The length of a quarter's histogram of colours: blue and red against brightness, then brightness.
const BINS: usize = LEVELS * LEVELS + LEVELS;
/// The difference to brightness, up and down, that the colour axes span, in steps of 255. Those of skin,
/// hair and cloth are small.
const CHROMA: f32 = 180.0;

/// The weight of edges relative to colours.
const EDGES: f64 = 3.0;

/// What a face looks like.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// The strength of edges in each cell and direction, square-rooted. (Histograms of oriented gradients,
    /// Dalal and Triggs, CVPR 2005.)
    edges: Vec<f32>,
    /// How many pixels of each quarter have each colour, square-rooted.
    colors: Vec<f32>,
}

/// Adds 1 to a histogram, shared between the two levels next to `place` (0..=1).
fn spread(place: f32, levels: usize) -> [(usize, f32); 2] {
    let at = (place.clamp(0.0, 1.0) * levels as f32 - 0.5).clamp(0.0, (levels - 1) as f32);
    let low = at as usize;
    let high = (low + 1).min(levels - 1);
    let share = at - low as f32;
    [(low, 1.0 - share), (high, share)]
}

impl Descriptor {
    pub fn new(chip: &Chip) -> Self {
        let (red, rest) = chip.split_at(PIXELS);
        let (green, blue) = rest.split_at(PIXELS);
        let luma: Vec<f32> = (0..PIXELS)
            .map(|i| 0.299 * red[i] + 0.587 * green[i] + 0.114 * blue[i])
            .collect();
        Self {
            edges: edges(&luma),
            colors: colors(red, blue, &luma),
        }
    }

    /// How different two faces look: 0 for equal ones, about 0.2 for one face a second later, and 0.8 for
    /// two people. Only the half that differs least counts, left, right, upper or lower: a face that comes
    /// out from behind something is half hidden.
    pub fn distance(&self, other: &Self) -> f64 {
        let quarters: [Quarter; 4] = std::array::from_fn(|quarter| self.quarter(other, quarter));
        HALVES
            .map(|[a, b]| quarters[a].with(&quarters[b]).distance())
            .into_iter()
            .fold(f64::INFINITY, f64::min)
    }

    fn quarter(&self, other: &Self, quarter: usize) -> Quarter {
        let mut sums = Quarter::default();
        for cell in (0..CELLS * CELLS).filter(|&cell| quarter_of(cell, CELLS) == quarter) {
            let cell = cell * DIRECTIONS..(cell + 1) * DIRECTIONS;
            sums.edges
                .add(&self.edges[cell.clone()], &other.edges[cell]);
        }
        let bins = quarter * BINS..(quarter + 1) * BINS;
        sums.colors
            .add(&self.colors[bins.clone()], &other.colors[bins]);
        sums
    }
}

/// The quarters that make a half. They are numbered row by row.
const HALVES: [[usize; 2]; 4] = [[0, 2], [1, 3], [0, 1], [2, 3]];

/// The quarter that the `i`th of `side` x `side` cells lies in.
fn quarter_of(i: usize, side: usize) -> usize {
    let (x, y) = (i % side, i / side);
    2 * (y / (side / 2)) + x / (side / 2)
}

/// What two vectors have in common.
#[derive(Debug, Clone, Copy, Default)]
struct Common {
    product: f32,
    squares: [f32; 2],
}

impl Common {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        for (a, b) in a.iter().zip(b) {
            self.product += a * b;
            self.squares[0] += a * a;
            self.squares[1] += b * b;
        }
    }

    fn with(&self, other: &Self) -> Self {
        Self {
            product: self.product + other.product,
            squares: [0, 1].map(|i| self.squares[i] + other.squares[i]),
        }
    }

    /// 0 if one of them is empty: where nothing is to be seen, nothing is alike.
    fn cosine(&self) -> f64 {
        let length = (self.squares[0] * self.squares[1]).sqrt();
        match self.product / length {
            cosine if cosine.is_finite() => f64::from(cosine.clamp(0.0, 1.0)),
            _ => 0.0,
        }
    }
}

/// What a quarter of two faces has in common.
#[derive(Debug, Clone, Copy, Default)]
struct Quarter {
    edges: Common,
    colors: Common,
}

impl Quarter {
    fn with(&self, other: &Self) -> Self {
        Self {
            edges: self.edges.with(&other.edges),
            colors: self.colors.with(&other.colors),
        }
    }

    fn distance(&self) -> f64 {
        // The second is Hellinger's distance: the histograms are rooted.
        EDGES * (1.0 - self.edges.cosine()) + (1.0 - self.colors.cosine()).sqrt()
    }
}

fn edges(luma: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; CELLS * CELLS * DIRECTIONS];
    let at = |x: usize, y: usize| luma[y * SIDE + x];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let dx = at((x + 1).min(SIDE - 1), y) - at(x.saturating_sub(1), y);
            let dy = at(x, (y + 1).min(SIDE - 1)) - at(x, y.saturating_sub(1));
            let strength = dx.hypot(dy);
            let turn = dy.atan2(dx) / std::f32::consts::PI;
            let turn = if turn < 0.0 { turn + 1.0 } else { turn };
            let direction = turn * DIRECTIONS as f32;
            let low = direction as usize % DIRECTIONS;
            let share = direction - direction.floor();
            let high = (low + 1) % DIRECTIONS;
            for (cx, wx) in spread((x as f32 + 0.5) / SIDE as f32, CELLS) {
                for (cy, wy) in spread((y as f32 + 0.5) / SIDE as f32, CELLS) {
                    let cell = &mut out[(cy * CELLS + cx) * DIRECTIONS..][..DIRECTIONS];
                    cell[low] += strength * wx * wy * (1.0 - share);
                    cell[high] += strength * wx * wy * share;
                }
            }
        }
    }
    // The root, so that one strong edge does not outweigh all others.
    for value in &mut out {
        *value = value.sqrt();
    }
    out
}

fn colors(red: &[f32], blue: &[f32], luma: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; 4 * BINS];
    for i in 0..PIXELS {
        let out = &mut out[quarter_of(i, SIDE) * BINS..][..BINS];
        let cb = 0.5 + (blue[i] - luma[i]) / CHROMA;
        let cr = 0.5 + (red[i] - luma[i]) / CHROMA;
        for (u, wu) in spread(cb, LEVELS) {
            for (v, wv) in spread(cr, LEVELS) {
                out[u * LEVELS + v] += wu * wv;
            }
        }
        for (level, weight) in spread(luma[i] / 255.0, LEVELS) {
            out[LEVELS * LEVELS + level] += weight;
        }
    }
    for value in &mut out {
        *value = value.sqrt();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chip with the colour that `color` gives for each place, 0..1.
    fn chip(color: impl Fn(f32, f32) -> [f32; 3]) -> Chip {
        let mut chip = [0.0; 3 * PIXELS];
        for i in 0..PIXELS {
            let place = |i: usize| (i as f32 + 0.5) / SIDE as f32;
            for (channel, value) in color(place(i % SIDE), place(i / SIDE)).iter().enumerate() {
                chip[channel * PIXELS + i] = *value;
            }
        }
        chip
    }

    fn rings(x: f32, y: f32) -> [f32; 3] {
        let wave = 60.0 * (20.0 * (x - 0.5).hypot(y - 0.4)).sin();
        [150.0 + wave, 110.0 + wave, 90.0 + wave]
    }

    fn stripes(x: f32, y: f32) -> [f32; 3] {
        let wave = 60.0 * (18.0 * x - 6.0 * y).sin();
        [150.0 + wave, 110.0 + wave, 90.0 + wave]
    }

    fn of(color: impl Fn(f32, f32) -> [f32; 3]) -> Descriptor {
        Descriptor::new(&chip(color))
    }

    #[test]
    fn a_face_is_like_itself_in_other_light_and_a_little_aside() {
        let face = of(rings);
        assert!(face.distance(&face) < 1e-3);
        let light = of(|x, y| rings(x, y).map(|v| 0.9 * v));
        let aside = of(|x, y| rings(x + 0.04, y));
        let other = of(stripes);
        assert!(face.distance(&light) < 0.3, "{}", face.distance(&light));
        assert!(face.distance(&aside) < 0.3, "{}", face.distance(&aside));
        assert!(face.distance(&other) > 0.5, "{}", face.distance(&other));
        assert_eq!(face.distance(&other), other.distance(&face));
    }

    #[test]
    fn half_a_face_is_enough() {
        let face = of(rings);
        for hidden in [
            (|x, _| x < 0.5) as fn(f32, f32) -> bool,
            |x, _| x > 0.5,
            |_, y| y < 0.5,
            |_, y| y > 0.5,
        ] {
            let half = of(|x, y| {
                if hidden(x, y) {
                    [20.0, 90.0, 20.0]
                } else {
                    rings(x, y)
                }
            });
            assert!(face.distance(&half) < 0.45, "{}", face.distance(&half));
        }
    }

    #[test]
    fn colours_tell_apart_what_has_the_same_shape() {
        let pale = of(|x, y| rings(x, y).map(|v| v + 20.0));
        let red = of(|x, y| {
            let [r, g, b] = rings(x, y);
            [r + 60.0, g - 20.0, b - 40.0]
        });
        let (same, other) = (pale.distance(&of(rings)), pale.distance(&red));
        assert!(other > 2.0 * same, "{same} {other}");
    }

    #[test]
    fn a_blank_wall_is_like_nothing() {
        let wall = of(|_, _| [128.0; 3]);
        assert!(wall.distance(&of(rings)) > 2.0);
        assert!(wall.distance(&wall) > 2.0);
        let nothing = of(|_, _| [f32::NAN; 3]);
        assert!(nothing.distance(&of(rings)) > 2.0);
    }
}
