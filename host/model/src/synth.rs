//! Models with random weights, made in a moment, for tests and benches that need a shape and no download.
//!
//! A synthetic model is an ordinary HF directory: a `config.json`, weights of a scale at which activations neither
//! vanish nor explode, and a byte-level tokenizer with a chat template (gpt-oss's own tokenizer for gpt-oss with its
//! vocabulary of 201088). The same shape and seed give the same bytes.

use std::collections::HashMap;
use std::path::Path;

use espalier_kernels::{WeightFormat, quantize};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::ModelError;
use crate::hugging_face::{spec_from_config, write_hugging_face};
use crate::layout::MXFP4_BLOCK;
use crate::spec::{Architecture, ModelSpec, TensorPart};
use crate::tensor_plan::TensorPlan;
use crate::tokenizer::{TokenizerFiles, character_of, o200k_harmony, pre_tokenizer};

/// After the 256 bytes; ids 256 to 259.
const SPECIAL: [&str; 4] = ["<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"];
const BOS: usize = 256;
const EOS: usize = 257;
const END_OF_TURN: usize = 259;
const LEAST_VOCABULARY: usize = 260;

const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// The shape of a synthetic model: fields of HF's `config.json`, all of them optional.
///
/// Those left out are those of a very small model (4 layers of 64, 8 query and 4 key/value heads, vocabulary 320; 8
/// experts and a window of 16 for `"model_type": "gpt_oss"`), a Llama if it isn't said.
/// `torch_dtype` (or `dtype`) picks the format: `float32`, `float16` or `bfloat16`; a
/// `quantization_config` makes gpt-oss's experts MXFP4.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SynthShape {
    config: Map<String, Value>,
}

impl SynthShape {
    /// Reads a shape from JSON text.
    ///
    /// # Errors
    /// Text that isn't a JSON object.
    pub fn from_json(text: &str) -> Result<Self, ModelError> {
        serde_json::from_str(text).map_err(|error| ModelError::malformed("shape", error, "a JSON object"))
    }

    /// A published shape by its name: `gpt-oss-20b`.
    ///
    /// # Errors
    /// Another name.
    pub fn named(name: &str) -> Result<Self, ModelError> {
        if name != "gpt-oss-20b" {
            return Err(ModelError::unsupported("shape", name, "gpt-oss-20b, or a file with a shape"));
        }
        let fields = json!({
            "model_type": "gpt_oss",
            "hidden_size": 2880,
            "num_hidden_layers": 24,
            "num_local_experts": 32,
            "num_experts_per_tok": 4,
            "intermediate_size": 2880,
            "head_dim": 64,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "vocab_size": 201_088,
            "max_position_embeddings": 131_072,
            "sliding_window": 128,
            "torch_dtype": "bfloat16",
            "quantization_config": { "quant_method": "mxfp4" },
        });
        Ok(Self { config: fields.as_object().cloned().unwrap_or_default() })
    }

