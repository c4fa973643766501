//! `--model`, `--device` and `--threads`: from a path to a model that runs.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, ValueEnum};
use espalier_kernels::{CacheFormat, Precision};
use espalier_model::{Checkpoint, Model};

use crate::device_choice::DeviceChoice;

/// Options of every command that runs a model.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModelArgs {
    /// HF directory or GGUF file.
    #[arg(long, value_name = "PATH")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Where and how it runs.
#[derive(Args, Clone, Debug)]
pub(crate) struct DeviceArgs {
    /// Where models run: auto, cpu, cuda or cuda:N; auto takes the first CUDA device if there is one.
    #[arg(long, value_name = "DEVICE", default_value_t)]
    pub(crate) device: DeviceChoice,
    /// Threads of the kernels; 0 takes every core.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) threads: usize,
    /// Arithmetic of the matrix products.
    #[arg(long, value_enum, default_value_t = PrecisionArg::Fast)]
    pub(crate) precision: PrecisionArg,
}

/// `--precision`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PrecisionArg {
    /// f32 activations.
    Exact,
    /// Activations of 8 bits (16 where it matters) in blocks of 32, where the weights are quantised; bf16 for prompts
    /// on a processor with AMX.
    Fast,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Exact => Precision::Exact,
            PrecisionArg::Fast => Precision::Fast,
        }
    }
}

/// How a command that measures caches keys and values.
#[derive(Args, Clone, Debug)]
pub(crate) struct CacheArgs {
    /// Number format of the key-value cache [default: as served].
    #[arg(long, value_enum, value_name = "FORMAT")]
    kv_cache_format: Option<CacheFormatArg>,
}

impl CacheArgs {
    /// The format that was asked for, or that of serving.
    pub(crate) fn format(&self) -> CacheFormat {
        self.kv_cache_format.map_or_else(CacheFormat::default, Into::into)
    }
}

/// `--kv-cache-format`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CacheFormatArg {
    /// As computed.
    F32,
    /// Half precision: half the memory, so twice the tokens in the same budget.
    F16,
    /// Whole numbers of 8 bits, 32 to a scale: nearly twice the tokens of f16.
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<CacheFormatArg> for CacheFormat {
    fn from(format: CacheFormatArg) -> Self {
        match format {
            CacheFormatArg::F32 => CacheFormat::F32,
            CacheFormatArg::F16 => CacheFormat::F16,
            CacheFormatArg::Q8_0 => CacheFormat::Q8_0,
        }
    }
}

impl ModelArgs {
    /// Opens the checkpoint and loads its weights.
    pub(crate) fn load(&self) -> Result<(Checkpoint, Arc<Model>)> {
        let checkpoint = Checkpoint::open(&self.model)?;
        let model = Arc::new(Model::load(&checkpoint, self.device.device.open(self.device.threads)?)?);
        Ok((checkpoint, model))
    }

    /// The arithmetic that was asked for.
    pub(crate) fn precision(&self) -> Precision {
        self.device.precision.into()
    }
}
