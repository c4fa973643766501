//! The engine's thread: takes commands, runs steps, advances sequences.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use espalier_kernels::KeyValueStore;
use espalier_model::{ForwardBatch, LogitRows, Model, ModelError};

use crate::config::Limits;
use crate::engine::Shared;
use crate::observer::{EngineObserver, StepRecord};
use crate::scheduler::{Chunk, Scheduler, StepPlan};
use crate::sequence::Sequence;
use crate::turnover::Turnover;

/// Owns everything that only the engine's thread touches.
pub(crate) struct Worker {
    model: Arc<Model>,
    cache: KeyValueStore,
    scheduler: Scheduler,
    limits: Limits,
    shared: Arc<Shared>,
    observer: Arc<dyn EngineObserver>,
    arrivals: Receiver<Sequence>,
    turnover: Turnover,
}

impl Worker {
    pub(crate) fn new(
        model: Arc<Model>,
        cache: KeyValueStore,
        limits: Limits,
        shared: Arc<Shared>,
        observer: Arc<dyn EngineObserver>,
        arrivals: Receiver<Sequence>,
    ) -> Self {
        let (scheduler, turnover) = (Scheduler::new(&limits), Turnover::default());
        Self { model, cache, scheduler, limits, shared, observer, arrivals, turnover }
    }

    /// Runs until every handle is gone and every sequence has ended.
    pub(crate) fn run(mut self) {
        while self.take_arrivals() {
            self.retire();
            let plan = self.scheduler.plan();
            self.publish();
            if plan.chunks.is_empty() {
                continue;
            }
            if let Err(error) = self.step(&plan) {
                self.fail(&plan.chunks, &error);
            }
            self.retire();
            self.publish();
        }
    }

    /// Takes what has arrived; waits when there is nothing to run. `false` when the engine should end.
    fn take_arrivals(&mut self) -> bool {
        loop {
            let idle = self.scheduler.running().is_empty() && self.scheduler.waiting_count() == 0;
            let next = if idle {
                self.turnover.idle();
                self.arrivals.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.arrivals.try_recv()
            };
            match next {
                Ok(sequence) => {
                    self.shared.received();
                    self.scheduler.enqueue(sequence);
                }
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return !idle,
            }
        }
    }

    /// One forward pass, then one sampled token for each sequence that is fully computed.
    fn step(&mut self, plan: &StepPlan) -> Result<(), ModelError> {
        let begin = Instant::now();
        for copy in &plan.copies {
            self.cache.copy_block(copy.windowed, copy.from, copy.to)?;
        }
        let logits = self.forward(&plan.chunks)?;
        let mut rows = logits.chunks_exact(self.model.spec().vocab_size);
        let mut record = StepRecord {
            prefill_tokens: 0,
            recomputed_tokens: 0,
            decode_tokens: 0,
            prefix_queries: plan.prefix_queries,
            prefix_hits: plan.prefix_hits,
            preemptions: plan.preemptions,
            duration: begin.elapsed(),
        };
        for chunk in &plan.chunks {
            let sequence = &mut self.scheduler.running_mut()[chunk.sequence];
            let end = chunk.start + chunk.tokens;
            count(&mut record, sequence, chunk.start..end);
            let wanted = logit_rows(sequence, chunk);
            self.scheduler.computed(chunk.sequence, end);
            let sequence = &mut self.scheduler.running_mut()[chunk.sequence];
            for (position, row) in (end - wanted..end).zip(&mut rows) {
                if position + 1 < sequence.tokens.len() {
                    sequence.score_prompt(position + 1, row);
                } else {
                    sequence.advance(row, &self.model.spec().eos, &*self.observer);
                }
            }
        }
        record.duration = begin.elapsed();
        self.observer.step(&record);
        Ok(())
    }

    fn forward(&mut self, chunks: &[Chunk]) -> Result<Vec<f32>, ModelError> {
        let running = self.scheduler.running();
        let mut tokens = Vec::new();
        let mut spans = Vec::with_capacity(chunks.len());
        let mut rows = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let sequence = &running[chunk.sequence];
            let end = chunk.start + chunk.tokens;
            tokens.extend_from_slice(&sequence.tokens[chunk.start..end]);
            spans.push(sequence.blocks.span(chunk.start, chunk.tokens));
            rows.extend(tokens.len() - logit_rows(sequence, chunk)..tokens.len());
        }
        let batch = ForwardBatch { tokens: &tokens, spans: &spans, logits_for: LogitRows::Rows(&rows) };
        self.model.forward(&batch, &mut self.cache, self.limits.precision, None)
    }

    /// A failed pass ends the sequences that were in it and nothing else.
    fn fail(&mut self, chunks: &[Chunk], error: &ModelError) {
        tracing::error!(error = %error, "a forward pass failed");
        for chunk in chunks {
            self.scheduler.running_mut()[chunk.sequence].fail(error.to_string());
        }
    }

    fn retire(&mut self) {
        for sequence in self.scheduler.remove_ended() {
            self.turnover.ended(Instant::now());
            self.observer.request(&sequence.record());
        }
        self.shared.set_turnover(self.turnover.interval());
    }

    fn publish(&self) {
        self.shared.publish(
            self.scheduler.running().len(),
            self.scheduler.waiting_count(),
            self.scheduler.blocks(),
        );
    }
}

/// Counts the tokens of a sequence that a step computed.
fn count(record: &mut StepRecord, sequence: &Sequence, tokens: Range<usize>) {
    let again = tokens.end.min(sequence.furthest).saturating_sub(tokens.start);
    let of_prompt = tokens.end.min(sequence.prompt_tokens).saturating_sub(tokens.start + again);
    record.recomputed_tokens += again;
    record.prefill_tokens += of_prompt;
    record.decode_tokens += tokens.len() - again - of_prompt;
}

/// How many of a chunk's last tokens need logits: all in a prompt that is scored, else only the last token of all.
fn logit_rows(sequence: &Sequence, chunk: &Chunk) -> usize {
    if sequence.scores_prompt() {
        chunk.tokens
    } else {
        usize::from(chunk.start + chunk.tokens == sequence.tokens.len())
    }
}
