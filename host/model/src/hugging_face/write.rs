//! Writing a directory that this program and HF transformers load.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;
use serde_json::{Map, Value, json};

use super::{
    CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, INDEX, SINGLE, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG,
    config_json,
};
use crate::error::ModelError;
use crate::safetensors::{Dtype, Planned, ShardWriter};
use crate::spec::ModelSpec;
use crate::stored_tensor::tensor_bytes;
use crate::tensor_plan::TensorPlan;
use crate::tokenizer::TokenizerFiles;

/// Bytes of tensors in one file, as the hub's own tools cut them.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Writes a model directory, one tensor in memory at a time.
///
/// `tensors` must be those of [`ModelSpec::tensors`] in any order; `produce` is asked for the little-endian bytes of
/// each in that order. Everything goes into a hidden sibling directory first, is flushed to the disk and renamed at
/// the end: `directory` either doesn't exist or is complete. After an error the sibling is removed; after a crash it
/// may stay, and never looks like a model.
///
/// # Errors
/// `directory` exists and isn't empty, a shape that HF's configuration can't express, tensors that contradict the
/// spec, bytes of the wrong length, I/O.
pub fn write_hugging_face(
    directory: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    produce: &mut dyn FnMut(&TensorPlan) -> Result<Vec<u8>, ModelError>,
) -> Result<(), ModelError> {
    write_sharded(directory, spec, files, tensors, SHARD_BYTES, produce)
}

pub(super) fn write_sharded(
    directory: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    shard_bytes: u64,
    produce: &mut dyn FnMut(&TensorPlan) -> Result<Vec<u8>, ModelError>,
) -> Result<(), ModelError> {
    spec.validate()?;
    let planned = safetensors_plan(spec, tensors)?;
    let config = config_json(spec, dtype_name(tensors))?;
    let occupied =
        directory.exists() && fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_some());
    if occupied {
        let expected = "a path that doesn't exist or an empty directory";
        return Err(ModelError::argument("output directory", directory.display(), expected));
    }
    let partial = Partial::create(directory)?;
    write_weights(&partial.path, tensors, &planned, shard_bytes, produce)?;
    write_texts(&partial.path, &config, files)?;
    partial.finish(directory)
}

/// The plan as safetensors entries, after comparing it with what the spec asks for.
fn safetensors_plan(spec: &ModelSpec, tensors: &[TensorPlan]) -> Result<Vec<Planned>, ModelError> {
    let mut planned = Vec::with_capacity(tensors.len());
    for plan in tensors {
        let dtype = match plan.format {
            WeightFormat::F32 => Dtype::F32,
            WeightFormat::F16 => Dtype::F16,
            WeightFormat::Bf16 => Dtype::Bf16,
            other => {
                let what = format!("format of tensor {} in an HF directory:", plan.name);
                return Err(ModelError::unsupported(what, other.name(), "f32, f16, bf16"));
            }
        };
        planned.push(Planned { name: plan.name.clone(), dtype, shape: plan.shape.clone() });
    }
    spec.check_plan(tensors)?;
    Ok(planned)
}

/// transformers' name of the format that most of the weights have.
fn dtype_name(tensors: &[TensorPlan]) -> &'static str {
    let largest = tensors.iter().max_by_key(|plan| plan.shape.iter().product::<usize>());
    match largest.map(|plan| plan.format) {
        Some(WeightFormat::F16) => "float16",
        Some(WeightFormat::Bf16) => "bfloat16",
        _ => "float32",
    }
}

