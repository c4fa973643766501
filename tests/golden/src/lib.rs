//! Reads the golden files of this folder and says how far logits are from them.
//!
//! The files come from other programs (Hugging Face transformers, llama.cpp) by the Python scripts beside this crate;
//! each script's header says what its files hold. The reader shares no code with `espalier-model`, so that an error
//! there cannot hide itself here. The tests are in `tests/it`.

pub mod distance;
pub mod smollm2;
pub mod tensors;

use std::path::PathBuf;

/// The folder of committed golden files.
#[must_use]
pub fn data() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data"))
}
