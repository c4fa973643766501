//! A model as a writer: continuations and answers for metric components.
//!
//! An engine of its own runs them, on the exact path and with keys and values in f32, so that a continuation does not
//! depend on what else is generated beside it. It starts when the first one is asked for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use espalier_components::{
    GenerationTiming, Generator, InputError, Sample, Sampling, StreamStep, TokenStream,
};
use espalier_engine::{
    Engine, EngineConfig, EngineModels, Event, EventStream, FinishReason, GenerateRequest, SamplingParams,
    Silent,
};
use espalier_kernels::{CacheFormat, Precision};
use espalier_model::{Model, Tokenizer};

use crate::error::EvaluationError;
use crate::text::ENCODING;
use crate::work::Work;

/// Writes with a model.
pub struct ModelGenerator {
    name: String,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    samples: Arc<[Sample]>,
    answer_tokens: usize,
    work: Arc<Work>,
    engine: Mutex<Option<Engine>>,
    answers: Mutex<Option<Arc<[Answer]>>>,
    /// From when the beginnings of continuations are counted.
    origin: Instant,
}

/// What the model says to a sample.
#[derive(Clone, Default)]
pub(crate) struct Answer {
    /// The text; empty where the data has the answer.
    pub(crate) text: String,
    /// How long it took.
    timing: Option<GenerationTiming>,
}

impl ModelGenerator {
    /// A writer with `model`, which is called `name` in errors, that answers `samples` with at most `answer_tokens` tokens
    /// each, as part of `work`.
    #[must_use]
    pub fn new(
        name: String,
        model: Arc<Model>,
        tokenizer: Arc<Tokenizer>,
        samples: Arc<[Sample]>,
        answer_tokens: usize,
        work: Arc<Work>,
    ) -> Self {
        Self {
            name,
            model,
            tokenizer,
            samples,
            answer_tokens,
            work,
            engine: Mutex::default(),
            answers: Mutex::default(),
            origin: Instant::now(),
        }
    }

    fn engine(&self) -> Result<Engine, EvaluationError> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*engine {
            return Ok(running.clone());
        }
        let config = EngineConfig {
            precision: Precision::Exact,
            kv_format: CacheFormat::F32,
            ..EngineConfig::default()
        };
        let models = EngineModels {
            model: Arc::clone(&self.model),
            tokenizer: Arc::clone(&self.tokenizer),
            draft: None,
        };
        let started = Engine::start(&self.name, models, &config, Arc::new(Silent))?;
        Ok(engine.insert(started).clone())
    }

    fn submit(&self, request: GenerateRequest) -> Result<Continuation, EvaluationError> {
        let engine = self.engine()?;
        let begun = self.origin.elapsed();
        let events = engine.submit(request)?;
        let (name, work) = (self.name.clone(), Arc::clone(&self.work));
        Ok(Continuation { name, work, events, begun, end: None })
    }

    /// The answers to all samples without a candidate, as many at once as the engine runs.
    pub(crate) fn answers(&self) -> Result<Arc<[Answer]>, EvaluationError> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*answers {
            return Ok(Arc::clone(known));
        }
        let mut found = vec![Answer::default(); self.samples.len()];
        let mut running = VecDeque::new();
        let unanswered = self.samples.iter().zip(&mut found).enumerate();
        for (index, (sample, answer)) in unanswered.filter(|(_, (sample, _))| sample.candidate.is_none()) {
            if running.len() == EngineConfig::default().max_sequences {
                finish(&mut running)?;
            }
            let of_sample =
                |source| EvaluationError::Unanswerable { sample: index + 1, source: Box::new(source) };
            let prompt = self.tokenizer.encode_with(&sample.prompt, ENCODING)?;
            let request =
                GenerateRequest::new(prompt, Some(self.answer_tokens), SamplingParams::greedy(), Vec::new())
                    .map_err(EvaluationError::from);
            running.push_back((request.and_then(|request| self.submit(request)).map_err(of_sample)?, answer));
        }
        while !running.is_empty() {
            finish(&mut running)?;
        }
        Ok(Arc::clone(answers.insert(found.into())))
    }
}

/// Reads the continuation that began first to its end.
fn finish(running: &mut VecDeque<(Continuation, &mut Answer)>) -> Result<(), EvaluationError> {
    let Some((mut continuation, answer)) = running.pop_front() else { return Ok(()) };
    while let StreamStep::Piece { text, .. } = continuation.step()? {
        answer.text.push_str(&text);
    }
    answer.timing = continuation.timing();
    Ok(())
}

impl Generator for ModelGenerator {
    fn encode(&self, text: &str) -> Result<Vec<u32>, InputError> {
        Ok(self.tokenizer.encode_with(text, ENCODING)?)
    }

    fn context_length(&self) -> Result<usize, InputError> {
        Ok(self.engine()?.max_model_len())
    }

    fn begin(&self, prompt: &[u32], sampling: &Sampling) -> Result<Box<dyn TokenStream>, InputError> {
        let params = SamplingParams::new(sampling.temperature, sampling.top_p, Some(sampling.seed))?;
        let params = params.with_top_k(sampling.top_k);
        let request = GenerateRequest::new(prompt.to_vec(), Some(sampling.max_tokens), params, Vec::new())?
            .with_every_token();
        let request = if sampling.log_probabilities { request.with_logprobs(0)? } else { request };
        Ok(Box::new(self.submit(request)?))
    }

    fn answer(&self, index: usize) -> Result<String, InputError> {
        Ok(self.answers()?.get(index).map(|answer| answer.text.clone()).unwrap_or_default())
    }

    fn answer_timing(&self, index: usize) -> Result<Option<GenerationTiming>, InputError> {
        Ok(self.answers()?.get(index).and_then(|answer| answer.timing))
    }
}

/// A continuation that the engine generates.
struct Continuation {
    name: String,
    work: Arc<Work>,
    events: EventStream,
    begun: Duration,
    end: Option<(StreamStep, GenerationTiming)>,
}

impl Continuation {
    fn step(&mut self) -> Result<StreamStep, EvaluationError> {
        loop {
            self.work.check()?;
            if let Some((end, _)) = &self.end {
                return Ok(end.clone());
            }
            match self.events.blocking_recv() {
                Some(Event::Text { text, token_ids, logprobs }) => {
                    self.work.add(token_ids.len());
                    let log_probabilities = logprobs.iter().map(|token| token.logprob).collect();
                    return Ok(StreamStep::Piece { text, tokens: token_ids, log_probabilities });
                }
                Some(Event::Finished { reason, usage, times }) => {
                    let end = match reason {
                        FinishReason::Stop => StreamStep::Stopped,
                        FinishReason::Length => StreamStep::ReachedLength,
                    };
                    let timing = GenerationTiming {
                        prompt_tokens: usage.prompt_tokens,
                        tokens: usage.completion_tokens,
                        begun: self.begun,
                        first_token: times.first_token,
                        total: times.total,
                    };
                    self.end = Some((end, timing));
                }
                Some(Event::Prompt { .. }) => {}
                Some(Event::Failed(reason) | Event::GrammarTooComplex(reason)) => {
                    return Err(self.failed(reason));
                }
                None => return Err(self.failed("its engine has ended".to_owned())),
            }
        }
    }

    fn failed(&self, reason: String) -> EvaluationError {
        EvaluationError::Generation { name: self.name.clone(), reason }
    }
}

impl TokenStream for Continuation {
    fn next(&mut self) -> Result<StreamStep, InputError> {
        Ok(self.step()?)
    }

    fn timing(&self) -> Option<GenerationTiming> {
        self.end.as_ref().map(|(_, timing)| *timing)
    }
}
