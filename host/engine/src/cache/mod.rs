//! The paged key-value cache: which block belongs to whom.
//!
//! Sequences get blocks as they grow, share those that hold the beginning of their text, and give back what they no
//! longer need: at their end all, and in layers with a sliding window whatever no later query sees. What they give back
//! stays to be found by its tokens until the room is needed. The memory itself is the [`KeyValueStore`]'s; nothing here
//! reads or writes it.
//!
//! A sequence holds a reference to every block of its text in the layers that see every token, and gives them back from
//! the last to the first. So in order of age a block is always given away before the one that precedes it in a text.
//!
//! [`KeyValueStore`]: espalier_kernels::KeyValueStore

pub(crate) mod budget;
mod pool;
mod prefix;
#[cfg(test)]
mod simulation;
mod tables;

use std::sync::Arc;

use self::pool::BlockPool;
use self::prefix::{Entry, Match, Parent, PrefixIndex};
use crate::config::{BLOCK_TOKENS, Limits};

pub(crate) use self::prefix::common_length;
pub(crate) use self::tables::BlockTables;

/// Both kinds of blocks, and what they hold.
pub(crate) struct PagedCache {
    /// Of the layers that see every token.
    whole: BlockPool,
    /// Of the windowed layers.
    windowed: BlockPool,
    index: PrefixIndex,
    /// The widest sliding window.
    window: Option<usize>,
    keeps_prefixes: bool,
}

/// The beginning of a text that is in the cache.
#[derive(Debug)]
pub(crate) struct Prefix {
    start: Parent,
    found: Match,
}

impl Prefix {
    /// Its length in tokens.
    pub(crate) fn tokens(&self) -> usize {
        self.found.tokens(BLOCK_TOKENS)
    }
}

/// A block that has to be copied before the next forward pass; several are copied in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockCopy {
    /// Whether in the windowed layers or in the others.
    pub(crate) windowed: bool,
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// Blocks of both kinds, by state; all others are free.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlockCounts {
    pub(crate) used: usize,
    pub(crate) cached: usize,
    pub(crate) total: usize,
}

