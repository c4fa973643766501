//! Everything about one or several models on the same data.

use std::path::PathBuf;
use std::sync::Arc;

use espalier_components::EvaluationMetric;
use espalier_kernels::Device;
use espalier_model::{Checkpoint, Model};

use crate::data::EvaluationData;
use crate::error::EvaluationError;
use crate::memory::{bytes_on_disk, resident_bytes};
use crate::report::{Report, Row};
use crate::subject::{LoadedSubject, Subject};
use crate::timing::{TimingRequest, measure_timing};

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationRequest {
    /// The data: plain text, or samples in a file whose name ends in `.jsonl`.
    pub data: PathBuf,
    /// Tokens of the text to use; all if none.
    pub max_tokens: Option<usize>,
    /// Tokens that an answer to a sample may have.
    pub answer_tokens: usize,
    /// Texts that every model is asked to go on with, most probable token by token.
    pub prompts: Vec<String>,
    /// Measure speed.
    pub timing: Option<TimingRequest>,
}

impl EvaluationRequest {
    /// How long an answer may be where nothing else is asked for.
    pub const ANSWER_TOKENS: usize = 128;
}

/// Where an evaluation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The model being measured.
    pub subject: &'a str,
    /// The metric's name, or `timing`.
    pub what: &'a str,
    /// Tokens scored, compared or generated.
    pub done: u64,
    /// Of how many, where that is known: a metric decides itself how much it asks for.
    pub total: Option<u64>,
}

/// Measures `baseline`, if there is one, and then each of `subjects`, one after the other.
///
/// All are measured on the same data, but each with its own tokenizer. `progress` is told where the work stands and
/// cancels it by returning false.
///
/// # Errors
/// Data that cannot be read, a model that cannot be loaded, a metric that fails, or [`EvaluationError::Cancelled`].
pub fn evaluate(
    device: &Device,
    baseline: Option<&Subject>,
    subjects: &[Subject],
    metrics: &[EvaluationMetric],
    request: &EvaluationRequest,
    progress: &mut dyn FnMut(Step<'_>) -> bool,
) -> Result<Report, EvaluationError> {
    let data = EvaluationData::read(&request.data)?;
    let mut rows = Vec::with_capacity(subjects.len() + 1);
    let mut record = None;
    let mut notes = Notes::of(&data, request);
    let mut reference: Option<Arc<Model>> = None;
    for subject in baseline.into_iter().chain(subjects) {
        let mut report = |what: &str, done: u64, total: Option<u64>| {
            let goes_on = progress(Step { subject: &subject.name, what, done, total });
            if goes_on { Ok(()) } else { Err(EvaluationError::Cancelled) }
        };
        let resident_before = resident_bytes();
        let checkpoint = Checkpoint::open(&subject.path)?;
        let loaded = LoadedSubject::load(&subject.name, &checkpoint, device, &data, request)?;
        let timing = match &request.timing {
            Some(timing) => {
                report("timing", 0, Some(1))?;
                let measured = measure_timing(&subject.name, loaded.model(), timing)?;
                report("timing", 1, Some(1))?;
                Some(measured)
            }
            None => None,
        };
        let mut measurements = Vec::new();
        for metric in metrics {
            let found = loaded.measure(metric, reference.as_ref(), &mut report)?;
            notes.add(metric, found.notes);
            measurements.extend(found.measurements);
        }
        let answers = loaded.answers(&request.prompts, request.answer_tokens, &mut report)?;
        let resident_bytes =
            resident_bytes().zip(resident_before).map(|(now, before)| now.saturating_sub(before));
        rows.push(Row {
            name: subject.name.clone(),
            formats: formats(&checkpoint),
            parameters: checkpoint.spec().parameters(),
            bytes_on_disk: bytes_on_disk(&subject.path)?,
            weight_bytes: loaded.model().weight_bytes(),
            resident_bytes,
            measurements,
            answers,
            timing,
        });
        record.get_or_insert_with(|| loaded.text().record().clone());
        if baseline.is_some() && reference.is_none() {
            reference = Some(Arc::clone(loaded.model()));
        }
    }
    Ok(Report {
        generator: concat!("espalier ", env!("CARGO_PKG_VERSION")).to_owned(),
        data: record.ok_or(EvaluationError::NoSubject)?,
        metrics: metrics.iter().map(|metric| metric.identity().to_string()).collect(),
        device: device.to_string(),
        notes: notes.0,
        prompts: request.prompts.clone(),
        has_baseline: baseline.is_some(),
        rows,
    })
}

/// What the metrics say beside their figures, each sentence once.
struct Notes(Vec<String>);

impl Notes {
    fn of(data: &EvaluationData, request: &EvaluationRequest) -> Self {
        let tokens = request.answer_tokens;
        let answers = || format!("Answers: the most probable token every time, at most {tokens} of them.");
        Self(data.has_questions().then(answers).into_iter().collect())
    }

    fn add(&mut self, metric: &EvaluationMetric, notes: Vec<String>) {
        for note in notes {
            let note = format!("{}: {note}", metric.identity().name);
            if !self.0.contains(&note) {
                self.0.push(note);
            }
        }
    }
}

/// The formats of a model's matrices, most bytes first.
fn formats(checkpoint: &Checkpoint) -> Vec<String> {
    let mut bytes: Vec<(&'static str, u64)> = Vec::new();
    for tensor in checkpoint.tensors().filter(|tensor| tensor.shape.len() > 1) {
        let name = tensor.format.name();
        match bytes.iter_mut().find(|(known, _)| *known == name) {
            Some((_, total)) => *total += tensor.byte_len() as u64,
            None => bytes.push((name, tensor.byte_len() as u64)),
        }
    }
    bytes.sort_by(|(_, first), (_, second)| second.cmp(first));
    bytes.into_iter().map(|(name, _)| name.to_owned()).collect()
}
