//! Whole models that don't fit together: each refusal names the tensor or the field, what was found and what was expected.

use std::fs;
use std::path::Path;

use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, SynthShape, TensorPlan, export_gguf, safetensors, write_gguf};
use serde_json::{Map, Value, json};

use crate::model::{Model, refusal};

fn gpt_oss() -> Model {
    let quantized = json!({ "quant_method": "mxfp4" });
    let shape = SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", "bfloat16");
    Model::new(&shape.with("quantization_config", quantized))
}

fn reconfigure(model: &Model, changes: Value) {
    let path = model.hugging_face().join("config.json");
    let mut config: Map<String, Value> = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        config.insert(name.clone(), value.clone());
    }
    config.retain(|_, value| !value.is_null());
    fs::write(path, Value::Object(config).to_string()).unwrap();
}

/// Writes the named tensors of `source` as one safetensors file.
fn write_shard(source: &Path, wanted: impl Fn(&str) -> bool, target: &Path) {
    let file = fs::read(source).unwrap();
    let mut header = Map::new();
    let mut data = Vec::new();
    for entry in safetensors::parse(&file).unwrap().tensors {
        if wanted(&entry.name) {
            let start = data.len();
            data.extend_from_slice(&file[entry.range]);
            let described =
                json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, data.len()] });
            header.insert(entry.name, described);
        }
    }
    let text = Value::Object(header).to_string();
    fs::write(target, [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &data].concat()).unwrap();
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

fn in_second(name: &str) -> bool {
    name.starts_with("model.layers.2.") || name.starts_with("model.layers.3.")
}

/// The model in two shards with an index.
fn sharded(model: &Model) {
    let directory = model.hugging_face();
    let whole = directory.join("model.safetensors");
    write_shard(&whole, |name| !in_second(name), &directory.join(SHARDS[0]));
    write_shard(&whole, in_second, &directory.join(SHARDS[1]));
    let file = fs::read(&whole).unwrap();
    let names = safetensors::parse(&file).unwrap().tensors.into_iter().map(|entry| entry.name);
    let map: Map<String, Value> =
        names.map(|name| (name.clone(), SHARDS[usize::from(in_second(&name))].into())).collect();
    fs::write(
        directory.join("model.safetensors.index.json"),
        json!({ "metadata": {}, "weight_map": map }).to_string(),
    )
    .unwrap();
    fs::remove_file(whole).unwrap();
}

fn message(model: &Model) -> String {
    Checkpoint::open(&model.hugging_face()).expect_err("this must be refused").to_string()
}

#[test]
fn shards_that_are_missing_or_of_another_model() {
    let model = gpt_oss();
    sharded(&model);
    assert!(Checkpoint::open(&model.hugging_face()).is_ok());
    let second = model.hugging_face().join(SHARDS[1]);
    let kept = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    let found = message(&model);
    assert!(found.contains("cannot open") && found.contains(SHARDS[1]), "{found}");

    // Of a model with the same names and other sizes.
    let other = Model::new(&SynthShape::default().with("model_type", "gpt_oss").with("hidden_size", 32));
    write_shard(&other.hugging_face().join("model.safetensors"), in_second, &second);
    let found = message(&model);
    let blocks = "_proj_blocks is missing; expected it here";
    assert!(found.contains(SHARDS[1]) && found.contains(blocks), "{found}");

    let quantized = json!({ "quant_method": "mxfp4" });
    let shape = SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", "bfloat16");
    let other = Model::new(&shape.with("hidden_size", 32).with("quantization_config", quantized));
    write_shard(&other.hugging_face().join("model.safetensors"), in_second, &second);
    let found = message(&model);
    let shapes =
        "tensor model.layers.2.input_layernorm.weight has shape [32], but the configuration asks for [64]";
    assert!(found.contains(shapes), "{found}");

    // A shard that holds more than its share.
    fs::write(&second, kept).unwrap();
    let first = fs::read(model.hugging_face().join(SHARDS[0])).unwrap();
    fs::write(model.path("first"), first).unwrap();
    write_shard(&model.path("first"), |_| true, &model.hugging_face().join("extra.safetensors"));
    assert!(Checkpoint::open(&model.hugging_face()).is_ok(), "the index doesn't name it");
    fs::remove_file(model.hugging_face().join("model.safetensors.index.json")).unwrap();
    let found = message(&model);
    assert!(found.contains("found it in another file too, expected each tensor once"), "{found}");
}

#[test]
fn configurations_that_contradict_the_tensors() {
    for (changes, expected) in [
        (
            json!({ "num_local_experts": 9 }),
            "model.layers.0.mlp.router.weight has shape [8, 64], but the configuration asks for [9, 64]",
        ),
        (
            json!({ "intermediate_size": 96 }),
            "model.layers.0.mlp.experts.gate_proj.weight has shape [8, 128, 64], but the configuration asks for [8, 96, 64]",
        ),
        (
            json!({ "head_dim": 16 }),
            "model.layers.0.self_attn.q_proj.weight has shape [64, 64], but the configuration asks for [128, 64]",
        ),
        (
            json!({ "num_key_value_heads": 2 }),
            "model.layers.0.self_attn.k_proj.weight has shape [32, 64], but the configuration asks for [16, 64]",
        ),
        (
            json!({ "vocab_size": 321 }),
            "model.embed_tokens.weight has shape [320, 64], but the configuration asks for [321, 64]",
        ),
        (json!({ "num_experts_per_tok": 9 }), "layer 0: experts of a token: found 9, expected 1 to 8"),
        (json!({ "layer_types": ["full_attention"] }), "field layer_types: found 1 entries, expected 4"),
        (
            json!({ "layer_types": ["full_attention", "linear_attention", "full_attention", "full_attention"] }),
            "linear_attention",
        ),
        (json!({ "swiglu_limit": 0 }), "limit 0"),
    ] {
        let model = gpt_oss();
        reconfigure(&model, changes);
        let found = message(&model);
        assert!(found.contains(expected), "{found} should contain {expected}");
    }
}

