//! A mixture of experts as a layer's feed-forward part.
//!
//! Tokens are grouped by expert, so that an expert's weights are read once for all of its tokens, and the products of all
//! experts run in one dispatch. A token's result is summed over its experts in ascending order, whatever else is in the
//! batch.

use espalier_kernels::{Activations, Precision, Product};

use super::routing::{ExpertRows, Routing};
use super::{Pass, Scratch};
use crate::error::ModelError;
use crate::probe::{Probe, ProbeSink};
use crate::weights::{GatedNetwork, Layer, Linear};

impl Pass<'_> {
    /// `hidden += Σ weight · expert(x)` over the experts that the router picks for each `x = rms_norm(hidden)`.
    pub(super) fn experts(
        &self,
        index: usize,
        layer: &Layer,
        (router, experts, active): (&Linear, &[GatedNetwork], usize),
        hidden: &mut [f32],
        scratch: &mut Scratch,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let (cpu, width) = (&self.model.cpu, self.model.spec.hidden_size);
        cpu.rms_norm(hidden, &layer.ffn_norm, self.model.spec.rms_norm_eps, &mut scratch.normed);
        let routing = self.route(index, (router, active), &scratch.normed, probes)?;
        let rows = routing.tokens.len();
        let gate = sized(&mut scratch.gate, rows * layer.spec.ffn_size);
        let up = sized(&mut scratch.up, rows * layer.spec.ffn_size);
        let terms = sized(&mut scratch.terms, rows * width);

        // One token is the input of all its experts; several are gathered first.
        let shared = self.tokens == 1;
        let input = if shared { &scratch.normed } else { gather(&scratch.normed, width, &routing, terms) };
        let input = cpu.activations(input, width, self.precision)?;
        let source = |rows: &ExpertRows| if shared { 0..1 } else { rows.rows.clone() };
        let mut products = Vec::with_capacity(2 * routing.groups.len());
        self.products(&routing, experts, |expert| &expert.gate, &input, &source, gate, &mut products);
        self.products(&routing, experts, |expert| &expert.up, &input, &source, up, &mut products);
        cpu.multiply(&mut products)?;
        drop(products);
        self.add_biases(&routing, experts, |expert| &expert.gate, gate);
        self.add_biases(&routing, experts, |expert| &expert.up, up);
        self.activate(gate, up);
        if probes.wants(index, Probe::ExpertActivationSum) {
            let sums = activation_sums(&routing, experts.len(), gate, layer.spec.ffn_size);
            probes.record(index, Probe::ExpertActivationSum, experts.len(), layer.spec.ffn_size, &sums);
        }
        if let Some(ablation) = self.layer_ablation(index) {
            for group in &routing.groups {
                let rows = group.rows.start * layer.spec.ffn_size..group.rows.end * layer.spec.ffn_size;
                let own = gate.get_mut(rows).unwrap_or_default();
                ablation.silence_expert_channels(own, group.expert, layer.spec.ffn_size);
            }
        }

        let input = cpu.activations(gate, layer.spec.ffn_size, self.precision)?;
        let mut products = Vec::with_capacity(routing.groups.len());
        let source = |group: &ExpertRows| group.rows.clone();
        self.products(&routing, experts, |expert| &expert.down, &input, &source, terms, &mut products);
        cpu.multiply(&mut products)?;
        drop(products);
        self.add_biases(&routing, experts, |expert| &expert.down, terms);
        cpu.add_mixture(hidden, width, terms, &routing.mixture);
        self.show_routing(index, &routing, experts.len(), terms, probes);
        Ok(())
    }

    /// Shows the routing and the norms of the experts' outputs, `terms`, to whoever wants them.
    fn show_routing(
        &self,
        layer: usize,
        routing: &Routing,
        experts: usize,
        terms: &[f32],
        probes: &mut dyn ProbeSink,
    ) {
        if probes.wants(layer, Probe::RouterWeights) {
            let weights = routing.by_expert(experts, |_, weight| weight);
            self.show(probes, layer, Probe::RouterWeights, experts, &weights);
        }
        if probes.wants(layer, Probe::ExpertOutputNorm) {
            let width = self.model.spec.hidden_size;
            let norms = routing.by_expert(experts, |row, _| {
                let output = terms.get(row * width..(row + 1) * width).unwrap_or_default();
                output.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32
            });
            self.show(probes, layer, Probe::ExpertOutputNorm, experts, &norms);
        }
    }

    /// The router's choice for every row of `normed`. Always exact: a rounding error here is another expert.
    fn route(
        &self,
        layer: usize,
        (router, active): (&Linear, usize),
        normed: &[f32],
        probes: &mut dyn ProbeSink,
    ) -> Result<Routing, ModelError> {
        let count = router.weight.rows();
        let mut logits = vec![0.0; self.tokens * count];
        let input = self.model.cpu.activations(normed, router.weight.columns(), Precision::Exact)?;
        self.project(&mut [(router, &mut logits)], &input)?;
        self.show(probes, layer, Probe::RouterLogits, count, &logits);
        if let Some(ablation) = self.layer_ablation(layer) {
            ablation.exclude_experts(&mut logits, count);
        }
        Ok(Routing::new(&logits, count, active))
    }

    /// One product for each expert that has tokens; `source` tells its rows of the input.
    #[expect(clippy::too_many_arguments, reason = "one line of the layer, three times")]
    fn products<'a>(
        &self,
        routing: &Routing,
        experts: &'a [GatedNetwork],
        part: impl Fn(&'a GatedNetwork) -> &'a Linear,
        input: &'a Activations<'a>,
        source: &dyn Fn(&ExpertRows) -> std::ops::Range<usize>,
        mut output: &'a mut [f32],
        products: &mut Vec<Product<'a>>,
    ) {
        for group in &routing.groups {
            let Some(expert) = experts.get(group.expert) else { continue };
            let weights = &part(expert).weight;
            let tokens = routing.tokens.get(group.rows.clone()).unwrap_or_default();
            let alone = tokens.partition_point(|token| *token < self.decoding);
            let (own, rest) = output.split_at_mut(group.rows.len() * weights.rows());
            products.push(Product { weights, input, rows: source(group), alone, output: own });
            output = rest;
        }
    }

    fn add_biases(
        &self,
        routing: &Routing,
        experts: &[GatedNetwork],
        part: impl Fn(&GatedNetwork) -> &Linear,
        mut output: &mut [f32],
    ) {
        for group in &routing.groups {
            let Some(linear) = experts.get(group.expert).map(&part) else { continue };
            let (own, rest) = output.split_at_mut(group.rows.len() * linear.weight.rows());
            if let Some(bias) = &linear.bias {
                self.model.cpu.add_bias(own, bias);
            }
            output = rest;
        }
    }
}

/// `[experts, channels]`: the sum of each expert's rows.
fn activation_sums(routing: &Routing, experts: usize, rows: &[f32], channels: usize) -> Vec<f32> {
    let mut sums = vec![0.0; experts * channels];
    for group in &routing.groups {
        let own = sums.get_mut(group.expert * channels..(group.expert + 1) * channels).unwrap_or_default();
        let rows = rows.get(group.rows.start * channels..group.rows.end * channels).unwrap_or_default();
        for row in rows.chunks_exact(channels.max(1)) {
            own.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }
    sums
}

/// The rows of `normed` in the order of the groups, in the first part of `buffer`.
fn gather<'a>(normed: &[f32], width: usize, routing: &Routing, buffer: &'a mut [f32]) -> &'a [f32] {
    for (row, &token) in buffer.chunks_exact_mut(width).zip(&routing.tokens) {
        row.copy_from_slice(&normed[token * width..(token + 1) * width]);
    }
    buffer
}

/// The first `length` values of a buffer that grows when it is too small.
fn sized(buffer: &mut Vec<f32>, length: usize) -> &mut [f32] {
    if buffer.len() < length {
        buffer.resize(length, 0.0);
    }
    &mut buffer[..length]
}
