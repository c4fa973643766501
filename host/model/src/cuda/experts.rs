//! A mixture of experts on the device: the router's choice stays there, products are made pair by pair where tokens decode
//! and expert by expert where they are many.

use espalier_kernels::{CudaBuffer, CudaExperts, CudaInput, CudaProduct, CudaRouting, Precision};

use super::Pass;
use super::weights::{CudaLayer, CudaRouter};
use super::workspace::Workspace;
use crate::error::ModelError;
use crate::probe::{Probe, ProbeSink};
use crate::spec::LayerSpec;

impl Pass<'_> {
    /// `hidden += Σ weight · expert(x)` over the experts that the router picks for each `x` in `normed`.
    pub(super) fn experts(
        &self,
        index: usize,
        (router, layer): (&CudaRouter, &CudaLayer),
        spec: &LayerSpec,
        workspace: &mut Workspace,
        probes: &mut dyn ProbeSink,
    ) -> Result<(), ModelError> {
        let (cuda, width, part) = (self.cuda, self.model.spec.hidden_size, &layer.feed_forward);
        let Workspace { hidden, normed, gate, up, router: logits, terms, experts, rounded, .. } = workspace;
        let input = self.normed(hidden, &layer.ffn_norm, normed)?;
        let product = router.linear.product(logits);
        // A rounding error here is another expert.
        cuda.multiply(&mut [product], input, self.rows, false, Precision::Exact, rounded)?;
        self.show(probes, index, Probe::RouterLogits, router.linear.weight.rows(), logits)?;
        let routing = CudaRouting {
            tokens: self.rows.all,
            decoding: self.rows.decoding,
            experts: router.linear.weight.rows(),
            active: router.active,
            precision: self.precision,
        };
        cuda.choose_experts(logits, routing, experts)?;
        let products = [part.gate.product(&mut *gate), part.up.product(&mut *up)];
        self.by_experts(products, input, experts, router.active, rounded)?;
        let decoding = self.rows.prompts().start * router.active;
        let values = (decoding * spec.ffn_size, experts.pairs() * spec.ffn_size);
        let input = self.gated(gate, up, values, false)?;
        self.by_experts([part.down.product(&mut *terms)], input, experts, 1, rounded)?;
        cuda.add_mixture(hidden, terms, experts, width)?;
        self.show_routing(index, experts, (routing.experts, router.active), terms, probes)
    }

    /// Each pair by its expert's matrices; `share` pairs have one row of the input.
    fn by_experts<const COUNT: usize>(
        &self,
        mut products: [CudaProduct<'_>; COUNT],
        input: CudaInput<'_>,
        experts: &CudaExperts,
        share: usize,
        room: &mut CudaBuffer<u32>,
    ) -> Result<(), ModelError> {
        for alike in products.chunk_by_mut(|a, b| a.weights.format() == b.weights.format()) {
            self.cuda.multiply_by_experts(alike, input, experts, share, self.precision, room)?;
        }
        Ok(())
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
