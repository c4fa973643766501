//! Closed-form recovery: after units go, the projections behind them are fitted anew, without any training.
//!
//! Heads and key/value groups feed the attention's output projection, channels of a dense block the down projection. The
//! columns that are left get the weights (and the bias, where the model has one) that reproduce the old output best on the
//! calibration text; see [`Cpu::refit`](espalier_kernels::Cpu::refit) for the formula. Layers are fitted in order, each on
//! what the already smaller and fitted layers before it give, so that later layers make up for what earlier ones lost.
//! With the constant as one more input, the bias compensation of FLAP (An et al., arXiv 2312.11983) is part of the fit; alone it
//! is what `bias_only` asks for. A projection without a bias gets none, as no loader would read it: there the fitted weights
//! take its place. What that means by architecture: the output projection of gpt-oss has a bias, and so has a Llama's where
//! `attention_bias` is set; Qwen2 has biases on queries, keys and values alone, and no dense block has one here.
//!
//! Where channels of experts or whole experts go, the biases of the experts that stay make up for them; see [`mixture`].
//!
//! Memory holds the hidden states of the calibration text, the activations of one projection and its covariance. Removed
//! layers leave nothing to fit; the layers after them are fitted to what is left.

mod mixture;
mod projection;

use std::collections::BTreeMap;

use espalier_model::{Ablation, Checkpoint, LayerSteps, Model, ModelError};
use serde::{Deserialize, Serialize};

use self::projection::Projection;
use crate::ablation::ablation;
use crate::calibration::{Calibration, CalibrationRecord};
use crate::error::PruningError;
use crate::plan::{LayerPlan, Plan};
use crate::progress::{Phase, Progress, step};

/// How projections are fitted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RefitRequest {
    /// How strongly weights are held where they were, relative to the mean square of the inputs: above 0.
    pub ridge: f64,
    /// Whether the biases of the experts that stay make up for the mean of what goes. Off unless asked for: on the built-in
    /// model hidden states get nearer and the perplexity does not (`bench/reports/experts.md`).
    pub expert_mean: bool,
    /// Whether weights stay as they are and only biases change, by the mean of what goes, as FLAP has it. Projections without
    /// a bias are then left alone.
    pub bias_only: bool,
}

impl Default for RefitRequest {
    /// A hundredth, as the damping of GPTQ and SparseGPT.
    fn default() -> Self {
        Self { ridge: 0.01, expert_mean: false, bias_only: false }
    }
}

impl RefitRequest {
    /// # Errors
    /// A ridge that is not above 0.
    pub fn check(&self) -> Result<(), PruningError> {
        if self.ridge > 0.0 && self.ridge.is_finite() {
            return Ok(());
        }
        Err(PruningError::Ridge { found: self.ridge })
    }
}

/// What was fitted, for the record beside the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefitRecord {
    /// How.
    pub request: RefitRequest,
    /// On what.
    pub calibration: CalibrationRecord,
    /// How many tensors were replaced.
    pub tensors: usize,
}

/// New tensors for the smaller model.
#[derive(Clone, Debug, PartialEq)]
pub struct Refit {
    /// Values by the name that the tensor has in the smaller model, row by row.
    pub(crate) tensors: BTreeMap<String, Vec<f32>>,
    /// Where they come from.
    pub record: RefitRecord,
}

