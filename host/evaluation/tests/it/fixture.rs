//! A small model with random weights, and a text.

use std::path::PathBuf;
use std::sync::Arc;

use espalier_evaluation::{EvaluationData, EvaluationText};
use espalier_kernels::Cpu;
use espalier_model::{Checkpoint, Model, SynthShape, synthesize};

pub(crate) const TEXT: &str =
    "The whale, like all things that are mighty, wears a false brow to the common world. ";

pub(crate) struct Fixture {
    directory: tempfile::TempDir,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) model: Arc<Model>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tiny");
        let shape = SynthShape::default().with("hidden_size", 32).with("num_hidden_layers", 2);
        synthesize(&shape, &path, 11).unwrap();
        let checkpoint = Checkpoint::open(&path).unwrap();
        let model = Arc::new(Model::load(&checkpoint, Cpu::new(1).unwrap()).unwrap());
        Self { directory, checkpoint, model }
    }

    /// Another model of the same family.
    pub(crate) fn other(&self, name: &str, vocabulary: usize, seed: u64) -> PathBuf {
        let path = self.path(name);
        let shape = SynthShape::default()
            .with("hidden_size", 32)
            .with("num_hidden_layers", 1)
            .with("vocab_size", vocabulary);
        synthesize(&shape, &path, seed).unwrap();
        path
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn text(&self, contents: &str, max_tokens: Option<usize>) -> EvaluationText {
        let path = self.write("text.txt", contents);
        let data = EvaluationData::read(&path).unwrap();
        EvaluationText::tokenise(&data, &self.checkpoint.tokenizer().unwrap(), max_tokens).unwrap()
    }
}
