//! The blocks of one sequence, by position.

use espalier_kernels::SequenceSpan;

use super::prefix::Parent;

/// Which blocks hold a sequence's keys and values. It has none while it waits.
#[derive(Debug)]
pub(crate) struct BlockTables {
    /// In the layers that see every token.
    pub(super) whole: Vec<u32>,
    /// In the windowed layers; as long as `whole`, or empty where the model has no such layers.
    pub(super) windowed: Vec<u32>,
    /// The entries of `windowed` before this one lie behind the window of every query to come. They are numbers of
    /// blocks that belong to others, and nothing reads those for this sequence.
    pub(super) window_start: usize,
    /// So many blocks are in the prefix index, or are known to stay out of it.
    pub(super) entered: usize,
    /// What precedes the next block that enters the index.
    pub(super) parent: Parent,
}

impl BlockTables {
    /// The tables of a sequence without blocks.
    pub(crate) fn new() -> Self {
        Self {
            whole: Vec::new(),
            windowed: Vec::new(),
            window_start: 0,
            entered: 0,
            parent: Parent::Start(None),
        }
    }

    /// The `queries` tokens of the sequence from `first_position` on, for a batch.
    pub(crate) fn span(&self, first_position: usize, queries: usize) -> SequenceSpan<'_> {
        SequenceSpan { blocks: &self.whole, window_blocks: &self.windowed, first_position, queries }
    }
}
