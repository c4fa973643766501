//! A teacher: a model whose logits and hidden states a student learns from.
//!
//! It runs on the serving path's kernels, in whatever format its file has; on the exact ones unless training rounds too.

use espalier_kernels::Precision;
use espalier_model::{Model, Probe, ProbeSink};

use crate::batch::Batch;
use crate::cancellation::Cancellation;
use crate::error::TrainingError;

/// What a teacher says about a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TeacherOutput {
    /// `[rows, vocab_size]`.
    pub logits: Vec<f32>,
    /// The layers' outputs, each `[rows, hidden_size]`; empty where nobody asked for them.
    pub hidden: Vec<Vec<f32>>,
}

impl TeacherOutput {
    /// Runs `teacher` over `batch`.
    ///
    /// # Errors
    /// A batch that contradicts the teacher.
    pub fn of(teacher: &Model, batch: &Batch, wants_hidden: bool) -> Result<Self, TrainingError> {
        Self::of_unless(&Cancellation::default(), teacher, Precision::Exact, batch, wants_hidden)
    }

    /// The same in some precision, unless it is cancelled between two of the batch's windows.
    pub(crate) fn of_unless(
        cancellation: &Cancellation,
        teacher: &Model,
        precision: Precision,
        batch: &Batch,
        wants_hidden: bool,
    ) -> Result<Self, TrainingError> {
        let layers = if wants_hidden { teacher.spec().layers.len() } else { 0 };
        let mut output = Self { logits: Vec::new(), hidden: vec![Vec::new(); layers] };
        let Self { logits, hidden } = &mut output;
        let mut sink = HiddenStates { hidden };
        for sequence in batch.tokens().chunks_exact(batch.positions()) {
            // The number of the step is the caller's to add.
            cancellation.check(0)?;
            let mut take = |_: usize, rows: &[f32]| logits.extend_from_slice(rows);
            teacher.score(sequence, precision, Some(&mut sink), Some(&mut take))?;
        }
        Ok(output)
    }
}

struct HiddenStates<'a> {
    hidden: &'a mut [Vec<f32>],
}

impl ProbeSink for HiddenStates<'_> {
    fn wants(&self, layer: usize, probe: Probe) -> bool {
        probe == Probe::LayerOutput && layer < self.hidden.len()
    }

    fn record(&mut self, layer: usize, _: Probe, _: usize, _: usize, values: &[f32]) {
        if let Some(rows) = self.hidden.get_mut(layer) {
            rows.extend_from_slice(values);
        }
    }
}
