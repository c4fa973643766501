//! One decoder layer: attention over the paged cache, then the gated feed-forward network, each added to the residual.

use espalier_kernels::{Activations, AttentionShape, KeyValueStore, Product};

use super::attention_statistics::AttentionStatistics;
use super::{Pass, Scratch};
use crate::error::ModelError;
use crate::probe::{Probe, ProbeSink};
use crate::spec::Activation;
use crate::weights::{FeedForward, GatedNetwork, Layer, Linear};

impl Pass<'_> {
    /// `hidden += o_proj(attention(rms_norm(hidden)))`.
    pub(super) fn attention(
        &self,
        index: usize,
        layer: &Layer,
        cache: &mut KeyValueStore,
        hidden: &mut [f32],
        scratch: &mut Scratch,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let model = self.model;
        let (cpu, head_dim) = (&model.cpu, model.spec.head_dim);
        let query_width = layer.spec.heads * head_dim;
        let key_width = layer.spec.kv_heads * head_dim;
        let queries = &mut scratch.queries[..self.tokens * query_width];
        let keys = &mut scratch.keys[..self.tokens * key_width];
        let values = &mut scratch.values[..self.tokens * key_width];
        let heads = &mut scratch.heads[..self.tokens * query_width];

        cpu.rms_norm(hidden, &layer.attention_norm, model.spec.rms_norm_eps, &mut scratch.normed);
        // Rounding much here moves the attention of all later tokens. See `Model::forward`.
        let input = cpu.activations(&scratch.normed, model.spec.hidden_size, self.precision.gentle())?;
        self.project(
            &mut [(&layer.query, &mut *queries), (&layer.key, &mut *keys), (&layer.value, &mut *values)],
            &input,
        )?;
        cpu.rope(queries, layer.spec.heads, head_dim, self.cosines, self.sines);
        cpu.rope(keys, layer.spec.kv_heads, head_dim, self.cosines, self.sines);
        let shape = AttentionShape {
            heads: layer.spec.heads,
            kv_heads: layer.spec.kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            sliding_window: layer.spec.sliding_window,
            sinks: layer.sinks.as_deref(),
        };
        self.store(index, keys, values, cache)?;
        let mut statistics = AttentionStatistics::new(probes, index, self.tokens * layer.spec.heads);
        match statistics.wanted() {
            None => cpu.attention(&shape, queries, self.spans, cache, index, heads)?,
            Some(rows) => {
                cpu.attention_with_statistics(&shape, queries, self.spans, cache, index, heads, rows)?;
            }
        }
        statistics.show(probes, index, layer.spec.heads);
        self.show(probes, index, Probe::HeadOutput, query_width, heads);
        if let Some(ablation) = self.layer_ablation(index) {
            ablation.silence_heads(heads, layer.spec.heads, head_dim);
        }
        self.add_projected(&layer.attention_output, heads, hidden, &mut scratch.residual)
    }

    /// Adds the feed-forward part's output, of a network that every token passes or of each token's experts.
    pub(super) fn feed_forward(
        &self,
        index: usize,
        layer: &Layer,
        hidden: &mut [f32],
        scratch: &mut Scratch,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        match &layer.feed_forward {
            FeedForward::Dense(network) => self.dense(index, layer, network, hidden, scratch, probes),
            FeedForward::Experts { router, experts, active } => {
                self.experts(index, layer, (router, experts, *active), hidden, scratch, probes)
            }
        }
    }

    /// `hidden += down(activation(gate(x), up(x)))` with `x = rms_norm(hidden)`.
    fn dense(
        &self,
        index: usize,
        layer: &Layer,
        network: &GatedNetwork,
        hidden: &mut [f32],
        scratch: &mut Scratch,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let model = self.model;
        let cpu = &model.cpu;
        let width = layer.spec.ffn_size;
        let gated = &mut scratch.gate[..self.tokens * width];
        let raised = &mut scratch.up[..self.tokens * width];

        cpu.rms_norm(hidden, &layer.ffn_norm, model.spec.rms_norm_eps, &mut scratch.normed);
        let input = cpu.activations(&scratch.normed, model.spec.hidden_size, self.precision)?;
        self.project(&mut [(&network.gate, &mut *gated), (&network.up, &mut *raised)], &input)?;
        self.activate(gated, raised);
        self.show(probes, index, Probe::FfnActivation, width, gated);
        if let Some(ablation) = self.layer_ablation(index) {
            ablation.silence_channels(gated, width);
        }
        self.add_projected(&network.down, gated, hidden, &mut scratch.residual)
    }

    /// Joins gate and up, in `gate`.
    pub(super) fn activate(&self, gate: &mut [f32], up: &[f32]) {
        match self.model.spec.activation {
            Activation::Silu => self.model.cpu.silu_mul(gate, up),
            Activation::ClampedSwiglu { alpha, limit } => {
                self.model.cpu.clamped_swiglu(gate, up, alpha, limit);
            }
        }
    }

    /// Writes the keys and values of the batch's tokens to their places in the cache.
    fn store(
        &self,
        layer: usize,
        keys: &[f32],
        values: &[f32],
        cache: &mut KeyValueStore,
    ) -> Result<(), ModelError> {
        let (block_tokens, stored) = (cache.block_tokens(), cache.layer(layer)?);
        let width = (stored.kv_heads * stored.head_dim).max(1);
        let mut rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for span in self.spans {
            let table = span.table(stored.windowed);
            for position in span.first_position..span.first_position + span.queries {
                let index = position / block_tokens;
                let block = table.get(index).copied().ok_or_else(|| {
                    let expected = format!("at least {}", index + 1);
                    ModelError::argument("cache blocks of a span", table.len(), expected)
                })?;
                if let Some((key, value)) = rows.next() {
                    cache.write(layer, block, position % block_tokens, key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Several linear maps of one input in one dispatch.
    pub(super) fn project(
        &self,
        linears: &mut [(&Linear, &mut [f32])],
        input: &Activations<'_>,
    ) -> Result<(), ModelError> {
        let mut products: Vec<Product<'_>> = linears
            .iter_mut()
            .map(|(linear, output)| {
                let (rows, alone) = (0..self.tokens, self.decoding);
                Product { weights: &linear.weight, input, rows, alone, output }
            })
            .collect();
        self.model.cpu.multiply(&mut products)?;
        drop(products);
        for (linear, output) in linears {
            if let Some(bias) = &linear.bias {
                self.model.cpu.add_bias(output, bias);
            }
        }
        Ok(())
    }

    fn add_projected(
        &self,
        linear: &Linear,
        input: &[f32],
        hidden: &mut [f32],
        residual: &mut [f32],
    ) -> Result<(), ModelError> {
        let input = self.model.cpu.activations(input, linear.weight.columns(), self.precision)?;
        self.project(&mut [(linear, &mut *residual)], &input)?;
        self.model.cpu.add(hidden, residual);
        Ok(())
    }

    /// Shows one value for each token and column, if the sink wants them.
    pub(super) fn show(
        &self,
        probes: &mut dyn ProbeSink,
        layer: usize,
        probe: Probe,
        width: usize,
        values: &[f32],
    ) {
        if probes.wants(layer, probe) {
            probes.record(layer, probe, self.tokens, width, values);
        }
    }
}
