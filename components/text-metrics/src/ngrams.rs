//! How often each run of n units occurs in a sequence.

use std::collections::HashMap;
use std::hash::Hash;

/// The n-grams of one order with their counts.
pub(crate) struct NgramCounts<'a, Unit> {
    counts: HashMap<&'a [Unit], usize>,
}

impl<'a, Unit: Eq + Hash> NgramCounts<'a, Unit> {
    /// Counts the n-grams of `units`; a sequence that is shorter than `order` has none.
    pub(crate) fn of(units: &'a [Unit], order: usize) -> Self {
        let mut counts = HashMap::new();
        for ngram in units.windows(order) {
            *counts.entry(ngram).or_insert(0) += 1;
        }
        Self { counts }
    }

    /// All n-grams, repeated ones as often as they occur.
    pub(crate) fn total(&self) -> usize {
        self.counts.values().sum()
    }

    /// How many different ones there are.
    pub(crate) fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// How many of these n-grams are in `other`, each counted at most as often as it occurs there.
    pub(crate) fn matches(&self, other: &Self) -> usize {
        let matched = |(ngram, &count): (&&[Unit], &usize)| {
            other.counts.get(ngram).map_or(0, |&limit| count.min(limit))
        };
        self.counts.iter().map(matched).sum()
    }

    /// Raises each count to that in `other`, where it is higher there.
    pub(crate) fn raise_to(&mut self, other: &Self) {
        for (&ngram, &count) in &other.counts {
            let own = self.counts.entry(ngram).or_insert(0);
            *own = count.max(*own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_clipped() {
        let (candidate, reference) = (["the"; 7], ["the", "cat", "the"]);
        let (candidate, mut reference) = (NgramCounts::of(&candidate, 1), NgramCounts::of(&reference, 1));
        assert_eq!(candidate.matches(&reference), 2);
        assert_eq!((candidate.total(), candidate.distinct()), (7, 1));
        reference.raise_to(&candidate);
        assert_eq!(candidate.matches(&reference), 7);
        assert_eq!(NgramCounts::of(&["a"], 2).total(), 0);
    }
}
