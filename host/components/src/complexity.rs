//! What a component's file is made of, counted before any of it is compiled.
//!
//! The size of a file bounds neither the time nor the memory of compiling it: 30 MB can hold a million functions. So
//! its parts are counted in one pass over the file, which takes time in proportion to its size and needs no memory.
//! What is malformed is left to the compiler's validation, whose message is better.

use wasmparser::{Parser, Payload};

use crate::ComponentError;

/// How much of each part a component may have, nested ones included. Interpreters that were compiled to WebAssembly are
/// the largest components that people use. A policy in Python (CPython 3.14) has 41 modules, 13,571 functions, the largest of
/// 426,843 bytes, and 1,950 items; one in JavaScript (QuickJS) 36, 1,795, 54,010 and 1,230.
const LIMITS: Parts =
    Parts { nesting: 8, modules: 100, functions: 100_000, function_bytes: 1 << 20, items: 10_000 };

/// The parts of a component.
#[derive(Default)]
struct Parts {
    /// Components inside components.
    nesting: usize,
    modules: usize,
    functions: usize,
    /// The largest function in bytes.
    function_bytes: usize,
    /// Types, imports, exports, instances, aliases and canonical functions of components.
    items: usize,
}

/// Fails if the file has more of something than a host is willing to compile.
pub(crate) fn check(label: &str, bytes: &[u8]) -> Result<(), ComponentError> {
    let mut parts = Parts::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let Ok(payload) = payload else { return Ok(()) };
        match payload {
            Payload::ComponentSection { .. } => depth = depth.saturating_add(1),
            Payload::ModuleSection { .. } => {
                depth = depth.saturating_add(1);
                parts.modules = parts.modules.saturating_add(1);
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::FunctionSection(functions) => parts.count_functions(functions.count()),
            Payload::CodeSectionEntry(body) => {
                parts.function_bytes = parts.function_bytes.max(body.range().len());
            }
            Payload::ComponentTypeSection(section) => parts.count_items(section.count()),
            Payload::ComponentImportSection(section) => parts.count_items(section.count()),
            Payload::ComponentExportSection(section) => parts.count_items(section.count()),
            Payload::ComponentInstanceSection(section) => parts.count_items(section.count()),
            Payload::ComponentAliasSection(section) => parts.count_items(section.count()),
            Payload::ComponentCanonicalSection(section) => parts.count_items(section.count()),
            Payload::InstanceSection(section) => parts.count_items(section.count()),
            Payload::CoreTypeSection(section) => parts.count_items(section.count()),
            _ => {}
        }
        parts.nesting = parts.nesting.max(depth);
        parts.refuse_beyond(&LIMITS, label)?;
    }
    Ok(())
}

impl Parts {
    fn count_functions(&mut self, count: u32) {
        self.functions = self.functions.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    }

    fn count_items(&mut self, count: u32) {
        self.items = self.items.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
    }

    fn refuse_beyond(&self, limits: &Self, label: &str) -> Result<(), ComponentError> {
        let counted = [
            ("levels of nested components", self.nesting, limits.nesting),
            ("core modules", self.modules, limits.modules),
            ("functions", self.functions, limits.functions),
            ("bytes in one function", self.function_bytes, limits.function_bytes),
            ("types, imports, exports and other items", self.items, limits.items),
        ];
        match counted.into_iter().find(|(_, found, limit)| found > limit) {
            Some((part, found, limit)) => {
                Err(ComponentError::TooComplex { component: label.to_owned(), part, found, limit })
            }
            None => Ok(()),
        }
    }
}
