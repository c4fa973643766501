//! What is taken out of a model for one pass: single units, to see what it loses without them.

use std::collections::BTreeMap;

use crate::error::ModelError;
use crate::spec::{LayerSpec, ModelSpec};

/// Units that a pass does without, checked against the model: a layer passes its input on, a head or a channel gives
/// zeros, and tokens are routed to the best of the experts that are left.
#[derive(Clone, Debug)]
pub struct Ablation {
    layers: Vec<LayerAblation>,
}

/// What is taken out of one layer.
#[derive(Clone, Debug, Default)]
pub(crate) struct LayerAblation {
    pub(crate) whole: bool,
    heads: Vec<usize>,
    channels: Vec<usize>,
    experts: Vec<usize>,
    /// By expert that loses some.
    expert_channels: BTreeMap<usize, Vec<usize>>,
}

impl Ablation {
    /// Nothing is taken out yet.
    #[must_use]
    pub fn new(spec: &ModelSpec) -> Self {
        Self { layers: vec![LayerAblation::default(); spec.layers.len()] }
    }

    /// Takes out a whole layer.
    ///
    /// # Errors
    /// When there is no such layer.
    pub fn remove_layer(&mut self, spec: &ModelSpec, layer: usize) -> Result<(), ModelError> {
        self.of(spec, layer)?.1.whole = true;
        Ok(())
    }

    /// Takes out a query head.
    ///
    /// # Errors
    /// When there is no such layer or head.
    pub fn remove_head(&mut self, spec: &ModelSpec, layer: usize, head: usize) -> Result<(), ModelError> {
        let (of, ablation) = self.of(spec, layer)?;
        insert(&mut ablation.heads, "head", head, of.heads)
    }

    /// Takes out a channel of a dense feed-forward block.
    ///
    /// # Errors
    /// When there is no such layer or channel.
    pub fn remove_channel(
        &mut self,
        spec: &ModelSpec,
        layer: usize,
        channel: usize,
    ) -> Result<(), ModelError> {
        let (of, ablation) = self.of(spec, layer)?;
        let channels = if of.experts.is_some() { 0 } else { of.ffn_size };
        insert(&mut ablation.channels, "channel of a dense block", channel, channels)
    }

    /// Takes out an expert.
    ///
    /// # Errors
    /// When there is no such layer or expert, or when fewer experts would be left than a token passes through.
    pub fn remove_expert(&mut self, spec: &ModelSpec, layer: usize, expert: usize) -> Result<(), ModelError> {
        let (of, ablation) = self.of(spec, layer)?;
        let (count, active) = of.experts.map_or((0, 0), |experts| (experts.count, experts.active));
        insert(&mut ablation.experts, "expert", expert, count)?;
        let left = count - ablation.experts.len();
        if left < active {
            let expected = format!("at least {active}, as many as a token passes through");
            return Err(ModelError::argument("experts that are left in a layer", left, expected));
        }
        Ok(())
    }

    /// Takes out a channel of an expert.
    ///
    /// # Errors
    /// When there is no such layer, expert or channel.
    pub fn remove_expert_channel(
        &mut self,
        spec: &ModelSpec,
        layer: usize,
        expert: usize,
        channel: usize,
    ) -> Result<(), ModelError> {
        let (of, ablation) = self.of(spec, layer)?;
        let experts = of.experts.map_or(0, |experts| experts.count);
        if expert >= experts {
            return Err(ModelError::argument("expert", expert, format!("less than {experts}")));
        }
        let channels = ablation.expert_channels.entry(expert).or_default();
        insert(channels, "channel of an expert", channel, of.ffn_size)
    }

    /// Whether nothing but whole layers is taken out.
    pub(crate) fn is_of_layers_only(&self) -> bool {
        let others = |layer: &LayerAblation| {
            layer.heads.is_empty()
                && layer.channels.is_empty()
                && layer.experts.is_empty()
                && layer.expert_channels.is_empty()
        };
        self.layers.iter().all(others)
    }

    pub(crate) fn layer(&self, layer: usize) -> Option<&LayerAblation> {
        self.layers.get(layer)
    }

    fn of<'a>(
        &mut self,
        spec: &'a ModelSpec,
        layer: usize,
    ) -> Result<(&'a LayerSpec, &mut LayerAblation), ModelError> {
        let layers = self.layers.len();
        match (spec.layers.get(layer), self.layers.get_mut(layer)) {
            (Some(of), Some(ablation)) => Ok((of, ablation)),
            _ => Err(ModelError::argument("layer", layer, format!("less than {layers}"))),
        }
    }
}

impl LayerAblation {
    /// Zeros in place of the heads' outputs, `[tokens, heads * head_dim]`.
    pub(crate) fn silence_heads(&self, outputs: &mut [f32], heads: usize, head_dim: usize) {
        silence(outputs, heads * head_dim, head_dim, &self.heads);
    }

    /// Zeros in place of the channels' activations, `[tokens, channels]`.
    pub(crate) fn silence_channels(&self, activations: &mut [f32], channels: usize) {
        silence(activations, channels, 1, &self.channels);
    }

    /// Zeros in place of an expert's activations, `[tokens, channels]`.
    pub(crate) fn silence_expert_channels(&self, activations: &mut [f32], expert: usize, channels: usize) {
        if let Some(units) = self.expert_channels.get(&expert) {
            silence(activations, channels, 1, units);
        }
    }

    /// Router logits that no other expert's are below, `[tokens, experts]`.
    pub(crate) fn exclude_experts(&self, logits: &mut [f32], experts: usize) {
        for row in logits.chunks_exact_mut(experts.max(1)) {
            for &expert in &self.experts {
                if let Some(logit) = row.get_mut(expert) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

fn insert(units: &mut Vec<usize>, what: &'static str, unit: usize, count: usize) -> Result<(), ModelError> {
    if unit >= count {
        return Err(ModelError::argument(what, unit, format!("less than {count}")));
    }
    if !units.contains(&unit) {
        units.push(unit);
    }
    Ok(())
}

fn silence(values: &mut [f32], row: usize, width: usize, units: &[usize]) {
    for row in values.chunks_exact_mut(row.max(1)) {
        for &unit in units {
            if let Some(values) = row.get_mut(unit * width..(unit + 1) * width) {
                values.fill(0.0);
            }
        }
    }
}