    /// Sets a field of the configuration.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.config.insert(field.to_owned(), value.into());
        self
    }

    /// What the model will be.
    ///
    /// # Errors
    /// A field that the configuration's reader refuses, or a vocabulary without room for the 256 bytes and the
    /// special tokens.
    pub fn spec(&self) -> Result<ModelSpec, ModelError> {
        let mut config = self.config.clone();
        let hidden_size = config.entry("hidden_size").or_insert_with(|| 64.into()).clone();
        if !config.contains_key("architectures") {
            config.entry("model_type").or_insert_with(|| "llama".into());
        }
        let heads = config.entry("num_attention_heads").or_insert_with(|| 8.into()).clone();
        let defaults = json!({
            "intermediate_size": hidden_size.as_u64().map(|size| size.saturating_mul(2)),
            "num_hidden_layers": 4,
            "num_key_value_heads": heads.as_u64().map(|heads| if heads % 2 == 0 { heads / 2 } else { heads }),
            "vocab_size": 320,
            "max_position_embeddings": 2048,
            "bos_token_id": BOS,
            "eos_token_id": [EOS, END_OF_TURN],
            "rms_norm_eps": 1e-5,
        });
        let mut experts =
            json!({ "num_local_experts": 8, "sliding_window": 16, "max_position_embeddings": 131_072 });
        let vocabulary = config.get("vocab_size").and_then(Value::as_u64);
        let real_vocabulary = vocabulary == Some(o200k_harmony::VOCABULARY as u64);
        if real_vocabulary {
            experts["bos_token_id"] = o200k_harmony::BOS.into();
            experts["eos_token_id"] = json!(o200k_harmony::END_TOKENS);
        }
        let gpt_oss = config.get("model_type").and_then(Value::as_str) == Some("gpt_oss")
            || config.get("architectures") == Some(&json!(["GptOssForCausalLM"]));
        for defaults in gpt_oss.then_some(experts).into_iter().chain([defaults]) {
            for (field, value) in defaults.as_object().into_iter().flatten() {
                config.entry(field.as_str()).or_insert_with(|| value.clone());
            }
        }
        if let Some(size) =
            config.get("vocab_size").and_then(Value::as_u64).filter(|&size| size < LEAST_VOCABULARY as u64)
        {
            let expected =
                format!("at least {LEAST_VOCABULARY}: 256 bytes and {} special tokens", SPECIAL.len());
            return Err(ModelError::malformed("field vocab_size", size, expected));
        }
        let mut spec = spec_from_config(&config)?;
        spec.add_bos = !(gpt_oss && real_vocabulary);
        Ok(spec)
    }

    /// What experts are quantised to, if they are.
    fn expert_format(&self) -> Option<WeightFormat> {
        self.config.contains_key("quantization_config").then_some(WeightFormat::Mxfp4)
    }

    fn format(&self) -> Result<WeightFormat, ModelError> {
        let name = self.config.get("dtype").or_else(|| self.config.get("torch_dtype"));
        match name.map(|name| name.as_str().unwrap_or("")) {
            None | Some("float32") => Ok(WeightFormat::F32),
            Some("float16") => Ok(WeightFormat::F16),
            Some("bfloat16") => Ok(WeightFormat::Bf16),
            Some(other) => Err(ModelError::unsupported("field dtype:", other, "float32, float16, bfloat16")),
        }
    }
}

/// Writes a model of this shape with random weights into the new directory `out`.
///
/// # Errors
/// See [`SynthShape::spec`] and [`write_hugging_face`].
pub fn synthesize(shape: &SynthShape, out: &Path, seed: u64) -> Result<(), ModelError> {
    let spec = shape.spec()?;
    let format = shape.format()?;
    let tensors = spec.tensors();
    let expert_format = shape.expert_format().unwrap_or(format);
    let format_of = |name: &str| match name.contains(".experts.") && name.ends_with(".weight") {
        true => expert_format,
        false => format,
    };
    let plans: Vec<TensorPlan> = tensors
        .iter()
        .map(|tensor| {
            let (name, shape) = (tensor.name.clone(), tensor.shape.clone());
            TensorPlan { format: format_of(&name), name, shape }
        })
        .collect();
    let parts: HashMap<&str, TensorPart> =
        tensors.iter().map(|tensor| (tensor.name.as_str(), tensor.part)).collect();
    write_hugging_face(out, &spec, &tokenizer_files(&spec)?, &plans, &mut |plan| {
        let part = parts.get(plan.name.as_str()).copied().unwrap_or(TensorPart::FeedForward);
        random_tensor(plan, Distribution::of(&spec, plan, part), seed)
    })
}

/// Mean and standard deviation of a tensor's values.
struct Distribution {
    mean: f32,
    deviation: f32,
}

impl Distribution {
    fn of(spec: &ModelSpec, plan: &TensorPlan, part: TensorPart) -> Self {
        let columns = match plan.shape.as_slice() {
            [_, .., columns] if plan.name.ends_with(".weight") => *columns,
            _ => return Self { mean: if part == TensorPart::Norm { 1.0 } else { 0.0 }, deviation: 0.1 },
        };
        let unit = 1.0 / (columns as f32).sqrt();
        let deviation = match part {
            // Logits of a deviation of about 3, so that the most probable token stands out.
            TensorPart::Embedding | TensorPart::Head => 3.0 / (spec.hidden_size as f32).sqrt(),
            // What is added to the residual stream shrinks with depth, as in GPT-2's initialisation.
            _ if plan.name.ends_with("o_proj.weight") || plan.name.ends_with("down_proj.weight") => {
                unit / (2.0 * spec.layers.len() as f32).sqrt()
            }
            _ => unit,
        };
        Self { mean: 0.0, deviation }
    }
}

