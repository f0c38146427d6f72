//! Which way up a photo is whose file does not say so: a scan, or one that a messenger has stripped.

/// From this confidence on, a face is taken to be upright without looking further.
pub const SURE: f64 = 0.93;

/// How much better a face must look on another side. Upright faces are found with 0.04 to 0.12 more
/// confidence than the same ones turned; landmarks tell nothing, as upside-down faces get upright ones.
const MARGIN: f64 = 0.03;

/// The least confidence of a face on another side: patterns look like faces, too.
const LEAST: f64 = 0.9;

/// How many quarter turns clockwise bring a photo upright, by the confidence of its clearest face after 0, 1,
/// 2 and 3 of them. `None` where no face is found.
pub fn best(confidences: [Option<f64>; 4]) -> usize {
    let as_it_is = confidences[0];
    let others = confidences.iter().enumerate().skip(1);
    let best = others
        .filter_map(|(turns, confidence)| Some((turns, (*confidence)?)))
        .max_by(|(_, a), (_, b)| a.total_cmp(b));
    let least = as_it_is.map_or(LEAST, |as_it_is| LEAST.max(as_it_is + MARGIN));
    match best {
        Some((turns, found)) if found >= least => turns,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clearly_better_side_is_taken() {
        let none = None;
        assert_eq!(best([none; 4]), 0);
        assert_eq!(best([Some(0.95), Some(0.77), Some(0.89), none]), 0);
        assert_eq!(best([Some(0.889), Some(0.77), Some(0.95), none]), 2);
        assert_eq!(best([Some(0.77), none, none, Some(0.95)]), 3);
        assert_eq!(best([Some(0.90), Some(0.92), none, none]), 0, "too close");
        assert_eq!(best([none, Some(0.94), none, none]), 1);
        assert_eq!(best([none, Some(0.87), none, none]), 0, "a pattern");
        assert_eq!(best([Some(0.81), none, Some(0.85), none]), 0, "a pattern");
    }
}
