//! Any bytes as a safetensors file: an error, or tensors whose ranges lie inside the bytes.
#![no_main]

use espalier_model::safetensors;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = safetensors::parse(bytes) else { return };
    for tensor in &header.tensors {
        assert!(bytes.get(tensor.range.clone()).is_some(), "{}", tensor.name);
    }
});
