//! What a model costs, counted from its specification alone: parameters, bytes and FLOPs per token.
//!
//! The tensors counted are those of [`ModelSpec::tensors`], the same list that surgery writes.

use espalier_model::{ModelSpec, TensorPart};
use serde::{Deserialize, Serialize};

use crate::storage::Storage;

/// The cost of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Parameters, each weight once (a tied output projection is not counted again).
    pub parameters: u64,
    /// Parameters that one token is multiplied with: of the experts the active ones, and no embedding table unless it
    /// is the output projection too.
    pub active_parameters: u64,
    /// Bytes of all parameters in the storage of the plan.
    pub bytes: u64,
    /// Floating-point operations of the matrix products for one token, 2 per multiply-add: all projections including
    /// the router and the output projection over the vocabulary, of the experts the active ones, without the attention
    /// scores, whose cost depends on the context.
    pub flops_per_token: u64,
}

impl Size {
    /// Counts a model stored as `storage`.
    #[must_use]
    pub fn of(spec: &ModelSpec, storage: &Storage) -> Self {
        let mut multiplied = (spec.vocab_size * spec.hidden_size) as u64;
        for tensor in spec.tensors() {
            let in_layer =
                matches!(tensor.part, TensorPart::Attention | TensorPart::FeedForward | TensorPart::Router);
            if !in_layer || !tensor.name.ends_with(".weight") {
                continue;
            }
            let experts =
                tensor.layer.and_then(|layer| spec.layers.get(layer)).and_then(|layer| layer.experts);
            let sides = match (tensor.shape.as_slice(), experts) {
                (&[_, rows, columns], Some(experts)) => vec![experts.active, rows, columns],
                (sides, _) => sides.to_vec(),
            };
            multiplied += sides.into_iter().map(|side| side as u64).product::<u64>();
        }
        Self {
            parameters: spec.parameters(),
            active_parameters: spec.active_parameters(),
            bytes: storage.bytes(spec),
            flops_per_token: 2 * multiplied,
        }
    }
}
