//! A model without weights whose opinions follow a formula, as a scorer, as a writer and beside a baseline.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use espalier_components::{
    Baseline, ComponentError, GenerationTiming, Generator, InputError, MetricInputs, MetricReport, Sample,
    Sampling, StreamStep, TextScorer, TokenComparison, TokenStream,
};
use espalier_kernels::Tensor;

use crate::guests::{facts, host, metric};

/// Its opinion of a token depends on the token, the one before it and how far into the window it is.
pub(crate) struct ScriptedModel {
    pub(crate) tokens: Vec<u32>,
    pub(crate) bos: Option<u32>,
    pub(crate) max_window: usize,
    pub(crate) fails_after: usize,
    pub(crate) calls: AtomicUsize,
}

pub(crate) fn log_probability(window: &[u32], position: usize) -> f32 {
    let (token, before) = (window[position] as f32, window[position - 1] as f32);
    -((token * 0.37).sin().abs() * 2.0 + (before * 0.11).cos().abs() + 3.0 / (position as f32 + 1.0))
}

impl ScriptedModel {
    pub(crate) fn new(count: u32, max_window: usize, bos: Option<u32>) -> Arc<Self> {
        let tokens = (0..count).map(|i| (i * 7919 + i / 13) % 100).collect();
        Arc::new(Self { tokens, bos, max_window, fails_after: usize::MAX, calls: AtomicUsize::new(0) })
    }
}

impl TextScorer for ScriptedModel {
    fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn byte_count(&self, tokens: Range<usize>) -> u64 {
        self.tokens[tokens].iter().map(|token| u64::from(token % 5)).sum()
    }

    fn beginning_of_sequence(&self) -> Option<u32> {
        self.bos
    }

    fn max_window(&self) -> usize {
        self.max_window
    }

    fn log_probabilities(&self, window: &[u32], from: usize) -> Result<Vec<f32>, InputError> {
        if self.calls.fetch_add(1, Ordering::Relaxed) >= self.fails_after {
            return Err("the job was cancelled".into());
        }
        Ok((from..window.len()).map(|position| log_probability(window, position)).collect())
    }

    fn hidden_states(&self, window: &[u32], layers: usize) -> Result<Tensor, InputError> {
        let width = facts("llama").hidden_size as usize;
        let states = window
            .iter()
            .flat_map(|&token| (0..width).map(move |column| hidden_state(token, layers, column)));
        Ok(Tensor::new(vec![window.len(), width], states.collect())?)
    }
}

/// Its hidden state of a token behind so many layers.
pub(crate) fn hidden_state(token: u32, layers: usize, column: usize) -> f32 {
    token as f32 + layers as f32 * 0.5 - column as f32
}

impl Baseline for ScriptedModel {
    fn compare(&self, window: &[u32], from: usize) -> Result<Vec<TokenComparison>, InputError> {
        Ok((from..window.len()).map(|position| comparison(window, position)).collect())
    }
}

/// What the model and its baseline say of one token.
pub(crate) fn comparison(window: &[u32], position: usize) -> TokenComparison {
    let log_probability = log_probability(window, position);
    TokenComparison {
        divergence: f64::from(window[position]) / 1_000.0 + 1.0 / position as f64,
        same_top: !window[position].is_multiple_of(3),
        baseline_log_probability: log_probability * 0.9,
        log_probability,
    }
}

/// Repeats "one two three four " token by token, and counts the continuations that are not dropped.
#[derive(Default)]
pub(crate) struct ScriptedWriter {
    pub(crate) alive: Arc<AtomicUsize>,
    pub(crate) answers: AtomicUsize,
}

const WORDS: [&str; 4] = ["one ", "two ", "three ", "four "];

struct Words {
    alive: Arc<AtomicUsize>,
    sampling: Sampling,
    written: usize,
}

impl Generator for ScriptedWriter {
    fn encode(&self, text: &str) -> Result<Vec<u32>, InputError> {
        Ok(text.bytes().map(|byte| u32::from(byte) % 100).collect())
    }

    fn context_length(&self) -> Result<usize, InputError> {
        Ok(256)
    }

    fn begin(&self, _: &[u32], sampling: &Sampling) -> Result<Box<dyn TokenStream>, InputError> {
        self.alive.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(Words { alive: Arc::clone(&self.alive), sampling: *sampling, written: 0 }))
    }

    fn answer(&self, index: usize) -> Result<String, InputError> {
        self.answers.fetch_add(1, Ordering::Relaxed);
        Ok(format!("the answer {index}"))
    }

    fn answer_timing(&self, index: usize) -> Result<Option<GenerationTiming>, InputError> {
        Ok(Some(timing(index)))
    }
}

/// How long its answer to a sample takes: each begins 20 ms after the one before, has its first token after 30 ms and two,
/// three or four in all, 10 ms apart, with a slow one among them.
pub(crate) fn timing(index: usize) -> GenerationTiming {
    let tokens = 2 + index % 3;
    let slow = if index == 4 { 150 } else { 0 };
    GenerationTiming {
        prompt_tokens: 5,
        tokens,
        begun: Duration::from_millis(20 * index as u64),
        first_token: Duration::from_millis(30 + slow),
        total: Duration::from_millis(30 + slow + 10 * (tokens as u64 - 1)),
    }
}

impl TokenStream for Words {
    fn next(&mut self) -> Result<StreamStep, InputError> {
        if self.written == self.sampling.max_tokens {
            return Ok(StreamStep::ReachedLength);
        }
        let text = WORDS[self.written % WORDS.len()].to_owned();
        let log_probabilities = if self.sampling.log_probabilities { vec![-0.5] } else { Vec::new() };
        self.written += 1;
        Ok(StreamStep::Piece { text, tokens: vec![7], log_probabilities })
    }

    fn timing(&self) -> Option<GenerationTiming> {
        (self.written == self.sampling.max_tokens).then(|| timing(0))
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The inputs of a metric that scores with this model.
pub(crate) fn inputs(scorer: Arc<dyn TextScorer>) -> MetricInputs {
    MetricInputs {
        facts: facts("llama"),
        scorer,
        samples: Arc::default(),
        generator: Arc::new(ScriptedWriter::default()),
        baseline: None,
    }
}

/// Those of a metric of answers.
pub(crate) fn answered(samples: impl IntoIterator<Item = Sample>) -> MetricInputs {
    MetricInputs { samples: samples.into_iter().collect(), ..inputs(ScriptedModel::new(8, 512, None)) }
}

/// A sample with its answer.
pub(crate) fn sample(candidate: &str, references: &[&str]) -> Sample {
    Sample {
        prompt: String::new(),
        references: references.iter().map(|&reference| reference.to_owned()).collect(),
        candidate: Some(candidate.to_owned()),
    }
}

/// What the built metric of this name measures.
pub(crate) fn measure(name: &str, inputs: MetricInputs) -> Result<MetricReport, ComponentError> {
    metric(&host(), name).evaluate(inputs)
}

/// The figure of this name, and its standard error.
pub(crate) fn figure(report: &MetricReport, name: &str) -> (f64, Option<f64>) {
    let found = report.measurements.iter().find(|measurement| measurement.name == name).expect(name);
    (found.value, found.standard_error)
}
