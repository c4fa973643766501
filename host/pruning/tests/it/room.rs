//! Disk space is asked for before anything is written.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use espalier_model::{Checkpoint, SynthShape};
use espalier_pruning::{Plan, PruningError, StorageType, Unwatched, surgery};
use serde_json::{Map, json};

use crate::models::Directory;

/// A model that takes no room and says that it has a terabyte: a file with a header and a hole.
fn sparse_model(path: &Path) -> Checkpoint {
    let shape = SynthShape::default()
        .with("vocab_size", 1 << 27)
        .with("hidden_size", 4096)
        .with("num_hidden_layers", 1)
        .with("intermediate_size", 32)
        .with("tie_word_embeddings", true);
    let spec = shape.spec().unwrap();
    fs::create_dir(path).unwrap();
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "vocab_size": 1 << 27, "hidden_size": 4096, "num_hidden_layers": 1,
        "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 32, "tie_word_embeddings": true,
    });
    fs::write(path.join("config.json"), config.to_string()).unwrap();
    let (mut header, mut offset) = (Map::new(), 0_u64);
    for tensor in spec.tensors() {
        let end = offset + 2 * tensor.shape.iter().map(|&side| side as u64).product::<u64>();
        header.insert(
            tensor.name,
            json!({"dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end]}),
        );
        offset = end;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = File::create(path.join("model.safetensors")).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + offset).unwrap();
    Checkpoint::open(path).unwrap()
}

#[test]
fn a_result_that_cannot_fit_is_refused_with_both_figures() {
    let directory = Directory::new();
    let checkpoint = sparse_model(&directory.join("sparse"));
    let plan = Plan::unchanged(checkpoint.spec(), StorageType::Source.of(&checkpoint));
    assert!(plan.after.bytes > 1 << 40);
    let error = surgery(&plan, &checkpoint, &directory.join("pruned"), &mut Unwatched).unwrap_err();
    let PruningError::DiskFull { needed, available, .. } = &error else { panic!("{error}") };
    assert!(*needed > plan.after.bytes && available < needed);
    let message = error.to_string();
    assert!(message.contains(&needed.to_string()) && message.contains(&available.to_string()), "{message}");
    assert_eq!(directory.names(), ["sparse"]);
}
