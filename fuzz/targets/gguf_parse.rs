//! Any bytes as a GGUF file: an error, or tensors whose ranges lie inside the bytes.
#![no_main]

use espalier_model::gguf;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(file) = gguf::parse(bytes) else { return };
    for tensor in &file.tensors {
        let columns = tensor.shape.last().copied().unwrap_or(1);
        let rows: usize = tensor.shape.iter().rev().skip(1).product();
        let row_bytes = tensor.format.row_bytes(columns).unwrap();
        assert_eq!(bytes[tensor.range.clone()].len(), rows * row_bytes, "{}", tensor.name);
    }
});
