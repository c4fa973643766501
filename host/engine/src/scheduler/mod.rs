//! Decides what the next forward pass does: which sequences are in it and how many tokens of each.
//!
//! A step has a budget of tokens. Sequences that decode come first. The rest, or a small part of it while others decode,
//! goes to prompts, in chunks, whether they have been begun or still wait, as long as there are places and blocks for
//! these ([`admission`]). Who comes first: the lower priority number; of equals the flow that has got least
//! ([`service`]); of one flow the earlier arrival.
//!
//! Blocks are given as sequences grow. Where there are none left, the last of those that run, by priority and arrival,
//! gives up its own and waits again ([`preemption`]); the first of them thus always goes on. What it had computed is in
//! the cache until somebody needs the room, and the rest is computed again: its client sees a pause and nothing else.

mod admission;
mod preemption;
mod service;
#[cfg(test)]
pub(crate) mod simulation;

use self::service::ServiceCounters;
use crate::cache::{BlockCopy, BlockCounts, PagedCache};
use crate::config::Limits;
use crate::sequence::Sequence;

pub(crate) use self::service::Flow;

/// Rows of logits in a step for prompts that are scored: each is as long as the vocabulary.
const SCORED_ROWS: usize = 64;

/// Who waits, who runs, and the blocks.
pub(crate) struct Scheduler {
    /// In no order: who is next depends on what the flows have got meanwhile.
    waiting: Vec<Sequence>,
    running: Vec<Sequence>,
    cache: PagedCache,
    service: ServiceCounters,
    max_sequences: usize,
    max_step_tokens: usize,
    prompt_tokens_beside_decoding: usize,
    arrivals: u64,
}

/// What the next forward pass does.
#[derive(Debug, Default)]
pub(crate) struct StepPlan {
    /// Blocks to copy before it.
    pub(crate) copies: Vec<BlockCopy>,
    pub(crate) chunks: Vec<Chunk>,
    /// Sequences that gave up their blocks for it.
    pub(crate) preemptions: usize,
    /// Prompt tokens that were looked up in the cache for sequences that begin with it, and those that were there.
    pub(crate) prefix_queries: usize,
    pub(crate) prefix_hits: usize,
}

/// Tokens of one running sequence in a step.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chunk {
    /// Index into [`Scheduler::running`].
    pub(crate) sequence: usize,
    /// First position.
    pub(crate) start: usize,
    /// How many tokens; those beyond the end of the sequence are of its guess.
    pub(crate) tokens: usize,
    /// Whether it lies behind the prompt, recomputed or not. No chunk lies on both sides, and such ones come first.
    pub(crate) follows_prompt: bool,
}

impl Chunk {
    /// The position after the last.
    pub(crate) fn end(&self) -> usize {
        self.start + self.tokens
    }
}

/// What is left for a step that is being planned.
struct Budget {
    tokens: usize,
    scored_rows: usize,
}

impl Scheduler {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            waiting: Vec::new(),
            running: Vec::new(),
            cache: PagedCache::new(limits),
            service: ServiceCounters::default(),
            max_sequences: limits.max_sequences,
            max_step_tokens: limits.max_step_tokens,
            prompt_tokens_beside_decoding: limits.prompt_tokens_beside_decoding,
            arrivals: 0,
        }
    }

    /// Queues a sequence.
    pub(crate) fn enqueue(&mut self, mut sequence: Sequence) {
        let active = self.waiting.iter().chain(&self.running).map(|other| &other.flow).collect();
        self.service.arrive(&sequence.flow, &active);
        sequence.arrival = self.arrivals;
        self.arrivals += 1;
        self.waiting.push(sequence);
    }

    /// Plans the next step; without chunks when there is nothing to do.
    pub(crate) fn plan(&mut self) -> StepPlan {
        let mut plan = StepPlan::default();
        let mut budget = Budget { tokens: self.max_step_tokens, scored_rows: SCORED_ROWS };
        let decoding = self.decoding();
        for arrival in &decoding {
            self.schedule(*arrival, &mut budget, &mut plan);
        }
        if !decoding.is_empty() {
            budget.tokens = budget.tokens.min(self.prompt_tokens_beside_decoding);
        }
        self.serve_prompts(decoding, &mut budget, &mut plan);
        for (index, sequence) in self.running.iter_mut().enumerate() {
            let tokens = std::mem::take(&mut sequence.planned);
            if tokens > 0 {
                let (start, follows_prompt) = (sequence.computed, sequence.rest_of_prompt() == 0);
                plan.chunks.push(Chunk { sequence: index, start, tokens, follows_prompt });
            }
        }
        plan.chunks.sort_by_key(|chunk| !chunk.follows_prompt);
        plan
    }

    /// The arrivals of the sequences that decode, in the order of their rank.
    fn decoding(&self) -> Vec<u64> {
        let mut ranks: Vec<_> =
            self.running.iter().filter(|sequence| sequence.is_decoding()).map(Sequence::rank).collect();
        ranks.sort_unstable();
        ranks.into_iter().map(|(_, arrival)| arrival).collect()
    }

    /// Gives a running sequence its part of the step: as many tokens as budget and blocks allow.
    fn schedule(&mut self, arrival: u64, budget: &mut Budget, plan: &mut StepPlan) {
        let Some(sequence) = self.running.iter().find(|sequence| sequence.arrival == arrival) else {
            return; // It waits, perhaps because it was preempted for one of those before it.
        };
        let is_scored = sequence.scores_prompt();
        let rows = if is_scored { budget.scored_rows } else { usize::MAX };
        let left = match sequence.rest_of_prompt() {
            0 => sequence.pending() + sequence.guess.len(),
            rest => rest,
        };
        let wanted = left.min(budget.tokens).min(rows);
        let Some((index, tokens)) = self.room_for(arrival, wanted, budget, plan) else {
            return;
        };
        let sequence = &mut self.running[index];
        sequence.planned = tokens;
        budget.tokens -= tokens;
        if is_scored {
            budget.scored_rows -= tokens;
        }
        // What is computed again is no service to the client.
        let end = sequence.computed + tokens;
        let new = end - end.min(sequence.furthest.max(sequence.computed));
        if sequence.is_decoding() {
            self.service.output(&sequence.flow, new);
        } else {
            self.service.prompt(&sequence.flow, new);
        }
    }

    /// The sequences in the batch; chunks index into it.
    pub(crate) fn running(&self) -> &[Sequence] {
        &self.running
    }

    /// The same, to be advanced.
    pub(crate) fn running_mut(&mut self) -> &mut [Sequence] {
        &mut self.running
    }

    /// The first `computed` tokens of a running sequence have their keys and values in the cache now.
    pub(crate) fn computed(&mut self, sequence: usize, computed: usize) {
        let sequence = &mut self.running[sequence];
        sequence.computed = computed;
        sequence.furthest = sequence.furthest.max(computed);
        self.cache.computed(&mut sequence.blocks, &sequence.tokens, computed);
    }

    /// Takes out the sequences that have ended, from the batch and from the queue, and frees their blocks.
    pub(crate) fn remove_ended(&mut self) -> Vec<Sequence> {
        let mut ended: Vec<Sequence> = self.running.extract_if(.., |sequence| sequence.has_ended()).collect();
        for sequence in &mut ended {
            self.cache.release(&mut sequence.blocks);
        }
        ended.extend(self.waiting.extract_if(.., |sequence| sequence.has_ended()));
        ended
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn blocks(&self) -> BlockCounts {
        self.cache.counts()
    }
}
