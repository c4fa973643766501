//! The paged cache against a model of its memory: whatever sequences come, grow, go back and end, each reads exactly
//! what was computed for its own text.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use rand_pcg::Pcg64Mcg;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};

use super::{BlockCopy, BlockTables, PagedCache};
use crate::config::{BLOCK_TOKENS, Limits};

/// What a place of a block holds: something that stands for the whole text up to it.
type Memory = Vec<[u64; BLOCK_TOKENS]>;

struct Text {
    tokens: Vec<u32>,
    computed: usize,
    /// Tokens that will not be taken back.
    accepted: usize,
    tables: BlockTables,
}

struct Simulation {
    cache: PagedCache,
    window: Option<usize>,
    whole: Memory,
    windowed: Memory,
    texts: Vec<Text>,
    copies: Vec<BlockCopy>,
    random: Pcg64Mcg,
    hits: usize,
}

impl Simulation {
    fn new(window: Option<usize>, seed: u64) -> Self {
        let (blocks, window_blocks) = (40, if window.is_some() { 24 } else { 0 });
        let limits = Limits::of_blocks(blocks, window_blocks, window);
        Self {
            cache: PagedCache::new(&limits),
            window,
            whole: vec![[0; BLOCK_TOKENS]; blocks],
            windowed: vec![[0; BLOCK_TOKENS]; window_blocks],
            texts: Vec::new(),
            copies: Vec::new(),
            random: Pcg64Mcg::seed_from_u64(seed),
            hits: 0,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random.next_u64() >> 8) as usize % limit
    }

    /// Texts of three beginnings that part from them anywhere, in few different tokens.
    fn text(&mut self) -> Vec<u32> {
        let (beginning, length) = (self.below(3) as u32, self.below(200) + 1);
        let parting = self.below(length + 1);
        let tail: Vec<u32> = (parting..length).map(|_| self.below(2) as u32).collect();
        (0..parting as u32).map(|index| index * 7 + beginning).chain(tail).collect()
    }

    fn begin(&mut self) {
        let (tokens, salt) = (self.text(), (self.below(8) == 0).then(|| "salt".into()));
        let prefix = self.cache.lookup(&tokens, salt);
        assert!(prefix.tokens() < tokens.len());
        if self.texts.len() < 8 && self.cache.fits(tokens.len(), &prefix, self.texts.len()) {
            let mut tables = BlockTables::new();
            let computed = self.cache.adopt(&mut tables, prefix, &mut self.copies);
            self.hits += computed;
            self.texts.push(Text { tokens, computed, accepted: computed, tables });
        }
    }

    /// What stands for the text up to `position`.
    fn content(tokens: &[u32], position: usize) -> u64 {
        let mut hasher = DefaultHasher::new();
        tokens[..=position].hash(&mut hasher);
        hasher.finish()
    }

    /// Grows every text that finds room, as one forward pass does; some tokens are taken back after it.
    fn step(&mut self) {
        let mut grown = Vec::new();
        for index in 0..self.texts.len() {
            let wanted = self.below(50) + 1;
            let text = &mut self.texts[index];
            let tokens = self.cache.grow(&mut text.tables, text.computed, wanted);
            while text.tokens.len() < text.computed + tokens {
                text.tokens.push((text.tokens.len() % 2) as u32);
            }
            grown.push(tokens);
        }
        for BlockCopy { windowed, from, to } in std::mem::take(&mut self.copies) {
            let memory = if windowed { &mut self.windowed } else { &mut self.whole };
            memory[to as usize] = memory[from as usize];
        }
        for (index, tokens) in grown.iter().enumerate() {
            self.write(index, *tokens);
        }
        for (index, tokens) in grown.into_iter().enumerate() {
            self.check(index, tokens);
        }
        for index in 0..self.texts.len() {
            let kept = self.below(4) > 0;
            self.accept(index, kept);
        }
    }

    fn write(&mut self, index: usize, tokens: usize) {
        let text = &mut self.texts[index];
        let span = text.tables.span(text.computed, tokens);
        for position in text.computed..text.computed + tokens {
            let (block, place) = (position / BLOCK_TOKENS, position % BLOCK_TOKENS);
            let content = Self::content(&text.tokens, position);
            self.whole[span.blocks[block] as usize][place] = content;
            if self.window.is_some() {
                self.windowed[span.window_blocks[block] as usize][place] = content;
            }
        }
        text.computed += tokens;
    }

    /// All that the step's first query sees and all that the step wrote.
    fn check(&self, index: usize, tokens: usize) {
        let text = &self.texts[index];
        let first = text.computed - tokens;
        let span = text.tables.span(first, tokens);
        let seen = self.window.map_or(text.computed, |window| (first + 1).saturating_sub(window));
        for position in 0..text.computed {
            let (block, place) = (position / BLOCK_TOKENS, position % BLOCK_TOKENS);
            let content = Self::content(&text.tokens, position);
            assert_eq!(self.whole[span.blocks[block] as usize][place], content);
            if position >= seen {
                assert_eq!(self.windowed[span.window_blocks[block] as usize][place], content);
            }
        }
    }

    /// The step's tokens count, or the last few of the text turn out to be others.
    fn accept(&mut self, index: usize, all: bool) {
        let drop = if all { 0 } else { self.below(5) };
        let text = &mut self.texts[index];
        text.computed = text.computed.saturating_sub(drop).max(text.accepted);
        text.accepted = text.computed;
        if drop > 0 {
            text.tokens.truncate(text.computed);
            text.tokens.push(9);
        }
        self.cache.computed(&mut text.tables, &text.tokens, text.computed);
    }

    fn end(&mut self) {
        if !self.texts.is_empty() {
            let index = self.below(self.texts.len());
            let mut text = self.texts.swap_remove(index);
            self.cache.release(&mut text.tables);
        }
    }

    fn check_counts(&self) {
        let held = |blocks: fn(&BlockTables) -> &[u32]| {
            self.texts.iter().flat_map(|text| blocks(&text.tables)).collect::<HashSet<_>>().len()
        };
        let counts = self.cache.counts();
        let windowed = held(|tables| tables.windowed.get(tables.window_start..).unwrap_or_default());
        assert_eq!(counts.used, held(|tables| &tables.whole) + windowed);
        assert!(counts.used + counts.cached <= counts.total);
        assert!(self.cache.index.is_a_tree(), "an entry is left without the one before it");
    }
}

#[test]
fn every_text_reads_what_was_computed_for_it() {
    for (window, seed) in [(None, 1), (Some(16), 2), (Some(40), 3), (Some(1), 4), (Some(1000), 5)] {
        let mut simulation = Simulation::new(window, seed);
        for _ in 0..3000 {
            for _ in 0..simulation.below(3) {
                simulation.begin();
            }
            simulation.step();
            simulation.check_counts();
            // Also more than one: places are then taken from the cache.
            for _ in 0..simulation.below(3) {
                simulation.end();
            }
        }
        while !simulation.texts.is_empty() {
            simulation.end();
        }
        assert_eq!(simulation.cache.counts().used, 0);
        assert!(simulation.hits > 10_000, "window {window:?}: {} tokens were found", simulation.hits);
    }
}
