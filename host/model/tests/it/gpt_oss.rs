//! gpt-oss in all its file forms: one and the same model.

use std::fs;

use espalier_kernels::WeightFormat;
use espalier_model::{
    Activation, Architecture, Checkpoint, Inspection, RopeScaling, SynthShape, export_gguf,
    export_hugging_face, safetensors,
};
use serde_json::{Value, json};

use crate::model::Model;

fn shape() -> SynthShape {
    SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", "bfloat16")
}

fn quantized() -> SynthShape {
    shape().with("quantization_config", json!({ "quant_method": "mxfp4" }))
}

fn bytes(checkpoint: &Checkpoint, name: &str) -> Vec<u8> {
    checkpoint.tensor(name).unwrap().bytes().unwrap().as_slice().to_vec()
}

#[test]
fn the_specification_has_what_is_peculiar_to_it() {
    let model = Model::new(&quantized());
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let spec = checkpoint.spec();
    assert_eq!(spec.architecture, Architecture::GptOss);
    assert_eq!(spec.activation, Activation::ClampedSwiglu { alpha: 1.702, limit: 7.0 });
    let windows: Vec<_> = spec.layers.iter().map(|layer| layer.sliding_window).collect();
    assert_eq!(windows, [Some(16), None, Some(16), None]);
    let layer = &spec.layers[0];
    assert!(layer.attention_sinks && layer.attention_bias && layer.output_bias);
    assert_eq!(layer.experts.map(|experts| (experts.count, experts.active)), Some((8, 4)));
    assert!(matches!(spec.rope.scaling, RopeScaling::Yarn { truncate: false, .. }));
    let gate = checkpoint.tensor("model.layers.1.mlp.experts.gate_proj.weight").unwrap();
    assert_eq!((gate.format, gate.shape.as_slice()), (WeightFormat::Mxfp4, [8, 128, 64].as_slice()));
    let text = Inspection::new(&checkpoint).to_string();
    assert!(text.contains("8, 4 of them for each token") && text.contains("routers"), "{text}");
}

#[test]
fn files_have_hugging_faces_names_and_shapes() {
    let names = |model: &Model| {
        let file = fs::read(model.hugging_face().join("model.safetensors")).unwrap();
        let header = safetensors::parse(&file).unwrap();
        header.tensors.into_iter().map(|entry| (entry.name, entry.shape)).collect::<Vec<_>>()
    };
    let has = |names: &[(String, Vec<usize>)], name: &str, shape: &[usize]| {
        assert!(
            names.iter().any(|(other, found)| other == name && found == shape),
            "{name} {shape:?}: {names:?}"
        );
    };
    let packed = names(&Model::new(&quantized()));
    has(&packed, "model.layers.0.mlp.experts.gate_up_proj_blocks", &[8, 256, 2, 16]);
    has(&packed, "model.layers.0.mlp.experts.gate_up_proj_scales", &[8, 256, 2]);
    has(&packed, "model.layers.0.mlp.experts.gate_up_proj_bias", &[8, 256]);
    has(&packed, "model.layers.0.mlp.experts.down_proj_blocks", &[8, 64, 4, 16]);
    has(&packed, "model.layers.0.self_attn.sinks", &[8]);
    let plain = names(&Model::new(&shape()));
    has(&plain, "model.layers.0.mlp.experts.gate_up_proj", &[8, 64, 256]);
    has(&plain, "model.layers.0.mlp.experts.down_proj", &[8, 128, 64]);
    has(&plain, "model.layers.0.mlp.experts.down_proj_bias", &[8, 64]);
}

#[test]
fn copies_are_equal_byte_for_byte_and_dequantised_ones_in_value() {
    let model = Model::new(&quantized());
    let original = Checkpoint::open(&model.hugging_face()).unwrap();
    let gguf = Checkpoint::open(&model.gguf()).unwrap();
    assert_eq!(gguf.spec(), original.spec());
    let back_path = model.path("back");
    export_hugging_face(&gguf, &back_path, None).unwrap();
    let back = Checkpoint::open(&back_path).unwrap();
    let unpacked_path = model.path("unpacked");
    export_hugging_face(&gguf, &unpacked_path, Some(WeightFormat::Bf16)).unwrap();
    let unpacked = Checkpoint::open(&unpacked_path).unwrap();
    let file = |directory: &std::path::Path| fs::read(directory.join("model.safetensors")).unwrap();
    assert!(file(&back_path) == file(&model.hugging_face()), "the weights' file comes back as it was");
    for tensor in original.tensors() {
        let name = &tensor.name;
        assert_eq!(unpacked.tensor(name).unwrap().format, WeightFormat::Bf16);
        assert_eq!(unpacked.tensor(name).unwrap().to_f32().unwrap(), tensor.to_f32().unwrap(), "{name}");
        assert_eq!(gguf.tensor(name).unwrap().to_f32().unwrap(), tensor.to_f32().unwrap(), "{name}");
        assert_eq!(bytes(&back, name), bytes(&original, name), "{name}");
        if tensor.format == WeightFormat::Mxfp4 {
            assert_eq!(bytes(&gguf, name), bytes(&original, name), "{name}");
        }
    }
}

