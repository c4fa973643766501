//! Layers of unequal shape in HF directories, and tensors that are written part by part.

use std::fs;

use espalier_model::{
    Checkpoint, ExpertsSpec, LayerSpec, ModelSpec, Shapes, SynthShape, export_gguf,
    write_hugging_face_in_parts,
};
use serde_json::{Value, json};

use crate::model::{Model, plans_in_f32, refusal};

/// A gpt-oss whose second layer has fewer heads, channels and experts, in `uneven`.
fn uneven(model: &Model) -> ModelSpec {
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let mut spec = checkpoint.spec().clone();
    spec.layers[1] = LayerSpec {
        heads: 3,
        kv_heads: 3,
        ffn_size: 32,
        experts: Some(ExpertsSpec { count: 5, active: 4 }),
        ..spec.layers[1].clone()
    };
    let files = checkpoint.tokenizer_files().unwrap();
    let write = |shapes| {
        write_hugging_face_in_parts(
            &model.path("uneven"),
            &spec,
            &files,
            &plans_in_f32(&spec),
            shapes,
            &mut |plan, part| {
                let row: usize = plan.shape.iter().skip(1).product();
                let values = part.start * row..part.end * row;
                Ok(values.flat_map(|value| (value as f32 + 0.5).to_le_bytes()).collect::<Vec<u8>>().into())
            },
        )
    };
    let message = write(Shapes::Uniform).unwrap_err().to_string();
    assert!(message.contains("layer 1") && message.contains("5 experts"), "{message}");
    write(Shapes::PerLayer).unwrap();
    spec
}

#[test]
fn an_uneven_directory_comes_back() {
    let model = Model::new(&SynthShape::default().with("model_type", "gpt_oss").with("num_hidden_layers", 2));
    let spec = uneven(&model);
    let checkpoint = Checkpoint::open(&model.path("uneven")).unwrap();
    assert_eq!(checkpoint.spec(), &spec);
    for tensor in checkpoint.tensors() {
        let expected: Vec<f32> = (0..tensor.values()).map(|value| value as f32 + 0.5).collect();
        assert_eq!(tensor.to_f32().unwrap(), expected, "{}", tensor.name);
    }
    let message = export_gguf(&checkpoint, &model.path("uneven.gguf"), None).unwrap_err().to_string();
    assert!(message.contains("layer 1 in GGUF with 5 experts of 32 channels"), "{message}");
}

#[test]
fn what_the_object_cannot_say_is_refused() {
    let model = Model::new(&SynthShape::default().with("model_type", "gpt_oss").with("num_hidden_layers", 2));
    uneven(&model);
    let path = model.path("uneven").join("config.json");
    let config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (field, value, expected) in [
        ("heads", json!([8]), "espalier.heads: found 1 entries, expected 2"),
        ("heads", json!([8, 4]), "layer 1: query heads"),
        ("experts", json!([8, 3]), "layer 1: experts of a token"),
        ("ffn_size", json!([128, 64]), "model.layers.1.mlp.experts.gate_proj.weight"),
        ("kv_heads", json!([4, "3"]), "espalier.kv_heads"),
        ("channels", json!([1, 1]), "field espalier.channels"),
    ] {
        let mut changed = config.clone();
        changed["espalier"][field] = value;
        fs::write(&path, changed.to_string()).unwrap();
        let message = refusal(&model.path("uneven"));
        assert!(message.contains(expected), "{message}");
    }
}
