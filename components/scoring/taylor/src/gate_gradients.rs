//! The gradient of each sequence's loss with respect to a factor of each unit's output, summed over sequences as the policy
//! wants it.

use espalier_scoring_policy::{ModelShape, Probe, ScoredUnit, Sums, Traces, Unit, by_group, by_head, values};

const HEAD: [Probe; 2] = [Probe::HeadOutput, Probe::HeadOutputGradient];
const CHANNEL: [Probe; 2] = [Probe::FfnActivation, Probe::FfnActivationGradient];

/// The units that have such a factor.
pub fn units() -> Vec<ScoredUnit> {
    vec![
        ScoredUnit::seeing(Unit::Head, &HEAD),
        ScoredUnit::seeing(Unit::KvGroup, &HEAD),
        ScoredUnit::seeing(Unit::FfnChannel, &CHANNEL),
    ]
}

/// One pass over the calibration text: sums over sequences, by head and by channel.
pub struct GateGradients {
    shape: ModelShape,
    units: Vec<Unit>,
    /// What is summed of a sequence's gradient.
    term: fn(f64) -> f64,
    heads: Sums,
    channels: Sums,
}

impl GateGradients {
    /// For these units.
    pub fn new(shape: ModelShape, units: Vec<Unit>, term: fn(f64) -> f64) -> Self {
        Self { shape, units, term, heads: Sums::default(), channels: Sums::default() }
    }

    /// Takes in one sequence.
    pub fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        if self.units.iter().any(|unit| *unit != Unit::FfnChannel) {
            let heads = by_head(&products(traces, HEAD)?, &self.shape);
            self.heads.add(layer, &heads.into_iter().map(self.term).collect::<Vec<_>>(), 1.0);
        }
        if self.units.contains(&Unit::FfnChannel) {
            let channels = products(traces, CHANNEL)?;
            self.channels.add(layer, &channels.into_iter().map(self.term).collect::<Vec<_>>(), 1.0);
        }
        Ok(())
    }

    /// The mean over sequences; that of a group is the sum over its heads.
    pub fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let sums = if unit == Unit::FfnChannel { &self.channels } else { &self.heads };
        let scores = sums.of(layer)?.mean();
        Ok(if unit == Unit::KvGroup { by_group(&scores, &self.shape, layer) } else { scores })
    }
}

/// By channel, the sum over the tokens of the activation by its gradient.
fn products(traces: &Traces, [activation, gradient]: [Probe; 2]) -> Result<Vec<f64>, String> {
    values(&traces.values(activation)?.multiply(&traces.values(gradient)?)?.sum())
}
