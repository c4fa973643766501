//! How long work reports where it stands and learns that it should stop.

use crate::error::PruningError;

/// The stages of a job, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Phase {
    /// Opening files and loading weights.
    Load,
    /// Running calibration windows through the model; counted in windows.
    Calibrate,
    /// The policy turning its observations into scores; counted in layers.
    Score,
    /// Running calibration windows through the model without some units; how many, only the policy knows (a total of 0).
    Ablate,
    /// Measuring what is lost by how much goes, and what is gained; counted in measurements (a total of 0).
    Search,
    /// Choosing the units that go.
    Plan,
    /// Fitting the projections behind what goes; counted in layers.
    Refit,
    /// Writing the smaller checkpoint; counted in tensors.
    Surgery,
    /// Training what the cuts left; counted in steps.
    Train,
    /// Writing the result in another number format; counted in tensors.
    Quantize,
    /// Running metric components; counted in scored tokens or metrics.
    Evaluate,
}

impl Phase {
    /// The name in events and on the terminal.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Calibrate => "calibrate",
            Self::Score => "score",
            Self::Ablate => "ablate",
            Self::Search => "search",
            Self::Plan => "plan",
            Self::Refit => "refit",
            Self::Surgery => "surgery",
            Self::Train => "train",
            Self::Quantize => "quantize",
            Self::Evaluate => "evaluate",
        }
    }
}

/// Where a report of progress goes. The answer says whether the work is still wanted.
pub trait Progress {
    /// `done` of `total` steps of `phase` are finished. Returns false to cancel; the work then ends with
    /// [`PruningError::Cancelled`] at the next safe point and leaves nothing behind.
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> bool;
}

/// Nobody watches and nobody cancels.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unwatched;

impl Progress for Unwatched {
    fn report(&mut self, _phase: Phase, _done: u64, _total: u64) -> bool {
        true
    }
}

impl<F: FnMut(Phase, u64, u64) -> bool> Progress for F {
    fn report(&mut self, phase: Phase, done: u64, total: u64) -> bool {
        self(phase, done, total)
    }
}

/// Reports and turns a refusal into [`PruningError::Cancelled`].
pub(crate) fn step(
    progress: &mut dyn Progress,
    phase: Phase,
    done: usize,
    total: usize,
) -> Result<(), PruningError> {
    if progress.report(phase, done as u64, total as u64) { Ok(()) } else { Err(PruningError::Cancelled) }
}
