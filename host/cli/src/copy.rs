//! Writing a copy of a checkpoint in another form: what `export` and `quantize` have in common.

use std::path::Path;

use anyhow::Result;
use clap::ValueEnum;
use espalier_model::{Checkpoint, CheckpointFormat, Conversion, ConversionReport, convert};

use crate::progress_bar::Bar;

/// A file format of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Container {
    /// A directory with config.json and safetensors, as transformers loads it.
    Hf,
    /// One GGUF file, as llama.cpp loads it.
    Gguf,
}

impl Container {
    /// The one that a path's ending means: `.gguf` is GGUF, all else a directory.
    pub(crate) fn of(path: &Path) -> Self {
        let ending = path.extension().map(std::ffi::OsStr::to_ascii_lowercase);
        if ending.is_some_and(|ending| ending == "gguf") { Self::Gguf } else { Self::Hf }
    }
}

impl From<Container> for CheckpointFormat {
    fn from(container: Container) -> Self {
        match container {
            Container::Hf => Self::HuggingFace,
            Container::Gguf => Self::Gguf,
        }
    }
}

/// Writes the copy, with its progress on a terminal.
pub(crate) fn write(checkpoint: &Checkpoint, out: &Path, conversion: Conversion) -> Result<ConversionReport> {
    const MEBIBYTE: u64 = 1 << 20;
    let mut bar = Bar::new();
    let report = convert(checkpoint, out, conversion, &mut |done, total| {
        bar.show("MiB written", done / MEBIBYTE, Some(total / MEBIBYTE));
    });
    bar.clear();
    Ok(report?)
}
