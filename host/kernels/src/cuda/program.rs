//! The device's programs: each is some of the `.cu` files, compiled for one format.

use crate::{CacheFormat, KernelError, WeightFormat};

const COMMON: &str = include_str!("source/common.cuh");
const WEIGHTS: &str = include_str!("source/weights.cuh");
const ELEMENTWISE: &str = include_str!("source/elementwise.cu");
const ROUTING: &str = include_str!("source/routing.cu");
const ROTARY: &str = include_str!("source/rotary.cu");
const ATTENTION: &str = include_str!("source/attention.cu");
const EMBEDDING: &str = include_str!("source/embedding.cu");
const MATVEC: &str = include_str!("source/matvec.cu");
const MATMUL: &str = include_str!("source/matmul.cu");

/// What is compiled as a whole.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Program {
    Elementwise,
    Routing,
    Rotary(Stored),
    Attention(Stored),
    Embedding(WeightFormat),
    Matvec(WeightFormat),
    Matmul(WeightFormat),
}

/// The cache formats that the device stores.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Stored {
    F32,
    F16,
}

impl Stored {
    /// The format, if the device has it.
    pub(super) fn of(format: CacheFormat) -> Result<Self, KernelError> {
        match format {
            CacheFormat::F32 => Ok(Self::F32),
            CacheFormat::F16 => Ok(Self::F16),
            CacheFormat::Q8_0 => Err(KernelError::Shape {
                what: "key-value store",
                reason: format!("a CUDA device stores keys and values as f32 or f16, not as {format}"),
            }),
        }
    }

    /// Bytes of a number.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

impl Program {
    /// Every program.
    #[cfg(test)]
    #[expect(dead_code, reason = "for the check of resources")]
    pub(super) fn all() -> Vec<Self> {
        let mut programs = vec![Self::Elementwise, Self::Routing];
        programs.extend([Stored::F32, Stored::F16].map(Self::Rotary));
        programs.extend([Stored::F32, Stored::F16].map(Self::Attention));
        for format in WeightFormat::ALL {
            programs.extend([Self::Embedding(format), Self::Matvec(format), Self::Matmul(format)]);
        }
        programs
    }

    /// Its name in files and messages.
    pub(super) fn name(self) -> String {
        let stored = |stored| match stored {
            Stored::F32 => "f32",
            Stored::F16 => "f16",
        };
        match self {
            Self::Elementwise => "elementwise".to_owned(),
            Self::Routing => "routing".to_owned(),
            Self::Rotary(format) => format!("rotary-{}", stored(format)),
            Self::Attention(format) => format!("attention-{}", stored(format)),
            Self::Embedding(format) => format!("embedding-{format}"),
            Self::Matvec(format) => format!("matvec-{format}"),
            Self::Matmul(format) => format!("matmul-{format}"),
        }
    }

    /// All that the compiler reads.
    pub(super) fn source(self) -> String {
        let (define, parts): (String, &[&str]) = match self {
            Self::Elementwise => (String::new(), &[COMMON, ELEMENTWISE]),
            Self::Routing => (String::new(), &[COMMON, ROUTING]),
            Self::Rotary(stored) => (cache(stored), &[COMMON, ROTARY]),
            Self::Attention(stored) => (cache(stored), &[COMMON, ATTENTION]),
            Self::Embedding(format) => (weights(format), &[COMMON, WEIGHTS, EMBEDDING]),
            Self::Matvec(format) => (weights(format), &[COMMON, WEIGHTS, MATVEC]),
            Self::Matmul(format) => (weights(format), &[COMMON, WEIGHTS, MATMUL]),
        };
        define + &parts.concat()
    }
}

fn cache(stored: Stored) -> String {
    format!("#define CACHE {}\n", u32::from(stored == Stored::F16))
}

/// The numbers of `weights.cuh`.
fn weights(format: WeightFormat) -> String {
    let number = match format {
        WeightFormat::F32 => 0,
        WeightFormat::F16 => 1,
        WeightFormat::Bf16 => 2,
        WeightFormat::Q4_0 => 3,
        WeightFormat::Q4_1 => 4,
        WeightFormat::Q5_0 => 5,
        WeightFormat::Q5_1 => 6,
        WeightFormat::Q8_0 => 7,
        WeightFormat::Q4K => 8,
        WeightFormat::Q5K => 9,
        WeightFormat::Q6K => 10,
        WeightFormat::Mxfp4 => 11,
    };
    format!("#define FORMAT {number}\n")
}
