//! How much of each layer stays: the same share of all, by scores across layers, or by what each layer costs in quality.
//!
//! From the whole model the cheapest next step is taken, a step being so many units of one kind in one layer as the
//! constraints let go together, until the model is small enough. What the next step costs:
//!
//! - uniform: the share of the layer's units that has gone by then, so that all layers shrink alike;
//! - global: the mean of its units' scores, standardised within their layer (as FLAP does, arXiv 2312.11983, section 3.3),
//!   so that layers with many unimportant units lose more;
//! - sensitivity: the rise of the loss for each parameter that it frees, measured with the layer's lowest units taken out and made
//!   convex, so that the greedy choice is the best one for losses that add up.

use espalier_components::{AblatedUnit, Unit};
use espalier_evaluation::unit_parameters;
use espalier_model::{LayerSpec, ModelSpec};
use serde::{Deserialize, Serialize};

use crate::error::PruningError;
use crate::plan::{Constraints, Count, Layout, Target};
use crate::protected::{Protected, protected_count};
use crate::scores::Scores;
use crate::search::Sensitivity;

/// Shares of a layer's units at which its loss is measured.
const SHARES: [f64; 3] = [0.75, 0.5, 0.25];

/// How the budget is spread over the layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Allocation {
    /// The same count in every layer.
    #[default]
    Uniform,
    /// By scores across layers; one kind of unit alone.
    Global,
    /// By the loss of the calibration text without each layer's lowest units.
    Sensitivity,
}

impl Allocation {
    /// The name in recipes and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Global => "global",
            Self::Sensitivity => "sensitivity",
        }
    }

    /// The allocation with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Global, Self::Sensitivity].into_iter().find(|found| found.name() == name)
    }
}

/// What is spread.
pub(crate) struct Spread<'a> {
    pub(crate) allocation: Allocation,
    pub(crate) spec: &'a ModelSpec,
    pub(crate) scores: &'a Scores,
    pub(crate) units: &'a [Unit],
    pub(crate) constraints: &'a Constraints,
    pub(crate) protected: &'a [Protected],
    /// The share of all parameters that may stay.
    pub(crate) keep: f64,
}

impl Spread<'_> {
    /// Whether layers may come out different, so that counts must be found layer by layer.
    pub(crate) fn differs(
        allocation: Allocation,
        constraints: &Constraints,
        protected: &[Protected],
    ) -> bool {
        let by_layer = protected.iter().any(|entry| entry.unit != Unit::Layer && entry.layers.is_some());
        allocation != Allocation::Uniform || (constraints.layout == Layout::Espalier && by_layer)
    }

    /// Counts for each layer. `loss` is asked for sensitivities alone.
    ///
    /// # Errors
    /// A layout or kinds that do not permit it, a target that cannot be reached, and errors of `loss`.
    pub(crate) fn target(
        &self,
        loss: &mut dyn FnMut(&[AblatedUnit]) -> Result<f64, PruningError>,
    ) -> Result<Target, PruningError> {
        self.check()?;
        let mut tracks = self.tracks()?;
        if self.allocation == Allocation::Sensitivity {
            let unpruned = loss(&[])?;
            for track in &mut tracks {
                track.measure(unpruned, loss)?;
            }
        }
        let whole = self.spec.parameters();
        let most = (self.keep * whole as f64 + 0.5).floor() as u64;
        let mut now = whole;
        while now > most {
            let priced = tracks.iter().enumerate().filter_map(|(place, track)| Some((track.price()?, place)));
            let cheapest = priced.min_by(|(a, first), (b, second)| a.total_cmp(b).then(first.cmp(second)));
            let Some(track) = cheapest.and_then(|(_, place)| tracks.get_mut(place)) else {
                return Err(PruningError::TargetUnreachable {
                    keep: self.keep,
                    units: self.units.iter().map(|unit| unit.name()).collect::<Vec<_>>().join(", "),
                    lowest: now as f64 / whole as f64,
                });
            };
            now -= track.advance();
        }
        let counts = self.units.iter().map(|&unit| {
            let of_unit = tracks.iter().filter(|track| track.unit == unit);
            (unit, Count::PerLayer(of_unit.map(Track::count).collect()))
        });
        Ok(Target { keep: None, counts: counts.collect() })
    }

    fn check(&self) -> Result<(), PruningError> {
        if self.constraints.layout != Layout::Espalier {
            return Err(PruningError::LoaderRule {
                found: format!("{} allocation gives each layer a count of its own", self.allocation.name()),
                loaders: "HF transformers, vLLM and llama.cpp",
                rule: "have one count for all layers".to_owned(),
            });
        }
        let supported = [Unit::KvGroup, Unit::FfnChannel, Unit::Expert];
        if let Some(unit) = self.units.iter().find(|unit| !supported.contains(unit)) {
            return Err(PruningError::Allocation {
                found: format!("the kind {unit}"),
                expected: "kv-group, ffn-channel or expert where layers differ".to_owned(),
            });
        }
        if self.allocation == Allocation::Global && self.units.len() > 1 {
            return Err(PruningError::Allocation {
                found: format!("{} kinds of units with global allocation", self.units.len()),
                expected: "one, as scores of different kinds do not compare".to_owned(),
            });
        }
        Ok(())
    }

    fn tracks(&self) -> Result<Vec<Track>, PruningError> {
        let mut tracks = Vec::new();
        for &unit in self.units {
            let scores = self.scores.checked(unit, self.spec)?;
            for (index, (layer, scores)) in self.spec.layers.iter().zip(scores).enumerate() {
                let protected = protected_count(self.protected, unit, index, scores.len());
                let step = if unit == Unit::FfnChannel { self.constraints.ffn_channel_multiple } else { 1 };
                let least = match layer.experts {
                    Some(experts) if unit == Unit::Expert => experts.active,
                    _ => 1,
                };
                let counts = counts(scores.len(), step.max(1), protected.max(least));
                tracks.push(Track::new(self, unit, index, layer, scores, counts));
            }
        }
        Ok(tracks)
    }
}

