//! A model that is measured, with the data in its own tokens, and how a metric is run on it.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use espalier_components::{Baseline, EvaluationMetric, MetricInputs, MetricReport, Sample};
use espalier_kernels::Device;
use espalier_model::{Checkpoint, Model, Tokenizer};

use crate::comparison::ModelComparison;
use crate::data::EvaluationData;
use crate::error::EvaluationError;
use crate::evaluate::EvaluationRequest;
use crate::facts::model_facts;
use crate::generator::ModelGenerator;
use crate::scorer::ModelScorer;
use crate::text::EvaluationText;
use crate::work::Work;

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

/// A subject in memory.
pub(crate) struct LoadedSubject {
    name: String,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    text: Arc<EvaluationText>,
    samples: Arc<[Sample]>,
    /// Kept from metric to metric, because they all measure the same answers.
    generator: Arc<ModelGenerator>,
    work: Arc<Work>,
}

/// Takes the name of what runs, how much is done and, where it is known, of how much; an error cancels.
type ProgressReport<'a> = dyn FnMut(&str, u64, Option<u64>) -> Result<(), EvaluationError> + 'a;

impl LoadedSubject {
    pub(crate) fn load(
        name: &str,
        checkpoint: &Checkpoint,
        device: &Device,
        data: &EvaluationData,
        request: &EvaluationRequest,
    ) -> Result<Self, EvaluationError> {
        let tokenizer = Arc::new(checkpoint.tokenizer()?);
        let text = Arc::new(EvaluationText::tokenise(data, &tokenizer, request.max_tokens)?);
        let model = Arc::new(Model::load(checkpoint, device.clone())?);
        let (samples, work) = (Arc::clone(data.samples()), Arc::new(Work::default()));
        let generator = Arc::new(ModelGenerator::new(
            name.to_owned(),
            Arc::clone(&model),
            Arc::clone(&tokenizer),
            Arc::clone(&samples),
            request.answer_tokens,
            Arc::clone(&work),
        ));
        Ok(Self { name: name.to_owned(), model, tokenizer, text, samples, generator, work })
    }

    pub(crate) const fn model(&self) -> &Arc<Model> {
        &self.model
    }

    pub(crate) fn text(&self) -> &EvaluationText {
        &self.text
    }

    /// Runs a metric on a thread of its own, so that it can be watched and cancelled.
    pub(crate) fn measure(
        &self,
        metric: &EvaluationMetric,
        baseline: Option<&Arc<Model>>,
        report: &mut ProgressReport<'_>,
    ) -> Result<MetricReport, EvaluationError> {
        let (inputs, work) = (self.inputs(baseline), &self.work);
        work.restart();
        let name = metric.identity().name.as_str();
        thread::scope(|scope| {
            let running = scope.spawn(move || metric.evaluate(inputs));
            while !running.is_finished() {
                if report(name, work.done(), None).is_err() {
                    work.cancel();
                }
                thread::park_timeout(WATCH_INTERVAL);
            }
            let result = running
                .join()
                .map_err(|_| EvaluationError::Panicked { metric: metric.identity().to_string() })?;
            work.check()?;
            report(name, work.done(), Some(work.done()))?;
            Ok(result?)
        })
    }

    /// How the model goes on with each of the prompts, most probable token by token.
    pub(crate) fn answers(
        &self,
        prompts: &[String],
        most_tokens: usize,
        report: &mut ProgressReport<'_>,
    ) -> Result<Vec<String>, EvaluationError> {
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        let sample =
            |prompt: &String| Sample { prompt: prompt.clone(), references: Vec::new(), candidate: None };
        let generator = ModelGenerator::new(
            self.name.clone(),
            Arc::clone(&self.model),
            Arc::clone(&self.tokenizer),
            prompts.iter().map(sample).collect(),
            most_tokens,
            Arc::clone(&self.work),
        );
        self.work.restart();
        let total = prompts.len() as u64;
        report("answers", 0, Some(total))?;
        let answers = generator.answers()?;
        report("answers", total, Some(total))?;
        Ok(answers.iter().map(|answer| answer.text.clone()).collect())
    }

    fn inputs(&self, baseline: Option<&Arc<Model>>) -> MetricInputs {
        let work = || Arc::clone(&self.work);
        let (name, model) = (|| self.name.clone(), || Arc::clone(&self.model));
        MetricInputs {
            facts: Arc::new(model_facts(self.model.spec())),
            scorer: Arc::new(ModelScorer::new(name(), model(), Arc::clone(&self.text), work())),
            samples: Arc::clone(&self.samples),
            generator: Arc::clone(&self.generator) as _,
            baseline: baseline.map(|baseline| {
                Arc::new(ModelComparison::new(name(), model(), Arc::clone(baseline), work()))
                    as Arc<dyn Baseline>
            }),
        }
    }
}
