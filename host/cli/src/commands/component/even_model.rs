//! A model without weights, for metrics that are tried without one.
//!
//! Its tokens are the text's bytes, and each of 256 is as probable as any other, whatever is before it: perplexity is 256.
//! Its hidden states are zeros. What it writes is nothing; a sample needs a candidate.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use espalier_components::{
    GenerationTiming, Generator, InputError, LayerFacts, MetricInputs, ModelFacts, Sample, Sampling,
    StreamStep, TextScorer, TokenStream,
};
use espalier_kernels::Tensor;

/// How many tokens it knows, and the longest window and context.
const VOCABULARY: u16 = 256;
const WINDOW: usize = 2_048;

/// The model with a text.
struct EvenModel {
    tokens: Vec<u32>,
}

/// What a metric is given of a text and its samples.
pub(super) fn inputs(text: &str, samples: Arc<[Sample]>) -> MetricInputs {
    let model = Arc::new(EvenModel { tokens: tokens(text) });
    MetricInputs {
        facts: Arc::new(facts()),
        scorer: Arc::clone(&model) as Arc<dyn TextScorer>,
        samples,
        generator: model,
        baseline: None,
    }
}

fn tokens(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// The smallest shape there is.
fn facts() -> ModelFacts {
    let layer = LayerFacts {
        heads: 1,
        kv_heads: 1,
        ffn_size: 1,
        experts: 0,
        active_experts: 0,
        sliding_window: None,
        attention_sinks: false,
        parameters_per_unit: BTreeMap::new(),
    };
    ModelFacts {
        architecture: "none".to_owned(),
        hidden_size: 1,
        vocab_size: VOCABULARY.into(),
        head_dim: 1,
        layers: vec![layer],
    }
}

impl TextScorer for EvenModel {
    fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn byte_count(&self, tokens: Range<usize>) -> u64 {
        tokens.len() as u64
    }

    fn beginning_of_sequence(&self) -> Option<u32> {
        None
    }

    fn max_window(&self) -> usize {
        WINDOW
    }

    fn log_probabilities(&self, window: &[u32], score_from: usize) -> Result<Vec<f32>, InputError> {
        Ok(vec![-f32::from(VOCABULARY).ln(); window.len().saturating_sub(score_from)])
    }

    fn hidden_states(&self, window: &[u32], _: usize) -> Result<Tensor, InputError> {
        Ok(Tensor::new(vec![window.len(), 1], vec![0.0; window.len()])?)
    }
}

impl Generator for EvenModel {
    fn encode(&self, text: &str) -> Result<Vec<u32>, InputError> {
        Ok(tokens(text))
    }

    fn context_length(&self) -> Result<usize, InputError> {
        Ok(WINDOW)
    }

    fn begin(&self, _: &[u32], _: &Sampling) -> Result<Box<dyn TokenStream>, InputError> {
        Ok(Box::new(Silence))
    }

    fn answer(&self, index: usize) -> Result<String, InputError> {
        Err(format!("sample {index} has no candidate, expected one: there is no model that answers").into())
    }

    fn answer_timing(&self, _: usize) -> Result<Option<GenerationTiming>, InputError> {
        Ok(None)
    }
}

/// A continuation that has ended.
struct Silence;

impl TokenStream for Silence {
    fn next(&mut self) -> Result<StreamStep, InputError> {
        Ok(StreamStep::Stopped)
    }

    fn timing(&self) -> Option<GenerationTiming> {
        None
    }
}
