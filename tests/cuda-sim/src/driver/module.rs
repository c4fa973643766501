//! A module: PTX decoded, its variables placed in memory.

use std::collections::HashMap;
use std::sync::Arc;

use crate::machine::{Allocation, Cause, Memory};
use crate::program::{DecodeError, Kernel, Symbols, decode};
use crate::ptx::{Initialiser, Space, SyntaxError, parse};

/// Why a module cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum LoadError {
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Memory(#[from] Cause),
    #[error("no memory for variable `{0}`")]
    NoMemory(String),
    #[error("variable `{variable}` begins with the address of `{other}`, which is not declared")]
    NoSuchVariable { variable: String, other: String },
}

/// A loaded module.
#[derive(Debug, Default)]
pub struct Module {
    /// Its kernels by name.
    pub kernels: HashMap<String, Arc<Kernel>>,
    /// Address and size of its variables.
    pub variables: HashMap<String, (u64, usize)>,
}

impl Module {
    /// Decodes all kernels and writes the variables' first values.
    pub fn load(text: &str, memory: &mut Memory, device: usize) -> Result<Self, LoadError> {
        let source = parse(text)?;
        let mut module = Self::default();
        let placed = |space| matches!(space, Space::Global | Space::Const);
        for variable in source.variables.iter().filter(|variable| placed(variable.space)) {
            let bytes = variable.bytes.unwrap_or(0);
            let allocation =
                Allocation { bytes, device, writable: variable.space == Space::Global, pinned: false };
            let address =
                memory.allocate(allocation).ok_or_else(|| LoadError::NoMemory(variable.name.clone()))?;
            module.variables.insert(variable.name.clone(), (address, bytes));
        }
        for variable in source.variables.iter().filter(|variable| placed(variable.space)) {
            let (address, bytes) = module.variables[&variable.name];
            let mut value = vec![0; bytes];
            let width = variable.element.bytes();
            for (initialiser, place) in variable.initialisers.iter().zip(value.chunks_mut(width)) {
                let bits = match initialiser {
                    Initialiser::Bits(bits) => *bits,
                    Initialiser::Address(other, offset) => {
                        let found = module.variables.get(other).ok_or_else(|| LoadError::NoSuchVariable {
                            variable: variable.name.clone(),
                            other: other.clone(),
                        })?;
                        found.0.wrapping_add(*offset as u64)
                    }
                };
                let length = place.len().min(8);
                place[..length].copy_from_slice(&bits.to_le_bytes()[..length]);
            }
            memory.write(address, &value)?;
        }
        let symbols = Symbols {
            functions: source.functions.iter().map(|each| (each.name.as_str(), each)).collect(),
            addresses: module.variables.iter().map(|(name, &(address, _))| (name.clone(), address)).collect(),
            shared: source
                .variables
                .iter()
                .filter(|variable| variable.space == Space::Shared)
                .map(|variable| (variable.name.as_str(), variable))
                .collect(),
        };
        for function in source.functions.iter().filter(|function| function.is_kernel) {
            module.kernels.insert(function.name.clone(), Arc::new(decode(function, &symbols)?));
        }
        Ok(module)
    }
}
