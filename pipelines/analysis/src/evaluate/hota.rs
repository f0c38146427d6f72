//! HOTA: how well faces are found, and how well tracks are kept, in one number (Luiten et al., "HOTA:
//! A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021).
//!
//! The values are those of TrackEval, the authors' implementation: faces and labels of a frame are
//! matched once, by overlap times the agreement of their tracks over the whole video, and a match
//! counts at every threshold that its overlap reaches.

use std::collections::{BTreeMap, HashMap};

use face_meta::assignment::assign;

/// The thresholds of the overlap: 0.05, 0.10 … 0.95.
const THRESHOLDS: usize = 19;

/// The threshold with this index, computed as NumPy's `arange(0.05, 0.99, 0.05)` does.
fn threshold(index: usize) -> f64 {
    0.05 + index as f64 * 0.05
}

/// The measures, each the mean over all thresholds, from 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Hota {
    /// The mean of the square roots of DetA times AssA.
    pub hota: f64,
    /// Matches, as a share of all labels and faces.
    pub det_a: f64,
    /// For a match: frames on which its two tracks match, as a share of all frames that have one of
    /// them. The mean over all matches.
    pub ass_a: f64,
    /// The overlap of the matches; 1 where there are none.
    pub loc_a: f64,
}

/// A labelled track and one of the result that overlap on a frame.
struct Pair {
    label: u32,
    track: u32,
    overlap: f64,
}

/// Collects the frames of a video. Only what overlaps is kept: 16 bytes per pair and frame.
#[derive(Default)]
pub struct Collector {
    /// The number of boxes of each labelled track, and of faces of each track of the result.
    labels: Vec<u64>,
    tracks: Vec<u64>,
    pairs: Vec<Pair>,
    /// For each frame that has pairs, where they end.
    ends: Vec<usize>,
    /// How often two tracks could match: 1 for a frame on which they overlap nothing else.
    alignment: HashMap<(u32, u32), f64>,
}

impl Collector {
    /// Adds a frame with its labelled tracks and the tracks of its faces. `overlap` gives the IoU of
    /// a label and a face, by their places in the two lists.
    pub fn add(
        &mut self,
        labels: &[usize],
        tracks: &[usize],
        overlap: impl Fn(usize, usize) -> f64,
    ) {
        for (counts, ids) in [(&mut self.labels, labels), (&mut self.tracks, tracks)] {
            for &id in ids {
                if counts.len() <= id {
                    counts.resize(id + 1, 0);
                }
                counts[id] += 1;
            }
        }
        let (mut rows, mut columns) = (vec![0.0; labels.len()], vec![0.0; tracks.len()]);
        let mut found = Vec::new();
        for (i, row) in rows.iter_mut().enumerate() {
            for (j, column) in columns.iter_mut().enumerate() {
                let overlap = overlap(i, j);
                if overlap > 0.0 {
                    *row += overlap;
                    *column += overlap;
                    found.push((i, j, overlap));
                }
            }
        }
        let start = self.pairs.len();
        for (i, j, overlap) in found {
            let key = (labels[i] as u32, tracks[j] as u32);
            let share = overlap / (rows[i] + columns[j] - overlap);
            *self.alignment.entry(key).or_default() += share;
            let (label, track) = key;
            // A track with two faces on one frame is a mistake. Its better face counts.
            let mut same = self.pairs[start..].iter_mut();
            match same.find(|p| (p.label, p.track) == key) {
                Some(pair) => pair.overlap = pair.overlap.max(overlap),
                None => self.pairs.push(Pair {
                    label,
                    track,
                    overlap,
                }),
            }
        }
        if self.pairs.len() > start {
            self.ends.push(self.pairs.len());
        }
    }

    /// Matches frame by frame. Returns the measures of all labels together, and AssA for each person;
    /// `people` has the person of each labelled track. `None` without labels.
    pub fn finish(self, people: &[usize]) -> Option<(Hota, BTreeMap<usize, f64>)> {
        let boxes: u64 = self.labels.iter().sum();
        let faces: u64 = self.tracks.iter().sum();
        if boxes == 0 {
            return None;
        }
        let mut sums = [(0u64, 0.0); THRESHOLDS];
        let mut matches: BTreeMap<(u32, u32), [u64; THRESHOLDS]> = BTreeMap::new();
        let mut start = 0;
        for &end in &self.ends {
            for pair in self.matched(&self.pairs[start..end]) {
                let counts = matches.entry((pair.label, pair.track)).or_default();
                for (index, sum) in sums.iter_mut().enumerate() {
                    if pair.overlap >= threshold(index) - f64::EPSILON {
                        counts[index] += 1;
                        *sum = (sum.0 + 1, sum.1 + pair.overlap);
                    }
                }
            }
            start = end;
        }
        let mut total = Hota::default();
        // For each person, the matches and what they add to AssA.
        let mut each: BTreeMap<usize, [(u64, f64); THRESHOLDS]> = BTreeMap::new();
        for ((label, track), counts) in &matches {
            let person = each.entry(people[*label as usize]).or_default();
            let both = self.labels[*label as usize] + self.tracks[*track as usize];
            for (sum, &count) in person.iter_mut().zip(counts) {
                sum.0 += count;
                sum.1 += count as f64 * count as f64 / (both - count).max(1) as f64;
            }
        }
        for (index, (matched, overlap)) in sums.into_iter().enumerate() {
            let det_a = matched as f64 / (boxes + faces - matched).max(1) as f64;
            let agreed: f64 = each.values().map(|person| person[index].1).sum();
            let ass_a = agreed / matched.max(1) as f64;
            total.det_a += det_a;
            total.ass_a += ass_a;
            total.hota += (det_a * ass_a).sqrt();
            total.loc_a += match matched {
                0 => 1.0,
                matched => overlap / matched as f64,
            };
        }
        let mean = |sum: f64| sum / THRESHOLDS as f64;
        let total = Hota {
            hota: mean(total.hota),
            det_a: mean(total.det_a),
            ass_a: mean(total.ass_a),
            loc_a: mean(total.loc_a),
        };
        let person = |sums: [(u64, f64); THRESHOLDS]| {
            mean(sums.iter().map(|(n, sum)| sum / (*n).max(1) as f64).sum())
        };
        let each = each.into_iter().map(|(p, sums)| (p, person(sums)));
        Some((total, each.collect()))
    }

