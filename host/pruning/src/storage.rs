//! The number formats of a written checkpoint.

use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, ModelSpec, StoredTensor, TensorSpec};
use serde::{Deserialize, Serialize};

/// Which number format is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageType {
    /// That of the source, MXFP4 included; bfloat16 in the place of quantised formats that HF directories do not have.
    #[default]
    Source,
    /// bfloat16: half the bytes of f32 with its range.
    Bf16,
    /// IEEE half precision: finer than bfloat16, but overflows above 65504.
    F16,
    /// Single precision: exact for every input format, for comparisons.
    F32,
}

impl StorageType {
    const ALL: [Self; 4] = [Self::Source, Self::Bf16, Self::F16, Self::F32];

    /// The name in jobs and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }

    /// The format with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|storage| storage.name() == name)
    }

    /// What that is for this checkpoint.
    #[must_use]
    pub fn of(self, checkpoint: &Checkpoint) -> Storage {
        match self {
            Self::Source => Storage::of(checkpoint),
            Self::Bf16 => Storage::uniform(NumberFormat::Bf16),
            Self::F16 => Storage::uniform(NumberFormat::F16),
            Self::F32 => Storage::uniform(NumberFormat::F32),
        }
    }
}

/// A number format of HF directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the variants are the formats' own names")]
pub enum NumberFormat {
    F32,
    F16,
    Bf16,
    Mxfp4,
}

impl NumberFormat {
    /// The name in plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.weight_format().name()
    }

    /// The same in the kernels' words.
    #[must_use]
    pub const fn weight_format(self) -> WeightFormat {
        match self {
            Self::F32 => WeightFormat::F32,
            Self::F16 => WeightFormat::F16,
            Self::Bf16 => WeightFormat::Bf16,
            Self::Mxfp4 => WeightFormat::Mxfp4,
        }
    }

    /// The format that holds the values of both exactly.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (same, other) if same == other => same,
            // Codes of MXFP4 have two significant bits, which bfloat16 holds.
            (Self::Mxfp4, Self::Bf16) | (Self::Bf16, Self::Mxfp4) => Self::Bf16,
            _ => Self::F32,
        }
    }
}

/// The formats of a checkpoint's tensors by what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Embedding, head, and the projections of attention and of a dense feed-forward block.
    pub matrices: NumberFormat,
    /// The matrices of experts.
    pub experts: NumberFormat,
    /// Norms, biases, sinks and routers.
    pub other: NumberFormat,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Matrix,
    Expert,
    Other,
}

impl Storage {
    /// One format for everything.
    #[must_use]
    pub const fn uniform(format: NumberFormat) -> Self {
        Self { matrices: format, experts: format, other: format }
    }

    /// As gpt-oss is published: experts in MXFP4, the rest in bfloat16.
    #[must_use]
    pub const fn mxfp4_experts() -> Self {
        Self { experts: NumberFormat::Mxfp4, ..Self::uniform(NumberFormat::Bf16) }
    }

    /// The formats that `checkpoint` has; where tensors of one class differ, the one that holds all of them exactly.
    #[must_use]
    pub fn of(checkpoint: &Checkpoint) -> Self {
        let of_class = |class: Class| {
            let of_class =
                checkpoint.tensors().filter(|tensor| class_of(&tensor.name, tensor.shape.len()) == class);
            of_class.map(|tensor| stored_as(tensor, class)).reduce(NumberFormat::join)
        };
        let matrices = of_class(Class::Matrix).unwrap_or(NumberFormat::Bf16);
        let (experts, other) = (of_class(Class::Expert), of_class(Class::Other));
        Self { matrices, experts: experts.unwrap_or(matrices), other: other.unwrap_or(matrices) }
    }

    /// The format of one tensor.
    #[must_use]
    pub fn format_of(&self, tensor: &TensorSpec) -> WeightFormat {
        let format = match class_of(&tensor.name, tensor.shape.len()) {
            Class::Matrix => self.matrices,
            Class::Expert => self.experts,
            Class::Other => self.other,
        };
        format.weight_format()
    }

    /// Bytes of all weights of a model.
    #[must_use]
    pub fn bytes(&self, spec: &ModelSpec) -> u64 {
        let bytes = |tensor: TensorSpec| {
            let format = self.format_of(&tensor);
            let values: u64 = tensor.shape.iter().map(|&side| side as u64).product();
            values.div_ceil(format.block_values() as u64) * format.block_bytes() as u64
        };
        spec.tensors().into_iter().map(bytes).sum()
    }
}

fn class_of(name: &str, sides: usize) -> Class {
    match name.ends_with(".weight") && sides > 1 && !name.ends_with(".mlp.router.weight") {
        true if name.contains(".mlp.experts.") => Class::Expert,
        true => Class::Matrix,
        false => Class::Other,
    }
}

fn stored_as(tensor: &StoredTensor, class: Class) -> NumberFormat {
    match tensor.format {
        WeightFormat::F32 => NumberFormat::F32,
        WeightFormat::F16 => NumberFormat::F16,
        WeightFormat::Mxfp4 if class == Class::Expert => NumberFormat::Mxfp4,
        _ => NumberFormat::Bf16,
    }
}
