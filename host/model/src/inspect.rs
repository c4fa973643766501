//! What a checkpoint is made of: the answer of `espalier inspect`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::checkpoint::{Checkpoint, CheckpointFormat};
use crate::spec::{LayerSpec, ModelSpec, TensorPart};

/// Shape, parameters and bytes of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The file format.
    pub format: CheckpointFormat,
    /// The model's shape.
    pub spec: ModelSpec,
    /// Parameters by part; a tied embedding counts once.
    pub parameters: PartSums,
    /// Parameters that one token is multiplied with; see [`ModelSpec::active_parameters`].
    pub active_parameters: u64,
    /// Bytes of weights on disk by part.
    pub bytes: PartSums,
    /// Tensors and bytes of each weight format, by its name.
    pub weight_formats: BTreeMap<String, FormatSum>,
}

/// A sum for each part of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartSums {
    /// All of it.
    pub total: u64,
    /// Token embedding.
    pub embedding: u64,
    /// Attention projections and biases.
    pub attention: u64,
    /// Feed-forward projections, of all experts where there are some.
    pub feed_forward: u64,
    /// Routers to the experts.
    pub routers: u64,
    /// Norms.
    pub norms: u64,
    /// Output projection, where it isn't the embedding.
    pub head: u64,
}

/// What is stored in one weight format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FormatSum {
    /// Number of tensors.
    pub tensors: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Inspection {
    /// Adds a checkpoint up; weights aren't read.
    #[must_use]
    pub fn new(checkpoint: &Checkpoint) -> Self {
        let spec = checkpoint.spec().clone();
        let (mut parameters, mut bytes) = (PartSums::default(), PartSums::default());
        let mut weight_formats = BTreeMap::<String, FormatSum>::new();
        for (expected, tensor) in spec.tensors().iter().zip(checkpoint.tensors()) {
            parameters.add(expected.part, tensor.values() as u64);
            bytes.add(expected.part, tensor.byte_len() as u64);
            let sum = weight_formats.entry(tensor.format.name().to_owned()).or_default();
            sum.tensors += 1;
            sum.bytes += tensor.byte_len() as u64;
        }
        let active_parameters = spec.active_parameters();
        Self { format: checkpoint.format(), spec, parameters, active_parameters, bytes, weight_formats }
    }
}

impl PartSums {
    fn add(&mut self, part: TensorPart, amount: u64) {
        self.total += amount;
        *match part {
            TensorPart::Embedding => &mut self.embedding,
            TensorPart::Attention => &mut self.attention,
            TensorPart::FeedForward => &mut self.feed_forward,
            TensorPart::Router => &mut self.routers,
            TensorPart::Norm => &mut self.norms,
            TensorPart::Head => &mut self.head,
        } += amount;
    }

    fn named(&self) -> [(&'static str, u64); 7] {
        [
            ("embedding", self.embedding),
            ("attention", self.attention),
            ("feed-forward", self.feed_forward),
            ("routers", self.routers),
            ("norms", self.norms),
            ("head", self.head),
            ("total", self.total),
        ]
    }
}

impl fmt::Display for Inspection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.spec;
        let facts = [
            ("architecture", format!("{} ({})", spec.architecture.model_type(), self.format)),
            ("layers", spec.layers.len().to_string()),
            ("hidden size", spec.hidden_size.to_string()),
            ("query heads", per_layer(spec, |layer| layer.heads)),
            ("key/value heads", per_layer(spec, |layer| layer.kv_heads)),
            ("head dimension", spec.head_dim.to_string()),
            ("feed-forward size", per_layer(spec, |layer| layer.ffn_size)),
            ("experts", experts(spec)),
            ("vocabulary", spec.vocab_size.to_string()),
            ("positions", spec.max_positions.to_string()),
            ("tied embedding", if spec.tie_word_embeddings { "yes" } else { "no" }.to_owned()),
        ];
        for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
            writeln!(formatter, "{name:<18} {value}")?;
        }
        writeln!(
            formatter,
            "\n{:<18} {:>16} {:>7} {:>16} {:>12}",
            "part", "parameters", "share", "bytes", "bits/weight"
        )?;
        for ((name, parameters), (_, bytes)) in self.parameters.named().into_iter().zip(self.bytes.named()) {
            if parameters == 0 {
                continue;
            }
            let share = 100.0 * parameters as f64 / self.parameters.total as f64;
            let bits = 8.0 * bytes as f64 / parameters as f64;
            let (parameters, bytes) = (grouped(parameters), grouped(bytes));
            writeln!(formatter, "{name:<18} {parameters:>16} {share:>6.2}% {bytes:>16} {bits:>12.2}")?;
        }
        writeln!(formatter, "{:<18} {:>16}", "active per token", grouped(self.active_parameters))?;
        writeln!(formatter, "\n{:<18} {:>16} {:>24}", "weight format", "tensors", "bytes")?;
        for (name, sum) in &self.weight_formats {
            writeln!(formatter, "{name:<18} {:>16} {:>24}", grouped(sum.tensors), grouped(sum.bytes))?;
        }
        Ok(())
    }
}

/// The value that all layers have, or the range.
fn per_layer(spec: &ModelSpec, value: impl Fn(&LayerSpec) -> usize) -> String {
    let values = || spec.layers.iter().map(&value);
    match (values().min(), values().max()) {
        (Some(least), Some(most)) if least != most => format!("{least} to {most}"),
        (Some(same), _) => same.to_string(),
        _ => "0".to_owned(),
    }
}

/// How many experts there are and how many a token passes through; empty for a dense model.
fn experts(spec: &ModelSpec) -> String {
    let counts = |layer: &LayerSpec| layer.experts.map_or(0, |experts| experts.count);
    match spec.layers.iter().find_map(|layer| layer.experts) {
        Some(experts) => format!("{}, {} of them for each token", per_layer(spec, counts), experts.active),
        None => String::new(),
    }
}

/// Digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
