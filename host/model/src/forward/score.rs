//! Scoring a text: one sequence from its first token, in chunks, with a cache of its own.
//!
//! Calibration, perplexity and the `logits` command run this way; the serving path goes through the engine.

use espalier_kernels::{CacheFormat, Precision};

use super::{Ablation, ForwardBatch, LogitRows};
use crate::cuda::KeyValueCache;
use crate::error::ModelError;
use crate::model::Model;
use crate::probe::{NoProbes, ProbeSink};
use crate::sequence_blocks::SequenceSize;

/// Tokens per pass where logits are wanted: large enough for the matrix kernels, small enough that the logits of a
/// chunk stay a few dozen MB.
const CHUNK_TOKENS_WITH_LOGITS: usize = 128;
/// Tokens per pass where they aren't.
const CHUNK_TOKENS: usize = 512;
const BLOCK_TOKENS: usize = 64;

/// Receives the logits `[rows, vocab_size]` of a chunk and the position of its first row.
pub type LogitSink<'a> = dyn FnMut(usize, &[f32]) + 'a;

impl Model {
    /// Runs `tokens` as one sequence from scratch; `logits`, where given, receives those of every position.
    ///
    /// # Errors
    /// A sequence longer than the model's context, a token outside the vocabulary.
    pub fn score(
        &self,
        tokens: &[u32],
        precision: Precision,
        probes: Option<&mut dyn ProbeSink>,
        logits: Option<&mut LogitSink<'_>>,
    ) -> Result<(), ModelError> {
        let mut silent = NoProbes;
        let probes = probes.unwrap_or(&mut silent);
        self.run_sequence(tokens, logits, |batch, cache| {
            self.forward(batch, cache, precision, Some(&mut *probes))
        })
    }

    /// Runs `tokens` as one sequence from scratch, in full precision and without some units.
    ///
    /// # Errors
    /// See [`Model::score`] and [`Model::forward_without`].
    pub fn score_without(
        &self,
        ablation: &Ablation,
        tokens: &[u32],
        logits: &mut LogitSink<'_>,
    ) -> Result<(), ModelError> {
        self.run_sequence(tokens, Some(logits), |batch, cache| self.forward_without(ablation, batch, cache))
    }

    fn run_sequence(
        &self,
        tokens: &[u32],
        mut logits: Option<&mut LogitSink<'_>>,
        mut forward: impl FnMut(&ForwardBatch<'_>, &mut KeyValueCache) -> Result<Vec<f32>, ModelError>,
    ) -> Result<(), ModelError> {
        if tokens.len() > self.spec.max_positions {
            let expected = format!("at most {}, the model's context length", self.spec.max_positions);
            return Err(ModelError::argument("tokens of a sequence", tokens.len(), expected));
        }
        let (logits_for, step_tokens) = match logits {
            Some(_) => (LogitRows::All, CHUNK_TOKENS_WITH_LOGITS),
            None => (LogitRows::None, CHUNK_TOKENS),
        };
        let size = SequenceSize { tokens: tokens.len(), step_tokens, block_tokens: BLOCK_TOKENS };
        let (mut cache, blocks) = self.cache_for_one(size, CacheFormat::F32)?;
        for (index, chunk) in tokens.chunks(step_tokens).enumerate() {
            let first_position = index * step_tokens;
            let spans = [blocks.span(first_position, chunk.len())?];
            let batch = ForwardBatch { tokens: chunk, spans: &spans, decoding: 0, logits_for };
            let rows = forward(&batch, &mut cache)?;
            if let Some(sink) = logits.as_deref_mut() {
                sink(first_position, &rows);
            }
        }
        Ok(())
    }
}
