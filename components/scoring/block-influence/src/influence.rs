//! How far each layer turns the hidden state.

use espalier_scoring_policy::{Probe, Sums, Traces, values};

/// What the influence is computed from.
pub const PROBES: [Probe; 2] = [Probe::LayerInput, Probe::LayerOutput];

/// Sums of cosines over the tokens so far.
#[derive(Default)]
pub struct BlockInfluence(Sums);

impl BlockInfluence {
    /// Takes in one sequence.
    pub fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let cosines = traces.values(Probe::LayerInput)?.row_cosine(&traces.values(Probe::LayerOutput)?)?;
        let sum = values(&cosines)?.into_iter().sum();
        self.0.add(layer, &[sum], f64::from(traces.tokens()));
        Ok(())
    }

    /// One minus the mean cosine.
    pub fn scores(&self, layer: u32) -> Result<Vec<f64>, String> {
        Ok(self.0.of(layer)?.mean().into_iter().map(|cosine| 1.0 - cosine).collect())
    }
}
