//! What a job is asked to do: the bodies of the admin API's job requests, validated as they are parsed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::recipe_job::RecipeJob;
use crate::calibration::CalibrationRequest;
use crate::plan::{Constraints, Count, Target};
use crate::refit::RefitRequest;
use crate::storage::StorageType;
use espalier_components::Unit;

/// The kind of the jobs that go on where they were when the host stopped.
pub(super) const RECIPE: &str = "recipe";

/// A request, told apart by its field `kind`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum JobRequest {
    /// Make a smaller checkpoint.
    Prune(PruneJob),
    /// Measure a variant.
    Evaluate(EvaluateJob),
    /// Go through the stages of a recipe.
    Recipe(Box<RecipeJob>),
}

impl JobRequest {
    /// `prune`, `evaluate` or `recipe`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Prune(_) => "prune",
            Self::Evaluate(_) => "evaluate",
            Self::Recipe(_) => RECIPE,
        }
    }
}

/// Prune a served variant into a new checkpoint directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneJob {
    /// The served model's name.
    pub model: String,
    /// The variant to prune.
    #[serde(default = "original")]
    pub variant: String,
    /// The scoring policy: the name of a deployed component.
    pub policy: String,
    /// The kinds of units that may go.
    pub units: Vec<Unit>,
    /// The share of all parameters that may stay, in (0, 1].
    pub keep: f64,
    /// How many units of a kind stay, whatever the share; those kinds need not be among `units`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<Unit, Count>,
    /// Calibration text: one path or a list.
    #[serde(deserialize_with = "one_or_many")]
    pub calibration: Vec<PathBuf>,
    /// Calibration windows to draw.
    #[serde(default = "default_windows")]
    pub windows: usize,
    /// Tokens in a window.
    #[serde(default = "default_window_tokens")]
    pub window_tokens: usize,
    /// Seed of the draw.
    #[serde(default)]
    pub seed: u64,
    /// What else the plan must respect.
    #[serde(default)]
    pub constraints: Constraints,
    /// The number format of the new checkpoint.
    #[serde(default)]
    pub dtype: StorageType,
    /// Fit the projections behind what goes anew, on the calibration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refit: Option<RefitRequest>,
    /// The new checkpoint's directory; must not exist yet.
    pub out: PathBuf,
    /// Serve the result as this variant of the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_as: Option<String>,
}

impl PruneJob {
    /// What is to stay.
    #[must_use]
    pub fn target(&self) -> Target {
        Target { keep: Some(self.keep), counts: self.counts.clone() }
    }

    /// The calibration part.
    #[must_use]
    pub const fn calibration_request(&self) -> CalibrationRequest {
        CalibrationRequest { windows: self.windows, window_tokens: self.window_tokens, seed: self.seed }
    }
}

/// Measure a served variant on a text, against another one if named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateJob {
    /// The served model's name.
    pub model: String,
    /// The variant to measure.
    #[serde(default = "original")]
    pub variant: String,
    /// The variant to compare with.
    #[serde(default)]
    pub baseline: Option<String>,
    /// The evaluation text.
    pub data: PathBuf,
    /// Metric components by name.
    pub metrics: Vec<String>,
    /// Tokens of the text to use; absent for all.
    #[serde(default)]
    pub max_tokens: Option<usize>,
}

fn original() -> String {
    "original".to_owned()
}

fn default_windows() -> usize {
    CalibrationRequest::default().windows
}

fn default_window_tokens() -> usize {
    CalibrationRequest::default().window_tokens
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a path or a list of paths")]
    enum Paths {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match Paths::deserialize(deserializer)? {
        Paths::One(path) => vec![path],
        Paths::Many(paths) => paths,
    })
}