impl PagedCache {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            whole: BlockPool::new(limits.cache.blocks),
            windowed: BlockPool::new(limits.cache.window_blocks),
            index: PrefixIndex::default(),
            window: limits.window,
            keeps_prefixes: limits.prefix_cache,
        }
    }

    /// What the cache has of the beginning of `tokens`. The last token is never in it: its logits are wanted.
    pub(crate) fn lookup(&self, tokens: &[u32], salt: Option<Arc<str>>) -> Prefix {
        let start = Parent::Start(salt);
        let (_, known) = tokens.split_last().unwrap_or((&0, &[]));
        let mut found = self.index.find(start.clone(), known, BLOCK_TOKENS);
        while !self.has_window(&found) {
            if found.partial.take().is_none() {
                found.full.pop();
            }
        }
        Prefix { start, found }
    }

    /// A prefix that shares nothing.
    pub(crate) fn nothing(&self, salt: Option<Arc<str>>) -> Prefix {
        Prefix { start: Parent::Start(salt), found: Match { full: Vec::new(), partial: None } }
    }

    /// Whether the windowed layers have all that the query after a match sees.
    fn has_window(&self, found: &Match) -> bool {
        let seen = found.full.iter().skip(self.first_seen(found.tokens(BLOCK_TOKENS)));
        self.window.is_none()
            || seen.chain(found.partial.as_ref().map(|(entry, _)| entry)).all(|entry| entry.window.is_some())
    }

    /// The first block that the query at `position` sees in the windowed layers.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window) / BLOCK_TOKENS)
    }

    /// Whether a sequence of `tokens` tokens that begins with `prefix` fits beside what is used, with `spare` blocks of
    /// each kind left.
    pub(crate) fn fits(&self, tokens: usize, prefix: &Prefix, spare: usize) -> bool {
        let blocks = tokens.div_ceil(BLOCK_TOKENS);
        let shared = prefix.found.full.iter().filter(|entry| self.whole.is_used(entry.whole)).count();
        let windowed =
            self.window.map_or(0, |window| blocks.min(window.saturating_sub(1).div_ceil(BLOCK_TOKENS) + 1));
        let has_room = |pool: &BlockPool, needed| needed + spare <= pool.available();
        has_room(&self.whole, blocks - shared)
            && (self.window.is_none() || has_room(&self.windowed, windowed))
    }

    /// Gives a sequence without blocks those of `prefix`; returns how many tokens it need not compute. A block of which
    /// it shares a part is copied.
    pub(crate) fn adopt(
        &mut self,
        tables: &mut BlockTables,
        prefix: Prefix,
        copies: &mut Vec<BlockCopy>,
    ) -> usize {
        let window_start = self.first_seen(prefix.tokens());
        let Prefix { start, found: Match { full, partial } } = prefix;
        tables.entered = full.len();
        tables.parent = full.last().map_or(start, Entry::as_parent);
        tables.window_start = window_start.min(full.len());
        for (index, entry) in full.iter().enumerate() {
            self.whole.share(entry.whole);
            tables.whole.push(entry.whole);
            if self.window.is_some() {
                let seen = entry.window.filter(|_| index >= window_start);
                seen.iter().for_each(|block| self.windowed.share(*block));
                tables.windowed.push(seen.unwrap_or_default());
            }
        }
        let copied =
            partial.map_or(0, |(entry, common)| if self.copy(tables, &entry, copies) { common } else { 0 });
        full.len() * BLOCK_TOKENS + copied
    }

    /// Appends a copy of an entry's blocks to the tables; `false` where there is no room for it.
    fn copy(&mut self, tables: &mut BlockTables, entry: &Entry, copies: &mut Vec<BlockCopy>) -> bool {
        // What is copied must not be given away for the copy's sake.
        self.whole.share(entry.whole);
        entry.window.iter().for_each(|block| self.windowed.share(*block));
        let has_grown = self.append(tables);
        if has_grown {
            let whole =
                tables.whole.last().map(|to| BlockCopy { windowed: false, from: entry.whole, to: *to });
            let window = entry.window.zip(tables.windowed.last());
            let window = window.map(|(from, to)| BlockCopy { windowed: true, from, to: *to });
            copies.extend(whole.into_iter().chain(window));
        }
        self.whole.release(entry.whole);
        entry.window.iter().for_each(|block| self.windowed.release(*block));
        has_grown
    }

    /// Makes room for up to `wanted` tokens after the first `computed` ones; returns for how many there is room.
    pub(crate) fn grow(&mut self, tables: &mut BlockTables, computed: usize, wanted: usize) -> usize {
        while tables.whole.len() * BLOCK_TOKENS < computed + wanted && self.append(tables) {}
        wanted.min(tables.whole.len() * BLOCK_TOKENS - computed)
    }

    /// One block of each kind more; `false` where one of them is not to be had.
    fn append(&mut self, tables: &mut BlockTables) -> bool {
        if self.whole.available() == 0 || (self.window.is_some() && self.windowed.available() == 0) {
            return false;
        }
        if let Some(taken) = self.whole.take() {
            tables.whole.push(taken.block);
            let left = if taken.evicted { self.index.remove_whole(taken.block) } else { None };
            left.iter().for_each(|block| self.windowed.forget(*block));
        }
        if self.window.is_some()
            && let Some(taken) = self.windowed.take()
        {
            tables.windowed.push(taken.block);
            if taken.evicted {
                self.index.remove_window(taken.block);
            }
        }
        true
    }

    /// The first `computed` of a sequence's tokens are in its blocks now, for good: full blocks can be found by others,
    /// and blocks that no later query sees lose their reference.
    pub(crate) fn computed(&mut self, tables: &mut BlockTables, tokens: &[u32], computed: usize) {
        if self.keeps_prefixes {
            let full = tokens[..computed].chunks_exact(BLOCK_TOKENS).skip(tables.entered);
            for block in full {
                self.enter(tables, block);
            }
        }
        let seen = self.first_seen(computed).min(tables.windowed.len());
        for block in &tables.windowed[tables.window_start.min(seen)..seen] {
            self.windowed.release(*block);
        }
        tables.window_start = tables.window_start.max(seen);
    }

    /// Enters the next full block of a sequence into the index. Where its tokens are there already, the sequence takes
    /// the blocks that are there and gives up its own, which hold the same.
    fn enter(&mut self, tables: &mut BlockTables, tokens: &[u32]) {
        let index = tables.entered;
        tables.entered += 1;
        let whole = &mut tables.whole[index];
        let mut window = tables.windowed.get_mut(index).filter(|_| index >= tables.window_start);
        let Some(entry) = self.index.get(&tables.parent, tokens).cloned() else {
            self.whole.keep(*whole);
            window.iter().for_each(|block| self.windowed.keep(**block));
            let entry = self.index.insert(tables.parent.clone(), tokens, *whole, window.map(|block| *block));
            tables.parent = entry.as_parent();
            return;
        };
        exchange(&mut self.whole, whole, entry.whole);
        match (entry.window, &mut window) {
            (Some(there), Some(ours)) => exchange(&mut self.windowed, ours, there),
            (None, Some(ours)) => {
                self.windowed.keep(**ours);
                self.index.add_window(&tables.parent, tokens, **ours);
            }
            (_, None) => {}
        }
        tables.parent = entry.as_parent();
    }

    /// Takes all blocks of a sequence back.
    pub(crate) fn release(&mut self, tables: &mut BlockTables) {
        for block in tables.whole.drain(..).rev() {
            self.whole.release(block);
        }
        for block in tables.windowed.drain(..).skip(tables.window_start).rev() {
            self.windowed.release(block);
        }
    }

    /// Whether sequences can share what others computed.
    pub(crate) fn keeps_prefixes(&self) -> bool {
        self.keeps_prefixes
    }

    /// How many blocks are in which state.
    pub(crate) fn counts(&self) -> BlockCounts {
        BlockCounts {
            used: self.whole.used() + self.windowed.used(),
            cached: self.whole.cached() + self.windowed.cached(),
            total: self.whole.total() + self.windowed.total(),
        }
    }
}

/// Gives up `ours` for `theirs`.
fn exchange(pool: &mut BlockPool, ours: &mut u32, theirs: u32) {
    pool.share(theirs);
    pool.release(*ours);
    *ours = theirs;
}
