//! The body of a new run of a recipe: everything that it depends on is looked up before it waits in a queue.

use std::path::{Path, PathBuf};

use espalier_components::{Component, Slot};
use espalier_pruning::{
    PinnedComponent, Recipe, RecipeJob, RecipeText, RecipeTexts, SHIPPED_RECIPES, shipped_recipe,
};
use espalier_state::Digest;
use serde_json::Value;

use super::job_request;
use super::models::DEFAULT_VARIANT;
use crate::api_error::ApiError;
use crate::application::Application;
use crate::fields::Fields;

const FIELDS: [&str; 8] =
    ["model", "variant", "recipe", "toml", "directory", "calibration", "data", "load_as"];
/// Bytes of a recipe's text.
const TEXT_LIMIT: usize = 256 << 10;

/// Characters of a recipe's name, which becomes a label of metrics.
const NAME_LIMIT: usize = 96;

/// Parses a run and checks that what it names is there. Reads the texts.
pub(super) fn parse(application: &Application, body: Value) -> Result<RecipeJob, ApiError> {
    let mut fields = Fields::of_body(body)?;
    let model = fields.required_string("model", "the served name")?;
    let variant = fields.string("variant")?.unwrap_or_else(|| DEFAULT_VARIANT.to_owned());
    let (source, toml) = text(&mut fields)?;
    let directory = absolute("directory", fields.string("directory")?.as_deref().unwrap_or("."))?;
    let calibration = paths(&mut fields, "calibration")?;
    let data = fields.string("data")?.map(|path| absolute("data", &path)).transpose()?;
    let load_as = fields.string("load_as")?;
    fields.finish(&FIELDS)?;
    let generation = application.registry().variant(&model, &variant)?;
    if let Some(variant) = &load_as {
        job_request::check_load_as(&model, variant)?;
    }
    let texts = RecipeTexts { calibration, evaluation: data };
    let recipe = Recipe::parse(&toml, &source, &directory, &texts)?;
    if recipe.name.chars().count() > NAME_LIMIT {
        let expected = format!("at most {NAME_LIMIT} characters");
        return Err(ApiError::field("name", recipe.name, expected));
    }
    let RecipeTexts { calibration, evaluation: data } = texts;
    Ok(RecipeJob {
        path: absolute("variant", &generation.path().to_string_lossy())?,
        recipe_sha256: Digest::of(toml.as_bytes()),
        texts: hashes(recipe.texts.iter().chain([&recipe.evaluation.text]))?,
        components: components(application, &recipe)?,
        inputs_sha256: recipe.digest,
        recipe: recipe.name,
        model,
        variant,
        source,
        toml,
        directory,
        calibration,
        data,
        load_as,
    })
}

/// What errors call the recipe, and its text.
fn text(fields: &mut Fields) -> Result<(String, String), ApiError> {
    let names = || format!("one of {}", SHIPPED_RECIPES.map(|recipe| recipe.name).join(", "));
    match (fields.string("recipe")?, fields.string("toml")?) {
        (Some(name), None) => match shipped_recipe(&name) {
            Some(recipe) => Ok((name, recipe.toml.to_owned())),
            None => Err(ApiError::field("recipe", name, names())),
        },
        (None, Some(text)) if text.len() > TEXT_LIMIT => Err(ApiError::field(
            "toml",
            format!("{} bytes", text.len()),
            format!("at most {TEXT_LIMIT} bytes"),
        )),
        (None, Some(text)) => Ok(("toml".to_owned(), text)),
        (Some(_), Some(_)) => Err(ApiError::field("toml", "a text beside recipe", "one of the two")),
        (None, None) => Err(ApiError::missing("recipe", format!("{}, or a recipe's text in toml", names()))),
    }
}

/// The host's working directory may be another one at its next start.
fn absolute(field: &str, path: &str) -> Result<PathBuf, ApiError> {
    std::path::absolute(path).map_err(|_| ApiError::field(field, path, "a usable path"))
}

/// One path or a list.
fn paths(fields: &mut Fields, name: &str) -> Result<Vec<PathBuf>, ApiError> {
    let one = |value: Value| match value {
        Value::String(path) => absolute(name, &path),
        other => Err(ApiError::field(name, other, "a path or a list of paths")),
    };
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(paths)) => paths.into_iter().map(one).collect(),
        Some(path) => Ok(vec![one(path)?]),
    }
}

fn hashes<'a>(paths: impl Iterator<Item = &'a PathBuf>) -> Result<Vec<RecipeText>, ApiError> {
    let hash = |path: &Path| {
        let contents = std::fs::read(path);
        let contents = contents.map_err(|error| {
            ApiError::field("toml", format!("{}: {error}", path.display()), "a text that can be read")
        })?;
        Ok(RecipeText { path: path.to_owned(), sha256: Digest::of(&contents) })
    };
    paths.map(|path| hash(path)).collect()
}

/// The versions that are active now, or the built-in ones.
fn components(application: &Application, recipe: &Recipe) -> Result<Vec<PinnedComponent>, ApiError> {
    let deployments = application.deployments();
    let mut found: Vec<PinnedComponent> = Vec::new();
    let mut pin = |slot: &str, component: &Component| {
        if found.iter().all(|pinned| pinned.slot != slot) {
            found.push(PinnedComponent {
                slot: slot.to_owned(),
                component: component.identity().to_string(),
                digest: component.digest(),
            });
        }
    };
    for (index, names) in recipe.policies().enumerate() {
        let field = format!("stages.{index}.policy");
        for name in names {
            let slot = format!("scoring/{name}");
            // Unlike on the command line, a path is no name: whose files are run is up to the deployments.
            slot.parse::<Slot>().map_err(|error| job_request::unknown(&field, error))?;
            let policy =
                deployments.scoring_policy(name).map_err(|error| job_request::unknown(&field, error))?;
            pin(&slot, policy.component());
        }
    }
    for name in &recipe.evaluation.metrics {
        let (field, slot) = ("evaluation.metrics", format!("metric/{name}"));
        slot.parse::<Slot>().map_err(|error| job_request::unknown(field, error))?;
        let metric =
            deployments.evaluation_metric(name).map_err(|error| job_request::unknown(field, error))?;
        pin(&slot, metric.component());
    }
    Ok(found)
}
