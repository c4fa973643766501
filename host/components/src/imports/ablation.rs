//! `espalier:kernels/ablation`.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::bindings::interfaces::ablation::{Ablated, Host};
use crate::bindings::interfaces::types::Error;
use crate::context::Context;
use crate::instance::InputFailed;
use crate::{AblatedUnit, Ablation, ModelFacts, Unit};

impl Host for Context {
    fn loss(&mut self, without: Vec<Ablated>) -> wasmtime::Result<Result<f64, Error>> {
        self.host_call(|context| {
            let (Some(ablation), Some(facts)) = (&context.ablation, &context.facts) else {
                let why = "the policy's description does not ask for ablation, or this call has none";
                return Ok(Err(Error::Unavailable(why.to_owned())));
            };
            match check(facts, ablation.as_ref(), &without) {
                Ok(units) => {
                    let started = Instant::now();
                    let loss = ablation.loss(&units).map_err(InputFailed)?;
                    context.account.grant(started.elapsed());
                    Ok(Ok(loss))
                }
                Err(error) => Ok(Err(error)),
            }
        })
    }
}

/// The units, each once, if the model has them and can do without them.
fn check(
    facts: &ModelFacts,
    ablation: &dyn Ablation,
    without: &[Ablated],
) -> Result<Vec<AblatedUnit>, Error> {
    let mut units = Vec::new();
    let mut experts = BTreeSet::new();
    for ablated in without {
        let unit = Unit::from(ablated.unit);
        if !ablation.takes_out(unit) {
            return Err(Error::Unavailable(format!("this model cannot be run without a unit \"{unit}\"")));
        }
        let (layer, index) = (ablated.layer as usize, ablated.index as usize);
        let of = facts.layers.get(layer).ok_or_else(|| {
            let layers = facts.layers.len();
            Error::InvalidArgument(format!("layer {layer} of a model with {layers} layers"))
        })?;
        let count = of
            .units(unit)
            .ok_or_else(|| Error::Unavailable(format!("layer {layer} has no unit \"{unit}\"")))?;
        if ablated.index >= count {
            let found = format!("unit \"{unit}\" {index} of layer {layer}, which has {count}");
            return Err(Error::InvalidArgument(found));
        }
        if unit == Unit::Expert && experts.insert((layer, index)) {
            let gone = experts.range((layer, 0)..=(layer, usize::MAX)).count();
            let left = count.saturating_sub(u32::try_from(gone).unwrap_or(u32::MAX));
            if left < of.active_experts {
                let expected = of.active_experts;
                let found = format!("{left} experts left in layer {layer}, expected at least {expected}");
                return Err(Error::InvalidArgument(found));
            }
        }
        let unit = AblatedUnit { layer, unit, index };
        if !units.contains(&unit) {
            units.push(unit);
        }
    }
    Ok(units)
}
