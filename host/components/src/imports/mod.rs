//! The host's side of `espalier:kernels`: one file per interface.
//!
//! Arguments come from untrusted guests. What the WIT documents as an error is returned to the guest; what ends the
//! call (a limit, a failed input) is an `Err` of the outer result.
#![deny(clippy::indexing_slicing)]

mod ablation;
mod baseline;
mod calibration;
mod inference;
mod model;
mod report;
mod samples;
mod served;
mod sessions;
mod telemetry;
mod tensor;
mod text;
mod weights;

use wasmtime::component::Linker;

use crate::bindings::{self, interfaces};
use crate::context::Context;
use crate::{MetricInputs, World};

pub(crate) use model::shape as model_shape;

/// Gives the linker what the world imports, and nothing else.
pub(crate) fn link(world: World, linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    type Data = wasmtime::component::HasSelf<Context>;
    match world {
        World::ScoringPolicy => {
            bindings::scoring::ScoringPolicy::add_to_linker::<_, Data>(linker, |context| context)
        }
        World::RequestRouter => {
            bindings::routing::RequestRouter::add_to_linker::<_, Data>(linker, |context| context)
        }
        World::EvaluationMetric => {
            bindings::metric::EvaluationMetric::add_to_linker::<_, Data>(linker, |context| context)
        }
        World::HttpEndpoint => {
            wasmtime_wasi_io::add_to_linker_async(linker)?;
            wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
            interfaces::telemetry::add_to_linker::<_, Data>(linker, |context| context)?;
            bindings::endpoint::espalier::endpoint::inference::add_to_linker::<_, Data>(linker, |context| {
                context
            })
        }
    }
}

impl interfaces::types::Host for Context {}
impl crate::bindings::policy_types::Host for Context {}

impl Context {
    /// What the metric of this call measures.
    fn measured(&self) -> wasmtime::Result<&MetricInputs> {
        self.metric
            .as_ref()
            .ok_or_else(|| wasmtime::Error::msg("there is no model and no data to measure in this call"))
    }
}
