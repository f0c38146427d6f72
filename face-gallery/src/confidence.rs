//! How likely a name is to be right.

/// The deviation of strangers' similarities, for models of which it is unknown: SFace's.
pub const DEVIATION: f64 = 0.088;

/// What speaks for a name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signs {
    /// How far the score is within the limit for the gallery's size, in deviations.
    pub within: f64,
    /// How far the next person, or face that is not to be named, is behind, in deviations. `None` if
    /// there is none.
    pub ahead: Option<f64>,
    /// The total weight of the embeddings, 0.02 and more.
    pub weight: f64,
}

/// The probability that the name is right.
pub fn right(signs: Signs) -> f64 {
    let ahead = signs.ahead.unwrap_or(MOST_AHEAD).clamp(-MOST_AHEAD, MOST_AHEAD);
    let weight = signs.weight.clamp(0.02, 10.0).ln();
    let logit = BIAS + WITHIN * signs.within + AHEAD * ahead + WEIGHT * weight;
    1.0 / (1.0 + (-logit).exp())
}

const MOST_AHEAD: f64 = 4.0;
const BIAS: f64 = 1.0;
const WITHIN: f64 = 2.0;
const AHEAD: f64 = 0.5;
const WEIGHT: f64 = 0.0;
