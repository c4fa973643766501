//! The saliency of experts, layer by layer.

use espalier_scoring_policy::{Probe, Sums, Tensor, Traces, values};

/// What the saliency is computed from.
pub const PROBES: [Probe; 2] = [Probe::RouterWeights, Probe::ExpertOutputNorm];

/// Sums over the tokens so far, by expert.
#[derive(Default)]
pub struct ExpertSaliency {
    /// Of the gate by the norm of the output.
    products: Sums,
    /// Of the tokens that were routed to it.
    routed: Sums,
}

impl ExpertSaliency {
    /// Takes in one sequence.
    pub fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let gates = traces.values(Probe::RouterWeights)?;
        let products = gates.multiply(&traces.values(Probe::ExpertOutputNorm)?)?.sum();
        // A gate is a softmax over few logits: what is not exactly zero is far from the smallest number.
        let idle = gates.count_below(&Tensor::from_values(&[1], &[f32::MIN_POSITIVE])?)?;
        let tokens = f64::from(traces.tokens());
        let routed: Vec<f64> = values(&idle)?.into_iter().map(|idle| tokens - idle).collect();
        self.products.add(layer, &values(&products)?, tokens);
        self.routed.add(layer, &routed, tokens);
        Ok(())
    }

    /// The mean over the tokens that were routed to each expert; 0 for those that got none.
    pub fn scores(&self, layer: u32) -> Result<Vec<f64>, String> {
        let (products, routed) = (self.products.of(layer)?.values, self.routed.of(layer)?.values);
        let mean = |(product, routed): (&f64, &f64)| if *routed == 0.0 { 0.0 } else { product / routed };
        Ok(products.iter().zip(&routed).map(mean).collect())
    }

    /// The mean over all tokens.
    #[allow(dead_code, reason = "some of the policies that share this file rank by it")]
    pub fn contributions(&self, layer: u32) -> Result<Vec<f64>, String> {
        Ok(self.products.of(layer)?.mean())
    }

    /// How many experts of the layer got no token.
    pub fn unseen(&self, layer: u32) -> Result<usize, String> {
        Ok(self.routed.of(layer)?.values.iter().filter(|routed| **routed == 0.0).count())
    }
}
