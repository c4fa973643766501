//! The units of one kind in one place that stay and go.

use serde::{Deserialize, Serialize};

use super::ranking::complement;
use super::{expect, mismatch};
use crate::error::PruningError;

/// The units of one kind in one layer, or the channels of one expert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    /// Units before.
    pub count: usize,
    /// Indices of the units that go, ascending.
    pub removed: Vec<usize>,
}

impl Selection {
    /// All of `count` units stay.
    #[must_use]
    pub const fn everything(count: usize) -> Self {
        Self { count, removed: Vec::new() }
    }

    /// Indices of the units that stay, ascending.
    #[must_use]
    pub fn kept(&self) -> Vec<usize> {
        complement(self.count, &self.removed)
    }

    /// Number of units that stay.
    #[must_use]
    pub const fn kept_count(&self) -> usize {
        self.count.saturating_sub(self.removed.len())
    }

    /// The selection fits `count` units, its indices are in order, and something stays.
    pub(super) fn check(&self, what: &str, count: usize) -> Result<(), PruningError> {
        expect(&format!("the count of {what}"), self.count, count)?;
        let in_order = self.removed.is_sorted_by(|earlier, later| earlier < later);
        if !in_order || self.removed.last().is_some_and(|&last| last >= count) {
            let expected = format!("ascending indices below {count}");
            return Err(mismatch(format!("the removed list of {what}"), "out of order or range", expected));
        }
        if count > 0 && self.kept_count() == 0 {
            let expected = "at least one unit that stays";
            return Err(mismatch(format!("the removed list of {what}"), "everything", expected));
        }
        Ok(())
    }

    /// Whether what goes is whole runs of `block` units that begin at multiples of it.
    pub(super) fn is_in_blocks_of(&self, block: usize) -> bool {
        let (blocks, rest) = (self.removed.chunks_exact(block), self.removed.chunks_exact(block).remainder());
        let mut aligned = blocks.map(|run| {
            let ends = run.first().copied().zip(run.last().copied());
            ends.is_some_and(|(first, last)| first.is_multiple_of(block) && last - first + 1 == block)
        });
        rest.is_empty() && aligned.all(|aligned| aligned)
    }
}
