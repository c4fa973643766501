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
            let chunks = self.scheduler.plan();
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
            sequence.computed += chunk.tokens;
            if sequence.computed == sequence.tokens.len()
                && let Some(row) = rows.next()
            {
                let token = sequence.sampler.sample(row);
                let is_end = self.model.spec().eos.contains(&token);
                sequence.push(token, is_end, &*self.observer);
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
            spans.push(sequence.blocks.tables.span(chunk.start, chunk.tokens));
            if end == sequence.tokens.len() {
                rows.push(tokens.len() - 1);
            }
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
