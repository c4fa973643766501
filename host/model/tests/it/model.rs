//! Small models for the other tests.

use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, ModelSpec, SynthShape, TensorPlan, export_gguf, synthesize};
use tempfile::TempDir;

/// A directory with a synthetic model in it, removed at the end of the test.
pub(crate) struct Model {
    directory: TempDir,
}

impl Model {
    pub(crate) fn new(shape: &SynthShape) -> Self {
        let directory = tempfile::tempdir().unwrap();
        synthesize(shape, &directory.path().join("hf"), 3).unwrap();
        Self { directory }
    }

    pub(crate) fn small() -> Self {
        let shape = SynthShape::default().with("num_hidden_layers", 2).with("hidden_size", 32);
        Self::new(&shape.with("num_attention_heads", 4))
    }

    /// The HF directory.
    pub(crate) fn hugging_face(&self) -> PathBuf {
        self.path("hf")
    }

    /// The same model as a GGUF file, written on the first call.
    pub(crate) fn gguf(&self) -> PathBuf {
        let path = self.path("model.gguf");
        if !path.exists() {
            export_gguf(&Checkpoint::open(&self.hugging_face()).unwrap(), &path, None).unwrap();
        }
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// The message with which a path is refused, without the path itself.
pub(crate) fn refusal(path: &Path) -> String {
    let message = Checkpoint::open(path).expect_err("this must be refused").to_string();
    assert!(message.contains(path.file_name().unwrap().to_str().unwrap()), "the file is named: {message}");
    assert!(!message.contains('\n'), "one line: {message}");
    message
}

/// Every tensor of a checkpoint, to be written as it is.
pub(crate) fn plans_as_stored(checkpoint: &Checkpoint) -> Vec<TensorPlan> {
    let tensors = checkpoint.tensors();
    tensors
        .map(|tensor| TensorPlan {
            name: tensor.name.clone(),
            format: tensor.format,
            shape: tensor.shape.clone(),
        })
        .collect()
}

/// Every tensor of a specification, to be written in float32.
pub(crate) fn plans_in_f32(spec: &ModelSpec) -> Vec<TensorPlan> {
    let tensors = spec.tensors().into_iter();
    tensors
        .map(|tensor| TensorPlan { name: tensor.name, format: WeightFormat::F32, shape: tensor.shape })
        .collect()
}
