//! An adapter in PEFT's format: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Matrices have PEFT's names and shapes. Experts, whose weights are parameters and not modules there, are
//! `target_parameters`: A is `[experts · rank, inputs]`, expert after expert, B `[outputs, rank · experts]` with the expert
//! varying fastest, and of two parameters of one module PEFT hangs the first below the second's `base_layer`.

use std::path::Path;

use espalier_model::ModelSpec;
use serde_json::json;

use crate::error::TrainingError;
use crate::network::{Adapter, AdapterTarget};
use crate::tensor_file::{NamedTensor, write, write_text};

/// The version whose format this is.
const PEFT_VERSION: &str = "0.21.2";

/// Writes `adapter` into `directory`, which is made if it is not there. `base` names the model that it belongs to.
///
/// # Errors
/// The disk.
pub fn write_peft(
    adapter: &Adapter,
    spec: &ModelSpec,
    base: &str,
    directory: &Path,
) -> Result<(), TrainingError> {
    std::fs::create_dir_all(directory).map_err(TrainingError::file("create", directory))?;
    let shape = adapter.shape();
    let mixture = spec.layers.iter().any(|layer| layer.experts.is_some());
    let has = |target: AdapterTarget| shape.targets.contains(&target);
    let modules: Vec<&str> = AdapterTarget::ALL
        .into_iter()
        .filter(|target| has(*target) && (target.of_attention() || !mixture))
        .map(AdapterTarget::name)
        .collect();
    let of_experts = [(AdapterTarget::GateProj, "gate_up_proj"), (AdapterTarget::DownProj, "down_proj")];
    let parameters: Vec<String> = of_experts
        .into_iter()
        .filter(|(target, _)| mixture && has(*target))
        .map(|(_, name)| format!("mlp.experts.{name}"))
        .collect();
    let config = json!({
        "peft_type": "LORA",
        "peft_version": PEFT_VERSION,
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": shape.rank,
        "lora_alpha": shape.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "modules_to_save": null,
        "target_modules": modules,
        "target_parameters": if parameters.is_empty() { json!(null) } else { json!(parameters) },
        "use_dora": false,
        "use_rslora": false,
    });
    let mut tensors = Vec::new();
    for module in adapter.factors().keys() {
        push(adapter, module, parameters.len() == 2, &mut tensors)?;
    }
    write(&directory.join("adapter_model.safetensors"), ("made_by", "espalier"), &tensors)?;
    write_text(&directory.join("adapter_config.json"), &format!("{config:#}\n"))
}

/// The two tensors of a module; gate and up of experts are one, written with gate.
fn push(
    adapter: &Adapter,
    module: &str,
    both: bool,
    tensors: &mut Vec<NamedTensor>,
) -> Result<(), TrainingError> {
    let Some(factors) = adapter.factors().get(module) else { return Ok(()) };
    let (down, mut up) = (factors.down.values()?, factors.up.values()?);
    let mut push =
        |name: String, shape: Vec<usize>, values| tensors.push(NamedTensor { name, shape, values });
    let (&[experts, rank, inputs], Some((prefix, projection))) =
        (factors.down.shape(), module.rsplit_once('.'))
    else {
        let name = |part: &str| format!("base_model.model.{module}.{part}.weight");
        push(name("lora_A"), factors.down.shape().to_vec(), down);
        push(name("lora_B"), factors.up.shape().to_vec(), up);
        return Ok(());
    };
    let is_gate = match projection {
        "gate_proj" => true,
        "up_proj" => return Ok(()),
        _ => false,
    };
    let outputs = if is_gate {
        let other = adapter.factors().get(&format!("{prefix}.up_proj"));
        let other = other.map(|other| other.up.values()).transpose()?.unwrap_or_default();
        // A file holds rows of gate and up in turn.
        let rows = up.chunks_exact(rank).zip(other.chunks_exact(rank));
        up = rows.flat_map(|(gate, up)| gate.iter().chain(up).copied()).collect();
        up.len() / (experts * rank)
    } else {
        up.len() / (experts * rank)
    };
    let below = if is_gate && both { "base_layer." } else { "" };
    let name = |part: &str| format!("base_model.model.{prefix}.{below}{part}.weight");
    push(name("lora_A"), vec![experts * rank, inputs], down);
    push(name("lora_B"), vec![outputs, rank * experts], experts_last(&up, experts, outputs * rank));
    Ok(())
}

/// `[experts, values]` as `[values, experts]`.
fn experts_last(values: &[f32], experts: usize, each: usize) -> Vec<f32> {
    let of_value =
        |value: usize| (0..experts).filter_map(move |expert| values.get(expert * each + value).copied());
    (0..each).flat_map(of_value).collect()
}
