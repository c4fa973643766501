//! Directories in the layout of the Hugging Face hub: `config.json`, safetensors files, tokenizer files.

#![deny(clippy::indexing_slicing)]

mod config;
mod config_json;
mod experts;
mod fields;
mod fusion;
mod original;
mod per_layer;
mod rope;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use espalier_kernels::{Bytes, WeightFormat};
use serde_json::{Map, Value};

pub(crate) use self::config::spec_from_config;
use self::fields::Fields;
#[cfg(test)]
pub(crate) use self::fusion::dtype_of;
pub use self::per_layer::Shapes;
pub use self::write::{write_hugging_face, write_hugging_face_in_parts};
use crate::checkpoint::{Contents, TokenizerSource};
use crate::error::ModelError;
use crate::safetensors::{self, Dtype};
use crate::spec::{Architecture, ModelSpec};
use crate::stored_tensor::StoredTensor;
use crate::tokenizer::{TokenizerFiles, token_ids};

const CONFIG: &str = "config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// The largest published `tokenizer.json` files have about 35 MB; more is not a text file of a model.
const MOST_TEXT_BYTES: u64 = 256 << 20;

/// Opens a directory; weights are memory-mapped.
pub(crate) fn open(directory: &Path) -> Result<Contents, ModelError> {
    let config_path = directory.join(CONFIG);
    let Some(config) = read_json(&config_path)? else {
        let path = directory.to_owned();
        return Err(ModelError::UnknownFormat { path, found: "a directory without config.json".into() });
    };
    let original = original::is_original(&config);
    let spec = if original { original::spec(&config) } else { spec_from_config(&config) };
    let mut spec = spec.map_err(|error| error.in_file(&config_path))?;
    let files = tokenizer_files(directory)?;
    complete_tokens(&mut spec, &files);
    let mut stored = Vec::new();
    let mut names = HashSet::new();
    for path in weight_files(directory)? {
        let shard = read_shard(&path, &spec).map_err(|error| error.in_file(&path))?;
        if let Some(twice) = shard.iter().find(|tensor| !names.insert(tensor.name.clone())) {
            let what = format!("tensor {}", twice.name);
            let found = "it in another file too";
            return Err(ModelError::malformed(what, found, "each tensor once").in_file(&path));
        }
        stored.extend(shard);
    }
    if original {
        stored = original::rename(stored, &spec)?;
    }
    let tensors = match spec.architecture {
        Architecture::GptOss => experts::separate(stored)?,
        _ => stored.into_iter().map(StoredValues::into_tensor).collect::<Result<_, _>>()?,
    };
    Ok(Contents { spec, tensors, tokenizer_files: TokenizerSource::Files(Box::new(files)) })
}

/// A tensor as a safetensors file holds it.
struct StoredValues {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Bytes,
}

impl StoredValues {
    fn format(&self) -> Result<WeightFormat, ModelError> {
        match self.dtype {
            Dtype::F32 => Ok(WeightFormat::F32),
            Dtype::F16 => Ok(WeightFormat::F16),
            Dtype::Bf16 => Ok(WeightFormat::Bf16),
            other => {
                let what = format!("dtype of tensor {}:", self.name);
                Err(ModelError::unsupported(what, format!("{other:?}"), "F32, F16, BF16"))
            }
        }
    }

    fn into_tensor(self) -> Result<StoredTensor, ModelError> {
        StoredTensor::new(self.name.clone(), self.format()?, self.shape, self.bytes)
    }

    /// The bytes, if they are of this type.
    fn bytes_of(&self, dtype: Dtype) -> Result<Bytes, ModelError> {
        if self.dtype == dtype {
            return Ok(self.bytes.clone());
        }
        let what = format!("dtype of tensor {}", self.name);
        Err(ModelError::malformed(what, format!("{:?}", self.dtype), format!("{dtype:?}")))
    }
}

/// What `config.json` leaves open about tokens, from the files beside it.
fn complete_tokens(spec: &mut ModelSpec, files: &TokenizerFiles) {
    spec.eos.extend(token_ids(files.generation_config.get("eos_token_id")));
    spec.eos.sort_unstable();
    spec.eos.dedup();
    if spec.bos.is_none() {
        spec.bos = token_ids(files.generation_config.get("bos_token_id")).first().copied();
    }
    spec.add_bos = spec.bos.is_some() && files.adds_bos();
}

