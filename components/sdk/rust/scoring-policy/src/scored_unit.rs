//! Short ways to say what a policy scores and sees.

use crate::{Probe, ScoredUnit, Unit};

impl ScoredUnit {
    /// A unit that is scored by these probes; by none where the weights or a draw decide.
    pub fn seeing(unit: Unit, probes: &[Probe]) -> Self {
        Self { unit, probes: probes.to_vec(), ablation: false }
    }

    /// A unit that is scored by what the model loses without it.
    pub const fn ablating(unit: Unit) -> Self {
        Self { unit, probes: Vec::new(), ablation: true }
    }
}
