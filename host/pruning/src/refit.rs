//! Closed-form recovery: after units go, the projections behind them are fitted anew, without any training.
//!
//! Heads and key/value groups feed the attention's output projection, channels of a dense block the down projection. The
//! columns that are left get the weights (and the bias, where the model has one) that reproduce the old output best on the
//! calibration text; see [`Cpu::refit`](espalier_kernels::Cpu::refit) for the formula. Layers are fitted in order, each on
//! what the already smaller and fitted layers before it give, so that later layers make up for what earlier ones lost.
//! With the constant as one more input, the bias compensation of FLAP (An et al., arXiv 2312.11983) is part of the fit.
//!
//! Memory holds the hidden states of the calibration text, the activations of one projection and its covariance. Removed
//! layers and experts leave no projection to fit; the layers after them are fitted to what is left.

use std::collections::BTreeMap;

use espalier_kernels::{Covariance, Cpu, Matrix, Precision};
use espalier_model::{Checkpoint, LayerSteps, Model, ModelError};
use serde::{Deserialize, Serialize};

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
}

impl Default for RefitRequest {
    /// A hundredth, as the damping of GPTQ and SparseGPT.
    fn default() -> Self {
        Self { ridge: 0.01 }
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
    let ablation = ablation(model.spec(), &plan.removed_units())?;
    let mut steps = LayerSteps::new(model, &ablation, calibration.record.window_tokens)?;
    let mut hidden =
        calibration.windows.iter().map(|window| steps.embed(window)).collect::<Result<Vec<_>, _>>()?;
    let mut tensors = BTreeMap::new();
    let kept = plan.kept_layers();
    step(progress, Phase::Refit, 0, kept.len())?;
    for (place, &layer) in kept.iter().enumerate() {
        let Some(entry) = plan.layers.get(layer) else { continue };
        let mut inputs = each(&mut hidden, |hidden| steps.attention(layer, hidden))?;
        let mut projection = Projection::read(checkpoint, layer, "self_attn.o_proj")?;
        let heads = head_columns(entry, model.spec().head_dim);
        if projection.fit(steps.cpu(), &heads, &mut inputs, &mut hidden, request)? {
            projection.store(place, "self_attn.o_proj", &mut tensors);
        }
        let mut inputs = each(&mut hidden, |hidden| steps.feed_forward(layer, hidden))?;
        if let Some(channels) = &entry.ffn_channels {
            let mut projection = Projection::read(checkpoint, layer, "mlp.down_proj")?;
            if projection.fit(steps.cpu(), &channels.kept(), &mut inputs, &mut hidden, request)? {
                projection.store(place, "mlp.down_proj", &mut tensors);
            }
        }
        step(progress, Phase::Refit, place + 1, kept.len())?;
    }
    let record = RefitRecord { request, calibration: calibration.record.clone(), tensors: tensors.len() };
    Ok(Refit { tensors, record })
}

/// One half of a layer on every window.
fn each(
    hidden: &mut [Vec<f32>],
    mut step: impl FnMut(&mut [f32]) -> Result<Vec<f32>, ModelError>,
) -> Result<Vec<Vec<f32>>, ModelError> {
    hidden.iter_mut().map(|hidden| step(hidden)).collect()
}

/// The columns of the output projection whose heads stay.
fn head_columns(entry: &LayerPlan, head_dim: usize) -> Vec<usize> {
    entry.kept_heads().into_iter().flat_map(|head| head * head_dim..(head + 1) * head_dim).collect()
}

/// `W x + b` as one matrix `[outputs, inputs]`, a bias being the weights of one more input that is always 1.
struct Projection {
    weights: Vec<f32>,
    inputs: usize,
    has_bias: bool,
}

impl Projection {
    fn read(checkpoint: &Checkpoint, layer: usize, part: &str) -> Result<Self, PruningError> {
        let stored = checkpoint.tensor(&format!("model.layers.{layer}.{part}.weight"))?;
        let (_, columns) = stored.rows_and_columns();
        let weights = stored.to_f32()?;
        let Ok(bias) = checkpoint.tensor(&format!("model.layers.{layer}.{part}.bias")) else {
            return Ok(Self { weights, inputs: columns, has_bias: false });
        };
        let rows = weights.chunks_exact(columns.max(1)).zip(bias.to_f32()?);
        let weights = rows.flat_map(|(row, bias)| row.iter().copied().chain([bias])).collect();
        Ok(Self { weights, inputs: columns + 1, has_bias: true })
    }

    /// Fits the weights of the inputs `kept` on what went in, `[tokens, inputs]` for each window, and adds to `hidden` what
    /// that changes. Nothing happens, and the answer is no, where all inputs stay.
    fn fit(
        &mut self,
        cpu: &Cpu,
        kept: &[usize],
        inputs: &mut [Vec<f32>],
        hidden: &mut [Vec<f32>],
        request: RefitRequest,
    ) -> Result<bool, PruningError> {
        let mut kept = kept.to_vec();
        if self.has_bias {
            kept.push(self.inputs - 1);
        }
        if kept.len() == self.inputs {
            return Ok(false);
        }
        let mut covariance = Covariance::new(self.inputs);
        for rows in inputs.iter_mut() {
            if self.has_bias {
                *rows = with_constant(rows, self.inputs - 1);
            }
            covariance.add(cpu, rows)?;
        }
        let fitted = cpu.refit(&covariance, &kept, &self.weights, request.ridge)?;
        let changes = self.changes(&kept, &fitted)?;
        for (rows, hidden) in inputs.iter().zip(hidden) {
            let mut change = vec![0.0; hidden.len()];
            cpu.matmul(&changes, &cpu.activations(rows, self.inputs, Precision::Exact)?, &mut change)?;
            cpu.add(hidden, &change);
        }
        self.inputs = kept.len();
        self.weights = fitted;
        Ok(true)
    }

    /// How the weights of the inputs that stay differ from before; zeros for those that go.
    fn changes(&self, kept: &[usize], fitted: &[f32]) -> Result<Matrix, PruningError> {
        let mut changes = vec![0.0; self.weights.len()];
        let old = self.weights.chunks_exact(self.inputs);
        let rows = changes.chunks_exact_mut(self.inputs).zip(old).zip(fitted.chunks_exact(kept.len()));
        for ((changes, old), fitted) in rows {
            for (&index, fitted) in kept.iter().zip(fitted) {
                if let (Some(change), Some(old)) = (changes.get_mut(index), old.get(index)) {
                    *change = fitted - old;
                }
            }
        }
        Ok(Matrix::from_f32(self.weights.len() / self.inputs, self.inputs, &changes)?)
    }

    /// Keeps the tensors under the name that they have in the smaller model.
    fn store(self, layer: usize, part: &str, tensors: &mut BTreeMap<String, Vec<f32>>) {
        let mut weights = self.weights;
        if self.has_bias {
            let rows = weights.chunks_exact(self.inputs);
            let bias = rows.clone().filter_map(<[f32]>::last).copied().collect();
            tensors.insert(format!("model.layers.{layer}.{part}.bias"), bias);
            weights =
                rows.flat_map(|row| row.split_last().map_or(&[][..], |(_, row)| row)).copied().collect();
        }
        tensors.insert(format!("model.layers.{layer}.{part}.weight"), weights);
    }
}

/// Rows with a 1 behind each.
fn with_constant(rows: &[f32], width: usize) -> Vec<f32> {
    rows.chunks_exact(width.max(1)).flat_map(|row| row.iter().copied().chain([1.0])).collect()
}
