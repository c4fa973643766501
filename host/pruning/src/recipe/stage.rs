//! The tables of a stage, checked.

use std::path::{Path, PathBuf};

use espalier_kernels::WeightFormat;
use espalier_training::TrainingError;

use super::place::Places;
use super::table::{GateTable, Policies, StageTable};
use super::{Bound, Cut, Gate, Goal, Stage};
use crate::aim::Aim;
use crate::allocation::Allocation;
use crate::error::PruningError;
use crate::plan::Target;

/// Settings of training that the run gives itself.
pub(super) const GIVEN: [&str; 5] = ["model", "teacher", "texts", "seed", "scratch"];
/// What a stage's model may be quantised to.
pub(super) const QUANTIZED: [WeightFormat; 2] = [WeightFormat::Q8_0, WeightFormat::Mxfp4];

impl StageTable {
    pub(super) fn validate(
        self,
        places: &Places<'_>,
        index: usize,
        seed: u64,
    ) -> Result<Stage, PruningError> {
        let at = |field: &str| format!("stages.{index}.{field}");
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if self.name.is_empty() || !self.name.chars().all(plain) {
            let found = format!("{:?}", self.name);
            return Err(places.field(&at("name"), found, "letters, digits, - and _"));
        }
        if let Some(refit) = &self.refit
            && refit.check().is_err()
        {
            return Err(places.field(&at("refit.ridge"), refit.ridge, "a number above 0"));
        }
        let goal = self.goal(places, index)?;
        let quantize = self.quantize.as_deref().map(|name| {
            let found = QUANTIZED.into_iter().find(|format| format.name() == name);
            found.ok_or_else(|| {
                let names = QUANTIZED.map(WeightFormat::name).join(" or ");
                places.field(&at("quantize"), format!("{name:?}"), names)
            })
        });
        let quantize = quantize.transpose()?;
        let cut = match (self.policy, goal) {
            (Some(policies), Some(goal)) => {
                let policies = match policies {
                    Policies::One(policy) => vec![policy],
                    Policies::Several(policies) if policies.is_empty() => {
                        return Err(places.field(&at("policy"), "none", "at least one policy"));
                    }
                    Policies::Several(policies) => policies,
                };
                if self.units.is_empty() && self.counts.is_empty() && self.shares.is_empty() {
                    return Err(places.field(&at("units"), "none", "the kinds of units that may go"));
                }
                let cuts = self.cuts.unwrap_or(1);
                let a_share = matches!(goal, Goal::Keep(_) | Goal::Parameters(_));
                if cuts == 0 || (cuts > 1 && !a_share) {
                    let expected = "1, or more on the way to keep or parameters";
                    return Err(places.field(&at("cuts"), cuts, expected));
                }
                if self.allocation != Allocation::Uniform && (cuts > 1 || !a_share) {
                    let expected =
                        "uniform, or a single cut to keep or parameters, as plans need equal layers";
                    return Err(places.field(&at("allocation"), self.allocation.name(), expected));
                }
                Some(Cut {
                    policies,
                    units: self.units,
                    goal,
                    cuts,
                    allocation: self.allocation,
                    protected: self.protect,
                    constraints: self.constraints,
                    storage: self.dtype,
                    refit: self.refit,
                })
            }
            (Some(_), None) => {
                return Err(places.field(
                    &at("keep"),
                    "nothing",
                    "keep, parameters, counts, shares, least_score or target, as there is a policy",
                ));
            }
            (None, Some(_)) => {
                return Err(places.field(&at("policy"), "nothing", "a policy that says what goes"));
            }
            (None, None) if self.training.is_none() && quantize.is_none() => {
                return Err(places.field(&at("policy"), "nothing", "a policy, training or quantize"));
            }
            (None, None) => None,
        };
        let gates = self.gates.into_iter().enumerate();
        let gates = gates.map(|(gate, table)| table.validate(places, &at(&format!("gates.{gate}"))));
        let gates = gates.collect::<Result<_, _>>()?;
        let stage = Stage { name: self.name, cut, training: self.training, quantize, gates };
        stage.check_training(places, &at("training"), seed)?;
        Ok(stage)
    }

