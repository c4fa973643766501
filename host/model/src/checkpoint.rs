//! One view over every file format that holds a model.

#![deny(clippy::indexing_slicing)]

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::chat::harmony::HarmonyFormat;
use crate::chat::{ChatFormat, ChatTemplate, TemplateFormat};
use crate::error::ModelError;
use crate::spec::{Architecture, ModelSpec, TensorPart};
use crate::stored_tensor::StoredTensor;
use crate::tokenizer::{Tokenizer, TokenizerFiles, o200k_harmony};
use crate::{gguf, hugging_face};

/// The file format of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckpointFormat {
    /// One GGUF file.
    Gguf,
    /// A directory with `config.json` and safetensors files.
    HuggingFace,
}

impl fmt::Display for CheckpointFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gguf => "GGUF",
            Self::HuggingFace => "HF safetensors",
        })
    }
}

/// An opened model on disk: its shape, its tensors and its tokenizer.
///
/// Opening reads headers only; weights stay in the memory map. Every tensor that [`ModelSpec::tensors`] lists is
/// present with exactly that shape, norms hold finite values, and there is no tensor besides.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    format: CheckpointFormat,
    spec: ModelSpec,
    tensors: Vec<StoredTensor>,
    index: HashMap<String, usize>,
    tokenizer_files: TokenizerSource,
}

/// What a reader hands over.
pub(crate) struct Contents {
    pub(crate) spec: ModelSpec,
    pub(crate) tensors: Vec<StoredTensor>,
    pub(crate) tokenizer_files: TokenizerSource,
}

/// The tokenizer's files, or what they can be made of.
#[derive(Debug)]
pub(crate) enum TokenizerSource {
    /// As read from a directory.
    Files(Box<TokenizerFiles>),
    /// To be built from GGUF metadata when first asked for.
    Gguf(Box<gguf::Metadata>),
    /// The vocabulary of gpt-oss that this program carries, with what else a directory holds beside it.
    O200kHarmony(Box<TokenizerFiles>),
}