/// The counts that a layer may have, from all downwards.
fn counts(whole: usize, step: usize, least: usize) -> Vec<usize> {
    let multiples = (1..=whole / step).rev().map(|multiple| multiple * step);
    let smaller = multiples.filter(|&count| count < whole && count >= least);
    std::iter::once(whole).chain(smaller).collect()
}

/// One kind of unit in one layer on its way down.
struct Track {
    unit: Unit,
    layer: usize,
    allocation: Allocation,
    /// Units by rising score.
    order: Vec<usize>,
    counts: Vec<usize>,
    /// Cost of each count on the scale of the allocation, 0 for all units.
    costs: Vec<f64>,
    /// Parameters of a unit.
    parameters: u64,
    place: usize,
}

impl Track {
    fn new(
        spread: &Spread<'_>,
        unit: Unit,
        index: usize,
        layer: &LayerSpec,
        scores: &[f64],
        counts: Vec<usize>,
    ) -> Self {
        let mut order: Vec<(usize, f64)> = scores.iter().copied().enumerate().collect();
        // Ties stay by rising index, as in plans.
        order.sort_by(|(first, a), (second, b)| a.total_cmp(b).then(second.cmp(first)));
        let whole = scores.len();
        let costs = match spread.allocation {
            Allocation::Uniform => {
                counts.iter().map(|&count| ((whole - count) as f64 / whole.max(1) as f64).powi(2)).collect()
            }
            Allocation::Global => {
                let standard = standardised(&order);
                let cost = |&count: &usize| standard.iter().take(whole - count).sum::<f64>();
                counts.iter().map(cost).collect()
            }
            Allocation::Sensitivity => vec![0.0; counts.len()],
        };
        Self {
            unit,
            layer: index,
            allocation: spread.allocation,
            order: order.into_iter().map(|(index, _)| index).collect(),
            counts,
            costs,
            parameters: unit_parameters(spread.spec, layer, unit).unwrap_or(0),
            place: 0,
        }
    }

    fn count(&self) -> usize {
        self.counts.get(self.place).copied().unwrap_or(0)
    }

    /// Parameters that the next step frees.
    fn freed(&self) -> Option<u64> {
        let next = self.counts.get(self.place + 1)?;
        Some((self.count() - next) as u64 * self.parameters)
    }

