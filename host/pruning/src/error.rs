//! Everything that can go wrong between calibration and a finished smaller checkpoint.

use std::path::PathBuf;

use espalier_components::{ComponentError, Unit};
use espalier_evaluation::EvaluationError;
use espalier_kernels::KernelError;
use espalier_model::ModelError;
use espalier_state::StateError;
use espalier_training::TrainingError;

/// An error of the pruning crate. Each message is one sentence that names the thing, what was found and what was
/// expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PruningError {
    /// A unit that exists by name, but that models of this architecture do not have.
    #[error(
        "a {architecture} model has no units of the kind \"{unit}\" that can be cut; it can lose: {}",
        names(supported)
    )]
    UnitUnsupported {
        /// The unit asked for.
        unit: Unit,
        /// The architecture of the model.
        architecture: &'static str,
        /// What it can lose.
        supported: &'static [Unit],
    },
    /// A probe that cannot be recorded for this model.
    #[error("{policy} needs the probe {probe}, which cannot be recorded: {reason}")]
    ProbeUnavailable {
        /// Name and version of the policy.
        policy: String,
        /// The probe.
        probe: &'static str,
        /// Why not.
        reason: String,
    },
    /// The ridge of a closed-form recovery is not a positive number.
    #[error("ridge is {found}; expected a number above 0, such as 0.01")]
    Ridge {
        /// The value as given.
        found: f64,
    },
    /// An observer of gradients, and no network that has them.
    #[error("gradients were asked for; expected the weights with gradients beside the model, found none")]
    NoGradients,
    /// A file of recorded traces that is none.
    #[error("recorded traces, {what}: found {found}, expected {expected}")]
    Traces {
        /// The tensor or the field.
        what: String,
        /// What is there.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// No unit kind was named.
    #[error("no unit to prune was named; expected at least one of {}", names(&Unit::ALL))]
    NoUnits,
    /// The share of parameters to keep is not a share.
    #[error("keep is {found}; expected a share of the parameters in (0, 1]")]
    KeepOutOfRange {
        /// The value as given.
        found: f64,
    },
    /// Neither a share nor a count says how much of a kind is to stay.
    #[error(
        "no target says how much of {units} is to stay; expected a share of the parameters to keep, or a count"
    )]
    TargetMissing {
        /// The unit kinds without a target, comma-separated.
        units: String,
    },
    /// A count of units to keep that the model or the constraints do not allow.
    #[error("the count of {unit} to keep is {found}; expected {expected}")]
    Count {
        /// The unit kind.
        unit: Unit,
        /// The count as given.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A result that other programs would not load.
    #[error("{found}, but {loaders} {rule}; the layout \"espalier\" permits it, for this program alone")]
    LoaderRule {
        /// What the plan leaves.
        found: String,
        /// Who refuses it.
        loaders: &'static str,
        /// Why.
        rule: String,
    },
    /// A result that the number format cannot hold.
    #[error("{found}, but {rule}")]
    Storage {
        /// What the plan leaves.
        found: String,
        /// What the format needs.
        rule: String,
    },
    /// No allowed combination of units reaches the target.
    #[error(
        "keep {keep:.4} cannot be reached by removing {units}: within the constraints, this model can keep between \
         {lowest:.4} and 1 of its parameters"
    )]
    TargetUnreachable {
        /// The share asked for.
        keep: f64,
        /// The unit kinds allowed to go, comma-separated.
        units: String,
        /// The smallest share that the constraints allow.
        lowest: f64,
    },
    /// A limit of what a smaller model may cost that is none, or that cannot be met.
    #[error("the target is \"{found}\"; expected {expected}")]
    Budget {
        /// The limit as given.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A way to spread a target over layers that does not fit what is asked for.
    #[error("allocation: found {found}; expected {expected}")]
    Allocation {
        /// What is asked for.
        found: String,
        /// What would be accepted.
        expected: String,
    },
    /// A protected unit that does not exist, or that the target leaves no room for.
    #[error("{what}; expected {expected}")]
    Protected {
        /// The unit.
        what: String,
        /// What would be accepted.
        expected: String,
    },
    /// A constraint that no plan can satisfy or that is not a sensible number.
    #[error("constraint {name} is {found}; expected {expected}")]
    Constraint {
        /// The constraint's field.
        name: &'static str,
        /// The value as given.
        found: usize,
        /// What would be accepted.
        expected: String,
    },
    /// Layers differ where a uniform count is needed.
    #[error(
        "layer {layer} has {found} {what} and layer 0 has {expected}; plans need the same count in every layer"
    )]
    LayersDiffer {
        /// The first layer that differs.
        layer: usize,
        /// What was counted.
        what: &'static str,
        /// The count in that layer.
        found: usize,
        /// The count in layer 0.
        expected: usize,
    },
    /// Query heads that do not divide into key/value groups.
    #[error(
        "layer {layer} has {heads} query heads and {kv_heads} key/value heads; expected a whole number of query heads per key/value head"
    )]
    HeadGroups {
        /// The layer.
        layer: usize,
        /// Its query heads.
        heads: usize,
        /// Its key/value heads.
        kv_heads: usize,
    },
    /// Scores are missing for a unit kind that the plan needs.
    #[error("the policy gave no scores for the unit \"{unit}\", which is to be pruned")]
    ScoresMissing {
        /// The kind without scores.
        unit: Unit,
    },
    /// The number of layers or of scores in a layer is wrong.
    #[error("scores of {place} have {found} entries; expected {expected}")]
    ScoreCount {
        /// Which list: `head` or `head in layer 3`.
        place: String,
        /// Entries found.
        found: usize,
        /// Entries expected.
        expected: usize,
    },
    /// A score that cannot be ranked.
    #[error("the score of {unit} {index} in layer {layer} is {found}; expected a finite number")]
    ScoreNotFinite {
        /// The unit kind.
        unit: Unit,
        /// The layer.
        layer: usize,
        /// The unit's index in its layer.
        index: usize,
        /// The score.
        found: f64,
    },
    /// A plan that does not fit the model it is to be applied to.
    #[error("the plan does not fit the model: {what} is {found}; expected {expected}")]
    PlanMismatch {
        /// What was compared.
        what: String,
        /// The plan's value.
        found: String,
        /// The model's value.
        expected: String,
    },
    /// Too little calibration text for the windows asked for.
    #[error("the calibration text has {found} tokens; expected at least {expected} for one window")]
    CalibrationTooShort {
        /// Tokens found.
        found: usize,
        /// Tokens in a window.
        expected: usize,
    },
    /// Windows or window length of zero, or a window longer than the model's context.
    #[error("calibration {field} is {found}; expected {expected}")]
    CalibrationShape {
        /// `windows` or `window tokens`.
        field: &'static str,
        /// The value as given.
        found: usize,
        /// What would be accepted.
        expected: String,
    },
    /// A calibration text that is not UTF-8.
    #[error("{} is not UTF-8 text (byte {offset}); expected plain text for calibration", path.display())]
    CalibrationNotText {
        /// The file.
        path: PathBuf,
        /// Where decoding failed.
        offset: usize,
    },
    /// A file that could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// `read`, `write`, ….
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The output exists already.
    #[error("{} exists already; expected a path that does not exist yet", path.display())]
    OutputExists {
        /// The output directory.
        path: PathBuf,
    },
    /// Not enough room for the result.
    #[error("{} has {available} bytes free; expected at least {needed} for the pruned model", path.display())]
    DiskFull {
        /// The directory whose file system was asked.
        path: PathBuf,
        /// Bytes needed.
        needed: u64,
        /// Bytes free.
        available: u64,
    },
    /// The tensor that a plan cuts has another shape than the specification says.
    #[error("tensor {name} has shape {found:?}; expected {expected}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What the specification needs.
        expected: String,
    },
    /// A weight that does not fit f16.
    #[error("tensor {name} holds {value}; expected at most 65504 for f16, bf16 has the range")]
    Overflow {
        /// The tensor.
        name: String,
        /// The weight.
        value: f32,
    },
    /// The work was cancelled by its owner.
    #[error("cancelled")]
    Cancelled,
    /// A job number that does not exist.
    #[error("there is no job {id}")]
    JobNotFound {
        /// The number as given.
        id: u64,
    },
    /// A job that is over cannot be cancelled.
    #[error("job {id} is {state} and cannot be cancelled; expected a queued or running job")]
    JobFinished {
        /// The job.
        id: u64,
        /// Its final state.
        state: &'static str,
    },
    /// A run of a recipe that cannot be taken up again.
    #[error(
        "run {id} is {state} and cannot be taken up again; expected a failed or cancelled run of a recipe"
    )]
    JobNotResumable {
        /// The job.
        id: u64,
        /// Its state.
        state: &'static str,
    },
    /// A job record that this version cannot read.
    #[error("the stored record of job {id} is not readable: {reason}")]
    JobRecord {
        /// The job.
        id: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A field of a recipe.
    #[error("{place}: {field}: found {found}, expected {expected}")]
    Recipe {
        /// The recipe, and the line where it is known: `edge.toml, line 7`.
        place: String,
        /// The field with its tables: `stages.0.keep`.
        field: String,
        /// What it holds.
        found: String,
        /// What it may hold.
        expected: String,
    },
    /// A recipe that is no TOML of the right form.
    #[error("{place}: {message}")]
    RecipeText {
        /// The recipe, and the line where it is known.
        place: String,
        /// What the reader says.
        message: String,
    },
    /// A recipe's texts that are not what they were when its run was asked for.
    #[error(
        "the texts of the recipe {recipe} have changed since its run was asked for: found SHA-256 {found} of all of them, \
         expected {expected}"
    )]
    TextsChanged {
        /// The recipe.
        recipe: String,
        /// The digest now.
        found: String,
        /// The digest then.
        expected: String,
    },
    /// A stage of a recipe ended; what the stages before it made is kept.
    #[error("stage {number} ({name}): {reason}")]
    Stage {
        /// The stage, counted from 1.
        number: usize,
        /// Its name.
        name: String,
        /// Why; part of the sentence, and not repeated as its source.
        reason: Box<Self>,
    },
    /// The directory of a staged run holds something else than what is asked for.
    #[error("{what} of the run in {}: found {found}, expected {expected}", path.display())]
    Run {
        /// What differs.
        what: &'static str,
        /// The run's directory.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What fits.
        expected: String,
    },
    /// A stage's evaluation failed.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    /// The job worker could not be started.
    #[error("cannot start the job worker thread: {0}")]
    Worker(std::io::Error),
    /// The model crate refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The weights with gradients failed.
    #[error(transparent)]
    Training(#[from] TrainingError),
    /// A weight format could not be decoded or encoded.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The policy component failed.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// A JSON document could not be written or read.
    #[error("{what} is not valid: {source}")]
    Json {
        /// Which document.
        what: String,
        /// The parser's or writer's reason.
        source: serde_json::Error,
    },
}

impl PruningError {
    /// A [`PruningError::File`] from an I/O error.
    pub(crate) fn file(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}

fn names(units: &[Unit]) -> String {
    if units.is_empty() {
        return "none".to_owned();
    }
    units.iter().map(|unit| unit.name()).collect::<Vec<_>>().join(", ")
}
