//! Recorded runs of many kernels, which the device starts as one.

use cudarc::driver::CudaGraph as DriverGraph;
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};

use super::{Cuda, failed};
use crate::KernelError;

/// What was recorded, with the buffers' addresses and all other arguments as they were.
pub struct CudaGraph {
    graph: DriverGraph,
    /// What [`Cuda::freed`] was.
    freed: u64,
}

// SAFETY: the driver lets any thread use a graph, one at a time; it is owned, and launched through `&mut`.
unsafe impl Send for CudaGraph {}

impl Cuda {
    /// Records what `work` asks for instead of doing it. Whatever that needs must have been loaded and reserved before,
    /// which running it once does; it must not wait for the device.
    ///
    /// # Errors
    /// Those of `work`; a failure of the driver. Nothing is recorded any more then.
    pub fn record<E: From<KernelError>>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<CudaGraph, E> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        let begun = self.stream.begin_capture(mode);
        begun.map_err(|error| failed("recording CUDA kernels", error))?;
        let done = work();
        // Ends the recording also where the work failed.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        done?;
        let graph = graph.map_err(|error| failed("recording CUDA kernels", error))?;
        let nothing = || KernelError::Device {
            action: "recording CUDA kernels",
            reason: "nothing was asked for".to_owned(),
        };
        Ok(CudaGraph { graph: graph.ok_or_else(nothing)?, freed: self.freed() })
    }

    /// Does once more what was recorded, unless a buffer of this handle was freed since: `false` then, and nothing is done.
    ///
    /// # Errors
    /// A failure of the driver.
    pub fn replay(&self, graph: &mut CudaGraph) -> Result<bool, KernelError> {
        // What was recorded names buffers of this handle, all of which are still there, and weights, which their owner keeps
        // while it computes with them.
        if graph.freed != self.freed() {
            return Ok(false);
        }
        graph.graph.launch().map_err(|error| failed("starting recorded CUDA kernels", error))?;
        Ok(true)
    }
}
