//! A model on calibration text without some of its units: what policies ask for when they want to know what a unit is worth
//! by taking it out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use espalier_components::{AblatedUnit, InputError, Unit};
use espalier_evaluation::log_probability;
use espalier_model::{Ablation, Model, ModelError, ModelSpec};

use crate::error::PruningError;

/// How far the losses are and whether they are still wanted; shared with the thread that waits.
#[derive(Debug, Default)]
pub(crate) struct LossWork {
    windows: AtomicU64,
    cancelled: AtomicBool,
}

impl LossWork {
    /// Windows computed so far, of all losses.
    pub(crate) fn windows(&self) -> u64 {
        self.windows.load(Ordering::Relaxed)
    }

    /// Ends the loss that is being computed with an error, and every later one.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// The mean negative log-likelihood of calibration windows, in full precision.
pub struct ModelAblation {
    model: Arc<Model>,
    windows: Vec<Vec<u32>>,
    work: Arc<LossWork>,
}

impl ModelAblation {
    /// A model on these windows.
    #[must_use]
    pub fn new(model: Arc<Model>, windows: Vec<Vec<u32>>) -> Self {
        Self { model, windows, work: Arc::default() }
    }

    pub(crate) fn work(&self) -> Arc<LossWork> {
        Arc::clone(&self.work)
    }

    /// The loss without these units.
    pub(crate) fn loss_without(&self, without: &[AblatedUnit]) -> Result<f64, PruningError> {
        self.mean_loss(&ablation(self.model.spec(), without)?)
    }

    fn mean_loss(&self, ablation: &Ablation) -> Result<f64, PruningError> {
        let vocabulary = self.model.spec().vocab_size;
        let (mut sum, mut count) = (0.0, 0_usize);
        for window in &self.windows {
            if self.work.is_cancelled() {
                return Err(PruningError::Cancelled);
            }
            let targets = window.get(1..).unwrap_or_default();
            let mut add = |first: usize, rows: &[f32]| {
                let predicted = targets.get(first..).unwrap_or_default();
                for (row, &target) in rows.chunks_exact(vocabulary).zip(predicted) {
                    sum -= log_probability(row, target).unwrap_or(f64::NEG_INFINITY);
                    count += 1;
                }
            };
            self.model.score_without(ablation, window, &mut add)?;
            self.work.windows.fetch_add(1, Ordering::Relaxed);
        }
        Ok(sum / count.max(1) as f64)
    }
}

impl espalier_components::Ablation for ModelAblation {
    fn takes_out(&self, unit: Unit) -> bool {
        unit == Unit::Layer || !self.model.ablates_layers_only()
    }

    fn loss(&self, without: &[AblatedUnit]) -> Result<f64, InputError> {
        Ok(self.loss_without(without)?)
    }
}

/// The forward pass's form of a list of units.
pub(crate) fn ablation(spec: &ModelSpec, without: &[AblatedUnit]) -> Result<Ablation, ModelError> {
    let mut ablation = Ablation::new(spec);
    for &AblatedUnit { layer, unit, index } in without {
        match unit {
            Unit::Layer => ablation.remove_layer(spec, layer)?,
            Unit::Head => ablation.remove_head(spec, layer, index)?,
            Unit::KvGroup => {
                let size = spec.layers.get(layer).map_or(0, |layer| layer.group_size());
                for head in index * size..(index + 1) * size {
                    ablation.remove_head(spec, layer, head)?;
                }
            }
            Unit::FfnChannel => ablation.remove_channel(spec, layer, index)?,
            Unit::Expert => ablation.remove_expert(spec, layer, index)?,
            Unit::ExpertChannel => {
                let channels = spec.layers.get(layer).map_or(1, |layer| layer.ffn_size.max(1));
                ablation.remove_expert_channel(spec, layer, index / channels, index % channels)?;
            }
        }
    }
    Ok(ablation)
}
