//! The names that a place in a kernel sees, and the parts of an opcode.

use std::collections::HashMap;

use super::{AccessSpace, Slot};
use crate::ptx::Type;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Entity {
    Register(Slot, Type),
    /// A variable at an offset of its space.
    Memory(AccessSpace, u64),
    /// Shared memory whose size the launch decides.
    DynamicShared,
    /// The table of a `brx.idx`.
    Targets(Vec<String>),
}

/// The names declared between two braces.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) id: usize,
    pub(super) names: HashMap<String, Entity>,
}

/// An opcode from which each modifier is taken once it was understood; what is left over was not.
pub(super) struct Opcode<'a> {
    parts: Vec<&'a str>,
}

impl<'a> Opcode<'a> {
    pub(super) fn new(parts: &'a [String]) -> Self {
        Self { parts: parts.iter().skip(1).map(String::as_str).collect() }
    }

    /// Takes the modifier if it is there.
    pub(super) fn take(&mut self, modifier: &str) -> bool {
        let found = self.parts.iter().position(|part| *part == modifier);
        if let Some(at) = found {
            self.parts.remove(at);
        }
        found.is_some()
    }

    /// Takes whichever of the modifiers comes first.
    pub(super) fn take_any(&mut self, modifiers: &[&str]) -> Option<&'a str> {
        let at = self.parts.iter().position(|part| modifiers.contains(part))?;
        Some(self.parts.remove(at))
    }

    /// Takes the last part, which must be a type.
    pub(super) fn take_type(&mut self) -> Option<Type> {
        let kind = Type::named(self.parts.last()?)?;
        self.parts.pop();
        Some(kind)
    }

    /// Takes the parts that begin so.
    pub(super) fn take_prefixed(&mut self, prefix: &str) {
        self.parts.retain(|part| !part.starts_with(prefix));
    }

    /// Takes the next part, whatever it is.
    pub(super) fn take_next(&mut self) -> Option<&'a str> {
        (!self.parts.is_empty()).then(|| self.parts.remove(0))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }
}