    /// What the next step costs per parameter.
    fn price(&self) -> Option<f64> {
        let freed = self.freed()?;
        let cost = self.costs.get(self.place + 1)? - self.costs.get(self.place)?;
        // Shares of layers and standard deviations of scores are the same in a wide layer as in a narrow one.
        let per = match self.allocation {
            Allocation::Uniform | Allocation::Global => {
                (self.count() - self.counts.get(self.place + 1)?) as f64
            }
            Allocation::Sensitivity => freed as f64,
        };
        let scale = if self.allocation == Allocation::Uniform { self.order.len() as f64 } else { 1.0 };
        Some(cost / per.max(1.0) * scale)
    }

    fn advance(&mut self) -> u64 {
        let freed = self.freed().unwrap_or(0);
        self.place += 1;
        freed
    }

    /// Measures the layer's loss and fills the costs with its convex curve.
    fn measure(
        &mut self,
        unpruned: f64,
        loss: &mut dyn FnMut(&[AblatedUnit]) -> Result<f64, PruningError>,
    ) -> Result<(), PruningError> {
        let whole = self.order.len();
        let mut levels: Vec<usize> = SHARES
            .iter()
            .filter_map(|share| {
                let wanted = share * whole as f64;
                let near = |count: &usize| (*count as f64 - wanted).abs();
                self.counts.iter().copied().skip(1).min_by(|a, b| near(a).total_cmp(&near(b)))
            })
            .collect();
        levels.extend(self.counts.last().filter(|&&count| count < whole));
        levels.dedup();
        let mut points = vec![(whole, 0.0)];
        let mut worst = 0.0_f64;
        for count in levels {
            let gone = self.order.iter().take(whole - count);
            let gone: Vec<AblatedUnit> =
                gone.map(|&index| AblatedUnit { layer: self.layer, unit: self.unit, index }).collect();
            worst = worst.max(loss(&gone)? - unpruned);
            points.push((count, worst));
        }
        let curve = Sensitivity { unit: self.unit, points: convex(points) };
        self.costs = self.counts.iter().map(|&count| curve.rise(count).unwrap_or(worst)).collect();
        Ok(())
    }
}

/// Scores of one layer with mean 0 and standard deviation 1, in the order given.
fn standardised(order: &[(usize, f64)]) -> Vec<f64> {
    let count = order.len().max(1) as f64;
    let mean = order.iter().map(|(_, score)| score).sum::<f64>() / count;
    let variance = order.iter().map(|(_, score)| (score - mean).powi(2)).sum::<f64>() / count;
    let deviation = variance.sqrt().max(f64::MIN_POSITIVE);
    order.iter().map(|(_, score)| (score - mean) / deviation).collect()
}

/// The lower convex hull of points with falling counts and rising losses.
fn convex(points: Vec<(usize, f64)>) -> Vec<(usize, f64)> {
    let mut hull: Vec<(usize, f64)> = Vec::new();
    for point in points {
        while let [.., before, last] = hull.as_slice() {
            let slope =
                |from: &(usize, f64), to: &(usize, f64)| (to.1 - from.1) / (from.0 - to.0).max(1) as f64;
            if slope(before, last) <= slope(last, &point) {
                break;
            }
            hull.pop();
        }
        hull.push(point);
    }
    hull
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_fall_in_steps_and_not_below_what_is_protected() {
        assert_eq!(counts(100, 32, 1), [100, 96, 64, 32]);
        assert_eq!(counts(96, 32, 40), [96, 64]);
        assert_eq!(counts(4, 1, 4), [4]);
    }

    #[test]
    fn the_curve_becomes_convex() {
        let points = vec![(10, 0.0), (8, 0.5), (5, 0.6), (2, 2.0)];
        assert_eq!(convex(points), [(10, 0.0), (5, 0.6), (2, 2.0)]);
    }

    #[test]
    fn scores_are_standardised() {
        let found = standardised(&[(0, 1.0), (1, 3.0)]);
        assert_eq!(found, [-1.0, 1.0]);
        assert_eq!(standardised(&[(0, 2.0)]), [0.0]);
    }
}
