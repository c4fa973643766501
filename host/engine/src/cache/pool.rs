//! The blocks of one kind: who uses them, which hold what may be wanted again, and which hold nothing.
//!
//! A block is *used* while references to it are counted, *cached* when it has none but its content was marked as worth
//! keeping, and *free* otherwise. New blocks come from the free ones; only when there are none the cached block that has
//! been without a user for longest is given away.

use std::collections::BTreeMap;

/// Reference counts and states of a pool's blocks.
#[derive(Debug)]
pub(super) struct BlockPool {
    blocks: Vec<Block>,
    free: Vec<u32>,
    /// The cached blocks, by the time at which their last user left.
    idle: BTreeMap<u64, u32>,
    clock: u64,
}

#[derive(Clone, Debug, Default)]
struct Block {
    references: u32,
    /// Whether it stays cached when its last user leaves.
    kept: bool,
    /// Its key among the idle blocks.
    idle_since: u64,
}

/// A block that has got its first user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) block: u32,
    /// Whether it was cached: what it held is lost.
    pub(super) evicted: bool,
}

impl BlockPool {
    pub(super) fn new(total: usize) -> Self {
        Self {
            blocks: vec![Block::default(); total],
            free: (0..total as u32).rev().collect(),
            idle: BTreeMap::new(),
            clock: 0,
        }
    }

    /// A block with one reference; none when all are used.
    pub(super) fn take(&mut self) -> Option<Taken> {
        let taken = match self.free.pop() {
            Some(block) => Taken { block, evicted: false },
            None => Taken { block: self.idle.pop_first()?.1, evicted: true },
        };
        self.blocks[taken.block as usize] = Block { references: 1, ..Block::default() };
        Some(taken)
    }

    /// One reference more to a used or cached block.
    pub(super) fn share(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        if state.references == 0 {
            self.idle.remove(&state.idle_since);
        }
        state.references += 1;
    }

    /// One reference less.
    pub(super) fn release(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        debug_assert!(state.references > 0, "block {block} is released more often than it was taken");
        state.references = state.references.saturating_sub(1);
        if state.references > 0 {
            return;
        }
        if state.kept {
            state.idle_since = self.clock;
            self.idle.insert(self.clock, block);
            self.clock += 1;
        } else {
            self.free.push(block);
        }
    }

    /// Has a used block cached when its last user leaves.
    pub(super) fn keep(&mut self, block: u32) {
        self.blocks[block as usize].kept = true;
    }

    /// The opposite of [`Self::keep`]: a cached block becomes free.
    pub(super) fn forget(&mut self, block: u32) {
        let state = &mut self.blocks[block as usize];
        state.kept = false;
        if state.references == 0 && self.idle.remove(&state.idle_since).is_some() {
            self.free.push(block);
        }
    }

    /// Whether somebody uses a block.
    pub(super) fn is_used(&self, block: u32) -> bool {
        self.blocks[block as usize].references > 0
    }

    /// Blocks that can be taken.
    pub(super) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    pub(super) fn used(&self) -> usize {
        self.blocks.len() - self.available()
    }

    pub(super) fn cached(&self) -> usize {
        self.idle.len()
    }

    pub(super) fn total(&self) -> usize {
        self.blocks.len()
    }
}

#[cfg(test)]
mod tests {
    use rand_pcg::Pcg64Mcg;
    use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

    use super::*;

    #[test]
    fn free_blocks_go_first_and_then_the_longest_without_a_user() {
        let mut pool = BlockPool::new(4);
        let blocks: Vec<u32> = (0..4).map(|_| pool.take().unwrap().block).collect();
        assert_eq!(pool.take(), None);
        for block in [blocks[2], blocks[0], blocks[1]] {
            pool.keep(block);
            pool.release(block);
        }
        pool.release(blocks[3]);
        assert_eq!((pool.used(), pool.cached(), pool.available()), (0, 3, 4));
        pool.share(blocks[2]);
        pool.release(blocks[2]);
        let order: Vec<_> =
            (0..4).map(|_| pool.take().unwrap()).map(|taken| (taken.block, taken.evicted)).collect();
        let evicted = |block| (block, true);
        assert_eq!(order, [(blocks[3], false), evicted(blocks[0]), evicted(blocks[1]), evicted(blocks[2])]);
    }

    /// What the pool should say, by the simplest means: a list of references.
    #[test]
    fn every_block_is_in_one_state_whatever_happens() {
        const TOTAL: usize = 12;
        let mut pool = BlockPool::new(TOTAL);
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut references: Vec<u32> = Vec::new();
        let mut kept = [false; TOTAL];
        for _ in 0..50_000 {
            let pick = random.next_u64() as usize;
            let chosen = (!references.is_empty()).then(|| pick / 8 % references.len());
            match (pick % 8, chosen) {
                (0..=2, _) => match pool.take() {
                    Some(Taken { block, evicted }) => {
                        assert!(!references.contains(&block), "block {block} was in use");
                        assert_eq!(evicted, kept[block as usize]);
                        kept[block as usize] = false;
                        references.push(block);
                    }
                    None => assert_eq!(pool.available(), 0),
                },
                (3, Some(chosen)) => {
                    pool.share(references[chosen]);
                    references.push(references[chosen]);
                }
                (4..=5, Some(chosen)) => pool.release(references.swap_remove(chosen)),
                (6, Some(chosen)) => {
                    pool.keep(references[chosen]);
                    kept[references[chosen] as usize] = true;
                }
                _ => {
                    let block = pick / 8 % TOTAL;
                    if kept[block] {
                        if pick.is_multiple_of(3) {
                            pool.forget(block as u32);
                            kept[block] = false;
                        } else {
                            pool.share(block as u32);
                            references.push(block as u32);
                        }
                    }
                }
            }
            let used = (0..TOTAL as u32).filter(|block| references.contains(block)).count();
            let cached =
                (0..TOTAL).filter(|&block| kept[block] && !references.contains(&(block as u32))).count();
            assert_eq!((pool.used(), pool.cached()), (used, cached));
            assert_eq!(pool.available(), TOTAL - used);
        }
    }
}
