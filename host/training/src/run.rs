//! A training run from its configuration to a model on disk.
//!
//! `--out` gets `model` (an ordinary Hugging Face directory), `adapter` (PEFT's format, for LoRA), `training.json` and, while the run is under
//! way, its checkpoint. A run that is started again on the directory goes on from the checkpoint, and ends with the bytes that
//! an uninterrupted one ends with.

use std::path::Path;
use std::time::Instant;

use espalier_kernels::{Cpu, Precision};
use espalier_model::{Checkpoint, Model, ModelSpec, Tokenizer, TokenizerFiles};
use sha2::{Digest, Sha256};

use crate::adapter_file::write_peft;
use crate::batch::Batch;
use crate::cancellation::Cancellation;
use crate::configuration::{Configuration, Method, TrainingPrecision};
use crate::error::TrainingError;
use crate::finished::FinishedTraining;
use crate::gradients::{Gradients, PassOptions};
use crate::network::{Adapter, Network};
use crate::objective::{Distillation, Objective};
use crate::optimizer::AdamW;
use crate::output::{TrainedModel, rounded};
use crate::parameters::{Parameters, Trainable};
use crate::teacher::TeacherOutput;
use crate::windows::{Windows, read_text};
use crate::{run_state, scratch, tensor_file};

/// Name of the result's directory in the run's.
const MODEL: &str = "model";
/// Name of the adapter's.
const ADAPTER: &str = "adapter";

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingProgress {
    /// Steps done.
    pub step: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Loss of the last step, before it.
    pub loss: f64,
    /// Learning rate of the last step.
    pub learning_rate: f32,
    /// Norm of the last step's gradients, before they were clipped.
    pub gradient_norm: f64,
    /// Tokens trained on per second, since this process began.
    pub tokens_per_second: f64,
    /// Seconds that the rest will take at that speed.
    pub seconds_left: f64,
}

/// What a run did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainingSummary {
    /// Loss of the first step that this process made, if it made one.
    pub first_loss: Option<f64>,
    /// Loss of the last.
    pub last_loss: Option<f64>,
    /// The step that it went on from; 0 for a new run.
    pub resumed_at: u64,
    /// Numbers that trained.
    pub trained_parameters: u64,
}

/// Sees the run's progress after every step; returning false stops it after a checkpoint.
pub type ProgressSink<'a> = dyn FnMut(&TrainingProgress) -> bool + 'a;

/// Trains by `configuration` into the directory `out`. A cancellation is noticed within a step, before its next layer; the
/// steps before it are kept.
///
/// # Errors
/// Files that cannot be read or don't fit each other, a finished run or the checkpoint of another one in `out`, a loss that
/// is no number, or [`TrainingError::Cancelled`].
pub fn train(
    configuration: &Configuration,
    out: &Path,
    cancellation: &Cancellation,
    progress: &mut ProgressSink<'_>,
) -> Result<TrainingSummary, TrainingError> {
    let finished = out.join(MODEL);
    if finished.exists() {
        let expected = "a directory without a finished model".to_owned();
        return Err(TrainingError::argument("--out", finished.display(), expected));
    }
    let subject = Subject::prepare(configuration)?;
    std::fs::create_dir_all(out).map_err(TrainingError::file("create", out))?;
    let mut run = Run::begin(configuration, &subject, out, cancellation)?;
    let summary = run.steps(progress)?;
    let TrainingSummary { last_loss, trained_parameters, .. } = summary;
    let last_loss = last_loss.unwrap_or_default();
    FinishedTraining { steps: run.step, last_loss, trained_parameters }.write(out)?;
    subject.write(configuration, out)?;
    tensor_file::remove(&out.join(run_state::FILE))?;
    Ok(summary)
}

/// What is trained, and on what.
struct Subject {
    spec: ModelSpec,
    tokenizer_files: TokenizerFiles,
    source: Option<Checkpoint>,
    parameters: Parameters,
    adapter: Option<Adapter>,
    network: Network,
    windows: Windows,
    teacher: Option<(Model, Distillation)>,
}

