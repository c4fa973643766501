//! What a scoring policy is given beside the traces: the model's shape and weights, and what it loses without some units.
//!
//! The traits are here because what they do costs reading a checkpoint or forward passes and must not happen before a guest
//! asks for it. The host checks every argument of a guest before it gets to them.

use std::sync::Arc;

use espalier_kernels::Tensor;

use crate::{InputError, ModelFacts, Unit};

/// All that a scoring policy is given when a job begins.
#[derive(Clone)]
pub struct ScoringInputs {
    /// The model's shape.
    pub facts: Arc<ModelFacts>,
    /// Its weights, where the caller has them.
    pub weights: Option<Arc<dyn ModelWeights>>,
    /// The model without some of its units, where the caller can do that. Only policies that ask for it get it.
    pub ablation: Option<Arc<dyn Ablation>>,
    /// For policies that draw at random.
    pub seed: u64,
}

impl ScoringInputs {
    /// A model of which no more than the shape is known, and the seed 0.
    pub const fn new(facts: Arc<ModelFacts>) -> Self {
        Self { facts, weights: None, ablation: None, seed: 0 }
    }
}

/// A matrix of a layer, `[outputs, inputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Queries.
    Query,
    /// Keys.
    Key,
    /// Values.
    Value,
    /// The attention output.
    AttentionOutput,
    /// The gate of the feed-forward block, or of an expert.
    Gate,
    /// The up projection.
    Up,
    /// The down projection.
    Down,
    /// The router.
    Router,
}

/// The weights of a model.
pub trait ModelWeights: Send + Sync {
    /// The values of a matrix that the model has, widened to f32. `expert` is given for the matrices of experts.
    fn values(
        &self,
        layer: usize,
        projection: Projection,
        expert: Option<usize>,
    ) -> Result<Tensor, InputError>;
}

/// One unit that is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AblatedUnit {
    /// Its layer.
    pub layer: usize,
    /// Its kind.
    pub unit: Unit,
    /// Its index among the units of the kind in the layer.
    pub index: usize,
}

/// A model with calibration text, without some of its units.
pub trait Ablation: Send + Sync {
    /// Whether it can do without units of this kind.
    fn takes_out(&self, unit: Unit) -> bool;

    /// The mean negative log-likelihood in nats of the calibration text's predicted tokens without these units, which
    /// the model has. At least as many experts as a token passes through are left.
    fn loss(&self, without: &[AblatedUnit]) -> Result<f64, InputError>;
}