    fn goal(&self, places: &Places<'_>, index: usize) -> Result<Option<Goal>, PruningError> {
        let at = |field: &str| format!("stages.{index}.{field}");
        let mut goals = Vec::new();
        if let Some(keep) = self.keep {
            if !(keep > 0.0 && keep < 1.0) {
                let expected = "a share of the unpruned model's parameters above 0 and below 1";
                return Err(places.field(&at("keep"), keep, expected));
            }
            goals.push(Goal::Keep(keep));
        }
        if let Some(text) = &self.parameters {
            let expected = "a number of parameters such as \"90M\" or \"15B\"";
            let refused = || places.field(&at("parameters"), format!("{text:?}"), expected);
            goals.push(Goal::Parameters(count_of(text).ok_or_else(refused)?));
        }
        if !self.counts.is_empty() {
            let counts = self.counts.clone();
            goals.push(Goal::Aim(Aim::Target(Target { keep: None, counts })));
        }
        if !self.shares.is_empty() {
            goals.push(Goal::Aim(Aim::Shares(self.shares.clone())));
        }
        if let Some(least) = self.least_score {
            goals.push(Goal::Aim(Aim::Score(least)));
        }
        if let Some(text) = &self.target {
            let budgets = text.parse().map_err(|error| match error {
                PruningError::Budget { found, expected } => {
                    places.field(&at("target"), format!("{found:?}"), expected)
                }
                other => other,
            });
            goals.push(Goal::Aim(Aim::Budgets(budgets?)));
        }
        for goal in &goals {
            if let Goal::Aim(aim) = goal
                && let Err(error) = aim.check(Allocation::Uniform)
            {
                let field = if self.shares.is_empty() { "least_score" } else { "shares" };
                return Err(places.message(&at(field), error.to_string()));
            }
        }
        if goals.len() > 1 {
            let expected = "one of keep, parameters, counts, shares, least_score and target";
            return Err(places.field(&format!("stages.{index}"), "several goals", expected));
        }
        Ok(goals.pop())
    }
}

impl Stage {
    /// Refuses what training would refuse, before anything is computed.
    fn check_training(&self, places: &Places<'_>, field: &str, seed: u64) -> Result<(), PruningError> {
        let given =
            self.training.iter().flat_map(toml::Table::keys).find(|key| GIVEN.contains(&key.as_str()));
        if let Some(key) = given {
            return Err(places.field(&format!("{field}.{key}"), "a value", "nothing, as the run sets it"));
        }
        let texts = [PathBuf::from("text")];
        match self.configuration(Path::new("model"), Path::new("teacher"), &texts, seed) {
            None | Some(Ok(_)) => Ok(()),
            Some(Err(TrainingError::Configuration { field: inner, found, expected, .. })) => {
                Err(places.field(&format!("{field}.{inner}"), found, expected))
            }
            Some(Err(TrainingError::ConfigurationText { message, .. })) => {
                let named = message.split('`').nth(1).unwrap_or_default();
                Err(places.message(&format!("{field}.{named}"), message.clone()))
            }
            Some(Err(other)) => Err(other.into()),
        }
    }
}

impl GateTable {
    fn validate(self, places: &Places<'_>, field: &str) -> Result<Gate, PruningError> {
        let bound = match (self.at_most, self.at_least) {
            (Some(limit), None) if limit.is_finite() => Bound::AtMost(limit),
            (None, Some(limit)) if limit.is_finite() => Bound::AtLeast(limit),
            _ => return Err(places.field(field, "no single limit", "at_most or at_least, a finite number")),
        };
        Ok(Gate { metric: self.metric, bound, relative: self.relative })
    }
}

/// `90M`, `15B`, `1.5B`, `800K` or a plain number.
fn count_of(text: &str) -> Option<u64> {
    let (number, factor) = match text.as_bytes().last()? {
        b'K' => (text.get(..text.len() - 1)?, 1e3),
        b'M' => (text.get(..text.len() - 1)?, 1e6),
        b'B' => (text.get(..text.len() - 1)?, 1e9),
        _ => (text, 1.0),
    };
    let count = number.parse::<f64>().ok()? * factor;
    (count.is_finite() && (1.0..9e18).contains(&count)).then_some(count.round() as u64)
}
