//! Probes: what the forward pass can show to a pruning policy while it runs.
//!
//! A probe names one intermediate activation. The forward pass asks a [`ProbeSink`] which probes it wants per layer
//! and hands it the values by reference; a sink that wants nothing costs one call per layer and probe. What is made
//! of the values (means, norms, moments) is the business of the pruning room and of the policies.

/// An activation that the forward pass can show.
#[non_exhaustive]
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// The attention heads' outputs side by side, that is the input of `o_proj`: `[tokens, heads * head_dim]`.
    HeadOutput,
    /// The gated FFN activation, that is the input of `down_proj`: `[tokens, ffn_size]`.
    FfnActivation,
}

impl Probe {
    /// Every probe, in a fixed order.
    pub const ALL: [Probe; 2] = [Probe::HeadOutput, Probe::FfnActivation];

    /// The name used in WIT, plans and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Probe::HeadOutput => "head-output",
            Probe::FfnActivation => "ffn-activation",
        }
    }
}

/// Receives the activations that it asks for.
pub trait ProbeSink {
    /// Whether `probe` of `layer` should be recorded. Asked once per forward pass.
    fn wants(&self, layer: usize, probe: Probe) -> bool;

    /// Takes `values`, a row-major `[tokens, width]` array that is only valid during the call.
    fn record(&mut self, layer: usize, probe: Probe, tokens: usize, width: usize, values: &[f32]);
}

/// A sink that wants nothing.
pub(crate) struct NoProbes;

impl ProbeSink for NoProbes {
    fn wants(&self, _: usize, _: Probe) -> bool {
        false
    }

    fn record(&mut self, _: usize, _: Probe, _: usize, _: usize, _: &[f32]) {}
}
