//! A LoRA adapter: low-rank changes to some of a network's projections.
//!
//! `W' = W + (alpha / rank) · B · A`, with A drawn at random and B zero at first (arXiv 2106.09685). In a mixture each
//! expert has factors of its own, and gate and up share A, as in a checkpoint that holds them fused. Routers are frozen.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use candle_core::{Tensor, Var};
use espalier_model::ModelSpec;
use serde::{Deserialize, Serialize};

use super::projection::LowRank;
use crate::error::TrainingError;
use crate::operation::values;
use crate::parameters::Parameter;
use crate::random::normal;

/// A projection that an adapter can change, in every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AdapterTarget {
    /// The attention's queries.
    QProj,
    /// Its keys.
    KProj,
    /// Its values.
    VProj,
    /// Its output.
    OProj,
    /// The feed-forward gate, of every expert where there are experts.
    GateProj,
    /// Up, likewise.
    UpProj,
    /// Down, likewise.
    DownProj,
}

impl AdapterTarget {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// The name that HF's modules have.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
        }
    }

    /// Whether it belongs to the attention.
    pub(crate) const fn of_attention(self) -> bool {
        matches!(self, Self::QProj | Self::KProj | Self::VProj | Self::OProj)
    }
}

impl fmt::Display for AdapterTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for AdapterTarget {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| format!("\"{name}\" is no projection; expected one of {all}"))
    }
}

/// What an adapter is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterShape {
    /// Rank of every change.
    pub rank: usize,
    /// The changes are scaled by `alpha / rank`.
    pub alpha: f32,
    /// What is changed.
    pub targets: Vec<AdapterTarget>,
}

/// The factors of one projection, by the name of its module.
#[derive(Clone, Debug)]
pub(crate) struct Factors {
    /// A, `[rank, inputs]` or `[experts, rank, inputs]`.
    pub(crate) down: Parameter,
    /// B, `[outputs, rank]` or `[experts, outputs, rank]`.
    pub(crate) up: Parameter,
}

/// A LoRA adapter for a model of one shape.
#[derive(Clone, Debug)]
pub struct Adapter {
    shape: AdapterShape,
    factors: BTreeMap<String, Factors>,
    parameters: Vec<Parameter>,
}

impl Adapter {
    /// A new adapter, which changes nothing yet.
    ///
    /// # Errors
    /// A rank of 0, or none of the targets in the model; gate without up or up without gate in a mixture, where one A
    /// serves both.
    pub fn new(spec: &ModelSpec, shape: AdapterShape, seed: u64) -> Result<Self, TrainingError> {
        check(spec, &shape)?;
        let mut adapter = Self { factors: BTreeMap::new(), parameters: Vec::new(), shape };
        for tensor in spec.tensors() {
            let Some(module) = tensor.name.strip_suffix(".weight") else { continue };
            if !adapter.shape.targets.iter().any(|target| module.ends_with(&format!(".{}", target.name()))) {
                continue;
            }
            let mut outer = tensor.shape;
            let (Some(inputs), Some(outputs)) = (outer.pop(), outer.pop()) else { continue };
            adapter.push(module, &outer, (outputs, inputs), seed)?;
        }
        Ok(adapter)
    }

    fn push(
        &mut self,
        module: &str,
        experts: &[usize],
        (outputs, inputs): (usize, usize),
        seed: u64,
    ) -> Result<(), TrainingError> {
        let rank = self.shape.rank;
        let with_experts = |sides: [usize; 2]| experts.iter().copied().chain(sides).collect::<Vec<_>>();
        let gate = module.strip_suffix("up_proj").filter(|_| !experts.is_empty());
        let shared = gate.and_then(|prefix| self.factors.get(&format!("{prefix}gate_proj")));
        let down = match shared {
            Some(gate) => gate.down.clone(),
            None => {
                let name = format!("{module}.lora_A");
                // The bound of a linear layer's usual initialisation, as PEFT has it.
                let deviation = 1.0 / (3.0 * inputs as f32).sqrt();
                let down = parameter(&name, with_experts([rank, inputs]), |count| {
                    normal(&name, seed, count, deviation)
                })?;
                self.parameters.push(down.clone());
                down
            }
        };
        let name = format!("{module}.lora_B");
        let up = parameter(&name, with_experts([outputs, rank]), |count| vec![0.0; count])?;
        self.parameters.push(up.clone());
        self.factors.insert(module.to_owned(), Factors { down, up });
        Ok(())
    }

    /// What it was asked to be.
    #[must_use]
    pub fn shape(&self) -> &AdapterShape {
        &self.shape
    }

    /// `alpha / rank`.
    #[must_use]
    pub fn scale(&self) -> f32 {
        self.shape.alpha / self.shape.rank as f32
    }

    /// All factors, layer by layer.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The changed modules by name.
    pub(crate) fn factors(&self) -> &BTreeMap<String, Factors> {
        &self.factors
    }

    pub(crate) fn low_rank(&self, module: &str) -> Option<LowRank> {
        let Factors { down, up } = self.factors.get(module)?;
        Some(LowRank { down: down.weight(), up: up.weight(), scale: self.scale() })
    }

    /// Whether it changes the weight `name`.
    pub(crate) fn changes(&self, name: &str) -> bool {
        name.strip_suffix(".weight").is_some_and(|module| self.factors.contains_key(module))
    }

    /// The values of the weight `name` with the adapter merged into it; `None` if it doesn't change it.
    ///
    /// # Errors
    /// The tensor library refuses the product.
    pub fn merged(&self, name: &str, weight: &[f32]) -> Result<Option<Vec<f32>>, TrainingError> {
        let module = name.strip_suffix(".weight");
        let Some(LowRank { down, up, scale }) = module.and_then(|module| self.low_rank(module)) else {
            return Ok(None);
        };
        let change: Tensor = up.values.detach().matmul(&down.values.detach())?;
        let change = values::to_vec(&change)?;
        Ok(Some(weight.iter().zip(change).map(|(weight, change)| weight + scale * change).collect()))
    }
}

fn check(spec: &ModelSpec, shape: &AdapterShape) -> Result<(), TrainingError> {
    if shape.rank == 0 {
        return Err(TrainingError::argument("rank of the adapter", 0, "1 or more"));
    }
    if !shape.alpha.is_finite() {
        return Err(TrainingError::argument("alpha of the adapter", shape.alpha, "a finite number"));
    }
    if shape.targets.is_empty() {
        let all = AdapterTarget::ALL.map(AdapterTarget::name).join(", ");
        return Err(TrainingError::argument("targets of the adapter", "none", format!("some of {all}")));
    }
    let mixture = spec.layers.iter().any(|layer| layer.experts.is_some());
    let has = |target| shape.targets.contains(&target);
    if mixture && has(AdapterTarget::GateProj) != has(AdapterTarget::UpProj) {
        let expected =
            "both gate_proj and up_proj or neither, as the experts of this model hold them in one matrix";
        let found = if has(AdapterTarget::GateProj) { "gate_proj alone" } else { "up_proj alone" };
        return Err(TrainingError::argument("targets of the adapter", found, expected));
    }
    Ok(())
}

fn parameter(
    name: &str,
    shape: Vec<usize>,
    fill: impl FnOnce(usize) -> Vec<f32>,
) -> Result<Parameter, TrainingError> {
    let values = values::tensor(fill(shape.iter().product()), shape)?;
    Ok(Parameter::new(name.to_owned(), Var::from_tensor(&values)?))
}
