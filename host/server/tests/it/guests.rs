//! The built guests of the repository.

use std::path::{Path, PathBuf};

use espalier_components::DIRECTORY_VARIABLE;

/// The bytes of a built guest.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/components");
    let folder = std::env::var_os(DIRECTORY_VARIABLE).map_or_else(default, PathBuf::from);
    let path = folder.join(format!("{name}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!("the guest {} cannot be read ({error}): build guests with `cargo xtask setup`", path.display())
    })
}
