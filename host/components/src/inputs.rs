//! What the host's other rooms hand to components: the model's shape, traces, variants' load. Plain data, so that a
//! component can be tested without a model; what metrics need beside it is in [`MetricInputs`](crate::MetricInputs).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use espalier_kernels::Tensor;
use serde::{Deserialize, Serialize};

use crate::ComponentError;

/// What can be pruned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A whole decoder layer.
    Layer,
    /// One query head.
    Head,
    /// One key/value head with the query heads that share it.
    KvGroup,
    /// One channel of a dense feed-forward block.
    FfnChannel,
    /// One expert.
    Expert,
    /// One channel inside one expert.
    ExpertChannel,
}

impl Unit {
    /// Every unit.
    pub const ALL: [Self; 6] =
        [Self::Layer, Self::Head, Self::KvGroup, Self::FfnChannel, Self::Expert, Self::ExpertChannel];

    /// The unit's name in WIT, recipes and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Head => "head",
            Self::KvGroup => "kv-group",
            Self::FfnChannel => "ffn-channel",
            Self::Expert => "expert",
            Self::ExpertChannel => "expert-channel",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Unit {
    type Err = ComponentError;

    fn from_str(text: &str) -> Result<Self, ComponentError> {
        Self::ALL.into_iter().find(|unit| unit.name() == text).ok_or_else(|| ComponentError::InvalidName {
            kind: "unit",
            found: text.to_owned(),
            expected: "layer, head, kv-group, ffn-channel, expert or expert-channel",
        })
    }
}

/// What is recorded in a calibration pass; the shapes are those of one sequence of T tokens in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Probe {
    /// The input of the attention output projection, `[T, heads * head_dim]`.
    HeadOutput,
    /// The input of the down projection, `[T, ffn_size]`.
    FfnActivation,
    /// The hidden states that enter the layer, `[T, hidden_size]`.
    LayerInput,
    /// The hidden states that leave it, `[T, hidden_size]`.
    LayerOutput,
    /// The entropy of each head's attention in nats, a sink included, `[T, heads]`.
    AttentionEntropy,
    /// The mean of each head's scaled query-key products, `[T, heads]`.
    ScoreMean,
    /// Their population variance, `[T, heads]`.
    ScoreVariance,
    /// The share of each head's attention that its sink takes, `[T, heads]`.
    SinkMass,
    /// The router's logits before any choice, `[T, experts]`.
    RouterLogits,
    /// The weight of each expert's output, 0 for those that are not chosen, `[T, experts]`.
    RouterWeights,
    /// The Euclidean norm of each expert's output before it is weighted, 0 likewise, `[T, experts]`.
    ExpertOutputNorm,
    /// The gradient of the sequence's mean negative log-likelihood with respect to the heads' outputs.
    HeadOutputGradient,
    /// The same with respect to the input of the down projection.
    FfnActivationGradient,
}

impl Probe {
    /// Every probe.
    pub const ALL: [Self; 13] = [
        Self::HeadOutput,
        Self::FfnActivation,
        Self::LayerInput,
        Self::LayerOutput,
        Self::AttentionEntropy,
        Self::ScoreMean,
        Self::ScoreVariance,
        Self::SinkMass,
        Self::RouterLogits,
        Self::RouterWeights,
        Self::ExpertOutputNorm,
        Self::HeadOutputGradient,
        Self::FfnActivationGradient,
    ];

    /// The probe's name in WIT.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeadOutput => "head-output",
            Self::FfnActivation => "ffn-activation",
            Self::LayerInput => "layer-input",
            Self::LayerOutput => "layer-output",
            Self::AttentionEntropy => "attention-entropy",
            Self::ScoreMean => "score-mean",
            Self::ScoreVariance => "score-variance",
            Self::SinkMass => "sink-mass",
            Self::RouterLogits => "router-logits",
            Self::RouterWeights => "router-weights",
            Self::ExpertOutputNorm => "expert-output-norm",
            Self::HeadOutputGradient => "head-output-gradient",
            Self::FfnActivationGradient => "ffn-activation-gradient",
        }
    }

    /// Whether it comes from a backward pass.
    pub const fn is_gradient(self) -> bool {
        matches!(self, Self::HeadOutputGradient | Self::FfnActivationGradient)
    }

    /// How many values it has for one token in a layer of this shape.
    pub fn columns(self, model: &ModelFacts, layer: &LayerFacts) -> u64 {
        match self {
            Self::HeadOutput | Self::HeadOutputGradient => u64::from(layer.heads) * u64::from(model.head_dim),
            Self::FfnActivation | Self::FfnActivationGradient => layer.ffn_size.into(),
            Self::LayerInput | Self::LayerOutput => model.hidden_size.into(),
            Self::AttentionEntropy | Self::ScoreMean | Self::ScoreVariance | Self::SinkMass => {
                layer.heads.into()
            }
            Self::RouterLogits | Self::RouterWeights | Self::ExpertOutputNorm => layer.experts.into(),
        }
    }

    /// Whether a layer of this shape has it.
    pub const fn exists_in(self, layer: &LayerFacts) -> bool {
        match self {
            Self::FfnActivation | Self::FfnActivationGradient => layer.experts == 0,
            Self::RouterLogits | Self::RouterWeights | Self::ExpertOutputNorm => layer.experts > 0,
            _ => true,
        }
    }
}

