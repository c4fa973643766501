//! Decides what the next forward pass does: which sequences are in it and how many tokens of each.
//!
//! First come, first served. A sequence is admitted when the blocks for its whole life (prompt and longest completion)
//! are free, so nothing that runs ever has to be put back. Sequences that decode come first in a step, one token each;
//! what is left of the token budget goes to prompts, in order of arrival, in chunks.

use std::collections::VecDeque;

use crate::blocks::SequencePools;
use crate::config::Limits;
use crate::sequence::Sequence;

/// The queue, the running batch and the blocks.
pub(crate) struct Scheduler {
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    blocks: SequencePools,
    max_sequences: usize,
    max_step_tokens: usize,
}

/// Tokens of one running sequence in a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Index into [`Scheduler::running`].
    pub(crate) sequence: usize,
    /// First position.
    pub(crate) start: usize,
    /// How many tokens.
    pub(crate) tokens: usize,
}

impl Scheduler {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            waiting: VecDeque::new(),
            running: Vec::new(),
            blocks: SequencePools::new(limits),
            max_sequences: limits.max_sequences,
            max_step_tokens: limits.max_step_tokens,
        }
    }

    /// Queues a sequence.
    pub(crate) fn enqueue(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// Admits what fits and plans the next step; empty when there is nothing to do.
    pub(crate) fn plan(&mut self) -> Vec<Chunk> {
        self.admit();
        let mut budget = self.max_step_tokens;
        let mut chunks = Vec::with_capacity(self.running.len());
        let is_decoding = |sequence: &Sequence| sequence.tokens.len() - sequence.computed == 1;
        for decoding in [true, false] {
            for (index, sequence) in self.running.iter().enumerate() {
                let tokens = (sequence.tokens.len() - sequence.computed).min(budget);
                if tokens > 0 && is_decoding(sequence) == decoding {
                    chunks.push(Chunk { sequence: index, start: sequence.computed, tokens });
                    budget -= tokens;
                }
            }
        }
        chunks
    }

    /// The sequences in the batch; chunks index into it.
    pub(crate) fn running(&self) -> &[Sequence] {
        &self.running
    }

    /// The same, to be advanced.
    pub(crate) fn running_mut(&mut self) -> &mut [Sequence] {
        &mut self.running
    }

    /// Takes out the sequences that have ended, from the batch and from the queue, and frees their blocks.
    pub(crate) fn remove_ended(&mut self) -> Vec<Sequence> {
        let mut ended: Vec<Sequence> = self.running.extract_if(.., |sequence| sequence.has_ended()).collect();
        for sequence in &mut ended {
            self.blocks.release(&mut sequence.blocks);
        }
        for _ in 0..self.waiting.len() {
            if let Some(sequence) = self.waiting.pop_front() {
                if sequence.has_ended() { ended.push(sequence) } else { self.waiting.push_back(sequence) }
            }
        }
        ended
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn blocks(&self) -> &SequencePools {
        &self.blocks
    }

    fn admit(&mut self) {
        while self.running.len() < self.max_sequences
            && let Some(sequence) = self.waiting.front_mut()
            && let Some(blocks) = self.blocks.reserve(sequence.max_length)
        {
            sequence.blocks = blocks;
            sequence.start();
            self.running.extend(self.waiting.pop_front());
        }
    }
}
