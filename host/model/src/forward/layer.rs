//! One decoder layer: attention over the paged cache, then the gated feed-forward network, each added to the residual.

use espalier_kernels::{Activations, AttentionShape, KeyValueStore, Matrix, Precision};

use super::{Pass, Scratch};
use crate::error::ModelError;
use crate::model::{Layer, Linear};
use crate::probe::{Probe, ProbeSink};

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
        // Whatever the pass: rounding here moves the attention of all later tokens. See `Model::forward`.
        let input = cpu.activations(&scratch.normed, model.spec.hidden_size, Precision::Exact)?;
        self.project(
            &mut [(&layer.query, &mut *queries), (&layer.key, &mut *keys), (&layer.value, &mut *values)],
            &input,
        )?;
        cpu.rope(queries, layer.spec.heads, head_dim, &self.cosines, &self.sines);
        cpu.rope(keys, layer.spec.kv_heads, head_dim, &self.cosines, &self.sines);
        self.store(index, key_width, keys, values, cache)?;

        let shape = AttentionShape {
            heads: layer.spec.heads,
            kv_heads: layer.spec.kv_heads,
            head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            sliding_window: layer.spec.sliding_window,
            sinks: None,
        };
        cpu.attention(&shape, queries, self.spans, cache, index, heads)?;
        self.show(probes, index, Probe::HeadOutput, query_width, heads);
        self.add_projected(&layer.attention_output, heads, hidden, &mut scratch.residual)
    }

    /// `hidden += down(silu(gate(x)) * up(x))` with `x = rms_norm(hidden)`.
    pub(super) fn feed_forward(
        &self,
        index: usize,
        layer: &Layer,
        hidden: &mut [f32],
        scratch: &mut Scratch,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let model = self.model;
        let cpu = &model.cpu;
        let width = layer.spec.ffn_size;
        let gate = &mut scratch.gate[..self.tokens * width];
        let up = &mut scratch.up[..self.tokens * width];

        cpu.rms_norm(hidden, &layer.ffn_norm, model.spec.rms_norm_eps, &mut scratch.normed);
        let input = cpu.activations(&scratch.normed, model.spec.hidden_size, self.precision)?;
        self.project(&mut [(&layer.gate, &mut *gate), (&layer.up, &mut *up)], &input)?;
        cpu.silu_mul(gate, up);
        self.show(probes, index, Probe::FfnActivation, width, gate);
        self.add_projected(&layer.down, gate, hidden, &mut scratch.residual)
    }

    /// Writes the keys and values of the batch's tokens to their places in the cache.
    fn store(
        &self,
        layer: usize,
        width: usize,
        keys: &[f32],
        values: &[f32],
        cache: &mut KeyValueStore,
    ) -> Result<(), ModelError> {
        let block_tokens = cache.block_tokens();
        let mut rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
        for span in self.spans {
            for position in span.first_position..span.first_position + span.queries {
                let index = position / block_tokens;
                let block = span.blocks.get(index).copied().ok_or_else(|| {
                    let expected = format!("at least {}", index + 1);
                    ModelError::argument("cache blocks of a span", span.blocks.len(), expected)
                })?;
                if let Some((key, value)) = rows.next() {
                    cache.write(layer, block, position % block_tokens, key, value)?;
                }
            }
        }
        Ok(())
    }

    /// Several linear maps of one input in one dispatch.
    fn project(
        &self,
        linears: &mut [(&Linear, &mut [f32])],
        input: &Activations<'_>,
    ) -> Result<(), ModelError> {
        let mut products: Vec<(&Matrix, &mut [f32])> =
            linears.iter_mut().map(|(linear, output)| (&linear.weight, &mut **output)).collect();
        self.model.cpu.matmul_many(&mut products, input)?;
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

    fn show(&self, probes: &mut dyn ProbeSink, layer: usize, probe: Probe, width: usize, values: &[f32]) {
        if probes.wants(layer, probe) {
            probes.record(layer, probe, self.tokens, width, values);
        }
    }
}
