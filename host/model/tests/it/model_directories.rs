//! HF directories: what is accepted, what is refused and how it is said.

use std::fs;

use espalier_kernels::WeightFormat;
use espalier_model::{
    Checkpoint, ModelError, RopeScaling, SynthShape, TensorPlan, export_hugging_face, write_hugging_face,
};
use serde_json::{Value, json};

use crate::model::{Model, plans_as_stored, plans_in_f32, refusal};

/// Changes fields of the model's `config.json`; `null` removes one.
fn reconfigure(model: &Model, changes: Value) {
    let path = model.hugging_face().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let fields = config.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn rope_is_read_in_both_spellings() {
    for (changes, expected) in [
        (json!({ "rope_theta": 1000.0 }), (1000.0, RopeScaling::None)),
        (json!({ "rope_theta": null, "rope_scaling": null }), (10_000.0, RopeScaling::None)),
        (
            json!({ "rope_scaling": { "type": "linear", "factor": 4 } }),
            (10_000.0, RopeScaling::Linear { factor: 4.0 }),
        ),
        (
            json!({ "rope_theta": null, "rope_parameters": { "rope_type": "default", "rope_theta": 5e5 } }),
            (5e5, RopeScaling::None),
        ),
    ] {
        let model = Model::small();
        reconfigure(&model, changes);
        let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
        assert_eq!((checkpoint.spec().rope.theta, checkpoint.spec().rope.scaling.clone()), expected);
    }
}

#[test]
fn defaults_are_transformers_ones() {
    let model = Model::new(&SynthShape::default().with("num_key_value_heads", 8));
    let changes = json!({
        "head_dim": null, "num_key_value_heads": null, "rms_norm_eps": null, "tie_word_embeddings": null,
        "architectures": null, "bos_token_id": null,
    });
    reconfigure(&model, changes);
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let spec = checkpoint.spec();
    assert_eq!((spec.head_dim, spec.layers[0].kv_heads, spec.rms_norm_eps), (8, 8, 1e-6));
    assert_eq!(spec.bos, Some(256), "from generation_config.json");
}

#[test]
fn what_would_change_the_arithmetic_is_refused_by_name() {
    for (changes, expected) in [
        (json!({ "architectures": ["MambaForCausalLM"] }), "architecture MambaForCausalLM"),
        (json!({ "quantization_config": { "quant_method": "gptq" } }), "quantization method gptq"),
        (json!({ "hidden_act": "gelu" }), "hidden_act: gelu"),
        (json!({ "mlp_bias": true }), "mlp_bias"),
        (json!({ "rope_scaling": { "rope_type": "longrope" } }), "rope_scaling.rope_type longrope"),
        (json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor: 0.5"),
        (json!({ "hidden_size": "many" }), "field hidden_size: found \"many\", expected a whole number"),
        (json!({ "hidden_size": -3 }), "field hidden_size: found -3"),
        (json!({ "hidden_size": null }), "field hidden_size is missing"),
        (json!({ "num_hidden_layers": 4_000_000_000_u64 }), "num_hidden_layers: found 4000000000"),
        (json!({ "num_key_value_heads": 3 }), "query heads: found 4, expected a multiple of the 3"),
        (json!({ "num_key_value_heads": 0 }), "key/value heads: found 0"),
        (json!({ "head_dim": 7 }), "head dimension: found 7, expected an even number"),
        (json!({ "rms_norm_eps": -1 }), "epsilon: found -1"),
        (json!({ "rope_theta": 0 }), "rope theta: found 0"),
        (json!({ "eos_token_id": 99_999 }), "99999, expected less than the vocabulary size 320"),
    ] {
        let model = Model::small();
        reconfigure(&model, changes);
        let message = Checkpoint::open(&model.hugging_face()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    }
}

#[test]
fn shapes_that_contradict_the_configuration_name_tensor_and_both_shapes() {
    let model = Model::small();
    reconfigure(&model, json!({ "intermediate_size": 96 }));
    let error = Checkpoint::open(&model.hugging_face()).unwrap_err();
    let message = error.to_string();
    let expected = "tensor model.layers.0.mlp.gate_proj.weight has shape [64, 32], but the configuration asks for [96, 32]";
    assert!(message.ends_with(expected), "{message}");
    assert!(
        matches!(error, ModelError::InFile { source, .. } if matches!(*source, ModelError::TensorShape { .. }))
    );
}

#[test]
fn missing_and_surplus_tensors_are_named() {
    let model = Model::small();
    reconfigure(&model, json!({ "attention_bias": true }));
    let message = refusal(&model.hugging_face());
    assert!(
        message.contains("tensor model.layers.0.self_attn.q_proj.bias of shape [32] is missing"),
        "{message}"
    );
    let model = Model::small();
    reconfigure(&model, json!({ "num_hidden_layers": 1 }));
    let message = refusal(&model.hugging_face());
    assert!(message.contains("model.layers.1.input_layernorm.weight"), "{message}");
}

#[test]
fn a_norm_with_nan_is_refused() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let plans = plans_as_stored(&checkpoint);
    let files = checkpoint.tokenizer_files().unwrap();
    let out = model.path("nan");
    write_hugging_face(&out, checkpoint.spec(), &files, &plans, &mut |plan| {
        let mut bytes = checkpoint.tensor(&plan.name)?.bytes_in(WeightFormat::F32)?;
        if plan.name == "model.layers.1.input_layernorm.weight" {
            bytes[20..24].copy_from_slice(&f32::NAN.to_le_bytes());
        }
        Ok(bytes)
    })
    .unwrap();
    let message = refusal(&out);
    assert!(message.contains("model.layers.1.input_layernorm.weight holds NaN at index 5"), "{message}");
}

#[test]
fn shards_are_read_through_the_index() {
    let model = Model::small();
    let directory = model.hugging_face();
    let whole = fs::read(directory.join("model.safetensors")).unwrap();
    let names: Vec<String> =
        Checkpoint::open(&directory).unwrap().tensors().map(|t| t.name.clone()).collect();
    fs::rename(directory.join("model.safetensors"), directory.join("model-00001-of-00001.safetensors"))
        .unwrap();
    let weight_map: serde_json::Map<String, Value> =
        names.iter().map(|name| (name.clone(), "model-00001-of-00001.safetensors".into())).collect();
    let index = |map: &serde_json::Map<String, Value>| {
        let text = json!({ "metadata": {}, "weight_map": map }).to_string();
        fs::write(directory.join("model.safetensors.index.json"), text).unwrap();
    };
    index(&weight_map);
    assert_eq!(Checkpoint::open(&directory).unwrap().tensors().len(), names.len());

    let mut other_model = weight_map.clone();
    other_model.insert("model.layers.7.mlp.up_proj.weight".into(), "model-00001-of-00001.safetensors".into());
    index(&other_model);
    let message = Checkpoint::open(&directory).unwrap_err().to_string();
    assert!(message.contains("model-00001-of-00001") && message.contains("layers.7"), "{message}");

    let mut missing = weight_map.clone();
    missing.insert(names[0].clone(), "model-00002-of-00002.safetensors".into());
    index(&missing);
    let message = Checkpoint::open(&directory).unwrap_err().to_string();
    assert!(message.contains("cannot open") && message.contains("model-00002-of-00002"), "{message}");

    let mut outside = weight_map;
    outside.insert(names[0].clone(), "../model.safetensors".into());
    fs::write(model.path("model.safetensors"), whole).unwrap();
    index(&outside);
    let message = Checkpoint::open(&directory).unwrap_err().to_string();
    assert!(message.contains("expected a plain file name"), "{message}");
}

#[test]
fn an_interrupted_write_leaves_nothing() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let plans = plans_as_stored(&checkpoint);
    let files = checkpoint.tokenizer_files().unwrap();
    let before = fs::read_dir(model.path("")).unwrap().count();
    let mut written = 0;
    let error = write_hugging_face(&model.path("cut"), checkpoint.spec(), &files, &plans, &mut |plan| {
        written += 1;
        if written == 5 { Ok(vec![0; 3]) } else { checkpoint.tensor(&plan.name)?.bytes_in(plan.format) }
    })
    .unwrap_err();
    assert!(error.to_string().contains("bytes produced for tensor"), "{error}");
    assert_eq!(fs::read_dir(model.path("")).unwrap().count(), before);
}

#[test]
fn plans_and_shapes_that_no_directory_can_hold_are_refused() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let files = checkpoint.tokenizer_files().unwrap();
    let refused = |spec: &espalier_model::ModelSpec, plans: &[TensorPlan]| {
        write_hugging_face(&model.path("out"), spec, &files, plans, &mut |_| Ok(Vec::new()))
            .unwrap_err()
            .to_string()
    };
    let plans = plans_as_stored(&checkpoint);
    let message = refused(checkpoint.spec(), &plans[1..]);
    assert!(message.contains("model.embed_tokens.weight of shape [320, 32] is missing"), "{message}");
    let mut quantized = plans.clone();
    quantized[0].format = WeightFormat::Q8_0;
    let message = refused(checkpoint.spec(), &quantized);
    assert!(message.contains("model.embed_tokens.weight") && message.contains("q8_0"), "{message}");
    let mut uneven = checkpoint.spec().clone();
    uneven.layers[1].ffn_size = 48;
    let plans = plans_in_f32(&uneven);
    let message = refused(&uneven, &plans);
    assert!(
        message.contains("layer 1") && message.contains("48 channels") && message.contains("64 channels"),
        "{message}"
    );
}

