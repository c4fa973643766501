//! A recipe's run: cut, recover, measure and check, stage by stage, each ending in a checkpoint on disk.
//!
//! The run's directory holds `state.json` (what is finished), `stages/N-NAME` (each cut's model, the training's) and
//! `model`, a link to the last model that passed its gates. State and link are replaced by renames, and models get their
//! names when they are whole, so that a run killed at any moment goes on from its last checkpoint (training from its own)
//! and ends with the bytes that an uninterrupted one ends with.

mod commands;
mod components;
mod event;
mod importance;
mod record;
mod report;
mod stage;
mod summary;

use std::path::{Path, PathBuf};

use espalier_kernels::Device;
use espalier_training::Cancellation;

pub use self::components::RecipeComponents;
pub use self::event::{Activity, RunEvent, RunProgress, RunSink};
pub use self::importance::Importance;
pub use self::record::{CutRecord, GateResult, RunRecord, RunStatus, STATE_FILE, StageRecord};
pub use self::report::write_report;
use self::stage::Work;
pub use self::summary::{Figures, RunModel, RunSummary, StageSummary};
use crate::calibration::BUILT_IN;
use crate::error::PruningError;
use crate::recipe::Recipe;

/// The link to the last good model.
const MODEL: &str = "model";
/// Where the built-in text is written if the recipe has none, since training reads files.
const BUILT_IN_TEXT: &str = "built-in-text.txt";

/// A run that is asked for.
pub struct RunRequest<'a> {
    /// What to do.
    pub recipe: &'a Recipe,
    /// With what.
    pub components: &'a RecipeComponents,
    /// To which model.
    pub model: &'a Path,
    /// Where models run.
    pub device: Device,
    /// The run's directory.
    pub out: &'a Path,
    /// Whether to go on with a run that is there.
    pub resume: bool,
    /// Ends it with [`PruningError::Cancelled`] at any moment, within a step of training too.
    pub cancellation: Cancellation,
}

/// Runs a recipe, or the rest of it, and writes the report.
///
/// # Errors
/// A directory that holds another run or, without `resume`, any; or [`PruningError::Stage`] with the reason why a stage
/// failed. What is finished stays.
pub fn run_recipe(request: &RunRequest<'_>, progress: &mut RunSink<'_>) -> Result<RunRecord, PruningError> {
    let RunRequest { recipe, components, out, .. } = *request;
    let model = request.model.canonicalize().map_err(PruningError::file("open", request.model))?;
    let begun = begin(request, &model)?;
    let directory = out.canonicalize().map_err(PruningError::file("open", out))?;
    let mut record = begun;
    let texts = texts(recipe, &directory)?;
    progress(RunEvent::Recorded(&record));
    for (index, stage) in recipe.stages.iter().enumerate().skip(record.stages.len()) {
        if record.status == RunStatus::Stopped {
            break;
        }
        let number = index + 1;
        let fail = |reason| match reason {
            PruningError::Cancelled => PruningError::Cancelled,
            reason => PruningError::Stage { number, name: stage.name.clone(), reason: Box::new(reason) },
        };
        let mut report = |activity: Activity<'_>| {
            let (stage, stages) = (stage.name.as_str(), recipe.stages.len());
            progress(RunEvent::Progress(RunProgress { number, stages, stage, activity }))
        };
        let before = record.model(&directory).unwrap_or_else(|| model.clone());
        let work = Work {
            recipe,
            stage,
            device: &request.device,
            cancellation: &request.cancellation,
            policies: components.policies(index),
            metrics: components.metrics(),
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
        write_report(&record, &directory)?;
        progress(RunEvent::Recorded(&record));
    }
    link(&record, &directory)?;
    write_report(&record, &directory)?;
    Ok(record)
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
