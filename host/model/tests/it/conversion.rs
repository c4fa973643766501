//! `convert`: which tensors change, by how much, and what is refused.

use espalier_kernels::WeightFormat;
use espalier_model::{
    Checkpoint, CheckpointFormat, Conversion, ConversionReport, ModelError, StoredTensor, SynthShape, convert,
};

use crate::model::Model;

fn gpt_oss(dtype: &str) -> Model {
    Model::new(&SynthShape::default().with("model_type", "gpt_oss").with("torch_dtype", dtype))
}

fn converted(
    model: &Model,
    name: &str,
    container: CheckpointFormat,
    format: Option<WeightFormat>,
) -> Result<(Checkpoint, ConversionReport), ModelError> {
    let source = Checkpoint::open(&model.hugging_face()).unwrap();
    let out = model.path(name);
    let (mut seen, mut all) = (0, 0);
    let report = convert(&source, &out, Conversion { container, format }, &mut |done, total| {
        assert!(done > seen && done <= total);
        (seen, all) = (done, total);
    })?;
    assert_eq!(seen, all, "the last call is the whole");
    Ok((Checkpoint::open(&out).unwrap(), report))
}

fn bytes(tensor: &StoredTensor) -> Vec<u8> {
    tensor.bytes().unwrap().as_slice().to_vec()
}

/// Root of the summed squares of the differences over that of the values.
fn relative_rms(before: &StoredTensor, after: &StoredTensor) -> f64 {
    let (before, after) = (before.to_f32().unwrap(), after.to_f32().unwrap());
    let error: f64 = before.iter().zip(&after).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let energy: f64 = before.iter().map(|value| f64::from(*value).powi(2)).sum();
    (error / energy).sqrt()
}

#[test]
fn experts_become_mxfp4_and_all_else_keeps_its_bytes() {
    let model = gpt_oss("bfloat16");
    let source = Checkpoint::open(&model.hugging_face()).unwrap();
    let (quantized, report) =
        converted(&model, "mxfp4", CheckpointFormat::HuggingFace, Some(WeightFormat::Mxfp4)).unwrap();
    let [change] = report.changes.as_slice() else { panic!("one kind of change: {report:?}") };
    assert_eq!((change.from, change.to, change.tensors), ("bf16", "mxfp4", 3 * 4));
    let mut worst = 0.0_f64;
    for tensor in source.tensors() {
        let copy = quantized.tensor(&tensor.name).unwrap();
        if copy.format == WeightFormat::Mxfp4 {
            worst = worst.max(relative_rms(tensor, copy));
        } else {
            assert_eq!(bytes(copy), bytes(tensor), "{}", tensor.name);
        }
    }
    assert!((change.worst_relative_rms_error - worst).abs() < 1e-6, "{change:?}, {worst}");
    // Gaussian weights in MXFP4 with the largest value in the largest code's binade.
    assert!((0.10..0.13).contains(&change.relative_rms_error), "{change:?}");
    let text = report.to_string();
    assert!(text.contains("bf16 -> mxfp4") && text.contains("as they were"), "{text}");
    assert!(serde_json::to_value(&report).unwrap()["changes"][0]["relative_rms_error"].is_number());
}

#[test]
fn a_second_quantisation_changes_nothing() {
    let model = gpt_oss("bfloat16");
    let hf = CheckpointFormat::HuggingFace;
    converted(&model, "once", hf, Some(WeightFormat::Mxfp4)).unwrap();
    let once = Checkpoint::open(&model.path("once")).unwrap();
    let file = |name: &str| std::fs::read(model.path(name).join("model.safetensors")).unwrap();
    let again = Conversion { container: hf, format: Some(WeightFormat::Mxfp4) };
    let report = convert(&once, &model.path("twice"), again, &mut |_, _| {}).unwrap();
    assert!(report.changes.is_empty(), "{report:?}");
    assert!(file("once") == file("twice"));
    // Through bf16, which holds every MXFP4 value, and back.
    let wide = Conversion { container: hf, format: Some(WeightFormat::Bf16) };
    let report = convert(&once, &model.path("wide"), wide, &mut |_, _| {}).unwrap();
    assert_eq!(report.changes.iter().map(|change| change.relative_rms_error).sum::<f64>(), 0.0);
    let wide = Checkpoint::open(&model.path("wide")).unwrap();
    assert!(wide.tensors().all(|tensor| tensor.format == WeightFormat::Bf16));
    let report = convert(&wide, &model.path("back"), again, &mut |_, _| {}).unwrap();
    assert_eq!(report.changes[0].relative_rms_error, 0.0);
    assert!(file("once") == file("back"));
}

#[test]
fn a_gguf_file_has_matrices_in_the_format_and_the_rest_in_f32() {
    let model = gpt_oss("bfloat16");
    for format in [WeightFormat::Q8_0, WeightFormat::Bf16, WeightFormat::Mxfp4] {
        let (copy, report) =
            converted(&model, &format!("{format}.gguf"), CheckpointFormat::Gguf, Some(format)).unwrap();
        for tensor in copy.tensors() {
            let name = tensor.name.as_str();
            let vector = !name.ends_with(".weight") || name.contains("norm") || name.contains("router");
            let experts = name.contains(".experts.");
            let expected = match format {
                _ if vector => WeightFormat::F32,
                WeightFormat::Mxfp4 if !experts => WeightFormat::Bf16,
                other => other,
            };
            assert_eq!(tensor.format, expected, "{name}");
        }
        let to_f32 = report.changes.iter().find(|change| change.to == "f32").unwrap();
        assert_eq!(to_f32.relative_rms_error, 0.0, "{to_f32:?}");
    }
}

#[test]
fn what_has_no_place_is_refused_before_anything_is_written() {
    let refused = |model: &Model, container, format, expected: &str| {
        let error = converted(model, "refused", container, Some(format)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} should contain {expected}");
        assert!(!model.path("refused").exists());
    };
    let (hf, gguf) = (CheckpointFormat::HuggingFace, CheckpointFormat::Gguf);
    let llama = Model::small();
    refused(&llama, hf, WeightFormat::Mxfp4, "HF directory for llama: mxfp4 is not supported");
    refused(&llama, hf, WeightFormat::Q8_0, "HF directory for llama: q8_0 is not supported");
    refused(&gpt_oss("bfloat16"), hf, WeightFormat::Q8_0, "supported: f32, f16, bf16, mxfp4");
    refused(&llama, gguf, WeightFormat::Q4K, "number format to write q4_k is not supported");
    let odd = SynthShape::default().with("hidden_size", 48).with("num_attention_heads", 6);
    refused(
        &Model::new(&odd),
        gguf,
        WeightFormat::Q8_0,
        "last side of tensor model.embed_tokens.weight: found 48, expected a multiple of 32, the block of q8_0",
    );
    let odd = SynthShape::default().with("model_type", "gpt_oss").with("intermediate_size", 40);
    for container in [hf, gguf] {
        refused(
            &Model::new(&odd),
            container,
            WeightFormat::Mxfp4,
            "last side of tensor model.layers.0.mlp.experts.down_proj.weight: found 40, expected a multiple of 32",
        );
    }
}