/// The shape of the model that components are asked about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The architecture's name, for example `llama`.
    pub architecture: String,
    /// The width of the residual stream.
    pub hidden_size: u32,
    /// Rows of the embedding table.
    pub vocab_size: u32,
    /// Channels of one head.
    pub head_dim: u32,
    /// The decoder layers in order.
    pub layers: Vec<LayerFacts>,
}

/// The shape of one decoder layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerFacts {
    /// Query heads.
    pub heads: u32,
    /// Key/value heads.
    pub kv_heads: u32,
    /// Channels of the feed-forward block, or of each expert.
    pub ffn_size: u32,
    /// Experts; 0 where the feed-forward block is dense.
    pub experts: u32,
    /// Experts that each token passes through; 0 likewise.
    pub active_experts: u32,
    /// How many tokens back a token sees, itself included; none where it sees all.
    pub sliding_window: Option<u32>,
    /// Whether heads have attention sinks.
    pub attention_sinks: bool,
    /// How many parameters go with one unit of each kind that the layer has.
    pub parameters_per_unit: BTreeMap<Unit, u64>,
}

impl LayerFacts {
    /// How many such units the layer has; none where it has no such kind. Channels of experts count through all experts.
    pub const fn units(&self, unit: Unit) -> Option<u32> {
        match (unit, self.experts) {
            (Unit::Layer, _) => Some(1),
            (Unit::Head, _) => Some(self.heads),
            (Unit::KvGroup, _) => Some(self.kv_heads),
            (Unit::FfnChannel, 0) => Some(self.ffn_size),
            (Unit::Expert, 1..) => Some(self.experts),
            (Unit::ExpertChannel, 1..) => Some(self.experts.saturating_mul(self.ffn_size)),
            (Unit::FfnChannel, 1..) | (Unit::Expert | Unit::ExpertChannel, 0) => None,
        }
    }
}

/// One probe of one layer over one calibration sequence.
#[derive(Clone, Debug)]
pub struct Trace {
    /// What was recorded.
    pub probe: Probe,
    /// The values, in the probe's shape.
    pub values: Arc<Tensor>,
}

/// What a router knows of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteRequest {
    /// The model that the client asked for.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that the answer may have.
    pub max_tokens: u32,
    /// Whether the client wants a stream.
    pub streaming: bool,
    /// A hash of the session's name, if the client gave one.
    pub session: Option<u64>,
    /// The quality that the client asks for, 0 to 1, if it does.
    pub quality: Option<f32>,
    /// Drawn afresh for each request.
    pub draw: u64,
}

/// One variant at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VariantStatus {
    /// The variant's name.
    pub name: String,
    /// Whether it takes requests.
    pub accepts: bool,
    /// Sequences that are being computed.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// The share of KV-cache blocks in use, 0 to 1.
    pub kv_usage: f32,
    /// The recent mean time between two tokens of one sequence, once there is one.
    pub milliseconds_per_token: Option<f32>,
    /// All parameters.
    pub parameters: u64,
    /// The parameters that one token is multiplied with.
    pub active_parameters: u64,
    /// Bytes of the weights.
    pub weight_bytes: u64,
}

/// Who answers a request, checked against the variants that there are.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteChoice {
    /// Indices of variants, each at most once, at least one: the first that takes the request answers.
    pub order: Vec<usize>,
    /// Who gets a copy.
    pub shadow: Option<Shadow>,
}

/// A variant that gets copies of requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shadow {
    /// Its index.
    pub variant: usize,
    /// The share of requests that are copied, 0 to 1.
    pub share: f32,
}
