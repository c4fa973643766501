//! One stage at work. What its directory has already is not made again.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use espalier_components::{EvaluationMetric, ScoringPolicy};
use espalier_evaluation::{
    EvaluationError, EvaluationRequest, Report, Step, Subject, TimingRequest, evaluate,
};
use espalier_kernels::{Device, WeightFormat};
use espalier_model::{Checkpoint, CheckpointFormat, Conversion, convert};
use espalier_training::{Cancellation, FinishedTraining, TrainingError, TrainingProgress, train};

use super::event::Activity;
use super::record::{CutRecord, GateResult, StageRecord, model_hash, replace};
use crate::aim::Aim;
use crate::error::PruningError;
use crate::plan::Target;
use crate::progress::Phase;
use crate::prune::{Derivation, ModelSource, PruneRequest, prune};
use crate::recipe::{Cut, Gate, Goal, Recipe, Stage};

/// Takes what is being done; false cancels.
type StageProgress<'a> = dyn FnMut(Activity<'_>) -> bool + 'a;

/// A stage and what it works with.
pub(super) struct Work<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) stage: &'a Stage,
    pub(super) device: &'a Device,
    pub(super) cancellation: &'a Cancellation,
    pub(super) policies: &'a [ScoringPolicy],
    pub(super) metrics: &'a [EvaluationMetric],
    pub(super) texts: &'a [PathBuf],
    pub(super) unpruned: &'a Path,
    /// The model that the stage begins with.
    pub(super) before: &'a Path,
    /// The run's directory.
    pub(super) root: &'a Path,
    /// The stage's.
    pub(super) directory: PathBuf,
}

impl Work<'_> {
    pub(super) fn run(&self, report: &mut StageProgress<'_>) -> Result<StageRecord, PruningError> {
        std::fs::create_dir_all(&self.directory).map_err(PruningError::file("create", &self.directory))?;
        remove_partial(&self.directory)?;
        let mut model = self.before.to_owned();
        let mut cuts = Vec::new();
        if let Some(cut) = &self.stage.cut {
            for number in 1..=cut.cuts {
                let out = self.directory.join(format!("cut-{number}"));
                cuts.push(self.cut(cut, number, &model, &out, report)?);
                model = out;
            }
        }
        let mut training_loss = None;
        if let Some(configuration) =
            self.stage.configuration(&model, self.unpruned, self.texts, self.recipe.seed)
        {
            let out = self.directory.join("training");
            model = out.join("model");
            if !model.exists() {
                self.train(&configuration?, &out, report)?;
            }
            training_loss = Some(FinishedTraining::read(&out)?.last_loss);
        }
        let mut subjects = Vec::new();
        if let Some(format) = self.stage.quantize {
            let name = |what: &str| self.directory.join(format!("{what}-{}.gguf", format.name()));
            // Bytes and speed compare at equal format alone.
            let unpruned = name("unpruned");
            quantize(self.unpruned, &unpruned, format, report)?;
            subjects.push(Subject { name: format!("unpruned, {}", format.name()), path: unpruned });
            let quantized = name("model");
            quantize(&model, &quantized, format, report)?;
            model = quantized;
        }
        subjects.push(Subject { name: self.stage.name.clone(), path: model.clone() });
        let evaluation = self.evaluate(&subjects, report)?;
        let gates = self.stage.gates.iter().map(|gate| check(gate, &evaluation)).collect::<Result<_, _>>()?;
        Ok(StageRecord {
            name: self.stage.name.clone(),
            model: model.strip_prefix(self.root).unwrap_or(&model).to_owned(),
            model_sha256: model_hash(&model)?,
            cuts,
            training_loss,
            evaluation,
            gates,
        })
    }

    fn cut(
        &self,
        cut: &Cut,
        number: usize,
        model: &Path,
        out: &Path,
        report: &mut StageProgress<'_>,
    ) -> Result<CutRecord, PruningError> {
        // Written before the model, and read again where a killed run had come that far.
        let file = out.with_extension("json");
        if out.exists()
            && let Some(record) = CutRecord::read(&file)?
        {
            return Ok(record);
        }
        let checkpoint = Arc::new(Checkpoint::open(model)?);
        let request = PruneRequest {
            units: cut.units.clone(),
            aim: self.aim(cut, number, checkpoint.spec().parameters())?,
            allocation: cut.allocation,
            protected: cut.protected.clone(),
            constraints: cut.constraints,
            storage: cut.storage,
            calibration_files: if self.recipe.texts.is_empty() { Vec::new() } else { self.texts.to_vec() },
            calibration: self.recipe.calibration,
            refit: cut.refit,
        };
        let source = ModelSource::Load(self.device.clone());
        let mut planned = |derivation: &Derivation| replace(&file, &CutRecord::new(derivation).to_json()?);
        let mut progress = |phase: Phase, done: u64, total: u64| {
            let (what, total) = (phase.name(), Some(total).filter(|&total| total > 0));
            let cut = Some((number, cut.cuts));
            report(Activity { phase, what, cut, done, total, training: None })
        };
        let derivation = prune(
            &checkpoint,
            &source,
            &self.policies.iter().collect::<Vec<_>>(),
            &request,
            out,
            &mut planned,
            &mut progress,
        )?;
        Ok(CutRecord::new(&derivation))
    }

    /// What one of several cuts leaves: shares fall by the same factor each time.
    fn aim(&self, cut: &Cut, number: usize, now: u64) -> Result<Aim, PruningError> {
        let parameters =
            |path: &Path| Ok::<_, PruningError>(Checkpoint::open(path)?.spec().parameters() as f64);
        let wanted = match &cut.goal {
            Goal::Aim(aim) => return Ok(aim.clone()),
            Goal::Keep(keep) => keep * parameters(self.unpruned)?,
            Goal::Parameters(count) => *count as f64,
        };
        let before = parameters(self.before)?;
        let after = before * (wanted / before).powf(number as f64 / cut.cuts as f64);
        Ok(Aim::Target(Target::share(after / now.max(1) as f64)))
    }

    fn train(
        &self,
        configuration: &espalier_training::Configuration,
        out: &Path,
        report: &mut StageProgress<'_>,
    ) -> Result<(), PruningError> {
        if out.exists() {
            remove_partial(out)?;
        }
        let summary = train(configuration, out, self.cancellation, &mut |progress: &TrainingProgress| {
            let (done, total, training) = (progress.step, Some(progress.steps), Some(*progress));
            report(Activity {
                phase: Phase::Train,
                what: Phase::Train.name(),
                cut: None,
                done,
                total,
                training,
            })
        });
        match summary {
            Ok(_) => Ok(()),
            Err(TrainingError::Cancelled { .. }) => Err(PruningError::Cancelled),
            Err(error) => Err(error.into()),
        }
    }

    fn evaluate(&self, subjects: &[Subject], report: &mut StageProgress<'_>) -> Result<Report, PruningError> {
        let wanted = &self.recipe.evaluation;
        let request = EvaluationRequest {
            data: wanted.text.clone(),
            max_tokens: wanted.max_tokens,
            answer_tokens: wanted.answer_tokens,
            prompts: wanted.prompts.clone(),
            timing: wanted.timing.then(TimingRequest::default),
        };
        let baseline = Subject { name: "unpruned".to_owned(), path: self.unpruned.to_owned() };
        let mut progress = |step: Step<'_>| {
            let (phase, what) = (Phase::Evaluate, format!("evaluate {}", step.what));
            let (done, total) = (step.done, step.total);
            report(Activity { phase, what: &what, cut: None, done, total, training: None })
        };
        match evaluate(self.device, Some(&baseline), subjects, self.metrics, &request, &mut progress) {
            Err(EvaluationError::Cancelled) => Err(PruningError::Cancelled),
            result => Ok(result?),
        }
    }
}

