//! The real model, where `cargo xtask setup` has put it.

use std::env;
use std::path::PathBuf;

use crate::program;

/// The name that the tests serve it by.
pub(crate) const NAME: &str = "smollm2";

/// The GGUF file; nothing, said aloud, when the tests are run by hand without it.
pub(crate) fn path() -> Option<PathBuf> {
    let cache = program::root().join(env::var_os("ESPALIER_CACHE").unwrap_or_else(|| ".espalier".into()));
    let file = cache.join("models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if file.is_file() {
        return Some(file);
    }
    assert!(!program::is_complete_run(), "{} is missing: run `cargo xtask setup`", file.display());
    eprintln!("left out: {} is missing (`cargo xtask setup` fetches it)", file.display());
    None
}
