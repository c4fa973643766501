//! A recipe's run: cut, recover, measure and check, stage by stage, each ending in a checkpoint on disk.
//!
//! The run's directory holds `state.json` (what is finished), `stages/N-NAME` (each cut's model, the training's) and
//! `model`, a link to the last model that passed its gates. State and link are replaced by renames, and models get their
//! names when they are whole, so that a run killed at any moment goes on from its last checkpoint (training from its own)
//! and ends with the bytes that an uninterrupted one ends with.

mod commands;
mod importance;
mod record;
mod report;
mod stage;

use std::path::{Path, PathBuf};

use espalier_components::{EvaluationMetric, Host, ScoringPolicy, World, find_component, read_component};
use espalier_kernels::Device;

pub use self::importance::Importance;
pub use self::record::{CutRecord, GateResult, RunRecord, RunStatus, STATE_FILE, StageRecord};
pub use self::report::write_report;
use self::stage::Work;
use crate::calibration::BUILT_IN;
use crate::error::PruningError;
use crate::recipe::{Cut, Recipe};

/// The link to the last good model.
const MODEL: &str = "model";
/// Where the built-in text is written if the recipe has none, since training reads files.
const BUILT_IN_TEXT: &str = "built-in-text.txt";

/// A run that is asked for.
pub struct RunRequest<'a> {
    /// What to do.
    pub recipe: &'a Recipe,
    /// To which model.
    pub model: &'a Path,
    /// Where models run.
    pub device: Device,
    /// The run's directory.
    pub out: &'a Path,
    /// Whether to go on with a run that is there.
    pub resume: bool,
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq)]
pub struct RunProgress<'a> {
    /// The stage, counted from 1.
    pub number: usize,
    /// Of so many.
    pub stages: usize,
    /// Its name.
    pub stage: &'a str,
    /// What it is doing.
    pub what: &'a str,
    /// Steps done.
    pub done: u64,
    /// Of so many, where that is known.
    pub total: Option<u64>,
}

/// Sees where the run stands; returning false ends it with [`PruningError::Cancelled`].
pub type RunSink<'a> = dyn FnMut(RunProgress<'_>) -> bool + 'a;

/// Runs a recipe, or the rest of it, and writes the report.
///
/// # Errors
/// A directory that holds another run or, without `resume`, any; or [`PruningError::Stage`] with the reason why a stage
/// failed. What is finished stays.
pub fn run_recipe(request: &RunRequest<'_>, progress: &mut RunSink<'_>) -> Result<RunRecord, PruningError> {
    let RunRequest { recipe, out, .. } = *request;
    let host = Host::new(espalier_components::HostConfig::default())?;
    // A policy or metric that is missing is found out now and not after the stages before it.
    let policies = policies(&host, recipe)?;
    let metrics = recipe.evaluation.metrics.iter();
    let metrics =
        metrics.map(|name| Ok(EvaluationMetric::new(component(&host, name, World::EvaluationMetric)?)?));
    let metrics = metrics.collect::<Result<Vec<_>, PruningError>>()?;
    let model = request.model.canonicalize().map_err(PruningError::file("open", request.model))?;
    let begun = begin(request, &model)?;
    let directory = out.canonicalize().map_err(PruningError::file("open", out))?;
    let mut record = begun;
    let texts = texts(recipe, &directory)?;
    for (index, stage) in recipe.stages.iter().enumerate().skip(record.stages.len()) {
        if record.status == RunStatus::Stopped {
            break;
        }
        let number = index + 1;
        let fail = |reason| match reason {
            PruningError::Cancelled => PruningError::Cancelled,
            reason => PruningError::Stage { number, name: stage.name.clone(), reason: Box::new(reason) },
        };
        let mut report = |what: &str, done, total| {
            let (stage, stages) = (stage.name.as_str(), recipe.stages.len());
            progress(RunProgress { number, stages, stage, what, done, total })
        };
        let before = record.model(&directory).unwrap_or_else(|| model.clone());
        let work = Work {
            recipe,
            stage,
            device: &request.device,
            policies: policies.get(index).map_or(&[], Vec::as_slice),
            metrics: &metrics,
            texts: &texts,
            unpruned: &model,
            before: &before,
            root: &directory,
            directory: directory.join("stages").join(format!("{number}-{}", stage.name)),
        };
        let done = work.run(&mut report).map_err(fail)?;
        record.add(done, recipe.stages.len());
        record.write(&directory)?;
        link(&record, &directory)?;
    }
    link(&record, &directory)?;
    write_report(&record, &directory)?;
    Ok(record)
}

fn policies(host: &Host, recipe: &Recipe) -> Result<Vec<Vec<ScoringPolicy>>, PruningError> {
    let policy = |name: &String| Ok(ScoringPolicy::new(component(host, name, World::ScoringPolicy)?)?);
    let of_stage = |cut: &Cut| cut.policies.iter().map(policy).collect();
    recipe.stages.iter().map(|stage| stage.cut.as_ref().map_or_else(|| Ok(Vec::new()), of_stage)).collect()
}

fn component(host: &Host, name: &str, world: World) -> Result<espalier_components::Component, PruningError> {
    let path = find_component(name)?;
    let bytes = read_component(&path)?;
    let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok(host.load(&label, &bytes, Some(world))?)
}

/// The record to go on with: a new one, or that of the run in the directory.
fn begin(request: &RunRequest<'_>, model: &Path) -> Result<RunRecord, PruningError> {
    let RunRequest { recipe, out, resume, .. } = *request;
    let differs = |what, found: String, expected: String| {
        Err(PruningError::Run { what, path: out.to_owned(), found, expected })
    };
    let new = || RunRecord::new(recipe, model, out);
    let Some(record) = RunRecord::read(out)? else {
        let taken = std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some());
        if taken && !resume {
            return differs(
                "the directory",
                "files".to_owned(),
                "a new or empty one, or --resume".to_owned(),
            );
        }
        let record = new()?;
        std::fs::create_dir_all(out).map_err(PruningError::file("create", out))?;
        record.write(out)?;
        return Ok(record);
    };
    if !resume {
        return differs("the directory", "a run".to_owned(), "a new or empty one, or --resume".to_owned());
    }
    if record.recipe_sha256 != recipe.digest {
        let (found, expected) = (record.recipe_sha256.to_string(), recipe.digest.to_string());
        return differs("the recipe and the texts it names (SHA-256)", found, expected);
    }
    let expected = new()?.model_sha256;
    if record.model_sha256 != expected {
        return differs("the model (SHA-256)", record.model_sha256, expected);
    }
    Ok(record)
}

/// The files to calibrate and train on.
fn texts(recipe: &Recipe, directory: &Path) -> Result<Vec<PathBuf>, PruningError> {
    if !recipe.texts.is_empty() {
        let absolute = |path: &PathBuf| path.canonicalize().map_err(PruningError::file("open", path));
        return recipe.texts.iter().map(absolute).collect();
    }
    let path = directory.join(BUILT_IN_TEXT);
    record::replace(&path, BUILT_IN.as_bytes())?;
    Ok(vec![path])
}

/// Points `model` at the last model that passed its gates, if there is one.
fn link(record: &RunRecord, directory: &Path) -> Result<(), PruningError> {
    let Some(stage) = record.last_good() else { return Ok(()) };
    let (new, name) = (directory.join(".model-link"), directory.join(MODEL));
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(PruningError::file("remove", &new)(error));
        }
        _ => {}
    }
    std::os::unix::fs::symlink(&stage.model, &new).map_err(PruningError::file("create the link", &new))?;
    std::fs::rename(&new, &name).map_err(PruningError::file("replace the link", &name))
}
