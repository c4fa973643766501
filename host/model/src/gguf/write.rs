//! Writing a GGUF file that this program and llama.cpp load.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;

use super::architecture::ROPE_FACTORS;
use super::architecture_metadata::architecture_metadata;
use super::metadata::Metadata;
use super::value::write_string;
use super::{tensor_names, tensor_type, vocabulary};
use crate::error::ModelError;
use crate::free_space;
use crate::layout::interleave_rows;
use crate::spec::{ModelSpec, RopeScaling, RopeSpec};
use crate::stored_tensor::tensor_bytes;
use crate::tensor_bytes::{ProducePart, TensorBytes, checked};
use crate::tensor_plan::TensorPlan;
use crate::tokenizer::TokenizerFiles;

const ALIGNMENT: usize = 32;

/// Bytes that are produced at once where a tensor can be produced in parts.
const PART_BYTES: u64 = 64 << 20;

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
    let mut whole = |plan: &TensorPlan, _: Range<usize>| produce(plan).map(TensorBytes::from);
    write_limited(path, spec, files, tensors, u64::MAX, &mut whole)
}

/// Like [`write_gguf`], but a tensor is produced part by part, in ascending ranges of its first side. Those that are
/// permuted here are produced whole.
///
/// # Errors
/// See [`write_gguf`].
pub fn write_gguf_in_parts(
    path: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    produce: &mut ProducePart<'_>,
) -> Result<(), ModelError> {
    write_limited(path, spec, files, tensors, PART_BYTES, produce)
}

fn write_limited(
    path: &Path,
    spec: &ModelSpec,
    files: &TokenizerFiles,
    tensors: &[TensorPlan],
    part_bytes: u64,
    produce: &mut ProducePart<'_>,
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
        file.write_all(&bytes).and_then(|()| pad(&mut file, bytes.len())).map_err(failed)?;
    }
    for plan in tensors {
        let heads = permuted_heads(spec, plan);
        let mut written = 0;
        for part in parts(plan, if heads.is_some() { u64::MAX } else { part_bytes })? {
            let bytes = checked(plan, &part, produce(plan, part.clone())?)?;
            let bytes = match heads {
                Some(heads) => TensorBytes::from(interleaved(plan, &bytes, heads)?),
                None => bytes,
            };
            file.write_all(&bytes).map_err(failed)?;
            written += bytes.len();
        }
        pad(&mut file, written).map_err(failed)?;
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

/// Ranges of the first side that together take at most about `part_bytes`, at least one index each.
fn parts(
    plan: &TensorPlan,
    part_bytes: u64,
) -> Result<impl Iterator<Item = Range<usize>> + use<>, ModelError> {
    let first = plan.shape.first().copied().unwrap_or(1).max(1);
    let index_bytes = (tensor_bytes(&plan.name, plan.format, &plan.shape)? / first as u64).max(1);
    let step = usize::try_from(part_bytes / index_bytes).unwrap_or(usize::MAX).clamp(1, first);
    Ok((0..first).step_by(step).map(move |start| start..(start + step).min(first)))
}

/// Heads of a matrix whose rows ggml has in another order.
fn permuted_heads(spec: &ModelSpec, plan: &TensorPlan) -> Option<usize> {
    super::permuted_heads(spec, &tensor_names::ggml_name(&plan.name, spec.architecture)?)
}

fn interleaved(plan: &TensorPlan, bytes: &[u8], heads: usize) -> Result<Vec<u8>, ModelError> {
    let rows = plan.shape.first().copied().unwrap_or(1);
    interleave_rows(bytes, rows, heads).ok_or_else(|| {
        ModelError::argument(format!("rows of tensor {}", plan.name), rows, format!("{heads} equal heads"))
    })
}

fn pad(file: &mut impl Write, bytes: usize) -> io::Result<()> {
    let padding = bytes.next_multiple_of(ALIGNMENT) - bytes;
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
