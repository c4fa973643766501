//! Models on disk and in memory: checkpoints in and out, what they are, their tokenizers and chat templates.
//!
//! [`Checkpoint::open`] gives one view over GGUF files and HF directories; [`write_hugging_face`] writes the latter.
//! Bytes from a file are never trusted: every reader is a total function that answers with a [`ModelError`] naming the
//! field, what was found and what was expected.

pub mod chat;
mod checkpoint;
mod cuda;
mod error;
mod export;
mod forward;
mod free_space;
pub mod gguf;
mod hugging_face;
mod inspect;
mod layout;
mod model;
mod probe;
mod rope;
pub mod safetensors;
mod sequence_blocks;
mod spec;
mod stored_tensor;
#[cfg(test)]
mod supported_models;
mod synth;
mod tensor_bytes;
mod tensor_plan;
mod tokenizer;
mod weights;

pub use chat::{ChatFormat, ChatMessage, ChatTemplate};
pub use checkpoint::{Checkpoint, CheckpointFormat};
pub use cuda::{CudaCache, KeyValueCache};
pub use error::ModelError;
pub use export::{Conversion, ConversionReport, FormatChange, convert, export_gguf, export_hugging_face};
pub use forward::{
    Ablation, ExpertRows, ForwardBatch, LayerSteps, LogitRows, LogitSink, MixtureStep, Routing,
};
pub use gguf::{write_gguf, write_gguf_in_parts};
pub use hugging_face::{Shapes, write_hugging_face, write_hugging_face_in_parts};
pub use inspect::{FormatSum, Inspection, PartSums};
pub use model::Model;
pub use probe::{Probe, ProbeSink};
pub use sequence_blocks::{SequenceBlocks, SequenceSize};
pub use spec::{
    Activation, Architecture, ExpertsSpec, LayerSpec, ModelSpec, RopeScaling, RopeSpec, TensorPart,
    TensorSpec,
};
pub use stored_tensor::StoredTensor;
pub use synth::{SynthShape, synthesize};
pub use tensor_bytes::{ProducePart, TensorBytes};
pub use tensor_plan::TensorPlan;
pub use tokenizer::{EncodeOptions, TextStream, Tokenizer, TokenizerFiles};
