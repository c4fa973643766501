//! The tables of a recipe as they are written, before they are checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use espalier_components::Unit;
use serde::Deserialize;

use crate::allocation::Allocation;
use crate::calibration::CalibrationRequest;
use crate::plan::{Constraints, Count};
use crate::protected::Protected;
use crate::refit::RefitRequest;
use crate::storage::StorageType;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) about: Option<String>,
    #[serde(default)]
    pub(super) seed: u64,
    #[serde(default)]
    pub(super) texts: Vec<PathBuf>,
    #[serde(default)]
    pub(super) calibration: CalibrationTable,
    #[serde(default)]
    pub(super) evaluation: EvaluationTable,
    pub(super) stages: Vec<StageTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CalibrationTable {
    pub(super) windows: usize,
    pub(super) window_tokens: usize,
}

impl Default for CalibrationTable {
    fn default() -> Self {
        let CalibrationRequest { windows, window_tokens, .. } = CalibrationRequest::default();
        Self { windows, window_tokens }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct EvaluationTable {
    pub(super) text: Option<PathBuf>,
    pub(super) metrics: Vec<String>,
    pub(super) max_tokens: Option<usize>,
    pub(super) prompts: Vec<String>,
    pub(super) answer_tokens: usize,
    pub(super) timing: bool,
}

impl Default for EvaluationTable {
    fn default() -> Self {
        let metrics = ["perplexity", "agreement"].map(str::to_owned).to_vec();
        let prompts = ["Once upon a time", "The most important question is"].map(str::to_owned).to_vec();
        let answer_tokens = 48;
        Self { text: None, metrics, max_tokens: Some(4096), prompts, answer_tokens, timing: false }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageTable {
    pub(super) name: String,
    pub(super) policy: Option<Policies>,
    #[serde(default)]
    pub(super) units: Vec<Unit>,
    pub(super) keep: Option<f64>,
    pub(super) parameters: Option<String>,
    #[serde(default)]
    pub(super) counts: BTreeMap<Unit, Count>,
    #[serde(default)]
    pub(super) shares: BTreeMap<Unit, f64>,
    pub(super) least_score: Option<f64>,
    pub(super) target: Option<String>,
    pub(super) cuts: Option<usize>,
    #[serde(default)]
    pub(super) allocation: Allocation,
    #[serde(default)]
    pub(super) protect: Vec<Protected>,
    #[serde(default)]
    pub(super) constraints: Constraints,
    #[serde(default)]
    pub(super) dtype: StorageType,
    pub(super) refit: Option<RefitRequest>,
    pub(super) training: Option<toml::Table>,
    pub(super) quantize: Option<String>,
    #[serde(default)]
    pub(super) gates: Vec<GateTable>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "the name of a policy, or a list of several")]
pub(super) enum Policies {
    One(String),
    Several(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GateTable {
    pub(super) metric: String,
    pub(super) at_most: Option<f64>,
    pub(super) at_least: Option<f64>,
    #[serde(default)]
    pub(super) relative: bool,
}
