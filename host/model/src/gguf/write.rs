//! Writing a GGUF file that this program and llama.cpp load.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;

use super::architecture::{GPT_OSS_ACTIVATION, ROPE_FACTORS, YARN_TRUNCATE};
use super::metadata::Metadata;
use super::value::{Array, Value, write_string};
use super::{tensor_names, tensor_type, vocabulary};
use crate::error::ModelError;
use crate::free_space;
use crate::layout::interleave_rows;
use crate::spec::{Activation, Architecture, LayerSpec, ModelSpec, RopeScaling, RopeSpec};
use crate::stored_tensor::tensor_bytes;
use crate::tensor_plan::TensorPlan;
use crate::tokenizer::TokenizerFiles;

const ALIGNMENT: usize = 32;

/// Writes a GGUF file, one tensor in memory at a time.
///
/// `tensors` must be those of [`ModelSpec::tensors`], by HF name, in any order; `produce` is asked for the bytes of
/// each in that order, rows in HF's order: Llama's q and k are permuted here. The file is written beside `path`,
/// flushed and renamed at the end.
///
/// # Errors
/// `path` exists, tensors that contradict the spec, a tokenizer that GGUF has no name for, too little space on the
/// disk, bytes of the wrong length, I/O.
pub fn write_gguf(
    path: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    produce: &mut dyn FnMut(&TensorPlan) -> Result<Vec<u8>, ModelError>,
) -> Result<(), ModelError> {
    spec.validate()?;
    spec.check_plan(tensors)?;
    if path.exists() {
        return Err(ModelError::argument("output file", path.display(), "a path that doesn't exist"));
    }
    let rope_factors = rope_factors(spec);
    let mut metadata = architecture_metadata(spec, tensors)?;
    vocabulary::add(&mut metadata, spec, files)?;
    let header = header(spec, &metadata, tensors, rope_factors.as_deref())?;
    let weights = tensors.iter().map(|plan| tensor_bytes(&plan.name, plan.format, &plan.shape));
    free_space::require(path, weights.sum::<Result<u64, _>>()?)?;
    let partial = Partial::create(path)?;
    let mut file = BufWriter::with_capacity(1 << 20, &partial.file);
    let failed = |source| ModelError::io("write", &partial.path, source);
    file.write_all(&header).map_err(failed)?;
    if let Some(factors) = rope_factors {
        let bytes: Vec<u8> = factors.iter().flat_map(|factor| factor.to_le_bytes()).collect();
        write_padded(&mut file, &bytes).map_err(failed)?;
    }
    for plan in tensors {
        let bytes = in_ggml_order(spec, plan, produce(plan)?)?;
        write_padded(&mut file, &bytes).map_err(failed)?;
    }
    file.flush().map_err(failed)?;
    drop(file);
    partial.finish(path)
}

