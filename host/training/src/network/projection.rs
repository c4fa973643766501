//! A linear map of a layer, with an adapter's low-rank product beside it where there is one.
//!
//! `y = x · Wᵀ + b + scale · (x · Aᵀ) · Bᵀ`, and the same for each expert.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use espalier_model::Routing;

use crate::operation::experts;
use crate::operation::linear::{Weight, linear};
use crate::operation::products::Products;

/// A matrix `[outputs, inputs]` (with the experts before it in a mixture) and its bias.
#[derive(Clone, Debug)]
pub(crate) struct Projection {
    pub(crate) weight: Weight,
    pub(crate) bias: Option<Tensor>,
    pub(crate) low_rank: Option<LowRank>,
}

/// The factors of a low-rank change: `down [rank, inputs]` and `up [outputs, rank]`, with the experts before them in a
/// mixture.
#[derive(Clone, Debug)]
pub(crate) struct LowRank {
    pub(crate) down: Weight,
    pub(crate) up: Weight,
    pub(crate) scale: f32,
}

impl Projection {
    /// Of `x [rows, inputs]`.
    pub(crate) fn forward(&self, x: &Tensor, products: &Products) -> Result<Tensor> {
        let y = linear(x, &self.weight, self.bias.as_ref(), products)?;
        match &self.low_rank {
            Some(LowRank { down, up, scale }) => {
                let narrow = (linear(x, down, None, products)? * f64::from(*scale))?;
                y + linear(&narrow, up, None, products)?
            }
            None => Ok(y),
        }
    }

    /// Of `x`, whose rows are grouped by expert.
    pub(crate) fn forward_experts(&self, x: &Tensor, routing: &Arc<Routing>) -> Result<Tensor> {
        let y = experts::linear(x, &self.weight.values, self.bias.as_ref(), routing)?;
        match &self.low_rank {
            Some(LowRank { down, up, scale }) => {
                let narrow = (experts::linear(x, &down.values, None, routing)? * f64::from(*scale))?;
                y + experts::linear(&narrow, &up.values, None, routing)?
            }
            None => Ok(y),
        }
    }
}
