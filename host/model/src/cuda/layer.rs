//! One decoder layer on the device; see [`crate::forward::layer`] for what it computes.

use espalier_kernels::{
    CudaActivation, CudaAttention, CudaBuffer, CudaInput, CudaKeyValueStore, CudaProduct,
};

use super::Pass;
use super::weights::{CudaLayer, CudaLinear};
use super::workspace::Workspace;
use crate::error::ModelError;
use crate::forward::AttentionStatistics;
use crate::probe::{Probe, ProbeSink};
use crate::spec::{Activation, LayerSpec};

impl Pass<'_> {
    /// `hidden += o_proj(attention(rms_norm(hidden)))`.
    pub(super) fn attention(
        &self,
        index: usize,
        layer: &CudaLayer,
        spec: &LayerSpec,
        store: &mut CudaKeyValueStore,
        workspace: &mut Workspace,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let (cuda, head_dim) = (self.cuda, self.model.spec.head_dim);
        let Workspace { placement, splits, hidden, normed, queries, keys, values, heads, rounded, .. } =
            workspace;
        let input = self.normed(hidden, &layer.attention_norm, normed)?;
        let mut products = [
            layer.query.product(&mut *queries),
            layer.key.product(&mut *keys),
            layer.value.product(&mut *values),
        ];
        self.multiply(&mut products, input, false, rounded)?;
        let attention = CudaAttention {
            layer: index,
            heads: spec.heads,
            scale: 1.0 / (head_dim as f32).sqrt(),
            sliding_window: spec.sliding_window,
            sinks: layer.sinks.as_ref(),
        };
        cuda.rotate_and_store(&attention, placement, queries, keys, values, store)?;
        cuda.attend(&attention, placement, queries, store, splits, heads)?;
        let mut statistics = AttentionStatistics::new(probes, index, self.rows.all * spec.heads);
        if let Some(rows) = statistics.wanted() {
            let found = cuda.attention_statistics(&attention, placement, queries, store)?;
            rows.iter_mut().zip(found).for_each(|(row, found)| *row = found);
        }
        statistics.show(probes, index, spec.heads);
        self.show(probes, index, Probe::HeadOutput, spec.heads * head_dim, heads)?;
        let product = layer.attention_output.product(hidden);
        self.multiply(&mut [product], CudaInput::Plain(heads), true, rounded)
    }

    /// Adds the feed-forward part's output, of a network that every token passes or of each token's experts.
    pub(super) fn feed_forward(
        &self,
        index: usize,
        layer: &CudaLayer,
        spec: &LayerSpec,
        workspace: &mut Workspace,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        if let Some(router) = &layer.feed_forward.router {
            return self.experts(index, (router, layer), spec, workspace, probes);
        }
        let Workspace { hidden, normed, gate, up, rounded, .. } = workspace;
        let part = &layer.feed_forward;
        let input = self.normed(hidden, &layer.ffn_norm, normed)?;
        let mut products = [part.gate.product(&mut *gate), part.up.product(&mut *up)];
        self.multiply(&mut products, input, false, rounded)?;
        let width = spec.ffn_size;
        let is_shown = probes.wants(index, Probe::FfnActivation);
        let input = self.gated(gate, up, (self.rows.decoding * width, self.rows.all * width), is_shown)?;
        if let CudaInput::Plain(activations) = input {
            self.show(probes, index, Probe::FfnActivation, width, activations)?;
        }
        self.multiply(&mut [part.down.product(hidden)], input, true, rounded)
    }

    /// The input of products after a norm: prompts are normalised here, rows that decode where they are multiplied.
    pub(super) fn normed<'b>(
        &self,
        hidden: &'b CudaBuffer<f32>,
        weight: &'b CudaBuffer<f32>,
        normed: &'b mut CudaBuffer<f32>,
    ) -> Result<CudaInput<'b>, ModelError> {
        let norm = (weight, self.model.spec.rms_norm_eps);
        self.cuda.rms_norm(hidden, norm, None, self.rows.prompts(), normed)?;
        Ok(CudaInput::Normed { hidden, norm, normed })
    }

    /// The input of a product after gate and up: values from `decoding` to `all` are joined here, those that decode where they
    /// are multiplied, unless somebody wants to see them.
    pub(super) fn gated<'b>(
        &self,
        gate: &'b mut CudaBuffer<f32>,
        up: &'b CudaBuffer<f32>,
        (decoding, all): (usize, usize),
        is_shown: bool,
    ) -> Result<CudaInput<'b>, ModelError> {
        let activation = match self.model.spec.activation {
            Activation::Silu => CudaActivation::Silu,
            Activation::ClampedSwiglu { alpha, limit } => CudaActivation::ClampedSwiglu { alpha, limit },
        };
        let joined = if is_shown { 0 } else { decoding };
        self.cuda.activate(gate, up, activation, joined..all)?;
        Ok(if is_shown { CudaInput::Plain(gate) } else { CudaInput::Gated { gate, up, activation } })
    }

    /// Products of one input, together where their formats allow it.
    fn multiply(
        &self,
        products: &mut [CudaProduct<'_>],
        input: CudaInput<'_>,
        accumulate: bool,
        room: &mut CudaBuffer<u32>,
    ) -> Result<(), ModelError> {
        for alike in products.chunk_by_mut(|a, b| a.weights.format() == b.weights.format()) {
            self.cuda.multiply(alike, input, self.rows, accumulate, self.precision, room)?;
        }
        Ok(())
    }
}

impl CudaLinear {
    /// The product that writes `output`.
    pub(super) fn product<'b>(&'b self, output: &'b mut CudaBuffer<f32>) -> CudaProduct<'b> {
        CudaProduct { weights: &self.weight, bias: self.bias.as_ref(), output }
    }
}
