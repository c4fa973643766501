//! Guesses by a smaller model with the same vocabulary: the draft.
//!
//! It has a key-value cache of its own, with its own blocks and prefixes. Before it guesses it computes what it has not
//! seen of a text, at most a step's tokens at once; where that takes longer, its cache has no room, or the text is longer
//! than its context, it guesses nothing and the text goes on without it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use espalier_model::{ForwardBatch, KeyValueCache, LogitRows, Model, ModelError};

use crate::cache::{BlockTables, PagedCache, common_length};
use crate::config::Limits;
use crate::sampler::argmax;

/// A part of more is the beginning of a text.
const FEW_TOKENS: usize = 16;

/// A draft model and what it has computed of the texts at hand.
pub(crate) struct Draft {
    model: Arc<Model>,
    store: KeyValueCache,
    cache: PagedCache,
    limits: Limits,
    /// By the arrival of the sequence.
    texts: HashMap<u64, Text>,
}

/// How far the draft is with one text.
struct Text {
    blocks: BlockTables,
    /// The tokens whose keys and values are in the blocks; the last ones may be guesses.
    computed: Vec<u32>,
}

/// A text of which the next tokens are wanted.
pub(crate) struct Wish<'a> {
    pub(crate) arrival: u64,
    pub(crate) tokens: &'a [u32],
    pub(crate) salt: Option<Arc<str>>,
    /// How many.
    pub(crate) count: usize,
}

/// Tokens of one text in a forward pass.
struct Part {
    wish: usize,
    start: usize,
    tokens: usize,
    /// Whether nothing is pending after it.
    is_last: bool,
}

impl Draft {
    /// A draft with the memory that `limits` says.
    ///
    /// # Errors
    /// A size that cannot be allocated.
    pub(crate) fn new(model: Arc<Model>, limits: Limits) -> Result<Self, ModelError> {
        let (store, cache) = (model.new_cache(limits.cache)?, PagedCache::new(&limits));
        Ok(Self { model, store, cache, limits, texts: HashMap::new() })
    }

    /// Bytes reserved for keys and values.
    pub(crate) fn kv_bytes(&self) -> usize {
        self.store.bytes()
    }

    /// Gives up the blocks of all texts but those in `arrivals`.
    pub(crate) fn keep_only(&mut self, arrivals: &HashSet<u64>) {
        for (_, mut text) in self.texts.extract_if(|arrival, _| !arrivals.contains(arrival)) {
            self.cache.release(&mut text.blocks);
        }
    }

    /// The most probable continuation of each text as far as it gets in this step, in the order of `wishes`.
    ///
    /// # Errors
    /// A forward pass that fails.
    pub(crate) fn propose(&mut self, wishes: &[Wish<'_>]) -> Result<Vec<Vec<u32>>, ModelError> {
        let fits = |wish: &Wish<'_>| wish.tokens.len() + wish.count <= self.limits.max_model_len;
        let mut active: Vec<usize> = (0..wishes.len()).filter(|wish| fits(&wishes[*wish])).collect();
        for wish in &active {
            self.meet(&wishes[*wish])?;
        }
        let mut budget = self.limits.max_step_tokens;
        let mut guesses = vec![Vec::new(); wishes.len()];
        while !active.is_empty() {
            active = self.round(wishes, &active, &mut guesses, &mut budget)?;
        }
        Ok(guesses)
    }

    /// Takes a text up, for the first time or again: of what was guessed last the draft keeps what came true.
    fn meet(&mut self, wish: &Wish<'_>) -> Result<(), ModelError> {
        if let Some(text) = self.texts.get_mut(&wish.arrival) {
            let (_, known) = wish.tokens.split_last().unwrap_or((&0, &[]));
            text.computed.truncate(common_length(&text.computed, known));
            self.cache.computed(&mut text.blocks, &text.computed, text.computed.len());
            return Ok(());
        }
        let (mut blocks, mut copies) = (BlockTables::new(), Vec::new());
        let prefix = self.cache.lookup(wish.tokens, wish.salt.clone());
        let length = self.cache.adopt(&mut blocks, prefix, &mut copies);
        for copy in copies {
            self.store.copy_block(copy.windowed, copy.from, copy.to)?;
        }
        let computed = wish.tokens.iter().copied().take(length).collect();
        self.texts.insert(wish.arrival, Text { blocks, computed });
        Ok(())
    }

    /// One forward pass over what is pending of the `active` texts. Each that is through gets one guess more; returns
    /// those that want another.
    fn round(
        &mut self,
        wishes: &[Wish<'_>],
        active: &[usize],
        guesses: &mut [Vec<u32>],
        budget: &mut usize,
    ) -> Result<Vec<usize>, ModelError> {
        let (mut tokens, mut parts) = (Vec::new(), Vec::new());
        for &wish in active {
            let Wish { arrival, tokens: known, .. } = wishes[wish];
            let Some(text) = self.texts.get_mut(&arrival) else { continue };
            let start = text.computed.len();
            let pending: Vec<u32> = known.iter().chain(&guesses[wish]).skip(start).copied().collect();
            let count = self.cache.grow(&mut text.blocks, start, pending.len().min(*budget));
            if count > 0 {
                *budget -= count;
                text.computed.extend(&pending[..count]);
                tokens.extend(&pending[..count]);
                parts.push(Part { wish, start, tokens: count, is_last: count == pending.len() });
            }
        }
        let logits = self.forward(wishes, &parts, &tokens)?;
        let through = parts.iter().filter(|part| part.is_last).map(|part| part.wish);
        for (wish, row) in through.clone().zip(logits.chunks_exact(self.model.spec().vocab_size)) {
            guesses[wish].push(argmax(row).0);
        }
        Ok(through.filter(|wish| guesses[*wish].len() < wishes[*wish].count).collect())
    }

    /// The logits after each part that is the last of its text.
    fn forward(
        &mut self,
        wishes: &[Wish<'_>],
        parts: &[Part],
        tokens: &[u32],
    ) -> Result<Vec<f32>, ModelError> {
        let (mut spans, mut rows, mut end) = (Vec::new(), Vec::new(), 0);
        for part in parts {
            end += part.tokens;
            rows.extend(part.is_last.then_some(end - 1));
            let text = self.texts.get(&wishes[part.wish].arrival);
            spans.extend(text.map(|text| text.blocks.span(part.start, part.tokens)));
        }
        // Texts that go on, as far as none that begins comes before them.
        let going_on = parts.iter().take_while(|part| part.tokens < FEW_TOKENS);
        let (decoding, logits_for) = (going_on.map(|part| part.tokens).sum(), LogitRows::Rows(&rows));
        let batch = ForwardBatch { tokens, spans: &spans, decoding, logits_for };
        self.model.forward(&batch, &mut self.store, self.limits.precision, None)
    }
}