#[test]
fn quantisations_that_are_not_supported() {
    for method in ["gptq", "awq", "fp8", "bitsandbytes", "compressed-tensors", "fbgemm_fp8"] {
        for model in [Model::small(), gpt_oss()] {
            reconfigure(&model, json!({ "quantization_config": { "quant_method": method } }));
            let found = message(&model);
            let expected = format!("quantization method {method} is not supported; supported: ");
            assert!(
                found.contains(&expected) && found.contains("mxfp4 for the experts of gpt-oss"),
                "{found}"
            );
        }
    }
    // Packed weights that no configuration announces.
    let model = Model::small();
    let path = model.hugging_face().join("model.safetensors");
    let file = fs::read(&path).unwrap();
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = String::from_utf8(file[8..8 + length].to_vec()).unwrap();
    let packed = header.replacen("\"dtype\":\"F32\"", "\"dtype\":\"I32\"", 1);
    assert_ne!(packed, header);
    let damaged = [&(packed.len() as u64).to_le_bytes()[..], packed.as_bytes(), &file[8 + length..]].concat();
    fs::write(path, damaged).unwrap();
    let found = message(&model);
    assert!(found.contains("dtype of tensor model.") && found.contains("I32 is not supported"), "{found}");
}

#[test]
fn ggml_types_that_are_not_supported() {
    let model = Model::small();
    let file = fs::read(model.gguf()).unwrap();
    let name = b"blk.1.ffn_down.weight";
    let place = file.windows(name.len()).position(|window| window == name).unwrap();
    // Behind the name: the number of sides, the sides, the type.
    let kind = place + name.len() + 4 + 2 * 8;
    for (number, expected) in
        [(16_u32, "IQ2_XXS"), (20, "IQ4_NL"), (23, "IQ4_XS"), (29, "IQ1_M"), (34, "TQ1_0"), (40, "NVFP4")]
    {
        let mut damaged = file.clone();
        damaged[kind..kind + 4].copy_from_slice(&number.to_le_bytes());
        let found = refusal(&model.write("other.gguf", damaged));
        let expected =
            format!("type of tensor blk.1.ffn_down.weight: {expected} is not supported; supported: f32,");
        assert!(found.contains(&expected), "{found} should contain {expected}");
    }
}

#[test]
fn norms_that_are_not_finite_in_gguf() {
    let model = gpt_oss();
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let plans: Vec<TensorPlan> = checkpoint
        .tensors()
        .map(|tensor| TensorPlan {
            name: tensor.name.clone(),
            format: WeightFormat::F32,
            shape: tensor.shape.clone(),
        })
        .collect();
    let out = model.path("infinite.gguf");
    write_gguf(&out, checkpoint.spec(), &checkpoint.tokenizer_files().unwrap(), &plans, &mut |plan| {
        let mut bytes = checkpoint.tensor(&plan.name)?.bytes_in(WeightFormat::F32)?;
        if plan.name == "model.layers.3.post_attention_layernorm.weight" {
            bytes[4 * 63..].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        }
        Ok(bytes)
    })
    .unwrap();
    let found = refusal(&out);
    assert!(
        found.contains("model.layers.3.post_attention_layernorm.weight holds -inf at index 63"),
        "{found}"
    );
}

#[test]
fn older_and_newer_spellings_mean_the_same() {
    let yarn = json!({
        "rope_type": "yarn", "factor": 16.0, "beta_fast": 24.0, "beta_slow": 2.0, "truncate": false,
        "original_max_position_embeddings": 2048,
    });
    let mut with_theta = yarn.clone();
    with_theta["rope_theta"] = json!(50_000.0);
    let mut with_type = yarn.clone();
    with_type["type"] = with_type.as_object_mut().unwrap().remove("rope_type").unwrap();
    let open = |changes: Value| {
        let model = gpt_oss();
        reconfigure(&model, changes);
        Checkpoint::open(&model.hugging_face()).unwrap().spec().clone()
    };
    let newer = json!({
        "rope_theta": null, "rope_scaling": null, "rope_parameters": with_theta,
        "swiglu_alpha": 1.702, "swiglu_limit": 7.0, "num_experts_per_tok": 3, "experts_per_token": null,
    });
    let newer = open(newer);
    assert_eq!((newer.rope.theta, newer.layers[0].experts.unwrap().active), (50_000.0, 3));
    for older in [
        json!({ "rope_theta": 50_000.0, "rope_scaling": yarn, "swiglu_alpha": null, "num_experts_per_tok": null, "experts_per_token": 3 }),
        json!({ "rope_theta": 50_000, "rope_scaling": with_type, "num_experts_per_tok": 3, "experts_per_token": null }),
        json!({
            "rope_theta": 50_000.0, "rope_scaling": yarn, "num_experts_per_tok": 3,
            "num_experts": 8, "num_local_experts": null, "swiglu_limit": null,
        }),
    ] {
        assert_eq!(open(older.clone()), newer, "{older:#}");
    }
}

#[test]
fn a_tokenizer_that_gguf_has_no_name_for() {
    let model = Model::small();
    let path = model.hugging_face().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    tokenizer["pre_tokenizer"] = json!({ "type": "Whitespace" });
    fs::write(path, tokenizer.to_string()).unwrap();
    let out = model.path("none.gguf");
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let found = export_gguf(&checkpoint, &out, None).unwrap_err().to_string();
    assert!(found.contains("pre-tokenizer in GGUF:") && found.contains("gpt-4o"), "{found}");
    assert!(!out.exists());
}
