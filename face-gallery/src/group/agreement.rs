//! How far groups agree with the people in them.

use std::collections::HashMap;
use std::hash::Hash;

/// How right groups are. All shares are 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The share of the pairs in one group that are one person. 1 without pairs.
    pub pair_precision: f64,
    /// The share of the pairs of one person that are in one group. 1 without pairs.
    pub pair_recall: f64,
    /// B-cubed: the mean over all items of the share of their group that is the same person (Bagga and
    /// Baldwin, "Entity-Based Cross-Document Coreferencing Using the Vector Space Model", 1998).
    pub precision: f64,
    /// B-cubed: the mean over all items of the share of their person that is in the same group.
    pub recall: f64,
    pub groups: usize,
    pub people: usize,
}

impl Agreement {
    /// Of the person and the group of each item. `None` without items.
    pub fn of<P: Hash + Eq, G: Hash + Eq>(items: &[(P, G)]) -> Option<Self> {
        let mut people: HashMap<&P, u64> = HashMap::new();
        let mut groups: HashMap<&G, u64> = HashMap::new();
        let mut both: HashMap<(&P, &G), u64> = HashMap::new();
        for (person, group) in items {
            *people.entry(person).or_default() += 1;
            *groups.entry(group).or_default() += 1;
            *both.entry((person, group)).or_default() += 1;
        }
        let count = items.len() as f64;
        // Whole numbers over each denominator first, so that the order of the sum hardly matters.
        let mean = |whole: &dyn Fn(&(&P, &G)) -> u64| {
            let shares = both.iter().map(|(key, both)| {
                let both = *both as f64;
                both * both / whole(key) as f64
            });
            shares.sum::<f64>() / count
        };
        let pairs = |counts: &mut dyn Iterator<Item = u64>| -> u64 {
            counts.map(|count| count * (count - 1) / 2).sum()
        };
        let right = pairs(&mut both.values().copied());
        let share = |whole: u64| match whole {
            0 => 1.0,
            whole => right as f64 / whole as f64,
        };
        (!items.is_empty()).then(|| Self {
            pair_precision: share(pairs(&mut groups.values().copied())),
            pair_recall: share(pairs(&mut people.values().copied())),
            precision: mean(&|(_, group)| groups[group]),
            recall: mean(&|(person, _)| people[person]),
            groups: groups.len(),
            people: people.len(),
        })
    }

    /// The harmonic mean of B-cubed precision and recall.
    pub fn f(&self) -> f64 {
        2.0 * self.precision * self.recall / (self.precision + self.recall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreement(people: &str, groups: &str) -> Agreement {
        let items: Vec<(char, char)> = people.chars().zip(groups.chars()).collect();
        Agreement::of(&items).expect("items")
    }

    #[test]
    fn equal_groups_agree_whatever_their_names() {
        let whole = agreement("aabbc", "yyxxz");
        assert_eq!((whole.pair_precision, whole.pair_recall), (1.0, 1.0));
        assert_eq!((whole.precision, whole.recall, whole.f()), (1.0, 1.0, 1.0));
        assert_eq!((whole.groups, whole.people), (3, 3));
        assert_eq!(Agreement::of::<u8, u8>(&[]), None);
    }

    #[test]
    fn splitting_costs_recall_and_mixing_costs_precision() {
        let split = agreement("aaaa", "xxyy");
        assert_eq!((split.pair_precision, split.pair_recall), (1.0, 2.0 / 6.0));
        assert_eq!((split.precision, split.recall), (1.0, 0.5));
        let mixed = agreement("aabb", "xxxx");
        assert_eq!((mixed.pair_precision, mixed.pair_recall), (2.0 / 6.0, 1.0));
        assert_eq!((mixed.precision, mixed.recall), (0.5, 1.0));
        assert!((mixed.f() - 2.0 / 3.0).abs() < 1e-12);
        let alone = agreement("aab", "xyz");
        assert_eq!((alone.pair_precision, alone.pair_recall), (1.0, 0.0));
    }

    #[test]
    fn b_cubed_weighs_each_item_by_its_group() {
        // x holds a, a, b; y holds b, b.
        let found = agreement("aabbb", "xxxyy");
        let precision = (2.0 * 2.0 / 3.0 + 1.0 / 3.0 + 2.0) / 5.0;
        let recall = (2.0 + 1.0 / 3.0 + 2.0 * 2.0 / 3.0) / 5.0;
        assert!((found.precision - precision).abs() < 1e-12);
        assert!((found.recall - recall).abs() < 1e-12);
        assert_eq!((found.pair_precision, found.pair_recall), (0.5, 0.5));
    }
}
