//! From a model's classes to years, evidence and labels.

use face_core::model::Logistic;

/// A probability no nearer to 0 or 1 than this has a finite logit.
const LEAST: f64 = 1e-9;

/// The mean and the standard deviation of `values`, weighted by `probabilities` ("deep
/// expectation", Rothe, Timofte, Van Gool 2015). The probabilities need not sum to 1. `None` if the
/// result is not finite.
pub fn expectation(values: &[f64], probabilities: &[f32]) -> Option<(f64, f64)> {
    let sum: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    let weighted = |of: &dyn Fn(f64) -> f64| -> f64 {
        let pairs = values.iter().zip(probabilities);
        pairs.map(|(v, &p)| of(*v) * f64::from(p)).sum::<f64>() / sum
    };
    let mean = weighted(&|v| v);
    let variance = weighted(&|v| (v - mean) * (v - mean));
    (sum > 0.0 && mean.is_finite() && variance.is_finite())
        .then(|| (mean, variance.max(0.0).sqrt()))
}

/// The point of `curve` at `value`: straight lines through pairs of (value, corrected value), whose
/// first and last line go on for ever. A curve of fewer than two points changes nothing.
pub fn corrected(curve: &[[f64; 2]], value: f64) -> f64 {
    let line = curve
        .windows(2)
        .find(|pair| value <= pair[1][0])
        .or_else(|| curve.windows(2).last());
    match line {
        Some([[x0, y0], [x1, y1]]) => y0 + (value - x0) / (x1 - x0) * (y1 - y0),
        _ => value,
    }
}

/// Calibrated evidence for each label: logarithms of its odds against the first, so that
/// [`softmax`] gives the probabilities. `temperature` divides the evidence; `logistic` is only for
/// two labels. `None` if a probability is not finite or all are 0.
pub fn evidence(
    probabilities: &[f32],
    temperature: Option<f64>,
    logistic: Option<Logistic>,
) -> Option<Vec<f64>> {
    let sum: f64 = probabilities.iter().map(|&p| f64::from(p)).sum();
    if !(sum.is_finite() && sum > 0.0) {
        return None;
    }
    let log = |p: f32| (f64::from(p) / sum).clamp(LEAST, 1.0).ln();
    let first = log(*probabilities.first()?);
    let mut found: Vec<f64> = probabilities.iter().map(|&p| log(p) - first).collect();
    for value in &mut found {
        *value /= temperature.unwrap_or(1.0);
    }
    if let ([_, second], Some(Logistic { slope, offset })) = (&mut found[..], logistic) {
        *second = *second * slope + offset;
    }
    found.iter().all(|v| v.is_finite()).then_some(found)
}

/// The probabilities of classes with these logits.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = logits.iter().map(|v| (v - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|v| v / sum).collect()
}

/// The index and probability of the most probable class; the first of equal ones.
pub fn best(probabilities: &[f64]) -> Option<(usize, f64)> {
    let pairs = probabilities.iter().copied().enumerate();
    pairs.reduce(|best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expectation_has_a_deviation() {
        let values = [0.0, 10.0, 20.0];
        let (mean, deviation) = expectation(&values, &[0.25, 0.5, 0.25]).expect("finite");
        assert!((mean - 10.0).abs() < 1e-9 && (deviation - 50f64.sqrt()).abs() < 1e-9);
        let (mean, deviation) = expectation(&values, &[0.0, 4.0, 0.0]).expect("normalised");
        assert_eq!((mean, deviation), (10.0, 0.0));
        assert_eq!(expectation(&values, &[0.0, f32::NAN, 0.0]), None);
        assert_eq!(expectation(&values, &[0.0; 3]), None);
        assert_eq!(expectation(&[0.0, f64::MAX], &[-1.0, 1.5]), None);
    }

    #[test]
    fn a_curve_bends_and_goes_on() {
        let curve = [[0.0, 0.0], [30.0, 25.0], [60.0, 67.0]];
        for (value, expected) in [(15.0, 12.5), (30.0, 25.0), (45.0, 46.0), (70.0, 81.0)] {
            assert!((corrected(&curve, value) - expected).abs() < 1e-9);
        }
        assert_eq!(corrected(&[], 33.0), 33.0);
    }

    #[test]
    fn evidence_is_calibrated() {
        let plain = evidence(&[0.25, 0.75], None, None).expect("finite");
        assert!((softmax(&plain)[1] - 0.75).abs() < 1e-6);
        let line = Logistic {
            slope: 2.0,
            offset: -1.0,
        };
        let shifted = evidence(&[0.25, 0.75], None, Some(line)).expect("finite");
        assert!((shifted[1] - (2.0 * 3f64.ln() - 1.0)).abs() < 1e-6);
        // At temperature 2, odds become their square roots.
        let warm = evidence(&[1.0, 4.0, 16.0], Some(2.0), None).expect("finite");
        let [a, b, c] = softmax(&warm)[..] else {
            panic!("three classes");
        };
        assert!((b / a - 2.0).abs() < 1e-6 && (c / a - 4.0).abs() < 1e-6);
        assert_eq!(evidence(&[0.0, f32::NAN], None, None), None);
        assert_eq!(evidence(&[], None, None), None);
        let sure = evidence(&[0.0, 1.0], None, None).expect("finite, however sure");
        assert!(sure[1].is_finite());
    }

    #[test]
    fn the_best_class_is_the_first_of_equals() {
        assert_eq!(best(&[0.1, 0.45, 0.45]), Some((1, 0.45)));
        assert_eq!(best(&[]), None);
    }
}
