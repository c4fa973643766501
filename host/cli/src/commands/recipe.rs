//! `espalier prune --recipe`: the stages of a recipe, one after the other.

use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use espalier_pruning::{
    Recipe, RecipeComponents, RecipeTexts, RunEvent, RunProgress, RunRecord, RunRequest, RunStatus,
    SHIPPED_RECIPES, run_recipe, shipped_recipe,
};
use espalier_training::Cancellation;

use crate::device_choice::DeviceChoice;
use crate::process_environment;
use crate::progress_bar::Bar;

/// What a run of a recipe needs from the command line.
pub(crate) struct RecipeArguments<'a> {
    /// A file, or the name of a built-in recipe.
    pub(crate) recipe: &'a str,
    pub(crate) model: &'a Path,
    pub(crate) calibration: &'a [PathBuf],
    pub(crate) data: Option<&'a Path>,
    pub(crate) out: &'a Path,
    pub(crate) resume: bool,
    pub(crate) device: DeviceChoice,
    pub(crate) threads: usize,
}

/// Reads the recipe and runs it.
pub(crate) fn run(arguments: &RecipeArguments<'_>) -> Result<()> {
    let texts = RecipeTexts {
        calibration: arguments.calibration.to_vec(),
        evaluation: arguments.data.map(Path::to_owned),
    };
    let recipe = read(arguments.recipe, &texts)?;
    if recipe.trains() {
        process_environment::restart_for_training();
    }
    let request = RunRequest {
        recipe: &recipe,
        components: &RecipeComponents::from_files(&recipe)?,
        model: arguments.model,
        device: arguments.device.open(arguments.threads)?,
        out: arguments.out,
        resume: arguments.resume,
        cancellation: Cancellation::default(),
    };
    let mut bar = Bar::new();
    let mut shown = String::new();
    let record = run_recipe(&request, &mut |event: RunEvent<'_>| {
        let RunEvent::Progress(RunProgress { number, stages, stage, activity }) = event else { return true };
        let label = format!("{number}/{stages} {stage}: {}", activity.what);
        bar.show(&label, activity.done, activity.total);
        if label != shown {
            tracing::debug!("{label}");
            shown = label;
        }
        true
    })?;
    bar.clear();
    let mut out = stdout().lock();
    write!(out, "{}", summary(&record))?;
    writeln!(out, "written to {}", arguments.out.display())?;
    out.flush().context("standard output was closed")?;
    if record.status == RunStatus::Stopped {
        bail!("a gate stopped the run after stage {}; the last good model is kept", record.stages.len());
    }
    Ok(())
}

fn read(name: &str, texts: &RecipeTexts) -> Result<Recipe> {
    let path = Path::new(name);
    match shipped_recipe(name) {
        Some(shipped) if !path.exists() => Ok(Recipe::parse(shipped.toml, name, Path::new(""), texts)?),
        _ if path.exists() => Ok(Recipe::read(path, texts)?),
        _ => {
            let names = SHIPPED_RECIPES.map(|recipe| recipe.name).join(", ");
            bail!("--recipe is {name:?}; expected a file that exists, or one of {names}")
        }
    }
}

/// The stages in a few lines.
fn summary(record: &RunRecord) -> String {
    let mut text = String::new();
    for (index, stage) in record.stages.iter().enumerate() {
        let Some(row) = stage.evaluation.rows.last() else { continue };
        let figures = row.measurements.iter().map(|found| format!("{} {:.4}", found.name, found.value));
        let figures = figures.collect::<Vec<_>>().join(", ");
        let verdict = if stage.passed() { "" } else { "  (stopped by a gate)" };
        let _ = writeln!(
            text,
            "{}. {:<16} {:>14} parameters  {figures}{verdict}",
            index + 1,
            stage.name,
            row.parameters
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_recipes_are_valid_and_say_what_they_are_for() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let texts = RecipeTexts { evaluation: Some(file.path().to_owned()), ..RecipeTexts::default() };
        for name in SHIPPED_RECIPES.map(|recipe| recipe.name) {
            let recipe = read(name, &texts).unwrap();
            assert_eq!(recipe.name, name);
            assert!(recipe.about.is_some_and(|about| about.len() > 40), "{name}");
        }
        let error = read("blanced", &texts).unwrap_err().to_string();
        assert!(error.contains("one of seed, memory-first"), "{error}");
    }
}
