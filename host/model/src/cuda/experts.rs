//! A mixture of experts on the device: the router's choice stays there, products are made pair by pair where tokens decode
//! and expert by expert where they are many.

use espalier_kernels::{CudaBuffer, CudaExperts, CudaProduct, CudaRouting, Precision};

use super::Pass;
use super::weights::{CudaFeedForward, CudaLinear, CudaRouter};
use super::workspace::Workspace;
use crate::error::ModelError;
use crate::probe::{Probe, ProbeSink};
use crate::spec::LayerSpec;

impl Pass<'_> {
    /// `hidden += Σ weight · expert(x)` over the experts that the router picks for each `x` in `normed`.
    pub(super) fn experts(
        &self,
        index: usize,
        (router, part): (&CudaRouter, &CudaFeedForward),
        spec: &LayerSpec,
        workspace: &mut Workspace,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let (cuda, width) = (self.cuda, self.model.spec.hidden_size);
        let Workspace { hidden, normed, gate, up, router: logits, terms, experts, .. } = workspace;
        let CudaLinear { weight, bias } = &router.linear;
        let product = CudaProduct {
            weights: weight,
            bias: bias.as_ref(),
            input: normed,
            output: logits,
            accumulate: false,
        };
        // A rounding error here is another expert.
        cuda.multiply(product, self.rows, Precision::Exact)?;
        let routing = CudaRouting {
            tokens: self.rows.all,
            decoding: self.rows.decoding,
            experts: weight.rows(),
            active: router.active,
            precision: self.precision,
        };
        cuda.choose_experts(logits, routing, experts)?;
        self.by_experts(&part.gate, normed, gate, experts, router.active)?;
        self.by_experts(&part.up, normed, up, experts, router.active)?;
        self.activate(gate, up, experts.pairs() * spec.ffn_size)?;
        self.by_experts(&part.down, gate, terms, experts, 1)?;
        cuda.add_mixture(hidden, terms, experts, width)?;
        self.show_routing(index, experts, (weight.rows(), router.active), terms, probes)
    }

    /// Each pair by its expert's matrix; `share` pairs have one row of the input.
    fn by_experts(
        &self,
        linear: &CudaLinear,
        input: &CudaBuffer<f32>,
        output: &mut CudaBuffer<f32>,
        experts: &CudaExperts,
        share: usize,
    ) -> Result<(), ModelError> {
        let bias = linear.bias.as_ref();
        let product = CudaProduct { weights: &linear.weight, bias, input, output, accumulate: false };
        Ok(self.cuda.multiply_by_experts(product, experts, share, self.precision)?)
    }

    /// Shows the routing and the norms of the experts' outputs, `terms`, to whoever wants them.
    fn show_routing(
        &self,
        layer: usize,
        experts: &CudaExperts,
        (count, active): (usize, usize),
        terms: &CudaBuffer<f32>,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let wants = [Probe::RouterWeights, Probe::ExpertOutputNorm].map(|probe| probes.wants(layer, probe));
        if !wants.contains(&true) {
            return Ok(());
        }
        let (chosen, weights) = self.cuda.chosen_experts(experts)?;
        let place = |values: &[f32]| {
            let mut table = vec![0.0; self.rows.all * count];
            for (pair, (expert, value)) in chosen.iter().zip(values).enumerate() {
                let expert = usize::try_from(*expert).unwrap_or(count);
                if let Some(slot) = table.get_mut(pair / active * count + expert) {
                    *slot = *value;
                }
            }
            table
        };
        if wants[0] {
            probes.record(layer, Probe::RouterWeights, self.rows.all, count, &place(&weights));
        }
        if wants[1] {
            let width = self.model.spec.hidden_size;
            let outputs = self.cuda.download(terms, experts.pairs() * width)?;
            let norm =
                |row: &[f32]| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt() as f32;
            let norms: Vec<f32> = outputs.chunks_exact(width.max(1)).map(norm).collect();
            probes.record(layer, Probe::ExpertOutputNorm, self.rows.all, count, &place(&norms));
        }
        Ok(())
    }
}
