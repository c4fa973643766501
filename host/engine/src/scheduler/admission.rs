//! Who gets what is left of a step for prompts, and who of those that wait joins the batch for it.
//!
//! Whoever is next waits until there is a place and room for all of its prompt, with a block to spare for everyone who
//! runs; nobody behind it goes first for being shorter. A lower priority number doesn't wait for higher ones that run, nor
//! a flow that has nothing in the batch for one that has several: those make way.

use super::{Budget, Flow, Scheduler, StepPlan};
use crate::cache::{Prefix, common_length};
use crate::config::BLOCK_TOKENS;
use crate::sequence::Sequence;

impl Scheduler {
    /// Spends what is left of a step on prompts. `served` are the arrivals that have had their part of it.
    pub(super) fn serve_prompts(&mut self, mut served: Vec<u64>, budget: &mut Budget, plan: &mut StepPlan) {
        let mut has_room = true;
        while budget.tokens > 0
            && let Some((arrival, is_waiting)) = self.next_prompt(&served, has_room)
        {
            served.push(arrival);
            if is_waiting {
                has_room = self.admit(arrival, budget, plan);
            }
            self.schedule(arrival, budget, plan);
        }
    }

    /// Whose turn it is of those that were not served yet, and whether it waits.
    fn next_prompt(&self, served: &[u64], with_waiting: bool) -> Option<(u64, bool)> {
        let running = self.running.iter().map(|sequence| (sequence, false));
        let waiting = self.waiting.iter().filter(|_| with_waiting).map(|sequence| (sequence, true));
        let turn =
            |sequence: &Sequence| (sequence.priority, self.service.of(&sequence.flow), sequence.arrival);
        running
            .chain(waiting)
            .filter(|(sequence, _)| !served.contains(&sequence.arrival))
            .min_by_key(|(sequence, _)| turn(sequence))
            .map(|(sequence, is_waiting)| (sequence.arrival, is_waiting))
    }

    /// Puts a waiting sequence into the batch, unless another one is at work on its prompt already. Returns `false` when
    /// there is no place or no room for it: then there is none for others either.
    fn admit(&mut self, arrival: u64, budget: &mut Budget, plan: &mut StepPlan) -> bool {
        let Some(index) = self.waiting.iter().position(|sequence| sequence.arrival == arrival) else {
            return true;
        };
        let candidate = &self.waiting[index];
        let prefix = self.lookup(candidate);
        if self.is_being_computed(candidate, prefix.tokens()) {
            return true;
        }
        let has_room = self.make_way(index, &prefix, budget, plan);
        if has_room {
            self.start(index, prefix, plan);
        }
        has_room
    }

    /// Whether a sequence can begin with what others computed. A prompt that is scored needs the logits of all its tokens.
    fn shares_prefixes(&self, sequence: &Sequence) -> bool {
        self.cache.keeps_prefixes() && !sequence.scores_prompt()
    }

    /// What the cache has of a sequence's tokens.
    fn lookup(&self, sequence: &Sequence) -> Prefix {
        if self.shares_prefixes(sequence) {
            self.cache.lookup(&sequence.tokens, sequence.cache_salt.clone())
        } else {
            self.cache.nothing(sequence.cache_salt.clone())
        }
    }

    /// Whether a sequence that runs and doesn't rank behind `candidate` is about to compute at least one block that
    /// `candidate` could share and that is not in the cache yet.
    fn is_being_computed(&self, candidate: &Sequence, cached: usize) -> bool {
        let is_ahead = |other: &Sequence| {
            let full = other.tokens.len() / BLOCK_TOKENS * BLOCK_TOKENS;
            let known = candidate.tokens.len() - 1;
            let shared = common_length(&other.tokens[..full], &candidate.tokens[..known]);
            (cached..shared).contains(&other.computed) && shared >= cached + BLOCK_TOKENS
        };
        self.shares_prefixes(candidate)
            && self.running.iter().any(|other| {
                !other.is_decoding()
                    && other.priority <= candidate.priority
                    && other.cache_salt == candidate.cache_salt
                    && is_ahead(other)
            })
    }

    /// Whether there is a place and room, once those that have to are out of the way.
    fn make_way(&mut self, index: usize, prefix: &Prefix, budget: &mut Budget, plan: &mut StepPlan) -> bool {
        let tokens = self.waiting[index].tokens.len();
        loop {
            let has_place = self.running.len() < self.max_sequences;
            if has_place && self.cache.fits(tokens, prefix, self.running.len()) {
                return true;
            }
            match self.who_makes_way(&self.waiting[index]) {
                Some(victim) => self.preempt(victim, budget, plan),
                None => return false,
            }
        }
    }

    /// Who of those that run makes way for `candidate`: the last one if its priority number is higher; else, where the
    /// candidate's flow has nothing in the batch, the last one of the flow that has most, if that is more than one.
    fn who_makes_way(&self, candidate: &Sequence) -> Option<usize> {
        let last = self.last_running().filter(|last| self.running[*last].priority > candidate.priority);
        let places = |flow: &Flow| self.running.iter().filter(|other| other.flow == *flow).count();
        if last.is_some() || places(&candidate.flow) > 0 {
            return last;
        }
        let equals =
            (0..self.running.len()).filter(|index| self.running[*index].priority == candidate.priority);
        equals
            .map(|index| (places(&self.running[index].flow), self.running[index].rank(), index))
            .max()
            .filter(|(places, ..)| *places > 1)
            .map(|(.., index)| index)
    }

    /// Moves a waiting sequence into the batch, with what the cache has of its beginning.
    fn start(&mut self, index: usize, prefix: Prefix, plan: &mut StepPlan) {
        let mut sequence = self.waiting.swap_remove(index);
        sequence.computed = self.cache.adopt(&mut sequence.blocks, prefix, &mut plan.copies);
        if sequence.start() {
            sequence.cached_tokens = sequence.computed;
            if self.shares_prefixes(&sequence) {
                plan.prefix_queries += sequence.prompt_tokens;
                plan.prefix_hits += sequence.cached_tokens;
            }
        }
        self.running.push(sequence);
    }
}