/// Header, metadata and tensor directory, padded to where the data begin.
fn header(
    spec: &ModelSpec,
    metadata: &Metadata,
    tensors: &[TensorPlan],
    factors: Option<&[f32]>,
) -> Result<Vec<u8>, ModelError> {
    let mut out = Vec::new();
    let tensor_count = tensors.len() + usize::from(factors.is_some());
    out.extend_from_slice(b"GGUF");
    out.extend_from_slice(&3_u32.to_le_bytes());
    out.extend_from_slice(&(tensor_count as u64).to_le_bytes());
    out.extend_from_slice(&(metadata.iter().len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        write_string(key, &mut out);
        value.write(&mut out);
    }
    let mut offset = 0_u64;
    let mut entry = |name: &str, format: WeightFormat, shape: &[usize]| {
        let number = tensor_type::number(format).ok_or_else(|| {
            ModelError::unsupported(
                format!("format of tensor {name} in GGUF:"),
                format.name(),
                "ggml's types",
            )
        })?;
        write_string(name, &mut out);
        out.extend_from_slice(&(shape.len() as u32).to_le_bytes());
        for &side in shape.iter().rev() {
            out.extend_from_slice(&(side as u64).to_le_bytes());
        }
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        offset = (offset + tensor_bytes(name, format, shape)?).next_multiple_of(ALIGNMENT as u64);
        Ok::<(), ModelError>(())
    };
    if let Some(factors) = factors {
        entry(ROPE_FACTORS, WeightFormat::F32, &[factors.len()])?;
    }
    for plan in tensors {
        let name = tensor_names::ggml_name(&plan.name, spec.architecture).ok_or_else(|| {
            ModelError::argument("planned tensor", &plan.name, "a tensor that GGUF has a name for")
        })?;
        entry(&name, plan.format, &plan.shape)?;
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    Ok(out)
}

fn in_ggml_order(spec: &ModelSpec, plan: &TensorPlan, bytes: Vec<u8>) -> Result<Vec<u8>, ModelError> {
    let expected = tensor_bytes(&plan.name, plan.format, &plan.shape)?;
    if bytes.len() as u64 != expected {
        let what = format!("bytes produced for tensor {}", plan.name);
        return Err(ModelError::argument(what, bytes.len(), expected.to_string()));
    }
    let name = tensor_names::ggml_name(&plan.name, spec.architecture).unwrap_or_default();
    let Some(heads) = super::permuted_heads(spec, &name) else { return Ok(bytes) };
    let rows = plan.shape.first().copied().unwrap_or(1);
    interleave_rows(&bytes, rows, heads).ok_or_else(|| {
        ModelError::argument(format!("rows of tensor {}", plan.name), rows, format!("{heads} equal heads"))
    })
}

fn write_padded(file: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
    io::copy(&mut io::Read::take(io::repeat(0), padding as u64), file).map(drop)
}

/// llama.cpp takes Llama 3's scaling as one divisor for each pair of dimensions.
fn rope_factors(spec: &ModelSpec) -> Option<Vec<f32>> {
    match &spec.rope.scaling {
        RopeScaling::Factors { factors } => Some(factors.clone()),
        RopeScaling::Llama3 { .. } => {
            let plain = RopeSpec { theta: spec.rope.theta, scaling: RopeScaling::None };
            let scaled = spec.rope.inverse_frequencies(spec.head_dim);
            let pairs = plain.inverse_frequencies(spec.head_dim).into_iter().zip(scaled);
            Some(pairs.map(|(plain, scaled)| (plain / scaled) as f32).collect())
        }
        _ => None,
    }
}

/// Keys below the architecture's prefix, and what says which that is.
fn architecture_metadata(spec: &ModelSpec, tensors: &[TensorPlan]) -> Result<Metadata, ModelError> {
    require_one_shape_of_experts(spec)?;
    let mut metadata = Metadata::default();
    let prefix = spec.architecture.gguf_name();
    metadata.insert("general.architecture".into(), Value::String(prefix.into()))?;
    metadata.insert("general.type".into(), Value::String("model".into()))?;
    if tensors.iter().any(|plan| plan.format.block_values() > 1) {
        metadata.insert("general.quantization_version".into(), Value::U32(2))?;
    }
    let mut put = |key: &str, value: Value| metadata.insert(format!("{prefix}.{key}"), value);
    put("block_count", number("number of layers", spec.layers.len())?)?;
    put("context_length", number("maximum of positions", spec.max_positions)?)?;
    put("embedding_length", number("hidden size", spec.hidden_size)?)?;
    put("vocab_size", number("vocabulary size", spec.vocab_size)?)?;
    put("feed_forward_length", per_layer(spec.layers.iter().map(|layer| layer.ffn_size))?)?;
    put("attention.head_count", per_layer(spec.layers.iter().map(|layer| layer.heads))?)?;
    put("attention.head_count_kv", per_layer(spec.layers.iter().map(|layer| layer.kv_heads))?)?;
    put("attention.key_length", number("head dimension", spec.head_dim)?)?;
    put("attention.value_length", number("head dimension", spec.head_dim)?)?;
    put("attention.layer_norm_rms_epsilon", Value::F32(spec.rms_norm_eps))?;
    put("rope.dimension_count", number("head dimension", spec.head_dim)?)?;
    put("rope.freq_base", Value::F32(spec.rope.theta as f32))?;
    match &spec.rope.scaling {
        RopeScaling::Linear { factor } => {
            put("rope.scaling.type", Value::String("linear".into()))?;
            put("rope.scaling.factor", Value::F32(*factor as f32))?;
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original_max_positions,
            attention_factor,
            truncate,
        } => {
            if !truncate && spec.architecture != Architecture::GptOss {
                // llama.cpp always rounds the ramp outward, so the file would mean another model there.
                return Err(ModelError::unsupported("YaRN in GGUF with truncate", false, "true"));
            }
            if *truncate && spec.architecture == Architecture::GptOss {
                put(YARN_TRUNCATE, Value::Bool(true))?;
            }
            put("rope.scaling.type", Value::String("yarn".into()))?;
            put("rope.scaling.factor", Value::F32(*factor as f32))?;
            let original = number("original maximum of positions", *original_max_positions)?;
            put("rope.scaling.original_context_length", original)?;
            put("rope.scaling.yarn_beta_fast", Value::F32(*beta_fast as f32))?;
            put("rope.scaling.yarn_beta_slow", Value::F32(*beta_slow as f32))?;
            let implied = 0.1 * factor.ln() + 1.0;
            put("rope.scaling.attn_factor", Value::F32((attention_factor / implied) as f32))?;
        }
        RopeScaling::None | RopeScaling::Llama3 { .. } | RopeScaling::Factors { .. } => {}
    }
    if let Some(experts) = spec.layers.first().and_then(|layer| layer.experts) {
        put("expert_count", number("experts", experts.count)?)?;
        put("expert_used_count", number("experts of a token", experts.active)?)?;
        put("expert_feed_forward_length", per_layer(spec.layers.iter().map(|layer| layer.ffn_size))?)?;
    }
    if let Some(window) = spec.layers.iter().find_map(|layer| layer.sliding_window) {
        if spec.architecture != Architecture::GptOss {
            let found = format!("of {window} for {prefix}");
            return Err(ModelError::unsupported("sliding window in GGUF", found, "none, or gpt-oss's"));
        }
        put("attention.sliding_window", number("sliding window", window)?)?;
        let slides: Vec<bool> = spec.layers.iter().map(|layer| layer.sliding_window.is_some()).collect();
        if slides.iter().enumerate().any(|(index, &slides)| slides != index.is_multiple_of(2)) {
            put("attention.sliding_window_pattern", Value::Array(Array::Bool(slides)))?;
        }
    }
    match spec.activation {
        Activation::ClampedSwiglu { .. } if spec.activation != GPT_OSS_ACTIVATION => {
            let found = format!("{:?}", spec.activation);
            let supported = "alpha 1.702 and limit 7, which programs that read it have built in";
            return Err(ModelError::unsupported("clamped SwiGLU in GGUF:", found, supported));
        }
        Activation::ClampedSwiglu { .. } | Activation::Silu => Ok(metadata),
    }
}

/// GGUF has one number of experts, and llama.cpp one of heads and channels where there are experts.
fn require_one_shape_of_experts(spec: &ModelSpec) -> Result<(), ModelError> {
    let Some(first) = spec.layers.first().filter(|layer| layer.experts.is_some()) else { return Ok(()) };
    let shape = |layer: &LayerSpec| {
        let experts = layer.experts.map_or(0, |experts| experts.count);
        let LayerSpec { heads, kv_heads, ffn_size, .. } = layer;
        format!("{experts} experts of {ffn_size} channels, {heads} query heads, {kv_heads} key/value heads")
    };
    let expected = shape(first);
    match spec.layers.iter().map(shape).enumerate().find(|(_, found)| *found != expected) {
        Some((layer, found)) => {
            let supported = format!("{expected}, as in layer 0");
            Err(ModelError::unsupported(format!("layer {layer} in GGUF with"), found, supported))
        }
        None => Ok(()),
    }
}

fn number(what: &str, value: usize) -> Result<Value, ModelError> {
    u32::try_from(value).map(Value::U32).map_err(|_| ModelError::argument(what, value, "a number of 32 bits"))
}

/// One number if all layers agree, else one for each.
fn per_layer(values: impl Iterator<Item = usize>) -> Result<Value, ModelError> {
    let numbers: Vec<u32> = values
        .map(|value| {
            u32::try_from(value)
                .map_err(|_| ModelError::argument("layer's size", value, "a number of 32 bits"))
        })
        .collect::<Result<_, _>>()?;
    Ok(match numbers.as_slice() {
        [first, rest @ ..] if rest.iter().all(|number| number == first) => Value::U32(*first),
        _ => Value::Array(Array::U32(numbers)),
    })
}

/// The file that is written to; removed on drop unless it was renamed.
struct Partial {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Partial {
    fn create(target: &Path) -> Result<Self, ModelError> {
        let Some(name) = target.file_name() else {
            return Err(ModelError::argument("output file", target.display(), "a path that ends in a name"));
        };
        let path =
            target.with_file_name(format!(".{}.partial-{}", name.to_string_lossy(), std::process::id()));
        let file = File::create(&path).map_err(|source| ModelError::io("create", &path, source))?;
        Ok(Self { path, file, finished: false })
    }

    fn finish(mut self, target: &Path) -> Result<(), ModelError> {
        self.file.sync_all().map_err(|source| ModelError::io("flush", &self.path, source))?;
        fs::rename(&self.path, target).map_err(|source| ModelError::io("rename to", target, source))?;
        self.finished = true;
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flush = File::open(parent).and_then(|handle| handle.sync_all());
        flush.map_err(|source| ModelError::io("flush", parent, source))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.finished {
            let _ = fs::remove_file(&self.path);
        }
    }
}
