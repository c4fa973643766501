//! Where a model runs.

use crate::{Cpu, Cuda};

/// The processor's kernels, and a CUDA device if the model is to run there. The processor always takes part: it
/// rearranges weights, samples and scores.
#[derive(Clone, Debug)]
pub struct Device {
    cpu: Cpu,
    cuda: Option<Cuda>,
}

impl Device {
    /// A CUDA device, with the processor beside it.
    pub fn with_cuda(cpu: Cpu, cuda: Cuda) -> Self {
        Self { cpu, cuda: Some(cuda) }
    }

    /// The processor.
    pub fn cpu(&self) -> &Cpu {
        &self.cpu
    }

    /// The CUDA device, if models run there.
    pub fn cuda(&self) -> Option<&Cuda> {
        self.cuda.as_ref()
    }
}

impl From<Cpu> for Device {
    fn from(cpu: Cpu) -> Self {
        Self { cpu, cuda: None }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.cuda {
            Some(cuda) => write!(formatter, "cuda:{} ({})", cuda.ordinal(), cuda.name()),
            None => write!(formatter, "cpu ({} threads, {})", self.cpu.threads(), self.cpu.instruction_set()),
        }
    }
}
