//! The tensors that follow from a spec.

use serde::Serialize;

use super::{ExpertsSpec, LayerSpec, ModelSpec};

/// What a tensor is for; the unit of [`crate::inspect`]'s sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TensorPart {
    /// The token embedding.
    Embedding,
    /// Query, key, value and output projections with their biases.
    Attention,
    /// Gate, up and down projections, of all experts where there are some.
    FeedForward,
    /// What picks a token's experts.
    Router,
    /// All norms.
    Norm,
    /// The output projection, where it isn't the embedding.
    Head,
}

/// A tensor that a model of a given spec has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// HF name: `model.layers.0.self_attn.q_proj.weight`. Experts, which HF's files hold fused and transposed, have
    /// names of the same kind and one tensor for each projection: `model.layers.0.mlp.experts.gate_proj.weight`.
    pub name: String,
    /// `[rows, columns]` of a matrix whose columns are contracted, the experts before it where there are some, or
    /// `[length]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub part: TensorPart,
    /// The layer, for those inside one.
    pub layer: Option<usize>,
}

impl ModelSpec {
    /// Every tensor of the model in the order embedding, layers, final norm, head.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let mut list = Vec::with_capacity(self.layers.len() * 12 + 3);
        let outside = |name: &str, shape, part| TensorSpec { name: name.into(), shape, part, layer: None };
        let table = vec![self.vocab_size, self.hidden_size];
        list.push(outside("model.embed_tokens.weight", table.clone(), TensorPart::Embedding));
        for (index, layer) in self.layers.iter().enumerate() {
            self.push_layer(index, layer, &mut list);
        }
        list.push(outside("model.norm.weight", vec![self.hidden_size], TensorPart::Norm));
        if !self.tie_word_embeddings {
            list.push(outside("lm_head.weight", table, TensorPart::Head));
        }
        list
    }

    fn push_layer(&self, index: usize, layer: &LayerSpec, list: &mut Vec<TensorSpec>) {
        let hidden = self.hidden_size;
        let queries = layer.heads * self.head_dim;
        let keys = layer.kv_heads * self.head_dim;
        let mut push = |name: &str, shape: Vec<usize>, part| {
            let name = format!("model.layers.{index}.{name}");
            list.push(TensorSpec { name, shape, part, layer: Some(index) });
        };
        push("input_layernorm.weight", vec![hidden], TensorPart::Norm);
        for (projection, rows) in [("q", queries), ("k", keys), ("v", keys)] {
            push(&format!("self_attn.{projection}_proj.weight"), vec![rows, hidden], TensorPart::Attention);
            if layer.attention_bias {
                push(&format!("self_attn.{projection}_proj.bias"), vec![rows], TensorPart::Attention);
            }
        }
        push("self_attn.o_proj.weight", vec![hidden, queries], TensorPart::Attention);
        if layer.output_bias {
            push("self_attn.o_proj.bias", vec![hidden], TensorPart::Attention);
        }
        if layer.attention_sinks {
            push("self_attn.sinks", vec![layer.heads], TensorPart::Attention);
        }
        push("post_attention_layernorm.weight", vec![hidden], TensorPart::Norm);
        let projections = [
            ("gate", layer.ffn_size, hidden),
            ("up", layer.ffn_size, hidden),
            ("down", hidden, layer.ffn_size),
        ];
        let Some(ExpertsSpec { count, .. }) = layer.experts else {
            for (projection, rows, columns) in projections {
                push(&format!("mlp.{projection}_proj.weight"), vec![rows, columns], TensorPart::FeedForward);
            }
            return;
        };
        push("mlp.router.weight", vec![count, hidden], TensorPart::Router);
        push("mlp.router.bias", vec![count], TensorPart::Router);
        for (projection, rows, columns) in projections {
            let name = format!("mlp.experts.{projection}_proj");
            push(&format!("{name}.weight"), vec![count, rows, columns], TensorPart::FeedForward);
            push(&format!("{name}.bias"), vec![count, rows], TensorPart::FeedForward);
        }
    }

    /// Number of parameters; a tied embedding counts once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.tensors()
            .iter()
            .map(|tensor| tensor.shape.iter().map(|&side| side as u64).product::<u64>())
            .sum()
    }

    /// Parameters that one token is multiplied with: of the experts the active ones, and no embedding table unless
    /// it is the head too.
    #[must_use]
    pub fn active_parameters(&self) -> u64 {
        let embedding =
            if self.tie_word_embeddings { 0 } else { (self.vocab_size * self.hidden_size) as u64 };
        let idle: u64 = self.layers.iter().map(|layer| self.idle_parameters(layer)).sum();
        self.parameters() - embedding - idle
    }

    fn idle_parameters(&self, layer: &LayerSpec) -> u64 {
        let Some(ExpertsSpec { count, active }) = layer.experts else { return 0 };
        let (hidden, width) = (self.hidden_size as u64, layer.ffn_size as u64);
        let one_expert = 3 * hidden * width + 2 * width + hidden;
        count.saturating_sub(active) as u64 * one_expert
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hugging_face::spec_from_config;

    /// gpt-oss-20b's published configuration, with its sizes changed.
    fn gpt_oss(layers: usize, experts: usize, width: usize) -> ModelSpec {
        let config = serde_json::json!({
            "architectures": ["GptOssForCausalLM"], "hidden_size": 2880, "num_hidden_layers": layers,
            "num_local_experts": experts, "num_experts_per_tok": 4, "intermediate_size": width, "head_dim": 64,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 201_088, "sliding_window": 128,
        });
        spec_from_config(config.as_object().unwrap()).unwrap()
    }

    #[test]
    fn parameters_of_gpt_oss_are_the_published_ones_for_every_cut() {
        let whole = gpt_oss(24, 32, 2880);
        assert_eq!((whole.parameters(), whole.active_parameters()), (20_914_757_184, 3_608_307_264));
        assert_eq!(gpt_oss(24, 27, 2880).parameters(), 17_927_390_664);
        assert_eq!(gpt_oss(24, 32, 1984).parameters(), 14_967_955_008);
        assert_eq!(gpt_oss(24, 32, 1536).active_parameters() / 1_000_000, 2_493);
        assert_eq!(gpt_oss(20, 32, 2880).parameters(), 17_622_009_280);
        assert_eq!(gpt_oss(36, 128, 2880).parameters(), 116_829_156_672);
    }
}