#[test]
fn unquantised_experts_are_transposed_in_the_file_alone() {
    let model = Model::new(&shape());
    let original = Checkpoint::open(&model.hugging_face()).unwrap();
    let file = fs::read(model.hugging_face().join("model.safetensors")).unwrap();
    let header = safetensors::parse(&file).unwrap();
    let name = "model.layers.2.mlp.experts.gate_up_proj";
    let entry = header.tensors.into_iter().find(|entry| entry.name == name).unwrap();
    let stored = &file[entry.range];
    let up = bytes(&original, "model.layers.2.mlp.experts.up_proj.weight");
    let (experts, width, hidden) = (8, 128, 64);
    for (expert, channel, column) in [(0, 0, 0), (3, 17, 41), (experts - 1, width - 1, hidden - 1)] {
        let in_file = 2 * ((expert * hidden + column) * 2 * width + 2 * channel + 1);
        let here = 2 * ((expert * width + channel) * hidden + column);
        assert_eq!(stored[in_file..in_file + 2], up[here..here + 2]);
    }
    let gguf = Checkpoint::open(&model.gguf()).unwrap();
    for tensor in original.tensors() {
        assert_eq!(
            gguf.tensor(&tensor.name).unwrap().to_f32().unwrap(),
            tensor.to_f32().unwrap(),
            "{}",
            tensor.name
        );
    }
}

#[test]
fn quantising_is_for_the_experts() {
    let model = Model::new(&shape());
    let original = Checkpoint::open(&model.hugging_face()).unwrap();
    let (directory, file) = (model.path("quantized"), model.path("quantized.gguf"));
    export_hugging_face(&original, &directory, Some(WeightFormat::Mxfp4)).unwrap();
    export_gguf(&original, &file, Some(WeightFormat::Mxfp4)).unwrap();
    let (directory, file) = (Checkpoint::open(&directory).unwrap(), Checkpoint::open(&file).unwrap());
    for tensor in original.tensors() {
        let name = &tensor.name;
        let quantized = directory.tensor(name).unwrap();
        let expert = name.contains(".experts.") && name.ends_with(".weight");
        assert_eq!(quantized.format, if expert { WeightFormat::Mxfp4 } else { WeightFormat::Bf16 }, "{name}");
        assert_eq!(quantized.to_f32().unwrap(), file.tensor(name).unwrap().to_f32().unwrap(), "{name}");
    }
}