impl Subject {
    fn prepare(configuration: &Configuration) -> Result<Self, TrainingError> {
        let (spec, tokenizer_files, tokenizer, source, parameters) =
            match (&configuration.model, &configuration.scratch) {
                (Some(path), _) => {
                    let checkpoint = Checkpoint::open(path)?;
                    let trainable = match configuration.method {
                        Method::Lora => Trainable::Nothing,
                        Method::Full | Method::Scratch => Trainable::All,
                    };
                    let parameters = Parameters::load(&checkpoint, trainable)?;
                    let files = checkpoint.tokenizer_files()?;
                    let spec = checkpoint.spec().clone();
                    (spec, files, checkpoint.tokenizer()?, Some(checkpoint), parameters)
                }
                (None, Some(new)) => {
                    let texts = read_texts(configuration)?;
                    let (spec, files, tokenizer) = scratch::prepare(new, &texts)?;
                    let parameters = scratch::parameters(&spec, configuration.seed)?;
                    (spec, files, tokenizer, None, parameters)
                }
                (None, None) => return Err(TrainingError::argument("model", "none", "a model or a new one")),
            };
        let adapter = configuration.adapter.clone();
        let adapter = adapter.map(|shape| Adapter::new(&spec, shape, configuration.seed)).transpose()?;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cpu = Cpu::new(threads)?;
        let mut network = Network::new(&spec, &parameters, adapter.as_ref())?;
        if configuration.precision == TrainingPrecision::Bf16 {
            network = network.with_rounded_products(&cpu);
        }
        let windows = windows(configuration, &tokenizer, &spec)?;
        let teacher = match &configuration.distillation {
            Some((path, settings)) => Some((teacher(path, &spec, cpu)?, *settings)),
            None => None,
        };
        Ok(Self { spec, tokenizer_files, source, parameters, adapter, network, windows, teacher })
    }

    /// Identifies the run: what its configuration says and what its texts are.
    fn identity(&self, configuration: &Configuration) -> String {
        let mut hash = Sha256::new();
        hash.update(configuration.text.as_bytes());
        hash.update(self.windows.hash().as_bytes());
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn write(&self, configuration: &Configuration, out: &Path) -> Result<(), TrainingError> {
        if let Some(adapter) = &self.adapter {
            let base = configuration.model.as_deref().unwrap_or(Path::new("")).display().to_string();
            write_peft(adapter, &self.spec, &base, &out.join(ADAPTER))?;
        }
        let trained = TrainedModel {
            spec: &self.spec,
            tokenizer_files: &self.tokenizer_files,
            parameters: &self.parameters,
            adapter: self.adapter.as_ref(),
            source: self.source.as_ref(),
            formats: configuration.output,
        };
        trained.write(&out.join(MODEL))
    }
}

fn read_texts(configuration: &Configuration) -> Result<Vec<String>, TrainingError> {
    configuration.texts.iter().map(|path| read_text(path)).collect()
}

fn windows(
    configuration: &Configuration,
    tokenizer: &Tokenizer,
    spec: &ModelSpec,
) -> Result<Windows, TrainingError> {
    let (tokens, seed) = (configuration.window_tokens, configuration.seed);
    if tokens > spec.max_positions {
        let expected = format!("at most {}, the model's context length", spec.max_positions);
        return Err(TrainingError::argument("window_tokens", tokens, expected));
    }
    let mut windows = Windows::read(&configuration.texts, tokenizer, spec, tokens, seed)?;
    let share = configuration.scratch.as_ref().map_or(0.0, |new| new.conversations);
    if share > 0.0 {
        let texts = read_texts(configuration)?;
        let plain = if share < 1.0 { windows.count() } else { 0 };
        let wanted = if share < 1.0 { plain as f64 * share / (1.0 - share) } else { windows.count() as f64 };
        let conversations = scratch::conversations(&texts, tokenizer, tokens, wanted.ceil() as usize, seed)?;
        if plain + conversations.len() == 0 {
            let expected = "paragraphs long enough for a question and an answer";
            return Err(TrainingError::argument("conversations of the texts", 0, expected));
        }
        windows = windows.mixed_with(plain, conversations);
    }
    Ok(windows)
}

fn teacher(path: &Path, student: &ModelSpec, cpu: Cpu) -> Result<Model, TrainingError> {
    let checkpoint = Checkpoint::open(path)?;
    let found = checkpoint.spec().vocab_size;
    if found != student.vocab_size {
        let expected = format!("{}, the student's", student.vocab_size);
        return Err(TrainingError::argument("vocabulary size of the teacher", found, expected));
    }
    Ok(Model::load(&checkpoint, cpu)?)
}

/// The steps.
struct Run<'a> {
    configuration: &'a Configuration,
    subject: &'a Subject,
    out: &'a Path,
    cancellation: &'a Cancellation,
    optimizer: AdamW,
    /// The last step's, whose memory the next one uses.
    gradients: Option<Gradients>,
    identity: String,
    /// Steps done.
    step: u64,
    /// The last step whose checkpoint is on disk.
    kept: u64,
}

