//! `espalier:kernels/weights`.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::bindings::interfaces::types::Error;
use crate::bindings::interfaces::weights::{Host, Projection as GuestProjection};
use crate::context::{Context, HostTensor};
use crate::instance::InputFailed;
use crate::{LayerFacts, ModelFacts, Projection};

impl Host for Context {
    fn values(
        &mut self,
        layer: u32,
        projection: GuestProjection,
        expert: Option<u32>,
    ) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        self.host_call(|context| {
            let (Some(weights), Some(facts)) = (context.weights.clone(), &context.facts) else {
                return Ok(Err(Error::Unavailable("there are no weights in this call".to_owned())));
            };
            let projection = Projection::from(projection);
            let wanted = match check(facts, layer, projection, expert) {
                Ok(wanted) => wanted,
                Err(error) => return Ok(Err(error)),
            };
            // Asked before the values are widened.
            context.reserve(wanted.values)?;
            let tensor = weights.values(wanted.layer, projection, wanted.expert).map_err(InputFailed)?;
            context.keep(Arc::new(tensor)).map(Ok)
        })
    }
}

/// A matrix that the model has.
struct Wanted {
    layer: usize,
    expert: Option<usize>,
    values: usize,
}

fn check(
    facts: &ModelFacts,
    layer: u32,
    projection: Projection,
    expert: Option<u32>,
) -> Result<Wanted, Error> {
    let index = usize::try_from(layer).unwrap_or(usize::MAX);
    let layers = facts.layers.len();
    let of = facts
        .layers
        .get(index)
        .ok_or_else(|| Error::InvalidArgument(format!("layer {layer} of a model with {layers} layers")))?;
    let is_of_experts =
        of.experts > 0 && matches!(projection, Projection::Gate | Projection::Up | Projection::Down);
    match (expert, is_of_experts) {
        (None, true) => {
            let found = format!("no expert for a matrix of layer {layer}, which has {}", of.experts);
            return Err(Error::InvalidArgument(found));
        }
        (Some(expert), false) => {
            let found = format!("expert {expert} for a matrix of layer {layer} that belongs to none");
            return Err(Error::InvalidArgument(found));
        }
        (Some(expert), true) if expert >= of.experts => {
            let found = format!("expert {expert} of layer {layer}, which has {}", of.experts);
            return Err(Error::InvalidArgument(found));
        }
        _ => {}
    }
    if projection == Projection::Router && of.experts == 0 {
        return Err(Error::Unavailable(format!("layer {layer} has no router")));
    }
    let outputs = [facts.hidden_size, width(facts, of, projection)];
    let values = outputs.into_iter().map(|side| usize::try_from(side).unwrap_or(usize::MAX));
    Ok(Wanted {
        layer: index,
        expert: expert.and_then(|expert| usize::try_from(expert).ok()),
        values: values.fold(1, usize::saturating_mul),
    })
}

/// The side of a matrix that is not the residual stream's.
const fn width(facts: &ModelFacts, layer: &LayerFacts, projection: Projection) -> u32 {
    match projection {
        Projection::Query | Projection::AttentionOutput => layer.heads.saturating_mul(facts.head_dim),
        Projection::Key | Projection::Value => layer.kv_heads.saturating_mul(facts.head_dim),
        Projection::Gate | Projection::Up | Projection::Down => layer.ffn_size,
        Projection::Router => layer.experts,
    }
}

impl From<GuestProjection> for Projection {
    fn from(projection: GuestProjection) -> Self {
        match projection {
            GuestProjection::Query => Self::Query,
            GuestProjection::Key => Self::Key,
            GuestProjection::Value => Self::Value,
            GuestProjection::AttentionOutput => Self::AttentionOutput,
            GuestProjection::Gate => Self::Gate,
            GuestProjection::Up => Self::Up,
            GuestProjection::Down => Self::Down,
            GuestProjection::Router => Self::Router,
        }
    }
}
