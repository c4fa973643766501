//! Loading models and collecting logits for the comparisons.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use espalier_golden::smollm2;
use espalier_kernels::{Cpu, Precision};
use espalier_model::{Checkpoint, Model};

/// All cores; the tests of one model take turns, because two thread pools on the same cores only slow each other.
pub(crate) fn load(path: &Path) -> (Checkpoint, Model) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let model = Model::load(&checkpoint, Cpu::new(0).unwrap()).unwrap();
    (checkpoint, model)
}

/// SmolLM2 and its checkpoint, loaded once for all tests of this binary.
pub(crate) fn smollm2() -> MutexGuard<'static, (Checkpoint, Model)> {
    static LOADED: OnceLock<Mutex<(Checkpoint, Model)>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| Mutex::new(load(&smollm2::model_path().unwrap())));
    // A failed assertion elsewhere leaves the model as it was: it is immutable.
    loaded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logits of every position, `[T, vocab]`.
pub(crate) fn logits(model: &Model, tokens: &[u32], precision: Precision) -> Vec<f32> {
    let mut all = Vec::with_capacity(tokens.len() * model.spec().vocab_size);
    model
        .score(
            tokens,
            precision,
            None,
            Some(&mut |position, rows| {
                assert_eq!(position * model.spec().vocab_size, all.len(), "rows come in order");
                all.extend_from_slice(rows);
            }),
        )
        .unwrap();
    all
}
