//! The hidden states of a window behind a number of layers, by the exact path.
//!
//! They are what the forward pass shows to a probe of that layer, so a metric sees the same as a scoring policy.

use espalier_kernels::{Precision, Tensor};
use espalier_model::{Model, ModelError, Probe, ProbeSink};

/// `[window.len(), hidden_size]`: what leaves the first `layers` layers, or for 0 what enters the first.
pub(crate) fn hidden_states(model: &Model, window: &[u32], layers: usize) -> Result<Tensor, ModelError> {
    let (layer, probe) = match layers.checked_sub(1) {
        Some(last) => (last, Probe::LayerOutput),
        None => (0, Probe::LayerInput),
    };
    let width = model.spec().hidden_size;
    let mut gathered = Gathered { layer, probe, values: Vec::with_capacity(window.len() * width) };
    model.score(window, Precision::Exact, Some(&mut gathered), None)?;
    Ok(Tensor::new(vec![window.len(), width], gathered.values)?)
}

/// The values of one probe of one layer, chunk after chunk.
struct Gathered {
    layer: usize,
    probe: Probe,
    values: Vec<f32>,
}

impl ProbeSink for Gathered {
    fn wants(&self, layer: usize, probe: Probe) -> bool {
        layer == self.layer && probe == self.probe
    }

    fn record(&mut self, layer: usize, probe: Probe, _tokens: usize, _width: usize, values: &[f32]) {
        if self.wants(layer, probe) {
            self.values.extend_from_slice(values);
        }
    }
}
