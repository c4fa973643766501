//! `espalier:kernels/samples`.

use crate::bindings::interfaces::inference::Timing;
use crate::bindings::interfaces::samples::{Host, Sample as GuestSample};
use crate::bindings::interfaces::types::Error;
use crate::context::Context;
use crate::instance::InputFailed;
use crate::{MetricInputs, Sample};

impl Host for Context {
    fn count(&mut self) -> wasmtime::Result<u32> {
        self.host_call(|context| Ok(u32::try_from(context.measured()?.samples.len()).unwrap_or(u32::MAX)))
    }

    fn get(&mut self, index: u32) -> wasmtime::Result<Result<GuestSample, Error>> {
        self.host_call(|context| {
            let found = sample(context.measured()?, index);
            Ok(found.map(|(_, Sample { prompt, references, .. })| GuestSample {
                prompt: prompt.clone(),
                references: references.clone(),
            }))
        })
    }

    fn answer(&mut self, index: u32) -> wasmtime::Result<Result<String, Error>> {
        self.host_call(|context| {
            let measured = context.measured()?;
            let (index, sample) = match sample(measured, index) {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            };
            match &sample.candidate {
                Some(candidate) => Ok(Ok(candidate.clone())),
                None => Ok(Ok(measured.generator.answer(index).map_err(InputFailed)?)),
            }
        })
    }

    fn answer_timing(&mut self, index: u32) -> wasmtime::Result<Result<Option<Timing>, Error>> {
        self.host_call(|context| {
            let measured = context.measured()?;
            match sample(measured, index) {
                Err(error) => Ok(Err(error)),
                Ok((_, sample)) if sample.candidate.is_some() => Ok(Ok(None)),
                Ok((index, _)) => {
                    let found = measured.generator.answer_timing(index).map_err(InputFailed)?;
                    Ok(Ok(found.map(Timing::from)))
                }
            }
        })
    }
}

fn sample(measured: &MetricInputs, index: u32) -> Result<(usize, &Sample), Error> {
    let count = measured.samples.len();
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    let found = measured.samples.get(place);
    found.map(|sample| (place, sample)).ok_or_else(|| {
        Error::InvalidArgument(format!("the sample at {index} of {count}, which are counted from 0"))
    })
}
