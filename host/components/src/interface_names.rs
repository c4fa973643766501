//! What a component's file says that it takes and gives, read without compiling it.

use serde::Serialize;
use wasmparser::{Encoding, Parser, Payload};

use crate::{ComponentError, complexity};

/// The names of a component's imports and exports, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InterfaceNames {
    /// What it asks for: `espalier:kernels/telemetry@1.0.0`.
    pub imports: Vec<String>,
    /// What it gives.
    pub exports: Vec<String>,
}

impl InterfaceNames {
    /// Those of the outermost component in the file. Whether what is inside it is valid is not looked at.
    ///
    /// # Errors
    /// A file that is no component, or has more parts than a host would compile.
    pub fn of(label: &str, bytes: &[u8]) -> Result<Self, ComponentError> {
        complexity::check(label, bytes)?;
        Self::read(bytes)
            .map_err(|reason| ComponentError::NotAComponent { component: label.to_owned(), reason })
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut names = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(|error| error.to_string())? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err("found a core module, expected a component".to_owned());
                }
                Payload::ComponentSection { .. } | Payload::ModuleSection { .. } => {
                    depth = depth.saturating_add(1);
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports {
                        names.imports.push(import.map_err(|error| error.to_string())?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 0 => {
                    for export in exports {
                        names.exports.push(export.map_err(|error| error.to_string())?.name.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<InterfaceNames, ComponentError> {
        InterfaceNames::of("c.wasm", &wat::parse_str(text).unwrap())
    }

    #[test]
    fn only_the_outermost_component_is_asked() {
        let found = names(
            r#"(component
                (import "a:b/one@1.0.0" (instance $i))
                (component (import "inner" (func)) (export "x" (func 0)))
                (core module (import "m" "f" (func)))
                (export "a:b/two@1.0.0" (instance $i)))"#,
        );
        let found = found.unwrap();
        assert_eq!(
            (found.imports, found.exports),
            (vec!["a:b/one@1.0.0".into()], vec!["a:b/two@1.0.0".into()])
        );
    }

    #[test]
    fn what_is_no_component_is_refused() {
        let error = names("(module)").unwrap_err().to_string();
        assert!(error.starts_with("c.wasm is not a WebAssembly component: found a core module"), "{error}");
        for wrong in [&b""[..], b"text", b"\0asm\x0d\0\x01\0\xff"] {
            let error = InterfaceNames::of("c.wasm", wrong).unwrap_err();
            assert!(matches!(error, ComponentError::NotAComponent { .. }), "{wrong:?}: {error}");
        }
    }
}
