//! What a pruning aims at, and the counts that this comes to once units have scores.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use espalier_components::{AblatedUnit, Unit};
use espalier_model::{Checkpoint, Model, ModelSpec};

use crate::ablation::ModelAblation;
use crate::allocation::{Allocation, Spread};
use crate::calibration::Calibration;
use crate::error::PruningError;
use crate::plan::{Count, Layout, Space, Target};
use crate::progress::{Phase, Progress, step};
use crate::prune::PruneRequest;
use crate::scores::Scores;
use crate::search::{Budgets, Search, SearchRequest, search};

/// Windows of the calibration text that losses are measured on, of those that a policy sees.
const LOSS_WINDOWS: usize = 16;

/// What is to stay.
#[derive(Clone, Debug, PartialEq)]
pub enum Aim {
    /// A share of the parameters, counts, or both.
    Target(Target),
    /// The plan with the least predicted loss within these.
    Budgets(Budgets),
    /// At least these shares of the units of each kind in every layer, and of the layers; nothing goes where the
    /// constraints allow no count between the share and all.
    Shares(BTreeMap<Unit, f64>),
    /// What scores at least this. Where all layers must be equal, the mean of what they keep stays of each, rounded up to
    /// what the constraints allow.
    Score(f64),
}

impl Default for Aim {
    fn default() -> Self {
        Self::Target(Target::default())
    }
}

impl Aim {
    /// The target as far as it is known before units have scores.
    pub(crate) fn known(&self) -> Target {
        match self {
            Self::Target(target) => target.clone(),
            Self::Budgets(_) | Self::Shares(_) | Self::Score(_) => Target::default(),
        }
    }

    /// The kinds that may go: those named and those with a share.
    pub(crate) fn units(&self, named: &[Unit]) -> Vec<Unit> {
        let shares = match self {
            Self::Shares(shares) => Some(shares.keys()),
            Self::Target(_) | Self::Budgets(_) | Self::Score(_) => None,
        };
        named.iter().chain(shares.into_iter().flatten()).copied().collect()
    }

    /// Whether it goes with this allocation, and its numbers are in range.
    pub(crate) fn check(&self, allocation: Allocation) -> Result<(), PruningError> {
        let a_share =
            matches!(self, Self::Target(target) if target.keep.is_some() && target.counts.is_empty());
        if allocation != Allocation::Uniform && !a_share {
            return Err(PruningError::Allocation {
                found: format!("{} without a share to keep", allocation.name()),
                expected: "a share of the parameters, and no counts".to_owned(),
            });
        }
        match self {
            Self::Shares(shares) => match shares.values().find(|share| !(**share > 0.0 && **share <= 1.0)) {
                Some(&found) => Err(PruningError::KeepOutOfRange { found }),
                None => Ok(()),
            },
            Self::Score(found) if !found.is_finite() => Err(PruningError::Allocation {
                found: format!("a least score of {found}"),
                expected: "a finite number".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Whether it takes the loss without some units to find the counts.
    pub(crate) fn needs_losses(&self, allocation: Allocation) -> bool {
        matches!(self, Self::Budgets(_)) || allocation == Allocation::Sensitivity
    }
}

/// What counts are found from.
pub(crate) struct Aiming<'a> {
    pub(crate) checkpoint: &'a Checkpoint,
    pub(crate) request: &'a PruneRequest,
    pub(crate) units: &'a [Unit],
    pub(crate) scores: &'a Scores,
    /// The model and the calibration text, where losses are needed.
    pub(crate) seen: Option<&'a (Arc<Model>, Calibration)>,
}

impl Aiming<'_> {
    /// The target of the plan, and what was searched for it.
    pub(crate) fn target(
        &self,
        progress: &mut dyn Progress,
    ) -> Result<(Target, Option<Search>), PruningError> {
        let PruneRequest { aim, constraints, allocation, protected, .. } = self.request;
        let spec = self.checkpoint.spec();
        match aim {
            Aim::Budgets(budgets) => self.search(budgets, progress),
            Aim::Shares(shares) => Ok((by_shares(&self.space()?, shares), None)),
            Aim::Score(least) => Ok((
                by_score(&self.space()?, spec, self.scores, self.units, *least, constraints.layout)?,
                None,
            )),
            Aim::Target(target) => match target.keep.filter(|_| target.counts.is_empty()) {
                Some(keep) if Spread::differs(*allocation, constraints, protected) => {
                    let spread = Spread {
                        allocation: *allocation,
                        spec,
                        scores: self.scores,
                        units: self.units,
                        constraints,
                        protected,
                        keep,
                    };
                    let losses = Losses::new(self.seen, progress);
                    Ok((spread.target(&mut |without| losses.without(without))?, None))
                }
                _ => Ok((target.clone(), None)),
            },
        }
    }

    fn space(&self) -> Result<Space, PruningError> {
        let storage = self.request.storage.of(self.checkpoint);
        Space::new(self.checkpoint.spec(), self.units, &self.request.constraints, &storage)
    }

    fn search(
        &self,
        budgets: &Budgets,
        progress: &mut dyn Progress,
    ) -> Result<(Target, Option<Search>), PruningError> {
        let Some((model, _)) = self.seen else { return Err(PruningError::NoUnits) };
        let request = SearchRequest {
            checkpoint: self.checkpoint,
            scores: self.scores,
            units: self.units,
            constraints: &self.request.constraints,
            storage: &self.request.storage.of(self.checkpoint),
            budgets,
            device: model.device(),
        };
        let losses = Losses::new(self.seen, progress);
        let (target, found) =
            search(&request, &mut |without| losses.without(without), &mut || losses.advance())?;
        Ok((target, Some(found)))
    }
}

/// Losses on the calibration text, counted and cancellable.
struct Losses<'a> {
    ablation: Option<ModelAblation>,
    done: Cell<usize>,
    progress: RefCell<&'a mut dyn Progress>,
}

impl<'a> Losses<'a> {
    fn new(seen: Option<&(Arc<Model>, Calibration)>, progress: &'a mut dyn Progress) -> Self {
        let ablation = seen.map(|(model, calibration)| {
            let windows = calibration.windows.iter().take(LOSS_WINDOWS).cloned().collect();
            ModelAblation::new(Arc::clone(model), windows)
        });
        Self { ablation, done: Cell::new(0), progress: RefCell::new(progress) }
    }

