//! Probes: what the forward pass can show to a pruning policy while it runs.
//!
//! A probe names one intermediate activation or one statistic of attention and routing. The forward pass asks a
//! [`ProbeSink`] which probes it wants per layer and hands it the values by reference; a sink that wants nothing costs one call per layer and probe. What is made
//! of the values (means, norms, moments) is the business of the pruning room and of the policies.

/// What the forward pass can show of a layer. Shapes are those of one pass of so many tokens.
#[non_exhaustive]
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Probe {
    /// The attention heads' outputs side by side, that is the input of `o_proj`: `[tokens, heads * head_dim]`.
    HeadOutput,
    /// The gated FFN activation, that is the input of `down_proj`: `[tokens, ffn_size]`. Dense layers have it.
    FfnActivation,
    /// The hidden states that enter the layer: `[tokens, hidden_size]`.
    LayerInput,
    /// The hidden states that leave it: `[tokens, hidden_size]`.
    LayerOutput,
    /// Entropy of each head's attention in nats, `-Σ p ln p`, where a sink counts as one more key: `[tokens, heads]`.
    AttentionEntropy,
    /// Mean of each head's scaled query-key products over the keys that the token sees: `[tokens, heads]`.
    ScoreMean,
    /// Their population variance: `[tokens, heads]`.
    ScoreVariance,
    /// The share of each head's attention that its sink takes, 0 without one: `[tokens, heads]`.
    SinkMass,
    /// The router's logits before any choice: `[tokens, experts]`.
    RouterLogits,
    /// The weight of each expert's output, 0 for those that the token does not pass through: `[tokens, experts]`.
    RouterWeights,
    /// The Euclidean norm of each expert's output before it is weighted, 0 likewise: `[tokens, experts]`.
    ExpertOutputNorm,
    /// The gated activation of each expert, summed over the tokens that pass through it: `[experts, ffn_size]`. Recovery sees
    /// it; policies don't.
    ExpertActivationSum,
}

impl Probe {
    /// Every probe, in a fixed order.
    pub const ALL: [Probe; 12] = [
        Probe::HeadOutput,
        Probe::FfnActivation,
        Probe::LayerInput,
        Probe::LayerOutput,
        Probe::AttentionEntropy,
        Probe::ScoreMean,
        Probe::ScoreVariance,
        Probe::SinkMass,
        Probe::RouterLogits,
        Probe::RouterWeights,
        Probe::ExpertOutputNorm,
        Probe::ExpertActivationSum,
    ];

    /// The name used in WIT, plans and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Probe::HeadOutput => "head-output",
            Probe::FfnActivation => "ffn-activation",
            Probe::LayerInput => "layer-input",
            Probe::LayerOutput => "layer-output",
            Probe::AttentionEntropy => "attention-entropy",
            Probe::ScoreMean => "score-mean",
            Probe::ScoreVariance => "score-variance",
            Probe::SinkMass => "sink-mass",
            Probe::RouterLogits => "router-logits",
            Probe::RouterWeights => "router-weights",
            Probe::ExpertOutputNorm => "expert-output-norm",
            Probe::ExpertActivationSum => "expert-activation-sum",
        }
    }
}

/// Receives the activations that it asks for.
pub trait ProbeSink {
    /// Whether `probe` of `layer` should be recorded. Asked once per forward pass.
    fn wants(&self, layer: usize, probe: Probe) -> bool;

    /// Whether it wants anything at all.
    fn wants_any(&self) -> bool {
        true
    }

    /// Takes `values`, a row-major `[tokens, width]` array that is only valid during the call; in place of tokens it has the
    /// experts where the probe's shape says so.
    fn record(&mut self, layer: usize, probe: Probe, tokens: usize, width: usize, values: &[f32]);
}

/// A sink that wants nothing.
pub(crate) struct NoProbes;

impl ProbeSink for NoProbes {
    fn wants_any(&self) -> bool {
        false
    }

    fn wants(&self, _: usize, _: Probe) -> bool {
        false
    }

    fn record(&mut self, _: usize, _: Probe, _: usize, _: usize, _: &[f32]) {}
}
