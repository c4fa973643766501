//! The engine's thread: takes commands, runs steps, advances sequences.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use espalier_model::{ForwardBatch, KeyValueCache, LogitRows, Model, ModelError};

use crate::config::Limits;
use crate::engine::Shared;
use crate::observer::{EngineObserver, StepRecord};
use crate::scheduler::{Chunk, Scheduler, StepPlan};
use crate::sequence::Sequence;
use crate::speculation::Speculation;
use crate::turnover::Turnover;

/// Owns everything that only the engine's thread touches.
pub(crate) struct Worker {
    model: Arc<Model>,
    cache: KeyValueCache,
    scheduler: Scheduler,
    speculation: Speculation,
    limits: Limits,
    shared: Arc<Shared>,
    observer: Arc<dyn EngineObserver>,
    arrivals: Receiver<Sequence>,
    turnover: Turnover,
}

impl Worker {
    pub(crate) fn new(
        model: Arc<Model>,
        cache: KeyValueCache,
        speculation: Speculation,
        limits: Limits,
        shared: Arc<Shared>,
        observer: Arc<dyn EngineObserver>,
        arrivals: Receiver<Sequence>,
    ) -> Self {
        let (scheduler, turnover) = (Scheduler::new(&limits), Turnover::default());
        Self { model, cache, scheduler, speculation, limits, shared, observer, arrivals, turnover }
    }

    /// Runs until every handle is gone and every sequence has ended.
    pub(crate) fn run(mut self) {
        while self.take_arrivals() {
            self.retire();
            self.speculation.guess(self.scheduler.running_mut());
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

    /// One forward pass, then one sampled token for each sequence that is fully computed, and more as far as its guess is
    /// right.
    fn step(&mut self, plan: &StepPlan) -> Result<(), ModelError> {
        let begin = Instant::now();
        for copy in &plan.copies {
            self.cache.copy_block(copy.windowed, copy.from, copy.to)?;
        }
        let logits = self.forward(&plan.chunks)?;
        let vocab_size = self.model.spec().vocab_size;
        let mut logits = logits.as_slice();
        let mut record = StepRecord {
            prefill_tokens: 0,
            recomputed_tokens: 0,
            decode_tokens: 0,
            prefix_queries: plan.prefix_queries,
            prefix_hits: plan.prefix_hits,
            guesses: 0,
            guessed_tokens: 0,
            right_tokens: 0,
            preemptions: plan.preemptions,
            duration: begin.elapsed(),
        };
        for chunk in &plan.chunks {
            let sequence = &mut self.scheduler.running_mut()[chunk.sequence];
            let (ours, others) = logits.split_at(logit_rows(sequence, chunk) * vocab_size);
            logits = others;
            let known = sequence.tokens.len();
            let right = take_logits(sequence, chunk.end(), ours.chunks_exact(vocab_size), |sequence, row| {
                sequence.advance(row, &self.model.spec().eos, &*self.observer);
            });
            let computed = chunk.end().min(known + right);
            count(&mut record, sequence, chunk.start..computed);
            let guessed = chunk.end().saturating_sub(known);
            record.guesses += usize::from(guessed > 0);
            record.guessed_tokens += guessed;
            record.right_tokens += right;
            self.scheduler.computed(chunk.sequence, computed);
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
            let texts = sequence.tokens.iter().chain(&sequence.guess);
            tokens.extend(texts.skip(chunk.start).take(chunk.tokens));
            spans.push(sequence.blocks.span(chunk.start, chunk.tokens));
            rows.extend(tokens.len() - logit_rows(sequence, chunk)..tokens.len());
        }
        let decoding = chunks.iter().take_while(|chunk| chunk.follows_prompt).map(|chunk| chunk.tokens).sum();
        let logits_for = LogitRows::Rows(&rows);
        let batch = ForwardBatch { tokens: &tokens, spans: &spans, decoding, logits_for };
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

/// Takes the logits of the last positions up to `end`: scores the prompt, and lets the sequence advance as far as its
/// guess goes on being what it draws. Returns how many guessed tokens were right.
fn take_logits<'a>(
    sequence: &mut Sequence,
    end: usize,
    rows: impl ExactSizeIterator<Item = &'a [f32]>,
    mut advance: impl FnMut(&mut Sequence, &[f32]),
) -> usize {
    let guess = std::mem::take(&mut sequence.guess);
    let (known, is_decoding) = (sequence.tokens.len(), sequence.is_decoding());
    let mut right = 0;
    for (next, row) in (end + 1 - rows.len()..).zip(rows) {
        if next < known {
            sequence.score_prompt(next, row);
            continue;
        }
        advance(sequence, row);
        if sequence.has_ended() || sequence.tokens.last() != guess.get(next - known) {
            break;
        }
        right += 1;
    }
    if is_decoding {
        sequence.pace.settle(end - known, right);
    }
    right
}

/// Counts the tokens of a sequence that a step computed.
fn count(record: &mut StepRecord, sequence: &Sequence, tokens: Range<usize>) {
    let again = tokens.end.min(sequence.furthest).saturating_sub(tokens.start);
    let of_prompt = tokens.end.min(sequence.prompt_tokens).saturating_sub(tokens.start + again);
    record.recomputed_tokens += again;
    record.prefill_tokens += of_prompt;
    record.decode_tokens += tokens.len() - again - of_prompt;
}

/// How many of a chunk's last tokens need logits: all in a prompt that is scored, else the last token of all and its
/// guess.
fn logit_rows(sequence: &Sequence, chunk: &Chunk) -> usize {
    if sequence.scores_prompt() {
        chunk.tokens
    } else {
        (chunk.end() + 1).saturating_sub(sequence.tokens.len())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::request::GenerateRequest;
    use crate::sampling_params::SamplingParams;
    use crate::scheduler::simulation::TOKENIZER;

    /// How many guesses are right where a sequence draws `drawn`, one token for a row, and ends where there are no more.
    fn right(guess: &[u32], drawn: &[u32]) -> usize {
        let request =
            GenerateRequest::new(vec![1, 2, 3], None, SamplingParams::greedy(), Vec::new()).unwrap();
        let (sender, _stream) = unbounded_channel();
        let mut sequence = Sequence::new(request, &Limits::of_blocks(8, 0, None), &TOKENIZER, sender);
        (sequence.computed, sequence.guess) = (2, guess.to_vec());
        let rows = vec![[0.0]; guess.len() + 1];
        let mut drawn = drawn.iter();
        let found = take_logits(
            &mut sequence,
            3 + guess.len(),
            rows.iter().map(<[f32; 1]>::as_slice),
            |sequence, _| match drawn.next() {
                Some(token) => sequence.tokens.push(*token),
                None => sequence.fail("the end".to_owned()),
            },
        );
        assert!(drawn.next().is_none(), "every wrong guess ends the run");
        found
    }

    #[test]
    fn guesses_are_right_up_to_the_first_that_is_not_drawn() {
        assert_eq!(right(&[7, 8], &[7, 8, 9]), 2);
        assert_eq!(right(&[7, 8], &[7, 9]), 1);
        assert_eq!(right(&[7, 8], &[9]), 0);
        assert_eq!(right(&[], &[9]), 0);
    }

    #[test]
    fn a_sequence_may_end_without_drawing_anything() {
        assert_eq!(right(&[7, 8], &[]), 0);
        assert_eq!(right(&[7, 8], &[7]), 1);
    }
}