impl<'a> Run<'a> {
    fn begin(
        configuration: &'a Configuration,
        subject: &'a Subject,
        out: &'a Path,
        cancellation: &'a Cancellation,
    ) -> Result<Self, TrainingError> {
        let identity = subject.identity(configuration);
        let resumed = run_state::load(out, &subject.network, configuration.optimizer, &identity)?;
        let (optimizer, step) =
            resumed.unwrap_or_else(|| (AdamW::new(&subject.network, configuration.optimizer), 0));
        let gradients = None;
        Ok(Self {
            configuration,
            subject,
            out,
            cancellation,
            optimizer,
            gradients,
            identity,
            step,
            kept: step,
        })
    }

    fn steps(&mut self, progress: &mut ProgressSink<'_>) -> Result<TrainingSummary, TrainingError> {
        let Configuration { schedule, checkpoint_steps, .. } = self.configuration;
        let trained = self
            .subject
            .network
            .trainable()
            .iter()
            .map(|parameter| parameter.shape().iter().product::<usize>());
        let mut summary = TrainingSummary {
            first_loss: None,
            last_loss: None,
            resumed_at: self.step,
            trained_parameters: trained.sum::<usize>() as u64,
        };
        let (begun, first) = (Instant::now(), self.step);
        while self.step < schedule.steps {
            let (loss, gradient_norm, learning_rate) = match self.step() {
                Err(TrainingError::Cancelled { .. }) => {
                    if self.step > self.kept {
                        self.save()?;
                    }
                    return Err(TrainingError::Cancelled { step: self.step });
                }
                made => made?,
            };
            summary.first_loss = summary.first_loss.or(Some(loss));
            summary.last_loss = Some(loss);
            let done = (self.step - first) as f64;
            let seconds = begun.elapsed().as_secs_f64().max(1e-9);
            let goes_on = progress(&TrainingProgress {
                step: self.step,
                steps: schedule.steps,
                loss,
                learning_rate,
                gradient_norm,
                tokens_per_second: done * self.step_tokens() as f64 / seconds,
                seconds_left: (schedule.steps - self.step) as f64 * seconds / done,
            });
            let last = self.step == schedule.steps;
            if !last && (!goes_on || self.step.is_multiple_of(*checkpoint_steps)) {
                self.save()?;
            }
            if !goes_on && !last {
                return Err(TrainingError::Cancelled { step: self.step });
            }
        }
        Ok(summary)
    }

    fn step_tokens(&self) -> usize {
        let Configuration { window_tokens, batch_windows, accumulation, .. } = self.configuration;
        window_tokens * batch_windows * accumulation
    }