fn random_tensor(plan: &TensorPlan, distribution: Distribution, seed: u64) -> Result<Vec<u8>, ModelError> {
    let mut random = Pcg64Mcg::seed_from_u64(seed ^ fnv1a(&plan.name));
    if plan.format == WeightFormat::Mxfp4 {
        return Ok(random_mxfp4(plan, distribution.deviation, &mut random));
    }
    let mut left: usize = plan.shape.iter().product();
    let mut bytes = Vec::with_capacity(left.saturating_mul(plan.format.block_bytes()));
    let mut values = Vec::with_capacity(1 << 14);
    while left > 0 {
        let count = left.min(1 << 14);
        values.clear();
        values
            .extend((0..count).map(|_| distribution.mean + distribution.deviation * bell(random.next_u64())));
        quantize(plan.format, &values, &mut bytes)?;
        left -= count;
    }
    Ok(bytes)
}

/// Blocks of equally probable codes under one scale: as fast as random bytes, which the full size of gpt-oss needs.
fn random_mxfp4(plan: &TensorPlan, deviation: f32, random: &mut Pcg64Mcg) -> Vec<u8> {
    /// Root mean square of the codes' values 0, 0.5, 1, 1.5, 2, 3, 4, 6.
    const CODES: f32 = 2.926;
    let blocks = plan.shape.iter().product::<usize>() / WeightFormat::Mxfp4.block_values();
    let scale = (127.0 + (deviation / CODES).log2().round()).clamp(0.0, 254.0) as u8;
    let mut bytes = Vec::with_capacity(blocks * MXFP4_BLOCK);
    for _ in 0..blocks {
        bytes.push(scale);
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
        bytes.extend_from_slice(&random.next_u64().to_le_bytes());
    }
    bytes
}

/// A sum of four uniform 16-bit numbers, of mean 0 and variance 1: close to a normal distribution, within ±3.46,
/// and the same on every machine.
fn bell(bits: u64) -> f32 {
    let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    (sum as f32 / 65_535.0 - 2.0) * 3.0_f32.sqrt()
}

/// A tensor's values depend on its name and not on the tensors before it.
fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// gpt-oss's own tokenizer at gpt-oss's vocabulary size. At any other, every byte is a token; ids behind the special tokens stand for short made-up words that no text encodes to.
fn tokenizer_files(spec: &ModelSpec) -> Result<TokenizerFiles, ModelError> {
    if spec.architecture == Architecture::GptOss && spec.vocab_size == o200k_harmony::VOCABULARY {
        return TokenizerFiles::o200k_harmony();
    }
    let split = pre_tokenizer::by_gguf_name("gpt-2")?;
    let mut vocabulary: Map<String, Value> =
        (0..=u8::MAX).map(|byte| (character_of(byte).to_string(), byte.into())).collect();
    let mut added = Vec::new();
    for (place, token) in SPECIAL.into_iter().enumerate() {
        vocabulary.insert(token.to_owned(), (256 + place).into());
        added.push(json!({
            "id": 256 + place, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }));
    }
    for id in LEAST_VOCABULARY..spec.vocab_size {
        vocabulary.insert(format!("{}w{id}", character_of(b' ')), id.into());
    }
    let [bos, eos, _, _] = SPECIAL;
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": split.normalizer,
        "pre_tokenizer": split.pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{ "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } }],
            "pair": [
                { "SpecialToken": { "id": bos, "type_id": 0 } }, { "Sequence": { "id": "A", "type_id": 0 } },
                { "SpecialToken": { "id": bos, "type_id": 1 } }, { "Sequence": { "id": "B", "type_id": 1 } },
            ],
            "special_tokens": { bos: { "id": bos, "ids": [BOS], "tokens": [bos] } },
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": [],
        },
    });
    Ok(TokenizerFiles {
        tokenizer_json: Some(tokenizer.to_string()),
        tokenizer_config: json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": bos,
            "eos_token": eos,
            "clean_up_tokenization_spaces": false,
            "model_max_length": spec.max_positions,
            "chat_template": CHAT_TEMPLATE,
        }),
        generation_config: json!({ "bos_token_id": BOS, "eos_token_id": [EOS, END_OF_TURN] }),
        special_tokens_map: json!({ "bos_token": bos, "eos_token": eos }),
        chat_template_file: None,
    })
}
