//! Starting a kernel.

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::program::Program;
use super::{Cuda, failed};
use crate::KernelError;

/// One argument of a kernel.
#[derive(Copy, Clone, Debug)]
pub(super) enum Argument {
    /// A place in the device's memory, or none.
    Address(u64),
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f32),
    /// `unsigned long long`.
    Long(u64),
}

impl Argument {
    /// `value` as an `int`, the kernels' type of dimensions.
    pub(super) fn int(what: &'static str, value: usize) -> Result<Self, KernelError> {
        let limit = 1 << 31;
        i32::try_from(value).map(Self::Int).map_err(|_| KernelError::OutOfRange { what, found: value, limit })
    }

    /// An address, `count` numbers further.
    pub(super) fn moved<T>(self, count: usize) -> Self {
        match self {
            Self::Address(address) => Self::Address(address + (count * size_of::<T>()) as u64),
            other => other,
        }
    }

    /// Its bytes, the first of which are the value: the driver takes as many as the kernel's parameter has.
    fn bits(self) -> u64 {
        match self {
            Self::Address(value) | Self::Long(value) => value,
            Self::Int(value) => u64::from(value.cast_unsigned()),
            Self::Float(value) => u64::from(value.to_bits()),
        }
    }
}

/// How many blocks, threads of a block, and bytes of dynamic shared memory.
#[derive(Copy, Clone, Debug)]
pub(super) struct Grid {
    pub(super) blocks: [usize; 3],
    pub(super) threads: usize,
    pub(super) shared_bytes: usize,
}

impl Grid {
    /// Blocks of so many threads.
    pub(super) fn new(blocks: [usize; 3], threads: usize) -> Self {
        Self { blocks, threads, shared_bytes: 0 }
    }

    /// One thread for each of `length` values.
    pub(super) fn of_values(length: usize) -> Self {
        const THREADS: usize = 256;
        Self::new([length.div_ceil(THREADS), 1, 1], THREADS)
    }

    /// What the driver takes; an error where a number is too large for it.
    fn config(self) -> Result<LaunchConfig, KernelError> {
        let within = |value: usize, limit: u32| match u32::try_from(value) {
            Ok(narrow) if narrow <= limit => Ok(narrow),
            _ => {
                let limit = limit as usize + 1;
                Err(KernelError::OutOfRange { what: "the grid of a CUDA kernel", found: value, limit })
            }
        };
        let [x, y, z] = self.blocks;
        Ok(LaunchConfig {
            grid_dim: (within(x, i32::MAX.cast_unsigned())?, within(y, 65_535)?, within(z, 65_535)?),
            block_dim: (within(self.threads, 1024)?, 1, 1),
            shared_mem_bytes: within(self.shared_bytes, 48 << 10)?,
        })
    }
}

impl Cuda {
    /// Asks for one run of a kernel. A grid without blocks is no run.
    ///
    /// # Safety
    /// The arguments must be those of the kernel, in number, order and type, and what they name must be memory of this
    /// handle for all that the kernel reads and writes.
    pub(super) unsafe fn launch(
        &self,
        program: Program,
        name: &'static str,
        grid: Grid,
        arguments: &[Argument],
    ) -> Result<(), KernelError> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let function = self.device.library.function(program, name)?;
        let bits: Vec<u64> = arguments.iter().map(|argument| argument.bits()).collect();
        let mut builder = self.stream.launch_builder(&function);
        for value in &bits {
            builder.arg(value);
        }
        // SAFETY: the caller's promise; `bits` lives until the driver has copied it.
        let launched = unsafe { builder.launch(grid.config()?) };
        launched.map(drop).map_err(|error| failed("starting a CUDA kernel", error))
    }
}
