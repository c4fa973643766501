//! The device's functions, compiled and loaded when they are first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{CudaContext, CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;

use super::compiler::compile;
use super::failed;
use super::program::Program;
use crate::KernelError;

/// What was loaded so far.
pub(super) struct Library {
    context: Arc<CudaContext>,
    architecture: String,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    modules: HashMap<Program, Arc<CudaModule>>,
    functions: HashMap<(Program, &'static str), CudaFunction>,
}

impl Library {
    pub(super) fn new(context: Arc<CudaContext>, architecture: String) -> Self {
        Self { context, architecture, loaded: Mutex::default() }
    }

    /// The function of that name.
    pub(super) fn function(&self, program: Program, name: &'static str) -> Result<CudaFunction, KernelError> {
        // Each entry is complete when it is inserted, so a panic elsewhere leaves nothing half-made.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = loaded.functions.get(&(program, name)) {
            return Ok(function.clone());
        }
        let module = match loaded.modules.get(&program) {
            Some(module) => Arc::clone(module),
            None => {
                let image = compile(program, &self.architecture)?;
                let module = self.context.load_module(Ptx::from_binary(image.0));
                let module = module.map_err(|error| failed("loading a CUDA kernel", error))?;
                loaded.modules.insert(program, Arc::clone(&module));
                module
            }
        };
        let function = module.load_function(name).map_err(|error| failed("finding a CUDA kernel", error))?;
        loaded.functions.insert((program, name), function.clone());
        Ok(function)
    }
}
