//! Assigns a track to each labelled track, over the whole video (Ristani et al., "Performance
//! measures and a data set for multi-target, multi-camera tracking", 2016).

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, ensure};
use face_meta::assignment::assign;

/// The largest table of one group, in cells: 800 MB.
const LARGEST: usize = 100_000_000;

/// A labelled track, a track of the result, and the number of frames on which they overlap.
pub type Pair = (u32, u32, u64);

/// Chooses the pairs, each track in at most one, that overlap on the most frames in total. This is
/// the cheapest matching in the paper's sense: its cost, missed and false frames, is the number of
/// all labels and faces minus twice that sum.
pub fn match_tracks(overlaps: &HashMap<(u32, u32), u64>) -> Result<Vec<Pair>> {
    let mut matched = Vec::new();
    for group in groups(overlaps) {
        let mut rows: Vec<u32> = group.iter().map(|p| p.0).collect();
        let mut columns: Vec<u32> = group.iter().map(|p| p.1).collect();
        for list in [&mut rows, &mut columns] {
            list.sort_unstable();
            list.dedup();
        }
        ensure!(
            rows.len().saturating_mul(columns.len()) <= LARGEST,
            "{} labelled tracks and {} tracks of the result all overlap each other; \
             that is too much to match",
            rows.len(),
            columns.len()
        );
        let frames = |i: usize, j: usize| overlaps.get(&(rows[i], columns[j])).copied();
        let cost = |i, j| frames(i, j).map_or(f64::INFINITY, |n| -(n as f64));
        for (i, j) in assign(rows.len(), columns.len(), 0.0, cost) {
            matched.push((rows[i], columns[j], frames(i, j).unwrap_or(0)));
        }
    }
    matched.sort_unstable();
    Ok(matched)
}

/// Groups pairs that share tracks. Each group can be matched separately; a film falls into hundreds
/// of groups.
fn groups(overlaps: &HashMap<(u32, u32), u64>) -> Vec<Vec<(u32, u32)>> {
    let mut nodes: HashMap<(bool, u32), usize> = HashMap::new();
    let mut parent: Vec<usize> = Vec::new();
    let mut pairs: Vec<(u32, u32)> = overlaps.keys().copied().collect();
    pairs.sort_unstable();
    for &(row, column) in &pairs {
        let [a, b] = [(false, row), (true, column)].map(|key| {
            let node = *nodes.entry(key).or_insert_with(|| {
                parent.push(parent.len());
                parent.len() - 1
            });
            root(&mut parent, node)
        });
        parent[a.max(b)] = a.min(b);
    }
    let mut groups: BTreeMap<usize, Vec<(u32, u32)>> = BTreeMap::new();
    for pair in pairs {
        let node = root(&mut parent, nodes[&(false, pair.0)]);
        groups.entry(node).or_default().push(pair);
    }
    groups.into_values().collect()
}

/// The root of `node`'s group. Halves the path to it.
fn root(parent: &mut [usize], mut node: usize) -> usize {
    while parent[node] != node {
        parent[node] = parent[parent[node]];
        node = parent[node];
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frames_altogether_win() {
        // Taking the pair with the most frames, (0, 0), would leave 1 without a partner.
        let overlaps = HashMap::from([((0, 0), 5), ((0, 1), 4), ((1, 0), 4), ((7, 9), 1)]);
        let matched = match_tracks(&overlaps).expect("small");
        assert_eq!(matched, [(0, 1, 4), (1, 0, 4), (7, 9, 1)]);
        assert_eq!(match_tracks(&HashMap::new()).expect("nothing"), []);
    }

    #[test]
    fn many_tracks_take_no_time() {
        // 20 000 tracks, each of which overlaps the next.
        let overlaps: HashMap<_, _> = (0..20_000)
            .flat_map(|i| [((i, i), 3), ((i, i ^ 1), 2)])
            .collect();
        let matched = match_tracks(&overlaps).expect("small groups");
        assert_eq!(matched.iter().map(|m| m.2).sum::<u64>(), 60_000);
    }
}
