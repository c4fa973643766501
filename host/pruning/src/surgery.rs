//! Applying a plan to a checkpoint, tensor by tensor.
//!
//! A query head takes its rows of the query projection (and bias), its sink and its columns of the output projection; a
//! key/value group its heads and its rows of the key and value projections; a channel its rows of gate and up and its
//! column of down; an expert its matrices, biases and row of the router. Everything else is copied. What keeps its number
//! format keeps its bytes, MXFP4 included; only single channels of MXFP4 experts need a second quantisation of the down
//! projection, whose error is reported.
//!
//! Tensors are written part by part, so memory holds a fixed buffer or the matrices of one expert, whatever the model's
//! size. The output directory appears at once and complete, under a temporary name beside it until then: an interrupted
//! surgery leaves nothing that looks finished.

mod copy;
mod cut;
mod provenance;
mod requantization;
mod staging;

use std::ops::Range;
use std::path::Path;

use espalier_model::{
    Checkpoint, ModelError, ModelSpec, Shapes, TensorBytes, TensorPlan, write_hugging_face_in_parts,
};

use self::copy::{copy, encode};
use self::cut::Cut;
pub use self::provenance::{PROVENANCE_FILE, Provenance, Source};
use self::requantization::Requantization;
pub use self::requantization::Requantized;
use self::staging::Staging;
use crate::disk::check_free_space;
use crate::error::PruningError;
use crate::plan::{Layout, Plan};
use crate::progress::{Phase, Progress, step};
use crate::refit::Refit;

/// Room beyond the weights for the header, the tokenizer and the configuration.
const OTHER_FILES_BYTES: u64 = 32 << 20;

/// What surgery left.
#[derive(Clone, Debug, PartialEq)]
pub struct Surgery {
    /// The new model's specification.
    pub spec: ModelSpec,
    /// What was quantised a second time, if anything was.
    pub requantized: Option<Requantized>,
}

/// Writes `checkpoint` without the plan's units to the new directory `output`, in HF's layout, with the plan and its
/// provenance in [`PROVENANCE_FILE`] beside the model.
///
/// # Errors
/// A plan that does not fit, an output that exists, too little disk, unreadable or malformed tensors, or
/// [`PruningError::Cancelled`]. The output directory does not exist then.
pub fn surgery(
    plan: &Plan,
    checkpoint: &Checkpoint,
    output: &Path,
    progress: &mut dyn Progress,
) -> Result<Surgery, PruningError> {
    surgery_with(plan, checkpoint, None, output, progress)
}

/// The same, with the tensors of `refit` in the place of what surgery would leave of them.
///
/// # Errors
/// See [`surgery`]; also tensors that were fitted for another plan.
pub fn surgery_with(
    plan: &Plan,
    checkpoint: &Checkpoint,
    refit: Option<&Refit>,
    output: &Path,
    progress: &mut dyn Progress,
) -> Result<Surgery, PruningError> {
    let spec = checkpoint.spec();
    let pruned = plan.apply_to(spec)?;
    if output.symlink_metadata().is_ok() {
        return Err(PruningError::OutputExists { path: output.to_owned() });
    }
    check_free_space(output, plan.storage.bytes(&pruned) + OTHER_FILES_BYTES)?;

    let tensors = pruned.tensors().into_iter().map(|tensor| TensorPlan {
        format: plan.storage.format_of(&tensor),
        name: tensor.name,
        shape: tensor.shape,
    });
    let tensors: Vec<TensorPlan> = tensors.collect();
    let kept_layers = plan.kept_layers();
    let tokenizer_files = checkpoint.tokenizer_files()?;
    let staging = Staging::beside(output)?;
    let total = tensors.len();
    let mut done = 0;
    let mut stopped = None;
    let mut requantization = Requantization::default();
    step(progress, Phase::Surgery, done, total)?;
    let mut produce = |tensor: &TensorPlan, part: Range<usize>| -> Result<TensorBytes, ModelError> {
        let is_last = Some(&part.end) == tensor.shape.first();
        let fitted = refit.and_then(|refit| refit.tensors.get(&tensor.name));
        let result = match fitted {
            Some(values) => encode(values, tensor, part),
            None => {
                let cut = Cut::of(&tensor.name, plan, &kept_layers, spec);
                copy(&cut, checkpoint, tensor, part, &mut requantization)
            }
        };
        let result = result.and_then(|bytes| {
            done += usize::from(is_last);
            step(progress, Phase::Surgery, done, total).map(|()| bytes)
        });
        result.map_err(|error| match error {
            PruningError::Model(error) => error,
            other => {
                let reason = ModelError::argument("surgery", &other, "no interruption");
                stopped = Some(other);
                reason
            }
        })
    };
    let shapes = match plan.constraints.layout {
        Layout::Portable => Shapes::Uniform,
        Layout::Espalier => Shapes::PerLayer,
    };
    let model = staging.model();
    let written =
        write_hugging_face_in_parts(&model, &pruned, &tokenizer_files, &tensors, shapes, &mut produce);
    if let Some(error) = stopped {
        return Err(error);
    }
    written?;
    let requantized = requantization.result();
    let record = refit.map(|refit| refit.record.clone());
    Provenance::new(plan, checkpoint, requantized, record).write(&model)?;
    staging.publish(output)?;
    Ok(Surgery { spec: pruned, requantized })
}
