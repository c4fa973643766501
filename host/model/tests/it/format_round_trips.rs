//! HF to GGUF and back keeps every byte that the formats let it keep.

use espalier_kernels::WeightFormat;
use espalier_model::{
    Checkpoint, CheckpointFormat, LayerSpec, RopeScaling, StoredTensor, SynthShape, TensorPlan, export_gguf,
    export_hugging_face, write_gguf,
};
use serde_json::json;

use crate::model::{Model, plans_in_f32};

fn bytes(tensor: &StoredTensor) -> Vec<u8> {
    tensor.bytes().unwrap().as_slice().to_vec()
}

fn round_trip(shape: &SynthShape) {
    let model = Model::new(shape);
    let original = Checkpoint::open(&model.hugging_face()).unwrap();
    let gguf = Checkpoint::open(&model.gguf()).unwrap();
    assert_eq!(gguf.format(), CheckpointFormat::Gguf);
    assert_eq!(gguf.spec(), original.spec());
    for tensor in original.tensors() {
        let other = gguf.tensor(&tensor.name).unwrap();
        if tensor.shape.len() == 1 {
            assert_eq!(other.format, WeightFormat::F32, "{}", tensor.name);
            assert_eq!(other.to_f32().unwrap(), tensor.to_f32().unwrap(), "{}", tensor.name);
        } else {
            assert_eq!((other.format, bytes(other)), (tensor.format, bytes(tensor)), "{}", tensor.name);
        }
    }
    let back_path = model.path("back");
    export_hugging_face(&gguf, &back_path, None).unwrap();
    let back = Checkpoint::open(&back_path).unwrap();
    assert_eq!(back.spec(), original.spec());
    for tensor in original.tensors() {
        assert_eq!(bytes(back.tensor(&tensor.name).unwrap()), bytes(tensor), "{}", tensor.name);
    }
    let text = "Grüße, 1234 words don't\n\n  split<|im_end|> 👋🏽";
    let ids = original.tokenizer().unwrap().encode(text, true).unwrap();
    for other in [&gguf, &back] {
        let tokenizer = other.tokenizer().unwrap();
        assert_eq!(tokenizer.encode(text, true).unwrap(), ids);
        assert_eq!(tokenizer.eos(), original.tokenizer().unwrap().eos());
        assert_eq!(other.chat_template(), original.chat_template());
    }
}

#[test]
fn llama_in_every_storage_format() {
    for name in ["float32", "float16", "bfloat16"] {
        round_trip(&SynthShape::default().with("torch_dtype", name));
    }
}

#[test]
fn llama_with_biases_tied_embedding_and_scaled_rope() {
    let shape = SynthShape::default()
        .with("attention_bias", true)
        .with("tie_word_embeddings", true)
        .with("num_attention_heads", 4)
        .with("head_dim", 32)
        .with("rope_theta", 500_000.0)
        .with("max_position_embeddings", 131_072)
        .with(
            "rope_scaling",
            json!({
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            }),
        );
    round_trip(&shape);
    let spec = shape.spec().unwrap();
    assert!(matches!(spec.rope.scaling, RopeScaling::Llama3 { factor: 8.0, .. }));
}

#[test]
fn qwen2_whose_rows_are_never_permuted() {
    let shape = SynthShape::default().with("model_type", "qwen2").with("torch_dtype", "bfloat16");
    round_trip(&shape);
    let linear = json!({ "type": "linear", "factor": 2.5 });
    let yarn = json!({
        "type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 512,
        "beta_fast": 16.0,
        "beta_slow": 2.0,
    });
    for scaling in [linear, yarn] {
        round_trip(&shape.clone().with("rope_scaling", scaling));
    }
}

#[test]
fn layers_of_unequal_shape_have_a_place_in_gguf() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let mut spec = checkpoint.spec().clone();
    spec.layers[1] = LayerSpec { heads: 2, kv_heads: 1, ffn_size: 48, ..spec.layers[1].clone() };
    let plans = plans_in_f32(&spec);
    let values = |plan: &TensorPlan| (0..plan.shape.iter().product::<usize>()).map(|value| value as f32);
    let path = model.path("uneven.gguf");
    write_gguf(&path, &spec, &checkpoint.tokenizer_files().unwrap(), &plans, &mut |plan| {
        Ok(values(plan).flat_map(f32::to_le_bytes).collect())
    })
    .unwrap();
    let uneven = Checkpoint::open(&path).unwrap();
    assert_eq!(uneven.spec(), &spec);
    for plan in &plans {
        let expected: Vec<f32> = values(plan).collect();
        assert_eq!(uneven.tensor(&plan.name).unwrap().to_f32().unwrap(), expected, "{}", plan.name);
    }
}

#[test]
fn a_second_export_to_gguf_is_the_same_file() {
    let model = Model::small();
    let again = model.path("again.gguf");
    export_gguf(&Checkpoint::open(&model.gguf()).unwrap(), &again, None).unwrap();
    assert!(std::fs::read(model.gguf()).unwrap() == std::fs::read(again).unwrap());
}

#[test]
fn matrices_are_quantised_and_vectors_are_not() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    for format in
        [WeightFormat::Q8_0, WeightFormat::Q4_0, WeightFormat::Q4_1, WeightFormat::Mxfp4, WeightFormat::Bf16]
    {
        let path = model.path(format.name());
        export_gguf(&checkpoint, &path, Some(format)).unwrap();
        let quantized = Checkpoint::open(&path).unwrap();
        for tensor in quantized.tensors() {
            let outside = matches!(tensor.name.as_str(), "model.embed_tokens.weight" | "lm_head.weight");
            let kept = tensor.shape.len() == 1 || (outside && format == WeightFormat::Mxfp4);
            let expected = if kept { WeightFormat::F32 } else { format };
            assert_eq!(tensor.format, expected, "{}", tensor.name);
            let values = checkpoint.tensor(&tensor.name).unwrap().to_f32().unwrap();
            let pairs = || values.iter().zip(tensor.to_f32().unwrap());
            let error: f32 = pairs().map(|(value, other)| (value - other).powi(2)).sum();
            let energy: f32 = values.iter().map(|value| value * value).sum();
            assert!(
                (error / energy).sqrt() < 0.2,
                "{} in {}: {error} of {energy}",
                tensor.name,
                format.name()
            );
        }
    }
    let error = export_gguf(&checkpoint, &model.path("q6"), Some(WeightFormat::Q6K)).unwrap_err().to_string();
    assert!(error.contains("number format to write q6_k is not supported"), "{error}");
    assert!(!model.path("q6").exists());
}

#[test]
fn existing_output_is_never_overwritten() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let error = export_gguf(&checkpoint, &model.gguf(), None).unwrap_err().to_string();
    assert!(error.contains("model.gguf") && error.contains("doesn't exist"), "{error}");
    let error = export_hugging_face(&checkpoint, &model.hugging_face(), Some(WeightFormat::F32))
        .unwrap_err()
        .to_string();
    assert!(error.contains("output directory") && error.contains("empty"), "{error}");
}
