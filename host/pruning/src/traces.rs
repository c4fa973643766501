//! From the forward pass to whoever scores: probe values become one tensor per probe, layer and window.
//!
//! The forward pass hands over its values chunk by chunk. They are gathered until a layer has seen the whole window, so
//! that an observer's statistics do not depend on the chunk length, then handed on and freed. Observers see the layers
//! of a window in order and each layer once. Gradients come from a backward pass over the same window, before the forward
//! pass that shows the activations.

use std::sync::Arc;

use espalier_components::{LayerFacts, ModelFacts, Probe, Trace};
use espalier_evaluation::model_facts;
use espalier_kernels::{Precision, Tensor};
use espalier_model::{Model, ModelError, ProbeSink};
use espalier_training::{Network, WindowGradients};

use crate::calibration::Calibration;
use crate::error::PruningError;
use crate::progress::{Phase, Progress, step};

/// Whoever turns traces into scores.
pub trait TraceObserver {
    /// The probes it needs.
    fn probes(&self) -> Vec<Probe>;

    /// Takes the traces of one window in one layer, one per probe asked for that the layer has, in that order.
    ///
    /// # Errors
    /// Whatever stops the observer; the calibration pass ends with it.
    fn observe(&mut self, layer: usize, traces: &[Trace]) -> Result<(), PruningError>;
}

/// Runs every window through the model, in full precision, and shows the traces to `observer`. `network` is the same
/// weights with gradients; an observer of gradients needs it.
///
/// # Errors
/// The observer's, the model's, gradients without a network, or [`PruningError::Cancelled`] after a window.
pub fn calibrate(
    model: &Model,
    network: Option<&Network>,
    calibration: &Calibration,
    observer: &mut dyn TraceObserver,
    progress: &mut dyn Progress,
) -> Result<(), PruningError> {
    let facts = model_facts(model.spec());
    let total = calibration.windows.len();
    step(progress, Phase::Calibrate, 0, total)?;
    for (index, window) in calibration.windows.iter().enumerate() {
        let mut collector = TraceCollector::new(observer, &facts, window.len());
        if collector.needs_gradients() {
            let network = network.ok_or(PruningError::NoGradients)?;
            collector.gather_gradients(network.window_gradients(window)?)?;
        }
        if collector.needs_activations() {
            model.score(window, Precision::Exact, Some(&mut collector), None)?;
        }
        collector.finish()?;
        step(progress, Phase::Calibrate, index + 1, total)?;
    }
    Ok(())
}

/// The probe sink of one window.
struct TraceCollector<'a> {
    observer: &'a mut dyn TraceObserver,
    window_tokens: usize,
    /// What was gathered so far, by layer and wanted probe that the layer has; emptied when the layer is handed on.
    gathered: Vec<Vec<(Probe, Gathered)>>,
    failure: Option<PruningError>,
}

#[derive(Clone, Default)]
struct Gathered {
    tokens: usize,
    width: usize,
    values: Vec<f32>,
}

impl<'a> TraceCollector<'a> {
    fn new(observer: &'a mut dyn TraceObserver, facts: &ModelFacts, window_tokens: usize) -> Self {
        let probes = observer.probes();
        let of_layer = |layer: &LayerFacts| {
            let recorded = probes.iter().filter(|probe| probe.exists_in(layer));
            recorded.map(|probe| (*probe, Gathered::default())).collect()
        };
        let gathered = facts.layers.iter().map(of_layer).collect();
        Self { observer, window_tokens, gathered, failure: None }
    }

    fn needs_gradients(&self) -> bool {
        self.gathered.iter().flatten().any(|(probe, _)| probe.is_gradient())
    }

    fn needs_activations(&self) -> bool {
        self.gathered.iter().flatten().any(|(probe, _)| !probe.is_gradient())
    }

    fn gather_gradients(&mut self, gradients: WindowGradients) -> Result<(), PruningError> {
        for (layer, of_layer) in gradients.layers.into_iter().enumerate() {
            let head_output = (Probe::HeadOutputGradient, Some(of_layer.head_output));
            for (probe, values) in [head_output, (Probe::FfnActivationGradient, of_layer.ffn_activation)] {
                let Some(values) = values else { continue };
                if let [tokens, width] = *values.shape() {
                    self.gather(layer, probe, tokens, width, values.values())?;
                }
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(), PruningError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn gather(
        &mut self,
        layer: usize,
        probe: Probe,
        tokens: usize,
        width: usize,
        values: &[f32],
    ) -> Result<(), PruningError> {
        let Some(slots) = self.gathered.get_mut(layer) else { return Ok(()) };
        if let Some((_, gathered)) = slots.iter_mut().find(|(wanted, _)| *wanted == probe) {
            gathered.values.reserve_exact((self.window_tokens.saturating_sub(gathered.tokens)) * width);
            gathered.values.extend_from_slice(values);
            gathered.tokens += tokens;
            gathered.width = width;
        }
        if slots.iter().all(|(_, gathered)| gathered.tokens >= self.window_tokens) {
            let mut traces = Vec::with_capacity(slots.len());
            for (probe, gathered) in slots.iter_mut() {
                let Gathered { tokens, width, values } = std::mem::take(gathered);
                let values = Tensor::new(vec![tokens, width], values).map_err(ModelError::from)?;
                traces.push(Trace { probe: *probe, values: Arc::new(values) });
            }
            self.observer.observe(layer, &traces)?;
        }
        Ok(())
    }
}

impl ProbeSink for TraceCollector<'_> {
    fn wants(&self, layer: usize, probe: espalier_model::Probe) -> bool {
        let wanted = self.gathered.get(layer).map(Vec::as_slice).unwrap_or_default();
        self.failure.is_none() && wanted.iter().any(|(wanted, _)| Some(*wanted) == recorded_as(probe))
    }

    fn record(
        &mut self,
        layer: usize,
        probe: espalier_model::Probe,
        tokens: usize,
        width: usize,
        values: &[f32],
    ) {
        if let Some(probe) = recorded_as(probe)
            && self.failure.is_none()
        {
            self.failure = self.gather(layer, probe, tokens, width, values).err();
        }
    }
}

/// The components' word for a probe of the forward pass.
const fn recorded_as(probe: espalier_model::Probe) -> Option<Probe> {
    match probe {
        espalier_model::Probe::HeadOutput => Some(Probe::HeadOutput),
        espalier_model::Probe::FfnActivation => Some(Probe::FfnActivation),
        espalier_model::Probe::LayerInput => Some(Probe::LayerInput),
        espalier_model::Probe::LayerOutput => Some(Probe::LayerOutput),
        espalier_model::Probe::AttentionEntropy => Some(Probe::AttentionEntropy),
        espalier_model::Probe::ScoreMean => Some(Probe::ScoreMean),
        espalier_model::Probe::ScoreVariance => Some(Probe::ScoreVariance),
        espalier_model::Probe::SinkMass => Some(Probe::SinkMass),
        espalier_model::Probe::RouterLogits => Some(Probe::RouterLogits),
        espalier_model::Probe::RouterWeights => Some(Probe::RouterWeights),
        espalier_model::Probe::ExpertOutputNorm => Some(Probe::ExpertOutputNorm),
        _ => None,
    }
}
