//! Writing a directory that this program and HF transformers load.

use std::fs::{self, File};
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;
use serde_json::{Map, Value, json};

use super::config_json::config_json;
use super::fusion::{Fusion, fusions};
use super::per_layer::Shapes;
use super::{
    CHAT_TEMPLATE, CONFIG, GENERATION_CONFIG, INDEX, SINGLE, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG,
};
use crate::error::ModelError;
use crate::free_space;
use crate::safetensors::ShardWriter;
use crate::spec::ModelSpec;
use crate::tensor_bytes::{ProducePart, TensorBytes, checked};
use crate::tensor_plan::TensorPlan;
use crate::tokenizer::TokenizerFiles;

/// Bytes of tensors in one file, as the hub's own tools cut them.
const SHARD_BYTES: u64 = 5_000_000_000;

/// Bytes that are produced at once where a tensor can be produced in parts.
const PART_BYTES: u64 = 64 << 20;

/// Writes a model directory, one tensor in memory at a time.
///
/// `tensors` must be those of [`ModelSpec::tensors`] in any order; `produce` is asked once for the little-endian bytes
/// of each, mostly in that order (gate and up of gpt-oss's experts are asked for together). Everything goes into a hidden sibling directory first, is flushed to the disk and renamed at
/// the end: `directory` either doesn't exist or is complete. After an error the sibling is removed; after a crash it
/// may stay, and never looks like a model.
///
/// # Errors
/// `directory` exists and isn't empty, a shape that HF's configuration can't express, tensors that contradict the
/// spec, too little space on the disk, bytes of the wrong length, I/O.
pub fn write_hugging_face(
    directory: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    produce: &mut dyn FnMut(&TensorPlan) -> Result<Vec<u8>, ModelError>,
) -> Result<(), ModelError> {
    let mut whole = |plan: &TensorPlan, _: Range<usize>| produce(plan).map(TensorBytes::from);
    write_limited(directory, spec, files, tensors, Shapes::Uniform, u64::MAX, &mut whole)
}

/// Like [`write_hugging_face`], but a tensor is produced part by part, in ascending ranges of its first side, so that
/// memory holds no more than a fixed buffer or one expert, whatever the model's size; and `shapes` may allow layers
/// that only this program reads.
///
/// # Errors
/// See [`write_hugging_face`].
pub fn write_hugging_face_in_parts(
    directory: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    shapes: Shapes,
    produce: &mut ProducePart<'_>,
) -> Result<(), ModelError> {
    write_limited(directory, spec, files, tensors, shapes, PART_BYTES, produce)
}

fn write_limited(
    directory: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    shapes: Shapes,
    part_bytes: u64,
    produce: &mut ProducePart<'_>,
) -> Result<(), ModelError> {
    spec.validate()?;
    spec.check_plan(tensors)?;
    let fusions = fusions(tensors)?;
    let mxfp4 = tensors.iter().any(|plan| plan.format == WeightFormat::Mxfp4);
    let config = config_json(spec, dtype_name(tensors), mxfp4, shapes)?;
    let occupied =
        directory.exists() && fs::read_dir(directory).map_or(true, |mut entries| entries.next().is_some());
    if occupied {
        let expected = "a path that doesn't exist or an empty directory";
        return Err(ModelError::argument("output directory", directory.display(), expected));
    }
    free_space::require(directory, fusions.iter().map(Fusion::bytes).sum())?;
    let partial = Partial::create(directory)?;
    write_weights(&partial.path, &fusions, part_bytes, produce)?;
    write_texts(&partial.path, &config, files)?;
    partial.finish(directory)
}

/// transformers' name of the format that most of the weights have.
fn dtype_name(tensors: &[TensorPlan]) -> &'static str {
    // Embedding, head and attention decide where the experts are quantised.
    let unquantized = tensors.iter().filter(|plan| plan.format.block_values() == 1);
    let largest = unquantized.max_by_key(|plan| plan.shape.iter().product::<usize>());
    match largest.map(|plan| plan.format) {
        Some(WeightFormat::F16) => "float16",
        Some(WeightFormat::Bf16) => "bfloat16",
        _ => "float32",
    }
}

fn write_weights(
    directory: &Path,
    fusions: &[Fusion<'_>],
    part_bytes: u64,
    produce: &mut ProducePart<'_>,
) -> Result<(), ModelError> {
    let lengths = shard_lengths(fusions, SHARD_BYTES);
    let mut weight_map = Map::new();
    let mut left = fusions;
    for (place, &length) in lengths.iter().enumerate() {
        let file = match lengths.len() {
            1 => SINGLE.to_owned(),
            count => format!("model-{:05}-of-{count:05}.safetensors", place + 1),
        };
        let (shard, rest) = left.split_at(length);
        left = rest;
        let entries = || shard.iter().flat_map(|fusion| &fusion.written);
        let mut writer = ShardWriter::create(&directory.join(&file), None, entries())?;
        for fusion in shard {
            // A second tensor, the scales of MXFP4, follows when all of the first is written.
            let mut second = Vec::new();
            for part in fusion.parts(part_bytes) {
                let sources = fusion.sources.iter();
                let produced = sources.map(|plan| checked(plan, &part, produce(plan, part.clone())?));
                let produced = produced.collect::<Result<Vec<_>, _>>()?;
                fusion.fuse(&produced, &mut |bytes| writer.write(bytes), &mut second)?;
            }
            writer.write(&second)?;
        }
        writer.finish()?;
        weight_map.extend(entries().map(|entry| (entry.name.clone(), file.clone().into())));
    }
    if lengths.len() > 1 {
        let total: u64 = fusions.iter().map(Fusion::bytes).sum();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        write_text(&directory.join(INDEX), &pretty(&index))?;
    }
    Ok(())
}

/// How many fusions go into each file: as many as fit, at least one.
fn shard_lengths(fusions: &[Fusion<'_>], shard_bytes: u64) -> Vec<usize> {
    let mut lengths = vec![0];
    let mut filled = 0_u64;
    for fusion in fusions {
        if filled > 0 && filled.saturating_add(fusion.bytes()) > shard_bytes {
            lengths.push(0);
            filled = 0;
        }
        filled += fusion.bytes();
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
