//! The engine's thread: takes commands, runs steps, advances sequences.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use espalier_kernels::KeyValueStore;
use espalier_model::{ForwardBatch, LogitRows, Model, ModelError};

use crate::config::Limits;
use crate::engine::Shared;
use crate::observer::{EngineObserver, StepRecord};
use crate::scheduler::{Chunk, Scheduler};
use crate::sequence::Sequence;

/// Rows of logits in a step for prompts that are scored: each is as long as the vocabulary.
const SCORED_ROWS: usize = 64;

/// Owns everything that only the engine's thread touches.
pub(crate) struct Worker {
    model: Arc<Model>,
    cache: KeyValueStore,
    scheduler: Scheduler,
    limits: Limits,
    shared: Arc<Shared>,
    observer: Arc<dyn EngineObserver>,
    arrivals: Receiver<Sequence>,
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
        Self { model, cache, scheduler: Scheduler::new(&limits), limits, shared, observer, arrivals }
    }

    /// Runs until every handle is gone and every sequence has ended.
    pub(crate) fn run(mut self) {
        while self.take_arrivals() {
            self.retire();
            let mut chunks = self.scheduler.plan();
            self.limit_scored_rows(&mut chunks);
            self.publish();
            if chunks.is_empty() {
                continue;
            }
            if let Err(error) = self.step(&chunks) {
                self.fail(&chunks, &error);
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

    /// One forward pass over `chunks`, then one sampled token for each sequence that is fully computed.
    fn step(&mut self, chunks: &[Chunk]) -> Result<(), ModelError> {
        let begin = Instant::now();
        let logits = self.forward(chunks)?;
        let mut rows = logits.chunks_exact(self.model.spec().vocab_size);
        let mut record = StepRecord { prefill_tokens: 0, decode_tokens: 0, duration: begin.elapsed() };
        for chunk in chunks {
            let sequence = &mut self.scheduler.running_mut()[chunk.sequence];
            if chunk.start < sequence.prompt_tokens {
                record.prefill_tokens += chunk.tokens;
            } else {
                record.decode_tokens += 1;
            }
            let end = chunk.start + chunk.tokens;
            let wanted = logit_rows(sequence, chunk);
            sequence.computed = end;
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

    /// Cuts the chunks of prompts that are scored, so that a step never holds more than [`SCORED_ROWS`] of their logits.
    fn limit_scored_rows(&self, chunks: &mut Vec<Chunk>) {
        let running = self.scheduler.running();
        let mut left = SCORED_ROWS;
        for chunk in chunks.iter_mut().filter(|chunk| running[chunk.sequence].scores_prompt()) {
            chunk.tokens = chunk.tokens.min(left);
            left -= chunk.tokens;
        }
        chunks.retain(|chunk| chunk.tokens > 0);
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
            spans.push(sequence.blocks.tables.span(chunk.start, chunk.tokens));
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
            self.observer.request(&sequence.record());
        }
    }

    fn publish(&self) {
        self.shared.publish(
            self.scheduler.running().len(),
            self.scheduler.waiting_count(),
            self.scheduler.blocks().used(),
            self.scheduler.blocks().total(),
        );
    }
}

/// How many of a chunk's last tokens need logits: all in a prompt that is scored, else only the last token of all.
fn logit_rows(sequence: &Sequence, chunk: &Chunk) -> usize {
    if sequence.scores_prompt() {
        chunk.tokens
    } else {
        usize::from(chunk.start + chunk.tokens == sequence.tokens.len())
    }
}
