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
}

/// The probability that the name is right, where as many faces belong to people in the gallery as not.
///
/// The product of two: that the face belongs to somebody in the gallery, and that it is not the next
/// one's. Where two are equally near, neither is likelier.
///
/// The first is a logistic regression, fitted on half of 79 people and 509 strangers of Labeled Faces
/// in the Wild: whole, small and blurred faces and tracks of two to five of them, in galleries of 5 to
/// 40 people with one to five photos. `docs/decisions/004-naming.md` has the calibration error on the
/// other half. Quality and number of frames change the score, and added nothing beyond it.
pub fn right(signs: Signs) -> f64 {
    let logistic = |logit: f64| 1.0 / (1.0 + (-logit).exp());
    let ahead = signs
        .ahead
        .map(|ahead| ahead.clamp(-MOST_AHEAD, MOST_AHEAD));
    let known = logistic(WITHIN * signs.within + AHEAD * ahead.unwrap_or(ALONE));
    let this_one = ahead.map_or(1.0, |ahead| logistic(APART * ahead));
    (known * this_one).min(SUREST)
}

const WITHIN: f64 = 3.4;
const AHEAD: f64 = 1.0;

/// How fast two people become distinct. Any value from 2 up fits: people as alike as this are too rare
/// in the set.
const APART: f64 = 3.0;

/// Farther ahead says no more.
const MOST_AHEAD: f64 = 4.0;

/// For the only person in a gallery, fitted on galleries of one.
pub const ALONE: f64 = 2.0;

/// Of 13 600 answers with more than two deviations within the limit, none was wrong. A thousand could
/// tell no more.
const SUREST: f64 = 0.999;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearer_and_farther_ahead_is_surer() {
        let right = |within, ahead| right(Signs { within, ahead });
        assert!((right(9.0, Some(0.0)) - 0.5).abs() < 1e-9, "one of two");
        assert!(
            (right(0.0, Some(0.0)) - 0.25).abs() < 1e-9,
            "one of two, or nobody"
        );
        assert!(right(9.0, Some(-1.0)) < 0.1, "rather the other");
        assert!(right(0.0, Some(1.0)) > right(0.0, Some(0.5)));
        assert!(right(0.5, None) > right(0.2, None));
        assert_eq!(right(0.1, Some(9.0)), right(0.1, Some(4.0)));
        assert_eq!(right(30.0, None), SUREST);
        assert!(right(-30.0, Some(-9.0)) < 1e-12);
    }
}
