//! One decoder layer: attention, then the gated feed-forward network, each added to the residual stream.

use std::sync::Arc;

use candle_core::Tensor;
use espalier_model::{Activation, LayerSpec, ModelSpec};

use super::adapted::Adapter;
use super::projection::Projection;
use crate::error::TrainingError;
use crate::operation::attention_weights::{Mask, attention_weights};
use crate::operation::heads::{self, HeadShape, Rotation};
use crate::operation::products::Products;
use crate::operation::rms_norm::rms_norm;
use crate::operation::routing_weights::route;
use crate::operation::{activation, experts};
use crate::parameters::Parameters;

/// The weights of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    spec: LayerSpec,
    head_dim: usize,
    eps: f32,
    activation: Activation,
    products: Products,
    attention_norm: Tensor,
    query: Projection,
    key: Projection,
    value: Projection,
    output: Projection,
    sinks: Option<Tensor>,
    ffn_norm: Tensor,
    router: Option<Projection>,
    gate: Projection,
    up: Projection,
    down: Projection,
}

/// Zeros that are added to two activations, so that their gradients are those of the activations.
#[derive(Clone, Debug)]
pub(crate) struct Taps {
    /// `[rows, heads · head_dim]`, at the input of the attention's output projection.
    pub(crate) head_output: Tensor,
    /// `[rows, ffn_size]`, at the input of the down projection; a layer with experts has none.
    pub(crate) ffn_activation: Option<Tensor>,
}

impl Layer {
    pub(crate) fn new(
        index: usize,
        layer: &LayerSpec,
        spec: &ModelSpec,
        parameters: &Parameters,
        adapter: Option<&Adapter>,
    ) -> Result<Self, TrainingError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let tensor = |part: &str| parameters.tensor(&name(part)).cloned();
        let projection = |part: &str, bias: bool| {
            Ok::<_, TrainingError>(Projection {
                weight: parameters.weight(&name(&format!("{part}.weight")))?,
                bias: if bias { Some(tensor(&format!("{part}.bias"))?) } else { None },
                low_rank: adapter.and_then(|adapter| adapter.low_rank(&name(part))),
            })
        };
        let mixture = layer.experts.is_some();
        let ffn = |part: &str| match mixture {
            true => projection(&format!("mlp.experts.{part}_proj"), true),
            false => projection(&format!("mlp.{part}_proj"), false),
        };
        Ok(Self {
            spec: layer.clone(),
            head_dim: spec.head_dim,
            eps: spec.rms_norm_eps,
            activation: spec.activation,
            products: Products::default(),
            attention_norm: tensor("input_layernorm.weight")?,
            query: projection("self_attn.q_proj", layer.attention_bias)?,
            key: projection("self_attn.k_proj", layer.attention_bias)?,
            value: projection("self_attn.v_proj", layer.attention_bias)?,
            output: projection("self_attn.o_proj", layer.output_bias)?,
            sinks: if layer.attention_sinks { Some(tensor("self_attn.sinks")?) } else { None },
            ffn_norm: tensor("post_attention_layernorm.weight")?,
            router: if mixture { Some(projection("mlp.router", true)?) } else { None },
            gate: ffn("gate")?,
            up: ffn("up")?,
            down: ffn("down")?,
        })
    }

    /// Computes its dense projections so from now on, but for a router, whose choices rounding could change.
    pub(crate) fn set_products(&mut self, products: Products) {
        self.products = products;
    }

    /// The hidden states `[rows, hidden_size]` after the layer, where rows are sequences of `positions` one after the
    /// other.
    pub(crate) fn forward(
        &self,
        hidden: &Tensor,
        positions: usize,
        rotation: &Arc<Rotation>,
        taps: Option<&Taps>,
    ) -> Result<Tensor, TrainingError> {
        let hidden = (hidden + self.attention(hidden, positions, rotation, taps)?)?;
        Ok((&hidden + self.feed_forward(&hidden, taps)?)?)
    }

    /// Widths of the two activations that [`Taps`] are added to; a layer with experts has no second.
    pub(crate) fn tap_widths(&self) -> (usize, Option<usize>) {
        (self.spec.heads * self.head_dim, self.router.is_none().then_some(self.spec.ffn_size))
    }

    fn attention(
        &self,
        hidden: &Tensor,
        positions: usize,
        rotation: &Arc<Rotation>,
        taps: Option<&Taps>,
    ) -> Result<Tensor, TrainingError> {
        let (rows, _) = hidden.dims2()?;
        let LayerSpec { heads, kv_heads, sliding_window, .. } = self.spec;
        let products = &self.products;
        let (sequences, head_dim) = (rows / positions.max(1), self.head_dim);
        let of_queries = HeadShape { sequences, positions, heads, head_dim };
        let of_keys = HeadShape { heads: kv_heads, ..of_queries };
        let normed = rms_norm(hidden, &self.attention_norm, self.eps)?;
        let queries = heads::split(&self.query.forward(&normed, products)?, of_queries, Some(rotation))?;
        let keys = heads::split(&self.key.forward(&normed, products)?, of_keys, Some(rotation))?;
        let values = heads::split(&self.value.forward(&normed, products)?, of_keys, None)?;
        // The query heads of one key/value head are neighbours, so that they share a product.
        let grouped = (sequences, kv_heads, self.spec.group_size() * positions, head_dim);
        let scores = queries.reshape(grouped)?.matmul(&keys.t()?)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let mask = Mask { heads, positions, window: sliding_window, scale };
        let weights = attention_weights(&scores, self.sinks.as_ref(), mask)?;
        let merged = weights.matmul(&values)?.reshape((sequences, heads, positions, head_dim))?;
        let mut merged = heads::merge(&merged, of_queries)?;
        if let Some(taps) = taps {
            merged = (merged + &taps.head_output)?;
        }
        Ok(self.output.forward(&merged, products)?)
    }

    fn feed_forward(&self, hidden: &Tensor, taps: Option<&Taps>) -> Result<Tensor, TrainingError> {
        let normed = rms_norm(hidden, &self.ffn_norm, self.eps)?;
        let products = &self.products;
        let (Some(router), Some(mixture)) = (&self.router, self.spec.experts) else {
            let (gate, up) = (self.gate.forward(&normed, products)?, self.up.forward(&normed, products)?);
            let mut joined = activation::gated(&gate, &up, self.activation)?;
            if let Some(tap) = taps.and_then(|taps| taps.ffn_activation.as_ref()) {
                joined = (joined + tap)?;
            }
            return Ok(self.down.forward(&joined, products)?);
        };
        let (routing, weights) = route(&router.forward(&normed, &Products::Exact)?, mixture.active)?;
        let rows = experts::gather(&normed, &routing)?;
        let gate = self.gate.forward_experts(&rows, &routing)?;
        let up = self.up.forward_experts(&rows, &routing)?;
        let joined = activation::gated(&gate, &up, self.activation)?;
        let terms = self.down.forward_experts(&joined, &routing)?;
        Ok(experts::mix(&terms, &weights, &routing)?)
    }
}
