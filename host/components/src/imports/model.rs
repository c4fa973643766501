//! `espalier:kernels/model`.

use crate::bindings::interfaces::model::{Host, LayerShape, ModelShape};
use crate::bindings::interfaces::types::{Error, Unit as GuestUnit};
use crate::context::Context;
use crate::{LayerFacts, ModelFacts, Unit};

impl Host for Context {
    fn shape(&mut self) -> wasmtime::Result<ModelShape> {
        self.host_call(|context| match &context.facts {
            Some(facts) => Ok(shape(facts)),
            None => Err(wasmtime::Error::msg("there is no model to describe in this call")),
        })
    }

    fn unit_count(&mut self, layer: u32, unit: GuestUnit) -> wasmtime::Result<Result<u32, Error>> {
        self.host_call(|context| Ok(context.of_units(layer, unit, LayerFacts::units)))
    }

    fn parameters_per_unit(&mut self, layer: u32, unit: GuestUnit) -> wasmtime::Result<Result<u64, Error>> {
        let parameters = |layer: &LayerFacts, unit: Unit| layer.parameters_per_unit.get(&unit).copied();
        self.host_call(|context| Ok(context.of_units(layer, unit, parameters)))
    }
}

impl Context {
    /// What `ask` says of the units of one kind in one layer, or why there is no answer.
    fn of_units<T>(
        &self,
        layer: u32,
        unit: GuestUnit,
        ask: impl FnOnce(&LayerFacts, Unit) -> Option<T>,
    ) -> Result<T, Error> {
        let Some(facts) = &self.facts else {
            return Err(Error::Unavailable("there is no model in this call".to_owned()));
        };
        let unit = Unit::from(unit);
        let found = usize::try_from(layer).ok().and_then(|layer| facts.layers.get(layer));
        let layers = facts.layers.len();
        let found = found.ok_or_else(|| {
            Error::InvalidArgument(format!("layer {layer} of a model with {layers} layers"))
        })?;
        ask(found, unit).ok_or_else(|| Error::Unavailable(format!("layer {layer} has no unit \"{unit}\"")))
    }
}

/// The shape in the guest's words.
pub(crate) fn shape(facts: &ModelFacts) -> ModelShape {
    let layers = facts.layers.iter();
    ModelShape {
        architecture: facts.architecture.clone(),
        hidden_size: facts.hidden_size,
        vocab_size: facts.vocab_size,
        head_dim: facts.head_dim,
        layers: layers
            .map(|layer| LayerShape {
                heads: layer.heads,
                kv_heads: layer.kv_heads,
                ffn_size: layer.ffn_size,
                experts: layer.experts,
                active_experts: layer.active_experts,
                sliding_window: layer.sliding_window,
                attention_sinks: layer.attention_sinks,
            })
            .collect(),
    }
}

impl From<GuestUnit> for Unit {
    fn from(unit: GuestUnit) -> Self {
        match unit {
            GuestUnit::Layer => Self::Layer,
            GuestUnit::Head => Self::Head,
            GuestUnit::KvGroup => Self::KvGroup,
            GuestUnit::FfnChannel => Self::FfnChannel,
            GuestUnit::Expert => Self::Expert,
            GuestUnit::ExpertChannel => Self::ExpertChannel,
        }
    }
}

impl From<Unit> for GuestUnit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Layer => Self::Layer,
            Unit::Head => Self::Head,
            Unit::KvGroup => Self::KvGroup,
            Unit::FfnChannel => Self::FfnChannel,
            Unit::Expert => Self::Expert,
            Unit::ExpertChannel => Self::ExpertChannel,
        }
    }
}
