//! Time spans, in nanoseconds.

/// No timeline has more pixels than this. Gaps narrower than one pixel are closed.
const PIXELS: u64 = 20_000;

/// The union of `spans`, in order. Spans closer than `duration` / 20,000 are joined.
pub fn union(spans: impl IntoIterator<Item = [u64; 2]>, duration: u64) -> Vec<[u64; 2]> {
    let mut spans: Vec<[u64; 2]> = spans.into_iter().filter(|[a, b]| a <= b).collect();
    spans.sort_unstable();
    let gap = duration / PIXELS;
    let mut merged: Vec<[u64; 2]> = Vec::new();
    for [first, last] in spans {
        match merged.last_mut() {
            Some(before) if first <= before[1].saturating_add(gap) => {
                before[1] = before[1].max(last);
            }
            _ => merged.push([first, last]),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_joined_where_no_gap_can_be_seen() {
        let spans = [[50, 60], [0, 10], [9, 20], [21, 30], [80, 70]];
        assert_eq!(union(spans, 0), [[0, 20], [21, 30], [50, 60]]);
        assert_eq!(union(spans, 20_000), [[0, 30], [50, 60]]);
        assert_eq!(union([[0, 100], [10, 20]], 0), [[0, 100]]);
        let huge = [[0, u64::MAX], [u64::MAX, u64::MAX]];
        assert_eq!(union(huge, u64::MAX), [[0, u64::MAX]]);
        assert!(union([], 5).is_empty());
    }
}
