//! `espalier:kernels/calibration`.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::Probe;
use crate::bindings::interfaces::calibration::{Host, HostTraces as HostTracesMethods};
use crate::bindings::interfaces::types::{Error, Probe as GuestProbe};
use crate::context::{Context, HostTensor, HostTraces};

impl Host for Context {
    fn seed(&mut self) -> wasmtime::Result<u64> {
        self.host_call(|context| Ok(context.seed))
    }
}

impl HostTracesMethods for Context {
    fn tokens(&mut self, of: Resource<HostTraces>) -> wasmtime::Result<u32> {
        self.host_call(|context| {
            let traces = context.traces(&of)?;
            let tokens = traces.first().map_or(0, |trace| trace.values.rows());
            Ok(u32::try_from(tokens).unwrap_or(u32::MAX))
        })
    }

    fn values(
        &mut self,
        of: Resource<HostTraces>,
        probe: GuestProbe,
    ) -> wasmtime::Result<Result<Resource<HostTensor>, Error>> {
        self.host_call(|context| {
            let probe = Probe::from(probe);
            match context.traces(&of)?.iter().find(|trace| trace.probe == probe) {
                Some(trace) => context.keep(Arc::clone(&trace.values)).map(Ok),
                None => Ok(Err(Error::Unavailable(format!("the probe {} was not recorded", probe.name())))),
            }
        })
    }

    fn drop(&mut self, of: Resource<HostTraces>) -> wasmtime::Result<()> {
        self.host_call(|context| context.withdraw(of))
    }
}

impl From<GuestProbe> for Probe {
    fn from(probe: GuestProbe) -> Self {
        match probe {
            GuestProbe::HeadOutput => Self::HeadOutput,
            GuestProbe::FfnActivation => Self::FfnActivation,
            GuestProbe::LayerInput => Self::LayerInput,
            GuestProbe::LayerOutput => Self::LayerOutput,
            GuestProbe::AttentionEntropy => Self::AttentionEntropy,
            GuestProbe::ScoreMean => Self::ScoreMean,
            GuestProbe::ScoreVariance => Self::ScoreVariance,
            GuestProbe::SinkMass => Self::SinkMass,
            GuestProbe::RouterLogits => Self::RouterLogits,
            GuestProbe::RouterWeights => Self::RouterWeights,
            GuestProbe::ExpertOutputNorm => Self::ExpertOutputNorm,
            GuestProbe::HeadOutputGradient => Self::HeadOutputGradient,
            GuestProbe::FfnActivationGradient => Self::FfnActivationGradient,
        }
    }
}
