//! What the host's other rooms hand to components: the model's shape, traces, a scorer of text, variants' load.
//!
//! Plain data, so that a component can be tested without a model. The one trait is [`TextScorer`], because scoring a
//! window costs a forward pass and must not happen before a guest asks for it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Range;
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
}

impl Probe {
    /// The probe's name in WIT.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HeadOutput => "head-output",
            Self::FfnActivation => "ffn-activation",
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

/// A model with an evaluation text: what an evaluation metric measures.
///
/// The host checks every argument that comes from a guest before it gets here.
pub trait TextScorer: Send + Sync {
    /// The evaluation text's tokens.
    fn tokens(&self) -> &[u32];

    /// How many bytes of text these tokens of the evaluation text stand for. The range lies inside the text.
    fn byte_count(&self, tokens: Range<usize>) -> u64;

    /// The beginning-of-sequence token, if the tokenizer puts one before a text.
    fn beginning_of_sequence(&self) -> Option<u32>;

    /// The longest window, in tokens, that can be scored.
    fn max_window(&self) -> usize;

    /// The natural logarithm of the probability of each token of `window[score_from..]` given all before it:
    /// `window.len() - score_from` values, `1 <= score_from <= window.len() <= max_window`.
    ///
    /// An error (a failed forward pass, a cancelled job) ends the evaluation and comes back from it as the source of
    /// [`ComponentError::Input`].
    fn log_probabilities(
        &self,
        window: &[u32],
        score_from: usize,
    ) -> Result<Vec<f32>, Box<dyn Error + Send + Sync>>;
}

/// What a router knows of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRequest {
    /// The model that the client asked for.
    pub model: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that the answer may have.
    pub max_tokens: u32,
    /// Whether the client wants a stream.
    pub streaming: bool,
}

/// The load of one variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantStatus {
    /// The variant's name.
    pub name: String,
    /// Sequences that are being computed.
    pub running: u32,
    /// Requests that wait.
    pub waiting: u32,
    /// The share of KV-cache blocks in use, 0 to 1.
    pub kv_usage: f32,
    /// The recent mean time between two tokens of one sequence, once there is one.
    pub milliseconds_per_token: Option<f32>,
}

/// One figure that a metric measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What it is, for example `perplexity.stride`.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its standard error, where the metric has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub standard_error: Option<f64>,
}
