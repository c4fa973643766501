//! What a model costs, counted from its specification alone: parameters, bytes and FLOPs per token.
//!
//! The tensors counted are those of [`ModelSpec::tensors`], the same list that surgery writes.

use espalier_model::{ModelSpec, TensorPart};
use serde::{Deserialize, Serialize};

/// The number format of a written checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// bfloat16: half the bytes of f32 with its range. The default.
    #[default]
    Bf16,
    /// IEEE half precision: finer than bfloat16, but overflows above 65504.
    F16,
    /// Single precision: exact for every input format, for comparisons.
    F32,
}

impl StorageType {
    /// Bytes of one value.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bf16 | Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    /// The name in plans and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Bf16, Self::F16, Self::F32].into_iter().find(|storage| storage.name() == name)
    }
}

/// The cost of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Parameters, each weight once (a tied output projection is not counted again).
    pub parameters: u64,
    /// Bytes of those parameters in the storage type of the plan.
    pub bytes: u64,
    /// Floating-point operations of the matrix products for one token, 2 per multiply-add: all projections including
    /// the output projection over the vocabulary, without the attention scores, whose cost depends on the context.
    pub flops_per_token: u64,
}

impl Size {
    /// Counts a model stored as `storage`.
    #[must_use]
    pub fn of(spec: &ModelSpec, storage: StorageType) -> Self {
        let parameters = spec.parameters();
        let projections: u64 = spec
            .tensors()
            .iter()
            .filter(|tensor| matches!(tensor.part, TensorPart::Attention | TensorPart::FeedForward))
            .filter(|tensor| tensor.shape.len() == 2)
            .map(|tensor| tensor.shape.iter().map(|&side| side as u64).product::<u64>())
            .sum();
        let vocabulary = (spec.vocab_size * spec.hidden_size) as u64;
        Self {
            parameters,
            bytes: parameters * storage.bytes(),
            flops_per_token: 2 * (projections + vocabulary),
        }
    }
}
