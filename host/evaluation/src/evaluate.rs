//! Everything about one or several models on one text.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use espalier_components::{EvaluationMetric, Measurement, TextScorer};
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model};

use crate::agreement::{Agreement, AgreementRequest, measure_agreement};
use crate::error::EvaluationError;
use crate::facts::model_facts;
use crate::memory::{bytes_on_disk, resident_bytes};
use crate::report::{Report, Row};
use crate::scorer::ModelScorer;
use crate::text::{EvaluationText, TextRecord};
use crate::timing::{TimingRequest, measure_timing};

/// How often a running metric is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A model to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What the report calls it.
    pub name: String,
    /// Its checkpoint.
    pub path: PathBuf,
}

/// What to measure.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationRequest {
    /// The text.
    pub data: PathBuf,
    /// Tokens of the text to use; all if none.
    pub max_tokens: Option<usize>,
    /// Measure speed.
    pub timing: Option<TimingRequest>,
    /// Measure how close models stay to the baseline.
    pub agreement: Option<AgreementRequest>,
}

/// Where an evaluation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The model being measured.
    pub subject: &'a str,
    /// The metric's name, `timing` or `agreement`.
    pub what: &'a str,
    /// Log-probabilities computed, or windows compared.
    pub done: u64,
    /// Of how many, where that is known: a metric decides itself how much it scores.
    pub total: Option<u64>,
}

/// Measures `baseline`, if there is one, and then each of `subjects`, one after the other.
///
/// All are measured on the same text, but each with its own tokenizer. `progress` is told where the work stands and
/// cancels it by returning false.
///
/// # Errors
/// A model that cannot be loaded, a text that cannot be read, a metric that fails, or [`EvaluationError::Cancelled`].
pub fn evaluate(
    cpu: &Cpu,
    baseline: Option<&Subject>,
    subjects: &[Subject],
    metrics: &[EvaluationMetric],
    request: &EvaluationRequest,
    progress: &mut dyn FnMut(Step<'_>) -> bool,
) -> Result<Report, EvaluationError> {
    let mut rows = Vec::with_capacity(subjects.len() + 1);
    let mut data: Option<TextRecord> = None;
    let mut reference: Option<Arc<Model>> = None;
    for subject in baseline.into_iter().chain(subjects) {
        let resident_before = resident_bytes();
        let checkpoint = Checkpoint::open(&subject.path)?;
        let text = EvaluationText::read(&request.data, &checkpoint.tokenizer()?, request.max_tokens)?;
        let model = Arc::new(Model::load(&checkpoint, cpu.clone())?);
        let measured = Measured::take(
            subject,
            &model,
            Arc::new(text),
            reference.as_deref(),
            metrics,
            request,
            progress,
        )?;
        let resident_bytes =
            resident_bytes().zip(resident_before).map(|(now, before)| now.saturating_sub(before));
        rows.push(Row {
            name: subject.name.clone(),
            formats: formats(&checkpoint),
            parameters: checkpoint.spec().parameters(),
            bytes_on_disk: bytes_on_disk(&subject.path)?,
            weight_bytes: model.weight_bytes(),
            resident_bytes,
            measurements: measured.measurements,
            timing: measured.timing,
            agreement: measured.agreement,
        });
        data.get_or_insert(measured.text);
        if baseline.is_some() && reference.is_none() && request.agreement.is_some() {
            reference = Some(model);
        }
    }
    let data = match data {
        Some(data) => data,
        None => return Err(EvaluationError::NoSubject),
    };
    Ok(Report {
        generator: concat!("espalier ", env!("CARGO_PKG_VERSION")).to_owned(),
        data,
        metrics: metrics.iter().map(|metric| metric.identity().to_string()).collect(),
        device: format!("CPU with {:?}, {} threads", cpu.instruction_set(), cpu.threads()),
        has_baseline: baseline.is_some(),
        rows,
    })
}

/// What was measured of one model.
struct Measured {
    text: TextRecord,
    measurements: Vec<Measurement>,
    timing: Option<crate::Timing>,
    agreement: Option<Agreement>,
}

impl Measured {
    fn take(
        subject: &Subject,
        model: &Arc<Model>,
        text: Arc<EvaluationText>,
        reference: Option<&Model>,
        metrics: &[EvaluationMetric],
        request: &EvaluationRequest,
        progress: &mut dyn FnMut(Step<'_>) -> bool,
    ) -> Result<Self, EvaluationError> {
        let name = subject.name.as_str();
        let mut report = |what: &str, done: u64, total: Option<u64>| {
            if progress(Step { subject: name, what, done, total }) {
                Ok(())
            } else {
                Err(EvaluationError::Cancelled)
            }
        };
        let timing = match &request.timing {
            Some(timing) => {
                report("timing", 0, Some(1))?;
                let measured = measure_timing(name, model, timing)?;
                report("timing", 1, Some(1))?;
                Some(measured)
            }
            None => None,
        };
        let mut measurements = Vec::new();
        for metric in metrics {
            let scorer = Arc::new(ModelScorer::new(name.to_owned(), Arc::clone(model), Arc::clone(&text)));
            measurements.extend(run_metric(metric, model, &scorer, &mut report)?);
        }
        let agreement = match (&request.agreement, reference) {
            (Some(agreement), Some(reference)) => {
                let mut watch =
                    |done: usize, total: usize| report("agreement", done as u64, Some(total as u64)).is_ok();
                measure_agreement(name, model, reference, text.tokens(), agreement, &mut watch)?
            }
            _ => None,
        };
        Ok(Self { text: text.record().clone(), measurements, timing, agreement })
    }
}

/// Takes the name of what runs, how much is done and, where it is known, of how much; an error cancels.
type ProgressReport<'a> = dyn FnMut(&str, u64, Option<u64>) -> Result<(), EvaluationError> + 'a;

/// Runs a metric on a thread of its own, so that it can be watched and cancelled.
fn run_metric(
    metric: &EvaluationMetric,
    model: &Model,
    scorer: &Arc<ModelScorer>,
    report: &mut ProgressReport<'_>,
) -> Result<Vec<Measurement>, EvaluationError> {
    let facts = Arc::new(model_facts(model.spec()));
    let name = metric.identity().name.as_str();
    thread::scope(|scope| {
        let input: Arc<dyn TextScorer> = Arc::clone(scorer) as _;
        let running = scope.spawn(move || metric.evaluate(facts, input));
        while !running.is_finished() {
            if report(name, scorer.scored(), None).is_err() {
                scorer.cancel();
            }
            thread::park_timeout(WATCH_INTERVAL);
        }
        let result = running
            .join()
            .map_err(|_| EvaluationError::Panicked { metric: metric.identity().to_string() })?;
        if scorer.is_cancelled() {
            return Err(EvaluationError::Cancelled);
        }
        report(name, scorer.scored(), Some(scorer.scored()))?;
        Ok(result?)
    })
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