fn tokenizer_files(directory: &Path) -> Result<TokenizerFiles, ModelError> {
    let json = |name: &str| {
        Ok::<_, ModelError>(read_json(&directory.join(name))?.map_or(Value::Null, Value::Object))
    };
    Ok(TokenizerFiles {
        tokenizer_json: read_text(&directory.join(TOKENIZER))?,
        tokenizer_config: json(TOKENIZER_CONFIG)?,
        generation_config: json(GENERATION_CONFIG)?,
        special_tokens_map: json(SPECIAL_TOKENS)?,
        chat_template_file: read_text(&directory.join(CHAT_TEMPLATE))?,
    })
}

/// The safetensors files, after checking that each holds what the index says.
fn weight_files(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let single = directory.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index_path = directory.join(INDEX);
    let Some(index) = read_json(&index_path)? else {
        let files = all_safetensors(directory)?;
        if !files.is_empty() {
            return Ok(files);
        }
        let what = format!("weights of {}: {SINGLE} or {INDEX}", directory.display());
        return Err(ModelError::missing(what, "safetensors files"));
    };
    let shards = shards_of_index(&index).map_err(|error| error.in_file(&index_path))?;
    let mut paths = Vec::with_capacity(shards.len());
    for (shard, expected) in shards {
        let path = directory.join(shard);
        let bytes = Bytes::map_file(&path).map_err(|source| ModelError::io("open", &path, source))?;
        let header = safetensors::parse(bytes.as_slice()).map_err(|error| error.in_file(&path))?;
        for name in expected {
            if !header.tensors.iter().any(|entry| entry.name == name) {
                let error =
                    ModelError::missing(format!("tensor {name}"), format!("it here, as {INDEX} says"));
                return Err(error.in_file(&path));
            }
        }
        paths.push(path);
    }
    Ok(paths)
}

/// Every safetensors file, by name: OpenAI's own directories have shards and no index.
fn all_safetensors(directory: &Path) -> Result<Vec<PathBuf>, ModelError> {
    let failed = |source| ModelError::io("list", directory, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Shards and the tensors that the index places in them.
fn shards_of_index(index: &Map<String, Value>) -> Result<BTreeMap<&str, Vec<&str>>, ModelError> {
    let Some(Value::Object(weight_map)) = index.get("weight_map") else {
        return Err(ModelError::missing("field weight_map", "an object of tensor names and file names"));
    };
    let mut shards = BTreeMap::<&str, Vec<&str>>::new();
    for (tensor, value) in weight_map {
        // A name with a path in it could lead out of the directory.
        let shard =
            value.as_str().filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name));
        let Some(shard) = shard else {
            return Err(ModelError::malformed(
                format!("file of tensor {tensor}"),
                value,
                "a plain file name",
            ));
        };
        shards.entry(shard).or_default().push(tensor);
    }
    Ok(shards)
}

fn read_shard(path: &Path, spec: &ModelSpec) -> Result<Vec<StoredValues>, ModelError> {
    let bytes = Bytes::map_file(path).map_err(|source| ModelError::io("open", path, source))?;
    let header = safetensors::parse(bytes.as_slice())?;
    let mut stored = Vec::with_capacity(header.tensors.len());
    for entry in header.tensors {
        // Old files carry rotary buffers, and some tied ones a copy of the embedding that transformers ignores too.
        let copy_of_embedding = spec.tie_word_embeddings && entry.name == "lm_head.weight";
        if copy_of_embedding || entry.name.ends_with(".rotary_emb.inv_freq") {
            continue;
        }
        let bytes = bytes.slice(entry.range)?;
        stored.push(StoredValues { name: entry.name, dtype: entry.dtype, shape: entry.shape, bytes });
    }
    Ok(stored)
}

/// A text file; `None` if there is none.
fn read_text(path: &Path) -> Result<Option<String>, ModelError> {
    let failed = |source| ModelError::io("read", path, source);
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(facts) if facts.len() > MOST_TEXT_BYTES => {
            let (found, expected) =
                (format!("{} bytes", facts.len()), format!("at most {MOST_TEXT_BYTES} bytes"));
            return Err(ModelError::malformed("size", found, expected).in_file(path));
        }
        Ok(_) => {}
    }
    let bytes = fs::read(path).map_err(failed)?;
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let found = format!("a byte that is not UTF-8 at {}", error.utf8_error().valid_up_to());
        ModelError::malformed("text", found, "UTF-8").in_file(path)
    })
}

/// A JSON object; `None` if there is no such file.
fn read_json(path: &Path) -> Result<Option<Map<String, Value>>, ModelError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => Err(ModelError::malformed("JSON", "another value", "an object").in_file(path)),
        Err(error) => Err(ModelError::malformed("JSON", error, "an object").in_file(path)),
    }
}
