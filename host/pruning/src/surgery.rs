//! Applying a plan to a checkpoint, tensor by tensor.
//!
//! A query head takes its rows of the query projection (and bias) and its columns of the output projection; a channel
//! takes its rows of gate and up and its column of down. Everything else is copied. Values are decoded to f32 row by
//! row and written in the plan's storage type, so memory holds one result tensor at a time.
//!
//! The output directory appears at once and complete, under a temporary name beside it until then: an interrupted
//! surgery leaves nothing that looks finished.

mod cut;
mod provenance;

use std::path::Path;

use espalier_kernels::WeightFormat;
use espalier_model::{Checkpoint, ModelError, ModelSpec, TensorPlan, write_hugging_face};

use self::cut::Cut;
pub use self::provenance::{PROVENANCE_FILE, Provenance, Source};
use crate::disk::check_free_space;
use crate::error::PruningError;
use crate::plan::Plan;
use crate::progress::{Phase, Progress, step};
use crate::size::{Size, StorageType};

/// Room beyond the weights for the header, the tokenizer and the configuration.
const OTHER_FILES_BYTES: u64 = 32 << 20;

/// Writes `checkpoint` without the plan's units to the new directory `output`, in HF's layout, with the plan and its
/// provenance in [`PROVENANCE_FILE`] beside the model. Returns the specification of what was written.
///
/// # Errors
/// A plan that does not fit, an output that exists, too little disk, unreadable or malformed tensors, or
/// [`PruningError::Cancelled`]. The output directory does not exist then.
pub fn surgery(
    plan: &Plan,
    checkpoint: &Checkpoint,
    output: &Path,
    progress: &mut dyn Progress,
) -> Result<ModelSpec, PruningError> {
    let spec = checkpoint.spec();
    let pruned = plan.apply_to(spec)?;
    if output.symlink_metadata().is_ok() {
        return Err(PruningError::OutputExists { path: output.to_owned() });
    }
    check_free_space(output, Size::of(&pruned, plan.storage).bytes + OTHER_FILES_BYTES)?;

    let tensors: Vec<TensorPlan> = pruned
        .tensors()
        .into_iter()
        .map(|tensor| TensorPlan {
            name: tensor.name,
            format: weight_format(plan.storage),
            shape: tensor.shape,
        })
        .collect();
    let tokenizer_files = checkpoint.tokenizer_files()?;
    let staging = Staging::beside(output)?;
    let total = tensors.len();
    let mut done = 0;
    let mut stopped = None;
    step(progress, Phase::Surgery, done, total)?;
    let mut produce = |tensor: &TensorPlan| -> Result<Vec<u8>, ModelError> {
        let cut = Cut::of(&tensor.name, plan, spec.head_dim);
        let result = cut.apply(checkpoint, tensor).and_then(|bytes| {
            done += 1;
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
    let written = write_hugging_face(&staging.model(), &pruned, &tokenizer_files, &tensors, &mut produce);
    if let Some(error) = stopped {
        return Err(error);
    }
    written?;
    Provenance::new(plan, checkpoint).write(&staging.model())?;
    staging.publish(output)?;
    Ok(pruned)
}

const fn weight_format(storage: StorageType) -> WeightFormat {
    match storage {
        StorageType::Bf16 => WeightFormat::Bf16,
        StorageType::F16 => WeightFormat::F16,
        StorageType::F32 => WeightFormat::F32,
    }
}

/// A temporary directory beside the output (same file system, so that the last step is a rename); removed when dropped.
struct Staging {
    directory: tempfile::TempDir,
}

impl Staging {
    fn beside(output: &Path) -> Result<Self, PruningError> {
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).map_err(PruningError::file("create", parent))?;
        let directory = tempfile::Builder::new()
            .prefix(".espalier-surgery-")
            .tempdir_in(parent)
            .map_err(PruningError::file("create a temporary directory in", parent))?;
        Ok(Self { directory })
    }

    fn model(&self) -> std::path::PathBuf {
        self.directory.path().join("model")
    }

    /// Gives the finished model its name and makes the name durable.
    fn publish(self, output: &Path) -> Result<(), PruningError> {
        std::fs::rename(self.model(), output)
            .map_err(PruningError::file("rename the finished model to", output))?;
        if let Some(parent) = self.directory.path().parent() {
            let directory = std::fs::File::open(parent).map_err(PruningError::file("open", parent))?;
            directory.sync_all().map_err(PruningError::file("sync", parent))?;
        }
        Ok(())
    }
}
