//! Which blocks of the key-value store are free: one pool for the layers that see every token, one for the windowed.

use espalier_model::SequenceBlocks;

use crate::config::{BLOCK_TOKENS, Limits};

/// Hands out block numbers and takes them back.
#[derive(Debug)]
struct BlockPool {
    free: Vec<u32>,
    total: usize,
}

impl BlockPool {
    fn new(total: usize) -> Self {
        Self { free: (0..total as u32).rev().collect(), total }
    }

    /// `count` blocks, or none at all.
    fn allocate(&mut self, count: usize) -> Option<Vec<u32>> {
        let keep = self.free.len().checked_sub(count)?;
        Some(self.free.split_off(keep))
    }

    /// Takes blocks back.
    fn release(&mut self, blocks: &mut Vec<u32>) {
        self.free.append(blocks);
    }

    fn used(&self) -> usize {
        self.total - self.free.len()
    }

    fn total(&self) -> usize {
        self.total
    }
}

/// Hands out all the blocks of a sequence.
#[derive(Debug)]
pub(crate) struct SequencePools {
    whole: BlockPool,
    windowed: BlockPool,
    /// Windowed blocks of a sequence that is as long as can be.
    ring: usize,
}

/// The blocks of a running sequence.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    ring: Vec<u32>,
    pub(crate) tables: SequenceBlocks,
}

impl SequencePools {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            whole: BlockPool::new(limits.cache.blocks),
            windowed: BlockPool::new(limits.cache.window_blocks),
            ring: limits.ring,
        }
    }

    /// The blocks for a sequence of up to `tokens` tokens, or none at all.
    pub(crate) fn reserve(&mut self, tokens: usize) -> Option<Reservation> {
        let count = tokens.div_ceil(BLOCK_TOKENS);
        let mut whole = self.whole.allocate(count)?;
        let Some(ring) = self.windowed.allocate(self.ring.min(count)) else {
            self.whole.release(&mut whole);
            return None;
        };
        let tables = SequenceBlocks::new(whole, &ring);
        Some(Reservation { ring, tables })
    }

    /// Takes a sequence's blocks back.
    pub(crate) fn release(&mut self, reservation: &mut Reservation) {
        self.whole.release(&mut reservation.tables.take_blocks());
        self.windowed.release(&mut reservation.ring);
    }

    /// Blocks of both kinds in use.
    pub(crate) fn used(&self) -> usize {
        self.whole.used() + self.windowed.used()
    }

    /// Blocks of both kinds.
    pub(crate) fn total(&self) -> usize {
        self.whole.total() + self.windowed.total()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocation_is_all_or_nothing() {
        let mut pool = BlockPool::new(4);
        let mut three = pool.allocate(3).unwrap();
        assert!(pool.allocate(2).is_none());
        assert_eq!(pool.used(), 3);
        pool.release(&mut three);
        assert_eq!(pool.used(), 0);
        let mut all = pool.allocate(4).unwrap();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3]);
    }

    #[test]
    fn a_sequence_gets_blocks_of_both_kinds_or_none() {
        let mut pools = SequencePools { whole: BlockPool::new(9), windowed: BlockPool::new(4), ring: 3 };
        let mut long = pools.reserve(5 * BLOCK_TOKENS).unwrap();
        assert!(pools.reserve(2 * BLOCK_TOKENS).is_none(), "one windowed block is left");
        let mut short = pools.reserve(1).unwrap();
        assert_eq!((pools.used(), pools.total()), (10, 13));
        pools.release(&mut long);
        pools.release(&mut short);
        assert_eq!(pools.used(), 0);
    }
}