#[test]
fn large_values_are_not_squeezed_into_f16() {
    let model = Model::small();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let out = model.path("half");
    export_hugging_face(&checkpoint, &out, Some(WeightFormat::F16)).unwrap();
    assert!(Checkpoint::open(&out).unwrap().tensors().all(|tensor| tensor.format == WeightFormat::F16));
    let bytes = espalier_kernels::Bytes::from_f32(&[1.0, 70_000.0]);
    let tensor = espalier_model::StoredTensor::new("t".into(), WeightFormat::F32, vec![2], bytes).unwrap();
    let message = tensor.bytes_in(WeightFormat::F16).unwrap_err().to_string();
    assert!(message.contains("tensor t") && message.contains("70000"), "{message}");
}

#[test]
fn a_directory_without_a_model_is_not_one() {
    let directory = tempfile::tempdir().unwrap();
    let message = refusal(directory.path());
    assert!(message.contains("is not a model") && message.contains("config.json"), "{message}");
    let message = refusal(&directory.path().join("absent"));
    assert!(message.contains("cannot open"), "{message}");
    fs::write(directory.path().join("config.json"), "{ \"hidden_size\": ").unwrap();
    let message = Checkpoint::open(directory.path()).unwrap_err().to_string();
    assert!(message.contains("config.json") && message.contains("EOF"), "{message}");
    fs::write(directory.path().join("config.json"), "[]").unwrap();
    let message = Checkpoint::open(directory.path()).unwrap_err().to_string();
    assert!(message.contains("expected an object"), "{message}");
}