    fn save(&mut self) -> Result<(), TrainingError> {
        run_state::save(self.out, &self.subject.network, &self.optimizer, self.step, &self.identity)?;
        self.kept = self.step;
        Ok(())
    }

    /// One step: its loss, the norm of its gradients and its learning rate.
    fn step(&mut self) -> Result<(f64, f64, f32), TrainingError> {
        let Configuration { accumulation, clip_norm, schedule, .. } = self.configuration;
        let network = &self.subject.network;
        let mut gradients = self.gradients.take().unwrap_or_else(|| Gradients::zeros(network));
        gradients.clear();
        let unrounded = self.round()?;
        let loss = self.accumulate(&mut gradients);
        // Also where the step was given up: what it began with is what a checkpoint keeps.
        for (parameter, values) in network.trainable().iter().zip(unrounded) {
            parameter.set(values)?;
        }
        let loss = loss? / *accumulation as f64;
        self.check("the loss", loss)?;
        if *accumulation > 1 {
            gradients.scale(1.0 / *accumulation as f32);
        }
        let norm = gradients.clip_norm(*clip_norm);
        self.check("the gradients' norm", norm)?;
        let rate = schedule.rate(self.step + 1);
        self.optimizer.step(network, &gradients, rate)?;
        self.gradients = Some(gradients);
        self.step += 1;
        Ok((loss, norm, rate))
    }

    /// The sum of the losses of a step's passes; their gradients are added to `gradients`.
    fn accumulate(&self, gradients: &mut Gradients) -> Result<f64, TrainingError> {
        let Configuration { batch_windows, accumulation, .. } = self.configuration;
        let (network, cancellation) = (&self.subject.network, self.cancellation);
        let options = PassOptions { activation_checkpointing: self.configuration.activation_checkpointing };
        let precision = match self.configuration.precision {
            TrainingPrecision::F32 => Precision::Exact,
            TrainingPrecision::Bf16 => Precision::Fast,
        };
        let mut add = |batch: &Batch, objective: &Objective<'_>| {
            network.accumulate_gradients_unless(cancellation, batch, objective, options, gradients)
        };
        let mut loss = 0.0;
        for pass in 0..*accumulation {
            let first = (self.step * *accumulation as u64 + pass as u64) * *batch_windows as u64;
            let batch = Batch::new(&self.subject.windows.take(first, *batch_windows))?;
            loss += match &self.subject.teacher {
                None => add(&batch, &Objective::CrossEntropy)?,
                Some((teacher, settings)) => {
                    let hidden = settings.hidden_weight != 0.0;
                    let said = TeacherOutput::of_unless(cancellation, teacher, precision, &batch, hidden)?;
                    add(&batch, &Objective::Distillation { settings: *settings, teacher: &said })?
                }
            };
        }
        Ok(loss)
    }

    /// Rounds the weights as they will be written, if that is wanted; returns what they were, or nothing.
    fn round(&self) -> Result<Vec<Vec<f32>>, TrainingError> {
        if !self.configuration.rounding_aware {
            return Ok(Vec::new());
        }
        let Subject { spec, source, network, .. } = self.subject;
        let mut unrounded = Vec::with_capacity(network.trainable().len());
        for (parameter, tensor) in network.trainable().iter().zip(spec.tensors()) {
            let stored = source.as_ref().and_then(|source| source.tensor(&tensor.name).ok());
            let format = self.configuration.output.of(&tensor, stored.map(|stored| stored.format));
            let values = parameter.values()?;
            parameter.set(rounded(format, &values)?)?;
            unrounded.push(values);
        }
        Ok(unrounded)
    }

    fn check(&self, what: &'static str, found: f64) -> Result<(), TrainingError> {
        if found.is_finite() {
            return Ok(());
        }
        Err(TrainingError::NotFinite { what, found, step: self.step + 1, kept: self.kept })
    }
}
