//! `espalier prune --recipe`: the stages of a recipe, one after the other.

use std::fmt::Write as _;
use std::io::{Write as _, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use espalier_pruning::{Recipe, RecipeTexts, RunProgress, RunRecord, RunRequest, RunStatus, run_recipe};

use crate::device_choice::DeviceChoice;
use crate::process_environment;
use crate::progress_bar::Bar;

/// The recipes that are part of the program.
const BUILT_IN: [(&str, &str); 5] = [
    ("seed", include_str!("../../../../recipes/seed.toml")),
    ("memory-first", include_str!("../../../../recipes/memory-first.toml")),
    ("latency-first", include_str!("../../../../recipes/latency-first.toml")),
    ("balanced", include_str!("../../../../recipes/balanced.toml")),
    ("edge", include_str!("../../../../recipes/edge.toml")),
];

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
        model: arguments.model,
        device: arguments.device.open(arguments.threads)?,
        out: arguments.out,
        resume: arguments.resume,
    };
    let mut bar = Bar::new();
    let mut shown = String::new();
    let record = run_recipe(&request, &mut |progress: RunProgress<'_>| {
        let RunProgress { number, stages, stage, what, done, total } = progress;
        let label = format!("{number}/{stages} {stage}: {what}");
        bar.show(&label, done, total);
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
    match BUILT_IN.iter().find(|(known, _)| *known == name) {
        Some((name, text)) if !path.exists() => Ok(Recipe::parse(text, name, Path::new(""), texts)?),
        _ if path.exists() => Ok(Recipe::read(path, texts)?),
        _ => {
            let names = BUILT_IN.map(|(name, _)| name).join(", ");
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
        for (name, _) in BUILT_IN {
            let recipe = read(name, &texts).unwrap();
            assert_eq!(recipe.name, name);
            assert!(recipe.about.is_some_and(|about| about.len() > 40), "{name}");
        }
        let error = read("blanced", &texts).unwrap_err().to_string();
        assert!(error.contains("one of seed, memory-first"), "{error}");
    }
}
