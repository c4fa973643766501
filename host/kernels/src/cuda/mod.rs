//! The CUDA device: its memory, its kernels and the operations of a forward pass.
//!
//! The kernels are the `.cu` files in `source/`; NVRTC compiles them for the device when they are first needed. Driver
//! and compiler are loaded at run time, so that the same program runs where there are none.
//!
//! A [`Cuda`] has one stream, in which everything that is asked of it runs in order; nothing waits for the device but
//! what reads from it. Buffers belong to the handle that made them and its clones.

mod attention;
mod buffer;
mod compiler;
mod elementwise;
mod experts;
mod graph;
mod launch;
mod library;
mod matrix;
mod placement;
mod product;
mod program;
mod store;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{CudaContext, CudaStream, DriverError};

pub use self::attention::{CudaAttention, CudaSplits};
pub use self::buffer::CudaBuffer;
pub use self::elementwise::CudaActivation;
pub use self::experts::{CudaExperts, CudaRouting};
pub use self::graph::CudaGraph;
pub use self::matrix::CudaMatrix;
pub use self::placement::{CudaPlacement, Step as CudaStep};
pub use self::product::{CudaInput, CudaProduct, ProductRows};
pub use self::store::CudaKeyValueStore;

use self::library::Library;
use crate::KernelError;

/// A handle to a device and one stream of it. Clones share both.
#[derive(Clone)]
pub struct Cuda {
    device: Arc<Device>,
    stream: Arc<CudaStream>,
    /// Buffers of this handle that are no more.
    freed: Arc<AtomicU64>,
}

struct Device {
    context: Arc<CudaContext>,
    library: Library,
    name: String,
    ordinal: usize,
}

impl Cuda {
    /// Opens device number `ordinal`.
    ///
    /// # Errors
    /// [`KernelError::NoDevice`] where there is no driver, no such device, or one that is too old (before compute
    /// capability 8.0); a failure of the driver.
    pub fn open(ordinal: usize) -> Result<Self, KernelError> {
        let none = |reason: String| KernelError::NoDevice { reason };
        // SAFETY: looks for the library and loads it; NVIDIA's driver has no other conditions.
        if !unsafe { cudarc::driver::sys::is_culib_present() } {
            return Err(none("there is no CUDA driver (libcuda) on this machine".to_owned()));
        }
        let count = CudaContext::device_count()
            .map_err(|error| none(format!("the CUDA driver found no device: {error}")))?;
        if usize::try_from(count).is_ok_and(|count| ordinal >= count) {
            return Err(none(format!("there is no CUDA device {ordinal}, the number of devices is {count}")));
        }
        let context = CudaContext::new(ordinal).map_err(|error| failed("opening the CUDA device", error))?;
        let (major, minor) = context
            .compute_capability()
            .map_err(|error| failed("asking for the compute capability", error))?;
        if major < 8 {
            let reason = format!(
                "CUDA device {ordinal} has compute capability {major}.{minor}, the kernels need 8.0 or later"
            );
            return Err(none(reason));
        }
        // SAFETY: all work on a buffer is in the one stream of the handle that owns it, so nothing has to wait for events.
        unsafe { context.disable_event_tracking() };
        let name = context.name().map_err(|error| failed("asking for the device's name", error))?;
        let library = Library::new(Arc::clone(&context), format!("{major}{minor}"));
        let stream = context.new_stream().map_err(|error| failed("making a stream", error))?;
        tracing::debug!(ordinal, name, major, minor, "CUDA device opened");
        let device = Arc::new(Device { context, library, name, ordinal });
        Ok(Self { device, stream, freed: Arc::default() })
    }

    /// A handle to the same device with a stream of its own.
    ///
    /// # Errors
    /// A failure of the driver.
    pub fn fork(&self) -> Result<Self, KernelError> {
        let stream = self.device.context.new_stream().map_err(|error| failed("making a stream", error))?;
        Ok(Self { device: Arc::clone(&self.device), stream, freed: Arc::default() })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.device.name
    }

    /// The device's number.
    pub fn ordinal(&self) -> usize {
        self.device.ordinal
    }

    /// Bytes of the device's memory that are free, and all of them.
    ///
    /// # Errors
    /// A failure of the driver.
    pub fn memory(&self) -> Result<(usize, usize), KernelError> {
        self.device.context.mem_get_info().map_err(|error| failed("asking for the device's memory", error))
    }

    /// Multiprocessors of the device.
    ///
    /// # Errors
    /// A failure of the driver.
    pub fn multiprocessors(&self) -> Result<usize, KernelError> {
        let attribute = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT;
        let count = self.device.context.attribute(attribute);
        let count = count.map_err(|error| failed("asking for the multiprocessors", error))?;
        Ok(usize::try_from(count).unwrap_or(1))
    }

    /// How many buffers of this handle were freed so far.
    fn freed(&self) -> u64 {
        self.freed.load(Ordering::Acquire)
    }

    /// Waits until everything that was asked for is done.
    ///
    /// # Errors
    /// What a kernel did wrong since the last time.
    pub fn synchronize(&self) -> Result<(), KernelError> {
        self.stream.synchronize().map_err(|error| failed("waiting for the device", error))
    }
}

impl std::fmt::Debug for Cuda {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Cuda({}, {})", self.ordinal(), self.name())
    }
}

/// The error of a driver's call.
fn failed(action: &'static str, error: DriverError) -> KernelError {
    KernelError::Device { action, reason: error.to_string() }
}