    /// The pairs of a frame that are matched: those with the largest sum of agreement times overlap.
    fn matched<'a>(&'a self, pairs: &'a [Pair]) -> impl Iterator<Item = &'a Pair> {
        let mut rows: Vec<u32> = pairs.iter().map(|p| p.label).collect();
        let mut columns: Vec<u32> = pairs.iter().map(|p| p.track).collect();
        for list in [&mut rows, &mut columns] {
            list.sort_unstable();
            list.dedup();
        }
        let mut table: Vec<Option<&Pair>> = vec![None; rows.len() * columns.len()];
        for pair in pairs {
            let row = rows.partition_point(|l| *l < pair.label);
            let column = columns.partition_point(|t| *t < pair.track);
            table[row * columns.len() + column] = Some(pair);
        }
        let cost = |i: usize, j: usize| {
            let pair = table[i * columns.len() + j];
            pair.map_or(f64::INFINITY, |pair| -self.agreement(pair) * pair.overlap)
        };
        let matched = assign(rows.len(), columns.len(), 0.0, cost);
        let width = columns.len();
        matched
            .into_iter()
            .filter_map(move |(i, j)| table[i * width + j])
    }

    /// The share of frames on which two tracks could match, of those that have one of them.
    fn agreement(&self, pair: &Pair) -> f64 {
        let common = self.alignment[&(pair.label, pair.track)];
        let boxes = self.labels[pair.label as usize] + self.tracks[pair.track as usize];
        common / (boxes as f64 - common)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All labels and tracks of a frame, and which overlap: label, track, IoU.
    type Frame<'a> = (&'a [usize], &'a [usize], &'a [(usize, usize, f64)]);

    fn measure(frames: &[Frame]) -> Hota {
        let mut collector = Collector::default();
        for (labels, tracks, overlaps) in frames {
            collector.add(labels, tracks, |i, j| {
                let mut same = overlaps.iter();
                let found = same.find(|o| (o.0, o.1) == (labels[i], tracks[j]));
                found.map_or(0.0, |o| o.2)
            });
        }
        collector.finish(&[0, 1, 2]).expect("labels").0
    }

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} {expected}");
    }

    #[test]
    fn what_is_perfect_is_one() {
        let frame: Frame = (&[0, 1], &[5, 3], &[(0, 5, 1.0), (1, 3, 1.0)]);
        let found = measure(&[frame; 4]);
        for value in [found.hota, found.det_a, found.ass_a, found.loc_a] {
            close(value, 1.0);
        }
    }

    #[test]
    fn a_track_that_breaks_in_the_middle_halves_the_association() {
        let [a, b]: [(&[_], &[_], &[_]); 2] =
            [(&[0], &[0], &[(0, 0, 1.0)]), (&[0], &[1], &[(0, 1, 1.0)])];
        let found = measure(&[a, a, b, b]);
        close(found.det_a, 1.0);
        close(found.ass_a, 0.5);
        close(found.hota, 0.5f64.sqrt());
    }

    #[test]
    fn an_overlap_counts_up_to_its_threshold() {
        // Reaches 0.05 to 0.50: ten thresholds of nineteen.
        let found = measure(&[(&[0], &[0], &[(0, 0, 0.5)])]);
        close(found.det_a, 10.0 / 19.0);
        close(found.ass_a, 10.0 / 19.0);
        close(found.loc_a, (10.0 * 0.5 + 9.0) / 19.0);
    }

    #[test]
    fn the_track_that_fits_the_whole_video_is_matched() {
        // On the last frame, track 1 overlaps more, but track 0 was there all the time.
        let other: Frame = (&[0], &[0], &[(0, 0, 0.9)]);
        let last: Frame = (&[0], &[0, 1], &[(0, 0, 0.6), (0, 1, 0.7)]);
        let mut collector = Collector::default();
        for (labels, tracks, overlaps) in [other, other, other, last] {
            collector.add(labels, tracks, |_, j| overlaps[j].2);
        }
        let last = collector.pairs[3..].iter().collect::<Vec<_>>();
        assert_eq!(last.len(), 2);
        let matched: Vec<_> = collector.matched(&collector.pairs[3..]).collect();
        assert_eq!((matched.len(), matched[0].track), (1, 0));
    }

    #[test]
    fn nothing_found_and_nothing_labelled() {
        let found = measure(&[(&[0], &[], &[]), (&[0], &[4], &[])]);
        assert_eq!((found.hota, found.det_a, found.loc_a), (0.0, 0.0, 1.0));
        assert!(Collector::default().finish(&[]).is_none());
    }
}