/// The model in OpenAI's own names, with q, k and v joined.
fn write_original(model: &Model, checkpoint: &Checkpoint) -> std::path::PathBuf {
    let directory = model.path("original");
    fs::create_dir(&directory).unwrap();
    let spec = checkpoint.spec();
    let config = json!({
        "num_hidden_layers": spec.layers.len(), "num_experts": 8, "experts_per_token": 4, "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size, "intermediate_size": 128, "swiglu_limit": 7.0, "head_dim": spec.head_dim,
        "num_attention_heads": 8, "num_key_value_heads": 4, "sliding_window": 16, "initial_context_length": 4096,
        "rope_theta": 150_000, "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
    });
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    let file = fs::read(model.hugging_face().join("model.safetensors")).unwrap();
    let header = safetensors::parse(&file).unwrap();
    let find = |name: &str| header.tensors.iter().find(|entry| entry.name == name).unwrap();
    let mut entries: Vec<(String, &str, Vec<usize>, Vec<u8>)> = Vec::new();
    let mut add = |name: String, sources: &[String]| {
        let parts: Vec<_> = sources.iter().map(|source| find(source)).collect();
        let mut shape = parts[0].shape.clone();
        shape[0] = parts.iter().map(|part| part.shape[0]).sum();
        let data = parts.iter().flat_map(|part| file[part.range.clone()].to_vec()).collect();
        let dtype = if parts[0].dtype == safetensors::Dtype::U8 { "U8" } else { "BF16" };
        entries.push((name, dtype, shape, data));
    };
    for (name, source) in [
        ("embedding.weight", "model.embed_tokens.weight"),
        ("norm.scale", "model.norm.weight"),
        ("unembedding.weight", "lm_head.weight"),
    ] {
        add(name.into(), &[source.into()]);
    }
    for layer in 0..spec.layers.len() {
        let from = |name: &str| format!("model.layers.{layer}.{name}");
        for kind in ["weight", "bias"] {
            let sources = ["q", "k", "v"].map(|part| from(&format!("self_attn.{part}_proj.{kind}")));
            add(format!("block.{layer}.attn.qkv.{kind}"), &sources);
        }
        for (name, source) in [
            ("attn.norm.scale", "input_layernorm.weight"),
            ("attn.out.weight", "self_attn.o_proj.weight"),
            ("attn.out.bias", "self_attn.o_proj.bias"),
            ("attn.sinks", "self_attn.sinks"),
            ("mlp.norm.scale", "post_attention_layernorm.weight"),
            ("mlp.gate.weight", "mlp.router.weight"),
            ("mlp.gate.bias", "mlp.router.bias"),
            ("mlp.mlp1_weight.blocks", "mlp.experts.gate_up_proj_blocks"),
            ("mlp.mlp1_weight.scales", "mlp.experts.gate_up_proj_scales"),
            ("mlp.mlp1_bias", "mlp.experts.gate_up_proj_bias"),
            ("mlp.mlp2_weight.blocks", "mlp.experts.down_proj_blocks"),
            ("mlp.mlp2_weight.scales", "mlp.experts.down_proj_scales"),
            ("mlp.mlp2_bias", "mlp.experts.down_proj_bias"),
        ] {
            add(format!("block.{layer}.{name}"), &[from(source)]);
        }
    }
    let mut described = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in entries {
        let start = data.len();
        data.extend(bytes);
        described
            .insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] }));
    }
    let text = Value::Object(described).to_string();
    let file = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), &data].concat();
    fs::write(directory.join("model--00001-of-00001.safetensors"), file).unwrap();
    directory
}

#[test]
fn openais_own_directory_is_the_same_model() {
    let model = Model::new(&quantized());
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let original = Checkpoint::open(&write_original(&model, &checkpoint)).unwrap();
    let (spec, expected) = (original.spec(), checkpoint.spec());
    assert_eq!(
        (&spec.layers, &spec.rope, spec.max_positions),
        (&expected.layers, &expected.rope, expected.max_positions)
    );
    for tensor in checkpoint.tensors() {
        assert_eq!(bytes(&original, &tensor.name), bytes(&checkpoint, &tensor.name), "{}", tensor.name);
    }
}

#[test]
fn openais_own_directory_goes_to_the_other_containers() {
    let model = Model::new(&quantized());
    let checkpoint = Checkpoint::open(&model.hugging_face()).unwrap();
    let original = Checkpoint::open(&write_original(&model, &checkpoint)).unwrap();
    let (directory, file) = (model.path("from-original"), model.path("from-original.gguf"));
    export_hugging_face(&original, &directory, None).unwrap();
    export_gguf(&original, &file, None).unwrap();
    let weights = |directory: &std::path::Path| fs::read(directory.join("model.safetensors")).unwrap();
    assert!(weights(&directory) == weights(&model.hugging_face()), "HF's file comes out of it");
    let (directory, file) = (Checkpoint::open(&directory).unwrap(), Checkpoint::open(&file).unwrap());
    assert_eq!(directory.spec(), original.spec());
    assert_eq!(file.spec(), original.spec());
}

#[test]
fn damaged_experts_are_refused_by_name() {
    let refuse = |damage: &dyn Fn(String) -> String, expected: &str| {
        let model = Model::new(&quantized());
        let path = model.hugging_face().join("model.safetensors");
        let file = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = damage(String::from_utf8(file[8..8 + length].to_vec()).unwrap());
        fs::write(
            &path,
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &file[8 + length..]].concat(),
        )
        .unwrap();
        let message = Checkpoint::open(&model.hugging_face()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message} should contain {expected}");
    };
    let layer = "model.layers.3.mlp.experts";
    refuse(
        &|header| header.replace(&format!("{layer}.down_proj_scales"), "elsewhere"),
        "tensor model.layers.3.mlp.experts.down_proj_scales is missing",
    );
    refuse(
        &|header| header.replace(&format!("{layer}.down_proj_blocks"), "elsewhere"),
        "dtype of tensor elsewhere",
    );
    refuse(
        &|header| header.replace("[8,256,2,16]", "[8,128,4,16]"),
        "gate_up_proj_scales has shape [8, 256, 2], but the configuration asks for [8, 128, 4]",
    );
    refuse(&|header| header.replace("[8,256,2,16]", "[8,256,32]"), "[experts, rows, blocks, 16]");
}