impl Checkpoint {
    /// Opens a GGUF file or an HF directory; which one is found out from what is there.
    ///
    /// # Errors
    /// A path that is neither, a malformed or unsupported file, a missing tensor, or one whose shape contradicts the
    /// configuration.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let facts = std::fs::metadata(path).map_err(|source| ModelError::io("open", path, source))?;
        let (format, contents) = if facts.is_dir() {
            (CheckpointFormat::HuggingFace, hugging_face::open(path)?)
        } else {
            (CheckpointFormat::Gguf, gguf::open(path)?)
        };
        Self::from_contents(path, format, contents).map_err(|error| error.in_file(path))
    }

    fn from_contents(path: &Path, format: CheckpointFormat, contents: Contents) -> Result<Self, ModelError> {
        let Contents { mut spec, tensors: found, mut tokenizer_files } = contents;
        if spec.architecture == Architecture::GptOss && spec.vocab_size == o200k_harmony::VOCABULARY {
            // Configurations name one of the three; the model ends a tool call with another.
            spec.eos.extend(o200k_harmony::END_TOKENS);
            spec.eos.sort_unstable();
            spec.eos.dedup();
            tokenizer_files = match tokenizer_files {
                TokenizerSource::Files(files) if files.tokenizer_json.is_none() => {
                    TokenizerSource::O200kHarmony(files)
                }
                other => other,
            };
        }
        spec.validate()?;
        let mut by_name: HashMap<String, StoredTensor> =
            found.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let expected = spec.tensors();
        let mut tensors = Vec::with_capacity(expected.len());
        for tensor in &expected {
            let Some(stored) = by_name.remove(&tensor.name) else {
                return Err(ModelError::MissingTensor {
                    name: tensor.name.clone(),
                    expected: tensor.shape.clone(),
                });
            };
            if stored.shape != tensor.shape {
                let (name, expected) = (stored.name, tensor.shape.clone());
                return Err(ModelError::TensorShape { name, found: stored.shape, expected });
            }
            if tensor.part == TensorPart::Norm {
                check_finite(&stored)?;
            }
            tensors.push(stored);
        }
        if let Some(name) = by_name.keys().min() {
            // Computing without a tensor that the file has would give another model's answers.
            let what = format!("tensor of a {} model", spec.architecture.model_type());
            return Err(ModelError::unsupported(what, name, "the tensors that the configuration implies"));
        }
        let index = tensors.iter().enumerate().map(|(place, tensor)| (tensor.name.clone(), place)).collect();
        Ok(Self { path: path.to_owned(), format, spec, tensors, index, tokenizer_files })
    }

    /// The path it was opened from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file format.
    #[must_use]
    pub fn format(&self) -> CheckpointFormat {
        self.format
    }

    /// The model's shape.
    #[must_use]
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The tensor with this HF name.
    ///
    /// # Errors
    /// There is none.
    pub fn tensor(&self, name: &str) -> Result<&StoredTensor, ModelError> {
        let place = self.index.get(name).copied();
        place
            .and_then(|place| self.tensors.get(place))
            .ok_or_else(|| ModelError::MissingTensor { name: name.to_owned(), expected: Vec::new() })
    }

    /// All tensors in the order of [`ModelSpec::tensors`].
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = &StoredTensor> {
        self.tensors.iter()
    }

    /// The tokenizer's files as an HF directory holds them; for GGUF they are made from the metadata, for a directory
    /// of gpt-oss without `tokenizer.json` from the vocabulary that this program carries.
    ///
    /// # Errors
    /// GGUF metadata without a tokenizer, or with one of an unsupported kind.
    pub fn tokenizer_files(&self) -> Result<TokenizerFiles, ModelError> {
        match &self.tokenizer_files {
            TokenizerSource::Files(files) => Ok(TokenizerFiles::clone(files)),
            TokenizerSource::Gguf(metadata) => {
                gguf::tokenizer_files(metadata).map_err(|error| error.in_file(&self.path))
            }
            TokenizerSource::O200kHarmony(files) => o200k_harmony::complete(TokenizerFiles::clone(files)),
        }
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// See [`Checkpoint::tokenizer_files`]; also a directory without `tokenizer.json` of any other model than gpt-oss.
    pub fn tokenizer(&self) -> Result<Tokenizer, ModelError> {
        let files = self.tokenizer_files()?;
        Tokenizer::new(&files, self.spec.bos, &self.spec.eos).map_err(|error| error.in_file(&self.path))
    }

    /// The source of the chat template, if the checkpoint has one.
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        match &self.tokenizer_files {
            TokenizerSource::Files(files) | TokenizerSource::O200kHarmony(files) => files.chat_template(),
            TokenizerSource::Gguf(metadata) => metadata.text("tokenizer.chat_template"),
        }
    }

    /// How the model wants conversations written: Harmony for gpt-oss with Harmony's tokens, whatever template comes
    /// with it, else by the chat template. `None` if there is neither.
    ///
    /// # Errors
    /// See [`Checkpoint::tokenizer_files`]; also a template with a syntax error.
    pub fn chat_format(&self, tokenizer: &Tokenizer) -> Result<Option<ChatFormat>, ModelError> {
        if self.spec.architecture == Architecture::GptOss
            && let Some(format) = HarmonyFormat::of(tokenizer)
        {
            return Ok(Some(ChatFormat::Harmony(format)));
        }
        let Some(source) = self.chat_template() else { return Ok(None) };
        let files = self.tokenizer_files()?;
        let token = |role| files.special_token(role).unwrap_or_default();
        let template = ChatTemplate::new(source, token("bos_token"), token("eos_token"))
            .map_err(|error| error.in_file(&self.path))?;
        Ok(Some(ChatFormat::Template(Box::new(TemplateFormat::new(template, source, tokenizer)))))
    }
}

fn check_finite(tensor: &StoredTensor) -> Result<(), ModelError> {
    match tensor.to_f32()?.iter().enumerate().find(|(_, value)| !value.is_finite()) {
        Some((index, &value)) => Err(ModelError::NotFinite { name: tensor.name.clone(), index, value }),
        None => Ok(()),
    }
}