/// A gate asks for a figure by its name.
fn check(gate: &Gate, report: &Report) -> Result<GateResult, PruningError> {
    let figure = |row: Option<&espalier_evaluation::Row>| {
        let measurements = row.map(|row| row.measurements.as_slice()).unwrap_or_default();
        measurements.iter().find(|measurement| measurement.name == gate.metric).map(|found| found.value)
    };
    let own = report.rows.last();
    let base = if gate.relative { figure(report.baseline()) } else { Some(1.0) };
    let (Some(value), Some(base)) = (figure(own), base) else {
        let names = own.iter().flat_map(|row| &row.measurements).map(|found| found.name.as_str());
        return Err(PruningError::Recipe {
            place: "gate".to_owned(),
            field: "metric".to_owned(),
            found: format!("{:?}", gate.metric),
            expected: format!("one of {}", names.collect::<Vec<_>>().join(", ")),
        });
    };
    let value = value / base;
    Ok(GateResult { gate: gate.clone(), value, passed: gate.bound.holds(value) })
}

/// Writes `model` as a GGUF file in this format, unless that was done before.
fn quantize(
    model: &Path,
    out: &Path,
    format: WeightFormat,
    report: &mut StageProgress<'_>,
) -> Result<(), PruningError> {
    if out.exists() {
        return Ok(());
    }
    let conversion = Conversion { container: CheckpointFormat::Gguf, format: Some(format) };
    let mut wanted = true;
    let (phase, what) = (Phase::Quantize, Phase::Quantize.name());
    let mut progress = |done: u64, total: u64| {
        wanted &= report(Activity { phase, what, cut: None, done, total: Some(total), training: None });
    };
    convert(&Checkpoint::open(model)?, out, conversion, &mut progress)?;
    if wanted { Ok(()) } else { Err(PruningError::Cancelled) }
}

/// Removes what a killed process left unfinished; its names begin with a dot.
fn remove_partial(directory: &Path) -> Result<(), PruningError> {
    for entry in std::fs::read_dir(directory).map_err(PruningError::file("read", directory))? {
        let entry = entry.map_err(PruningError::file("read", directory))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            let path = entry.path();
            let removed =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(PruningError::file("remove", &path))?;
        }
    }
    Ok(())
}
