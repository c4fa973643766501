//! The CPU device: a thread pool and the instruction set that was found when it was made.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod bf16_product;
mod buffer;
mod covariance;
mod decode;
mod elementwise;
#[cfg(target_arch = "x86_64")]
#[path = "fused_avx512.rs"]
mod fused;
mod instruction_set;
mod lanes;
mod matmul;
mod packed;
mod quantized;
mod reader;
mod refit;
mod roof;
mod scatter;
mod softmax;
mod statistics;
mod tile;

use std::sync::Arc;

pub use activations::{Activations, Precision};
pub use attention::{AttentionShape, SequenceSpan};
pub use bf16_product::{Dense, Sum};
pub use covariance::Covariance;
pub(crate) use decode::decode_blocks;
pub use instruction_set::InstructionSet;
pub use matmul::Product;
pub(crate) use packed::PackedMatrix;
pub use roof::Roof;
pub use statistics::RowStatistics;

use crate::arena::Arena;
use crate::pool::Pool;
use crate::{KernelError, Matrix};

/// A handle to the pool and its kernels. Clones share the threads.
#[derive(Clone)]
pub struct Cpu {
    device: Arc<Device>,
}

struct Device {
    pool: Pool,
    arena: Arena,
    instruction_set: InstructionSet,
}

impl Cpu {
    /// A pool of `threads` threads (0: one per core that this process may use), with the best instruction set here.
    ///
    /// # Errors
    /// When a worker thread cannot be started.
    pub fn new(threads: usize) -> Result<Self, KernelError> {
        Self::with_instruction_set(threads, InstructionSet::detect())
    }

    /// As [`Cpu::new`], held to `wanted` or, where the processor lacks it, to the best that it has below.
    ///
    /// # Errors
    /// When a worker thread cannot be started.
    pub fn with_instruction_set(threads: usize, wanted: InstructionSet) -> Result<Self, KernelError> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let instruction_set = wanted.min(InstructionSet::detect());
        tracing::debug!(threads, %instruction_set, "kernels ready");
        let device = Device { pool: Pool::new(threads)?, arena: Arena::default(), instruction_set };
        Ok(Self { device: Arc::new(device) })
    }

    /// Threads that share the work, the caller included.
    pub fn threads(&self) -> usize {
        self.device.pool.threads()
    }

    /// What the kernels run with.
    pub fn instruction_set(&self) -> InstructionSet {
        self.device.instruction_set
    }

    /// Where rearranged weights are kept.
    pub(crate) fn arena(&self) -> &Arena {
        &self.device.arena
    }

    /// Makes the rearranged copy of `matrix` that fast products read, where its format has one (all but the
    /// plain floats). The first fast product does this by itself; a loader may do it beforehand.
    ///
    /// The copy takes as much memory as the original, whose pages are then read only by the exact path.
    pub fn pack(&self, matrix: &Matrix) {
        matrix.packed(|matrix| packed::pack(self, matrix));
    }

    /// Calls `task(0)` to `task(tasks − 1)`, each once, on all threads; returns when every call has. A call from
    /// inside a task runs on that thread alone. A panic in a task continues here, after the others have stopped.
    pub fn parallel(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.device.pool.run(tasks, task);
    }
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cpu({} threads, {})", self.threads(), self.instruction_set())
    }
}
