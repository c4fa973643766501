//! A checkpoint's matrices as policies see them.

use std::sync::Arc;

use espalier_components::{InputError, ModelWeights, Projection};
use espalier_kernels::Tensor;
use espalier_model::Checkpoint;

/// The weights of a checkpoint, read from its memory map and widened each time they are asked for.
pub(crate) struct CheckpointWeights(pub(crate) Arc<Checkpoint>);

impl ModelWeights for CheckpointWeights {
    fn values(
        &self,
        layer: usize,
        projection: Projection,
        expert: Option<usize>,
    ) -> Result<Tensor, InputError> {
        let is_of_experts = expert.is_some();
        let stored =
            self.0.tensor(&format!("model.layers.{layer}.{}.weight", name(projection, is_of_experts)))?;
        let part;
        let stored = match expert {
            Some(expert) => {
                part = stored.slice(expert..expert.saturating_add(1))?;
                &part
            }
            None => stored,
        };
        let (rows, columns) = stored.rows_and_columns();
        Ok(Tensor::new(vec![rows, columns], stored.to_f32()?)?)
    }
}

const fn name(projection: Projection, is_of_experts: bool) -> &'static str {
    match (projection, is_of_experts) {
        (Projection::Query, _) => "self_attn.q_proj",
        (Projection::Key, _) => "self_attn.k_proj",
        (Projection::Value, _) => "self_attn.v_proj",
        (Projection::AttentionOutput, _) => "self_attn.o_proj",
        (Projection::Gate, false) => "mlp.gate_proj",
        (Projection::Up, false) => "mlp.up_proj",
        (Projection::Down, false) => "mlp.down_proj",
        (Projection::Gate, true) => "mlp.experts.gate_proj",
        (Projection::Up, true) => "mlp.experts.up_proj",
        (Projection::Down, true) => "mlp.experts.down_proj",
        (Projection::Router, _) => "mlp.router",
    }
}