    fn advance(&self) -> Result<(), PruningError> {
        self.done.set(self.done.get() + 1);
        step(*self.progress.borrow_mut(), Phase::Search, self.done.get(), 0)
    }

    fn without(&self, units: &[AblatedUnit]) -> Result<f64, PruningError> {
        self.advance()?;
        let ablation = self.ablation.as_ref().ok_or(PruningError::NoUnits)?;
        ablation.loss_without(units)
    }
}

/// The smallest allowed counts that are no smaller than the shares.
fn by_shares(space: &Space, shares: &BTreeMap<Unit, f64>) -> Target {
    let counts = shares.iter().filter_map(|(&unit, share)| {
        let allowed = space.counts(unit);
        let whole = *allowed.last()? as f64;
        // A share given with few decimals must not keep a unit more than it says.
        let least = (share * whole - 1e-9).ceil() as usize;
        let count = allowed.into_iter().find(|&count| count >= least)?;
        Some((unit, Count::Uniform(count)))
    });
    Target { keep: None, counts: counts.collect() }
}

fn by_score(
    space: &Space,
    spec: &ModelSpec,
    scores: &Scores,
    units: &[Unit],
    least: f64,
    layout: Layout,
) -> Result<Target, PruningError> {
    let mut target = Target::default();
    for &unit in units {
        let layers = scores.checked(unit, spec)?;
        let enough = |scores: &[f64]| scores.iter().filter(|score| **score >= least).count();
        let allowed = space.counts(unit);
        let up = |wanted: f64| {
            let found = allowed.iter().copied().find(|&count| count as f64 >= wanted);
            found.or(allowed.last().copied()).unwrap_or(0)
        };
        let per_layer = layout == Layout::Espalier && !matches!(unit, Unit::Layer | Unit::Head);
        let count = if unit == Unit::Layer {
            Count::Uniform(up(layers.iter().map(|scores| enough(scores)).sum::<usize>() as f64))
        } else if per_layer {
            Count::PerLayer(layers.iter().map(|scores| up(enough(scores) as f64)).collect())
        } else {
            let sum: usize = layers.iter().map(|scores| enough(scores)).sum();
            Count::Uniform(up(sum as f64 / layers.len().max(1) as f64))
        };
        target.counts.insert(unit, count);
    }
    Ok(target)
}
