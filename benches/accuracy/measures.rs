//! What is counted: shares, calibration, curves, and the matching of boxes.

use face_meta::geometry::Rect;

/// SplitMix64 (Steele et al. 2014): the same choice in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Shuffles (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, (self.next() % (last as u64 + 1)) as usize);
        }
    }

    /// Nearly normal, with mean 0 and variance 1: the sum of twelve uniform numbers.
    pub fn normal(&mut self) -> f64 {
        let uniform = |random: u64| (random >> 11) as f64 / (1u64 << 53) as f64;
        (0..12).map(|_| uniform(self.next())).sum::<f64>() - 6.0
    }
}

/// How many of how many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    pub hits: usize,
    pub of: usize,
}

impl Share {
    pub fn add(&mut self, hit: bool) {
        self.hits += usize::from(hit);
        self.of += 1;
    }

    /// 0..=1; NaN of nothing.
    pub fn value(self) -> f64 {
        self.hits as f64 / self.of as f64
    }
}

/// Answers with the confidence given to each.
#[derive(Debug, Clone, Default)]
pub struct Calibration(Vec<(f64, bool)>);

impl Calibration {
    pub fn add(&mut self, confidence: f64, right: bool) {
        self.0.push((confidence, right));
    }

    /// The expected calibration error (Guo et al. 2017) over ten bins of equal width: the mean
    /// difference between confidence and share of right answers, weighted by the answers in the bin.
    /// NaN of nothing.
    pub fn error(&self) -> f64 {
        const BINS: usize = 10;
        let mut bins = [(0.0, 0.0); BINS];
        for (confidence, right) in &self.0 {
            let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
            bins[bin].0 += confidence;
            bins[bin].1 += f64::from(u8::from(*right));
        }
        let gaps = bins.map(|(confidence, right)| f64::abs(confidence - right));
        gaps.iter().sum::<f64>() / self.0.len() as f64
    }
}

/// The mean; NaN of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The value below which the share `part` of the values lies; NaN of nothing.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let index = (part * values.len().saturating_sub(1) as f64).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// A labelled box, and whether it counts. Boxes that do not count are neither found nor missed, and
/// whoever finds them makes no mistake.
#[derive(Debug, Clone)]
pub struct Truth {
    pub rect: Rect,
    pub counts: bool,
}

/// What became of a detected face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Found,
    False,
    /// It lies on a box that does not count.
    Ignored,
}

/// The least overlap (IoU) of a detected face and its label, as in PASCAL VOC and WIDER FACE.
pub const OVERLAP: f64 = 0.5;

/// The detections of one picture, best first, each with its outcome. The most confident face takes
/// the label that it overlaps most; another face on the same label is false.
pub fn matched(faces: &[(Rect, f64)], truth: &[Truth], overlap: f64) -> Vec<(f64, Outcome)> {
    let mut faces: Vec<_> = faces.iter().collect();
    faces.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut taken = vec![false; truth.len()];
    let outcome = |(rect, confidence): &(Rect, f64)| {
        let labels = truth.iter().enumerate();
        let best = labels
            .map(|(i, label)| (i, label.rect.iou(rect)))
            .filter(|(_, iou)| *iou >= overlap)
            .max_by(|a, b| a.1.total_cmp(&b.1));
        let outcome = match best {
            None => Outcome::False,
            Some((i, _)) if !truth[i].counts => Outcome::Ignored,
            Some((i, _)) => match std::mem::replace(&mut taken[i], true) {
                true => Outcome::False,
                false => Outcome::Found,
            },
        };
        (*confidence, outcome)
    };
    faces.into_iter().map(outcome).collect()
}

/// Of all pictures: the greatest recall at which the precision is at least `precision`, and the
/// confidence at which it is reached. `None` if it is never reached.
pub fn recall_at(outcomes: &[(f64, Outcome)], labels: usize, precision: f64) -> Option<(f64, f64)> {
    let mut outcomes = outcomes.to_vec();
    outcomes.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut found, mut wrong, mut best) = (0.0, 0.0, None);
    for (confidence, outcome) in outcomes {
        match outcome {
            Outcome::Found => found += 1.0,
            Outcome::False => wrong += 1.0,
            Outcome::Ignored => continue,
        }
        if found / (found + wrong) >= precision {
            best = Some((found / labels as f64, confidence));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_the_gap_between_confidence_and_truth() {
        let mut sure = Calibration::default();
        for i in 0..10 {
            sure.add(0.95, i < 5);
        }
        assert!((sure.error() - 0.45).abs() < 1e-9);
        let mut right = Calibration::default();
        for i in 0..10 {
            right.add(0.9, i < 9);
            right.add(1.0, true);
        }
        assert!(right.error() < 0.06);
        assert!(Calibration::default().error().is_nan());
    }

    #[test]
    fn a_label_is_found_once_and_ignored_labels_cost_nothing() {
        let rect = |x: f64| Rect::new(x, 0.0, 10.0, 10.0);
        let truth = [(0.0, true), (100.0, true), (200.0, false)].map(|(x, counts)| Truth {
            rect: rect(x),
            counts,
        });
        let faces = [(1.0, 0.9), (0.0, 0.8), (200.0, 0.7), (300.0, 0.95)];
        let found = matched(&faces.map(|(x, c)| (rect(x), c)), &truth, OVERLAP);
        let expected = [
            (0.95, Outcome::False),
            (0.9, Outcome::Found),
            (0.8, Outcome::False),
            (0.7, Outcome::Ignored),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn recall_is_read_where_the_precision_still_holds() {
        use Outcome::{False, Found};
        let outcomes = [
            (0.9, Found),
            (0.8, Found),
            (0.7, False),
            (0.6, Found),
            (0.5, Found),
            (0.4, False),
        ];
        assert_eq!(recall_at(&outcomes, 8, 0.8), Some((0.5, 0.5)));
        assert_eq!(recall_at(&outcomes, 8, 0.9), Some((0.25, 0.8)));
        assert_eq!(recall_at(&outcomes[2..3], 8, 0.9), None);
    }

    #[test]
    fn shuffling_is_repeatable_and_loses_nothing() {
        let shuffled = |seed| {
            let mut items: Vec<u32> = (0..50).collect();
            Random(seed).shuffle(&mut items);
            items
        };
        assert_eq!(shuffled(1), shuffled(1));
        assert_ne!(shuffled(1), shuffled(2));
        let mut sorted = shuffled(1);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<u32>>());
    }

    #[test]
    fn quantiles_of_few_values() {
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 0.5), 2.0);
        assert_eq!(quantile(&[3.0, 1.0, 2.0], 1.0), 3.0);
        assert!(quantile(&[], 0.5).is_nan() && mean(&[]).is_nan());
    }
}
