//! The tables of the file as they are written, before they are checked.

use std::path::PathBuf;

use espalier_model::SynthShape;
use serde::Deserialize;

use super::{Method, TrainingPrecision};
use crate::network::AdapterTarget;
use crate::objective::Distillation;
use crate::optimizer::AdamWSettings;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) method: Method,
    pub(super) model: Option<PathBuf>,
    pub(super) teacher: Option<PathBuf>,
    pub(super) texts: Vec<PathBuf>,
    pub(super) steps: u64,
    #[serde(default)]
    pub(super) seed: u64,
    #[serde(default = "window_tokens")]
    pub(super) window_tokens: usize,
    #[serde(default = "one")]
    pub(super) batch_windows: usize,
    #[serde(default = "one")]
    pub(super) accumulation: usize,
    #[serde(default)]
    pub(super) precision: TrainingPrecision,
    #[serde(default)]
    pub(super) activation_checkpointing: bool,
    #[serde(default = "checkpoint_steps")]
    pub(super) checkpoint_steps: u64,
    #[serde(default)]
    pub(super) optimizer: OptimizerTable,
    pub(super) adapter: Option<AdapterTable>,
    pub(super) distillation: Option<DistillationTable>,
    #[serde(default)]
    pub(super) output: OutputTable,
    pub(super) scratch: Option<ScratchTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OptimizerTable {
    pub(super) learning_rate: f32,
    pub(super) warmup_steps: u64,
    pub(super) final_share: f32,
    pub(super) weight_decay: f32,
    pub(super) beta1: f32,
    pub(super) beta2: f32,
    pub(super) epsilon: f32,
    pub(super) clip_norm: f32,
}

impl Default for OptimizerTable {
    fn default() -> Self {
        let AdamWSettings { beta1, beta2, epsilon, weight_decay } = AdamWSettings::default();
        Self {
            learning_rate: 1e-4,
            warmup_steps: 0,
            final_share: 0.1,
            weight_decay,
            beta1,
            beta2,
            epsilon,
            clip_norm: 1.0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdapterTable {
    pub(super) rank: usize,
    pub(super) alpha: f32,
    pub(super) targets: Vec<String>,
}

impl Default for AdapterTable {
    fn default() -> Self {
        let targets = AdapterTarget::ALL.map(|target| target.name().to_owned()).to_vec();
        Self { rank: 8, alpha: 16.0, targets }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DistillationTable {
    pub(super) weight: f32,
    pub(super) temperature: f32,
    pub(super) top_k: Option<usize>,
    pub(super) hidden_weight: f32,
}

impl Default for DistillationTable {
    fn default() -> Self {
        let Distillation { weight, temperature, top_k, hidden_weight } = Distillation::default();
        Self { weight, temperature, top_k, hidden_weight }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OutputTable {
    pub(super) dtype: Option<String>,
    pub(super) experts: Option<String>,
    pub(super) rounding_aware: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScratchTable {
    pub(super) shape: SynthShape,
    pub(super) vocabulary: usize,
    #[serde(default)]
    pub(super) conversations: f64,
}

fn window_tokens() -> usize {
    512
}

fn one() -> usize {
    1
}

fn checkpoint_steps() -> u64 {
    100
}
