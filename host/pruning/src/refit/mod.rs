//! Closed-form recovery: after units go, the projections behind them are fitted anew, without any training.
//!
//! Heads and key/value groups feed the attention's output projection, channels of a dense block the down projection. The
//! columns that are left get the weights (and the bias, where the model has one) that reproduce the old output best on the
//! calibration text; see [`Cpu::refit`](espalier_kernels::Cpu::refit) for the formula. Layers are fitted in order, each on
//! what the already smaller and fitted layers before it give, so that later layers make up for what earlier ones lost.
//! With the constant as one more input, the bias compensation of FLAP (An et al., arXiv 2312.11983) is part of the fit.
//!
//! Where experts go, their tokens pass through others. What that changes in the mean over all tokens can be added to the
//! biases of the experts that stay: a token's weights over its experts add up to 1, so each token gets it once.
//!
//! Memory holds the hidden states of the calibration text, the activations of one projection and its covariance. Removed
//! layers leave nothing to fit; the layers after them are fitted to what is left.

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
}

impl Default for RefitRequest {
    /// A hundredth, as the damping of GPTQ and SparseGPT.
    fn default() -> Self {
        Self { ridge: 0.01, expert_mean: false }
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

    /// Fits the down projection, or the mean of a mixture that loses experts.
    fn feed_forward(&mut self, entry: &LayerPlan, place: usize) -> Result<(), PruningError> {
        let experts = entry.experts.as_ref().filter(|experts| !experts.removed.is_empty());
        if let (Some(experts), Some(whole)) = (experts, &mut self.whole) {
            let shift = shift_of_mean(whole, &mut self.steps, &mut self.hidden, entry.layer)?;
            return self.mean(entry.layer, place, &experts.kept(), &shift);
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
        projection.fit(self.steps.cpu(), kept, inputs, &mut self.hidden, self.request.ridge)?;
        projection.store(place, part, &mut self.tensors);
        Ok(())
    }

    /// Adds `shift`, what the mean over all tokens misses, to the biases of the experts `kept`.
    fn mean(
        &mut self,
        layer: usize,
        place: usize,
        kept: &[usize],
        shift: &[f32],
    ) -> Result<(), PruningError> {
        let name = |layer: usize| format!("model.layers.{layer}.mlp.experts.down_proj.bias");
        if let Ok(biases) = self.checkpoint.tensor(&name(layer)) {
            self.tensors.insert(name(place), shifted(&biases.to_f32()?, kept, shift));
            let cpu = self.steps.cpu();
            self.hidden.iter_mut().for_each(|hidden| cpu.add_bias(hidden, shift));
        }
        Ok(())
    }
}

/// Adds the feed-forward part without the experts that go to `hidden`; returns what the whole one gives more, in the mean over
/// all tokens: `[hidden_size]`.
fn shift_of_mean(
    whole: &mut LayerSteps<'_>,
    steps: &mut LayerSteps<'_>,
    hidden: &mut [Vec<f32>],
    layer: usize,
) -> Result<Vec<f32>, ModelError> {
    let width = whole.hidden_size();
    let (mut sums, mut rows) = (vec![0.0_f64; width], 0_usize);
    for hidden in hidden {
        let mut expected = hidden.clone();
        whole.feed_forward(layer, &mut expected)?;
        steps.feed_forward(layer, hidden)?;
        for (expected, found) in expected.chunks_exact(width).zip(hidden.chunks_exact(width)) {
            for ((sum, expected), found) in sums.iter_mut().zip(expected).zip(found) {
                *sum += f64::from(*expected) - f64::from(*found);
            }
            rows += 1;
        }
    }
    Ok(sums.into_iter().map(|sum| (sum / rows.max(1) as f64) as f32).collect())
}

/// One half of a layer on every window.
fn each(
    hidden: &mut [Vec<f32>],
    mut step: impl FnMut(&mut [f32]) -> Result<Vec<f32>, ModelError>,
) -> Result<Vec<Vec<f32>>, ModelError> {
    hidden.iter_mut().map(|hidden| step(hidden)).collect()
}

/// The rows `kept` of `biases`, each with `shift` added.
fn shifted(biases: &[f32], kept: &[usize], shift: &[f32]) -> Vec<f32> {
    let width = shift.len();
    let row = |index: &usize| biases.get(index * width..(index + 1) * width).unwrap_or_default();
    kept.iter().flat_map(|index| row(index).iter().zip(shift).map(|(bias, shift)| bias + shift)).collect()
}