/// Fits what `plan` leaves of the projections of `checkpoint`, whose loaded form is `model`.
///
/// # Errors
/// A ridge out of range, a plan or windows that do not fit the model, a model that is not on the processor, activations
/// that are not finite, or [`PruningError::Cancelled`].
pub fn refit(
    checkpoint: &Checkpoint,
    model: &Model,
    plan: &Plan,
    calibration: &Calibration,
    request: RefitRequest,
    progress: &mut dyn Progress,
) -> Result<Refit, PruningError> {
    request.check()?;
    plan.apply_to(checkpoint.spec())?;
    let (nothing, gone) = (Ablation::new(model.spec()), ablation(model.spec(), &plan.removed_units())?);
    let steps = LayerSteps::new(model, &gone, calibration.record.window_tokens)?;
    let whole = match request.expert_mean {
        true => Some(LayerSteps::new(model, &nothing, calibration.record.window_tokens)?),
        false => None,
    };
    let hidden = calibration.windows.iter().map(|window| steps.embed(window));
    let hidden = hidden.collect::<Result<Vec<_>, _>>()?;
    let mut fitting = Fitting { checkpoint, request, whole, steps, hidden, tensors: BTreeMap::new() };
    let layers = plan.kept_layers();
    step(progress, Phase::Refit, 0, layers.len())?;
    for (place, &layer) in layers.iter().enumerate() {
        if let Some(entry) = plan.layers.get(layer) {
            fitting.attention(entry, place, model.spec().head_dim)?;
            fitting.feed_forward(entry, place)?;
        }
        step(progress, Phase::Refit, place + 1, layers.len())?;
    }
    let tensors = fitting.tensors;
    let record = RefitRecord { request, calibration: calibration.record.clone(), tensors: tensors.len() };
    Ok(Refit { tensors, record })
}

/// The work between two layers.
struct Fitting<'a> {
    checkpoint: &'a Checkpoint,
    request: RefitRequest,
    /// The model with all its units, where the mean of experts is asked for.
    whole: Option<LayerSteps<'a>>,
    /// The model without those that go.
    steps: LayerSteps<'a>,
    /// The hidden states of every window, as the fitted layers before give them.
    hidden: Vec<Vec<f32>>,
    tensors: BTreeMap<String, Vec<f32>>,
}

impl Fitting<'_> {
    /// Fits the output projection of a layer that becomes layer `place`.
    fn attention(&mut self, entry: &LayerPlan, place: usize, head_dim: usize) -> Result<(), PruningError> {
        let mut inputs = each(&mut self.hidden, |hidden| self.steps.attention(entry.layer, hidden))?;
        let heads = entry.kept_heads().into_iter();
        let columns: Vec<usize> = heads.flat_map(|head| head * head_dim..(head + 1) * head_dim).collect();
        self.fit(entry.layer, place, "self_attn.o_proj", &columns, &mut inputs)
    }

    /// Fits the down projection of a dense block, or the biases of a mixture.
    fn feed_forward(&mut self, entry: &LayerPlan, place: usize) -> Result<(), PruningError> {
        if entry.experts.is_some() {
            return self.mixture(entry, place);
        }
        let mut inputs = each(&mut self.hidden, |hidden| self.steps.feed_forward(entry.layer, hidden))?;
        match &entry.ffn_channels {
            Some(channels) => self.fit(entry.layer, place, "mlp.down_proj", &channels.kept(), &mut inputs),
            None => Ok(()),
        }
    }

    fn fit(
        &mut self,
        layer: usize,
        place: usize,
        part: &str,
        kept: &[usize],
        inputs: &mut [Vec<f32>],
    ) -> Result<(), PruningError> {
        let (_, columns) =
            self.checkpoint.tensor(&format!("model.layers.{layer}.{part}.weight"))?.rows_and_columns();
        if kept.len() == columns {
            return Ok(());
        }
        let mut projection = Projection::read(self.checkpoint, layer, part)?;
        let cpu = self.steps.cpu();
        if self.request.bias_only {
            let bias = projection.compensating_bias(cpu, kept, inputs, &mut self.hidden);
            let name = format!("model.layers.{place}.{part}.bias");
            self.tensors.extend(bias.map(|bias| (name, bias)));
            return Ok(());
        }
        projection.fit(cpu, kept, inputs, &mut self.hidden, self.request.ridge)?;
        projection.store(place, part, &mut self.tensors);
        Ok(())
    }
}

/// One half of a layer on every window.
fn each(
    hidden: &mut [Vec<f32>],
    mut step: impl FnMut(&mut [f32]) -> Result<Vec<f32>, ModelError>,
) -> Result<Vec<Vec<f32>>, ModelError> {
    hidden.iter_mut().map(|hidden| step(hidden)).collect()
}
