//! One decoder layer on the device; see [`crate::forward::layer`] for what it computes.

use espalier_kernels::{CudaAttention, CudaBuffer, CudaKeyValueStore, CudaProduct};

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
        let Workspace { placement, splits, hidden, normed, queries, keys, values, heads, .. } = workspace;
        let epsilon = self.model.spec.rms_norm_eps;
        cuda.rms_norm(hidden, &layer.attention_norm, epsilon, None, self.rows.all, normed)?;
        self.project(&layer.query, normed, queries, false)?;
        self.project(&layer.key, normed, keys, false)?;
        self.project(&layer.value, normed, values, false)?;
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
        self.project(&layer.attention_output, heads, hidden, true)
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
        let epsilon = self.model.spec.rms_norm_eps;
        let (hidden, normed) = (&workspace.hidden, &mut workspace.normed);
        self.cuda.rms_norm(hidden, &layer.ffn_norm, epsilon, None, self.rows.all, normed)?;
        let part = &layer.feed_forward;
        if let Some(router) = &part.router {
            return self.experts(index, (router, part), spec, workspace, probes);
        }
        let Workspace { hidden, normed, gate, up, .. } = workspace;
        self.project(&part.gate, normed, gate, false)?;
        self.project(&part.up, normed, up, false)?;
        self.activate(gate, up, self.rows.all * spec.ffn_size)?;
        self.show(probes, index, Probe::FfnActivation, spec.ffn_size, gate)?;
        self.project(&part.down, gate, hidden, true)
    }

    /// Joins gate and up, in `gate`.
    pub(super) fn activate(
        &self,
        gate: &mut CudaBuffer<f32>,
        up: &CudaBuffer<f32>,
        length: usize,
    ) -> Result<(), ModelError> {
        match self.model.spec.activation {
            Activation::Silu => self.cuda.silu_mul(gate, up, length)?,
            Activation::ClampedSwiglu { alpha, limit } => {
                self.cuda.clamped_swiglu(gate, up, (alpha, limit), length)?;
            }
        }
        Ok(())
    }

    /// `output (+)= linear(input)`.
    fn project(
        &self,
        linear: &CudaLinear,
        input: &CudaBuffer<f32>,
        output: &mut CudaBuffer<f32>,
        accumulate: bool,
    ) -> Result<(), ModelError> {
        let bias = linear.bias.as_ref();
        let product = CudaProduct { weights: &linear.weight, bias, input, output, accumulate };
        Ok(self.cuda.multiply(product, self.rows, self.precision)?)
    }
}
