//! Small models with random weights on disk.

use std::path::{Path, PathBuf};

use espalier_kernels::{Cpu, Precision, WeightFormat, quantize};
use espalier_model::{Checkpoint, Model, SynthShape, TensorPlan, synthesize, write_hugging_face};

/// A directory that is removed with the test.
pub(crate) struct Directory(tempfile::TempDir);

impl Directory {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What is in it, sorted, hidden files included.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A Llama with 3 layers, 8 query heads in 2 groups, head dimension 16 (not hidden size / heads) and 96 channels.
pub(crate) fn llama_shape() -> SynthShape {
    SynthShape::default()
        .with("hidden_size", 48)
        .with("num_hidden_layers", 3)
        .with("num_attention_heads", 8)
        .with("num_key_value_heads", 2)
        .with("head_dim", 16)
        .with("intermediate_size", 96)
        .with("torch_dtype", "float32")
}

/// The same as a Qwen2, which has biases on q, k and v.
pub(crate) fn qwen2_shape() -> SynthShape {
    llama_shape().with("model_type", "qwen2")
}

pub(crate) fn synth(shape: &SynthShape, path: &Path) -> Checkpoint {
    synthesize(shape, path, 7).unwrap();
    Checkpoint::open(path).unwrap()
}

/// Logits of every position, by the exact path.
pub(crate) fn logits(checkpoint: &Checkpoint, tokens: &[u32]) -> Vec<f32> {
    let model = Model::load(checkpoint, Cpu::new(1).unwrap()).unwrap();
    let mut logits = Vec::new();
    model.score(tokens, Precision::Exact, None, Some(&mut |_, rows| logits.extend_from_slice(rows))).unwrap();
    logits
}

/// A copy in f32 whose tensors went through `change`, which gets a name, the shape and the values.
pub(crate) fn changed_copy(
    checkpoint: &Checkpoint,
    path: &Path,
    change: impl Fn(&str, &[usize], &mut Vec<f32>),
) -> Checkpoint {
    let plans: Vec<TensorPlan> = checkpoint
        .tensors()
        .map(|tensor| TensorPlan {
            name: tensor.name.clone(),
            format: WeightFormat::F32,
            shape: tensor.shape.clone(),
        })
        .collect();
    let files = checkpoint.tokenizer_files().unwrap();
    write_hugging_face(path, checkpoint.spec(), &files, &plans, &mut |plan| {
        let mut values = checkpoint.tensor(&plan.name)?.to_f32()?;
        change(&plan.name, &plan.shape, &mut values);
        let mut bytes = Vec::new();
        quantize(WeightFormat::F32, &values, &mut bytes)?;
        Ok(bytes)
    })
    .unwrap();
    Checkpoint::open(path).unwrap()
}

/// Largest difference, relative to the largest reference value.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(0.0_f32, |scale, value| scale.max(value.abs()));
    let error = found.iter().zip(expected).fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
    error / scale
}