fn write_weights(
    directory: &Path,
    tensors: &[TensorPlan],
    planned: &[Planned],
    shard_bytes: u64,
    produce: &mut dyn FnMut(&TensorPlan) -> Result<Vec<u8>, ModelError>,
) -> Result<(), ModelError> {
    let lengths = shard_lengths(planned, shard_bytes);
    let mut weight_map = Map::new();
    let (mut plans, mut entries) = (tensors, planned);
    for (place, &length) in lengths.iter().enumerate() {
        let file = match lengths.len() {
            1 => SINGLE.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", place + 1),
        };
        let (shard_plans, rest_plans) = plans.split_at(length);
        let (shard, rest) = entries.split_at(length);
        (plans, entries) = (rest_plans, rest);
        let mut writer = ShardWriter::create(&directory.join(&file), shard)?;
        for plan in shard_plans {
            let bytes = produce(plan)?;
            let expected = tensor_bytes(&plan.name, plan.format, &plan.shape)?;
            if bytes.len() as u64 != expected {
                let what = format!("bytes produced for tensor {}", plan.name);
                return Err(ModelError::argument(what, bytes.len(), expected.to_string()));
            }
            writer.write(&bytes)?;
            weight_map.insert(plan.name.clone(), file.clone().into());
        }
        writer.finish()?;
    }
    if lengths.len() > 1 {
        let total: u64 = planned.iter().map(Planned::bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write_text(&directory.join(INDEX), &pretty(&index))?;
    }
    Ok(())
}

/// How many tensors go into each file: as many as fit, at least one.
fn shard_lengths(planned: &[Planned], shard_bytes: u64) -> Vec<usize> {
    let mut lengths = vec![0];
    let mut filled = 0_u64;
    for tensor in planned {
        let full = filled > 0 && filled.saturating_add(tensor.bytes()) > shard_bytes;
        if full {
            lengths.push(0);
            filled = 0;
        }
        filled += tensor.bytes();
        if let Some(length) = lengths.last_mut() {
            *length += 1;
        }
    }
    lengths
}

fn write_texts(directory: &Path, config: &Value, files: &TokenizerFiles) -> Result<(), ModelError> {
    write_text(&directory.join(CONFIG), &pretty(config))?;
    if let Some(tokenizer) = &files.tokenizer_json {
        write_text(&directory.join(TOKENIZER), tokenizer)?;
    }
    if let Some(template) = &files.chat_template_file {
        write_text(&directory.join(CHAT_TEMPLATE), template)?;
    }
    let objects = [
        (TOKENIZER_CONFIG, &files.tokenizer_config),
        (GENERATION_CONFIG, &files.generation_config),
        (SPECIAL_TOKENS, &files.special_tokens_map),
    ];
    for (name, value) in objects {
        if !value.is_null() {
            write_text(&directory.join(name), &pretty(value))?;
        }
    }
    Ok(())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn write_text(path: &Path, text: &str) -> Result<(), ModelError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| ModelError::io("write", path, source))
}

/// The sibling directory that is written to; removed on drop unless it was renamed.
struct Partial {
    path: PathBuf,
    finished: bool,
}

impl Partial {
    fn create(directory: &Path) -> Result<Self, ModelError> {
        let Some(name) = directory.file_name() else {
            return Err(ModelError::argument(
                "output directory",
                directory.display(),
                "a path that ends in a name",
            ));
        };
        let name = format!(".{}.partial-{}", name.to_string_lossy(), std::process::id());
        let path = directory.with_file_name(name);
        let create = || {
            if path.exists() {
                fs::remove_dir_all(&path)?;
            }
            fs::create_dir_all(&path)
        };
        create().map_err(|source| ModelError::io("create", &path, source))?;
        Ok(Self { path, finished: false })
    }

    fn finish(mut self, directory: &Path) -> Result<(), ModelError> {
        let sync = |path: &Path| {
            File::open(path)
                .and_then(|handle| handle.sync_all())
                .map_err(|source| ModelError::io("flush", path, source))
        };
        sync(&self.path)?;
        // Replaces an empty directory; anything else in its place makes it fail.
        fs::rename(&self.path, directory).map_err(|source| ModelError::io("rename to", directory, source))?;
        self.finished = true;
        match directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync(parent),
            None => sync(Path::new(".")),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
