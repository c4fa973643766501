//! How many units of each kind stay: the split of the budget between the kinds.
//!
//! Counts are uniform over layers, because the file formats state one count for all. One kind, the finest of those that
//! may go, fills the budget: for every allowed combination of the other kinds' counts the largest number of it within
//! the target is taken, which gives the candidates. Those that waste more than one step of the filling kind (the others
//! went so far that even all of it stays below the target) are dropped when there is any other. Of the rest, the
//! candidate wins that keeps the most importance, where
//!
//! > kept importance = Σ over kinds of (parameters of the kind) · (mean over layers of the kept share of its scores)
//!
//! The parameter weight makes the kinds comparable: it is 1 − (importance lost per parameter) summed over the
//! parameters that could go, so a kind gives up units as long as its units are cheap for their size. A policy's
//! absolute scale per kind cancels. Ties go to the larger model, then to the one with more layers, experts, groups and
//! heads.

use espalier_components::Unit;

use super::Constraints;
use super::counts::{Counts, Options, Shape};
use super::depth::removed_layers;
use super::ranking::{block_sums, shares_by_count};
use crate::error::PruningError;
use crate::scores::Scores;

/// Kinds from the finest to the coarsest.
const FINEST_FIRST: [Unit; 6] =
    [Unit::FfnChannel, Unit::ExpertChannel, Unit::Head, Unit::Expert, Unit::KvGroup, Unit::Layer];

/// What decides between the allowed counts.
pub(super) struct Request<'a> {
    pub(super) shape: &'a Shape,
    pub(super) options: &'a Options,
    pub(super) constraints: &'a Constraints,
    /// Scores of all kinds that may go, checked already.
    pub(super) scores: &'a Scores,
    /// The kinds that may go.
    pub(super) units: &'a [Unit],
    /// The share of all parameters that may stay.
    pub(super) keep: Option<f64>,
}

/// Chooses the counts that stay.
pub(super) fn allocate(request: &Request<'_>) -> Result<Counts, PruningError> {
    let Request { shape, options, constraints, units, keep, .. } = *request;
    // A share given with few decimals must not lose a unit to rounding.
    let whole = shape.parameters(&shape.whole);
    let budget = keep.map_or(u64::MAX, |keep| (keep * whole as f64 + 0.5).floor() as u64);
    let several = |unit: &Unit| units.contains(unit) && list(options, *unit).len() > 1;
    let fill = FINEST_FIRST.into_iter().find(several);
    let mut candidates = Vec::new();
    let mut smallest = whole;
    for counts in combinations(options, fill) {
        let with = |&count: &usize| filled(counts, fill, count);
        let allowed = |counts: &Counts| shape.check_heads(counts, constraints).is_ok();
        let filling = fill.map_or(&[0][..], |unit| list(options, unit));
        smallest = filling
            .iter()
            .map(with)
            .find(allowed)
            .map_or(smallest, |counts| smallest.min(shape.parameters(&counts)));
        let fits = |counts: &Counts| allowed(counts) && shape.parameters(counts) <= budget;
        candidates.extend(filling.iter().rev().map(with).find(fits));
    }
    if candidates.is_empty() {
        // Where no smaller model is allowed at all, the rule says more than the reachable range.
        if smallest == whole {
            let refused = |counts: Counts| shape.check_heads(&counts, constraints).err();
            if let Some(rule) = fewest(options).and_then(refused) {
                return Err(rule);
            }
        }
        return Err(PruningError::TargetUnreachable {
            keep: keep.unwrap_or(1.0),
            units: names(units),
            lowest: smallest as f64 / whole as f64,
        });
    }
    if let Some(unit) = fill {
        let tight = |counts: &Counts| budget - shape.parameters(counts) < step(shape, options, counts, unit);
        if candidates.iter().any(tight) {
            candidates.retain(tight);
        }
    }
    let worth = Worth::new(request);
    let order = |counts: &Counts| (counts.layers, counts.experts, counts.kv_groups, counts.heads_per_group);
    let ranked =
        candidates.into_iter().map(|counts| (worth.kept(&counts), shape.parameters(&counts), counts));
    let best = ranked.max_by(|(value, size, counts), (other_value, other_size, other)| {
        value.total_cmp(other_value).then(size.cmp(other_size)).then(order(counts).cmp(&order(other)))
    });
    // There is at least one candidate here; keeping everything is the harmless answer to the impossible case.
    Ok(best.map_or(shape.whole, |(_, _, counts)| counts))
}

/// The kinds' names in a sentence.
pub(super) fn names(units: &[Unit]) -> String {
    units.iter().map(|unit| unit.name()).collect::<Vec<_>>().join(", ")
}

/// The counts that a kind may have.
fn list(options: &Options, unit: Unit) -> &[usize] {
    match unit {
        Unit::Layer => &options.layers,
        Unit::KvGroup => &options.kv_groups,
        Unit::Head => &options.heads_per_group,
        Unit::Expert => &options.experts,
        Unit::FfnChannel | Unit::ExpertChannel => &options.channels,
    }
}

fn filled(counts: Counts, fill: Option<Unit>, count: usize) -> Counts {
    match fill {
        Some(Unit::Layer) => Counts { layers: count, ..counts },
        Some(Unit::KvGroup) => Counts { kv_groups: count, ..counts },
        Some(Unit::Head) => Counts { heads_per_group: count, ..counts },
        Some(Unit::Expert) => Counts { experts: count, ..counts },
        Some(Unit::FfnChannel | Unit::ExpertChannel) => Counts { channels: count, ..counts },
        None => counts,
    }
}

/// Every combination of allowed counts, the filling kind at its largest.
fn combinations(options: &Options, fill: Option<Unit>) -> Vec<Counts> {
    let of = |units: &[Unit], all: &[usize]| match fill {
        Some(unit) if units.contains(&unit) => all.last().copied().into_iter().collect(),
        _ => all.to_vec(),
    };
    let channels = of(&[Unit::FfnChannel, Unit::ExpertChannel], &options.channels);
    let heads = of(&[Unit::Head], &options.heads_per_group);
    let experts = of(&[Unit::Expert], &options.experts);
    let groups = of(&[Unit::KvGroup], &options.kv_groups);
    let mut combinations = Vec::new();
    for layers in of(&[Unit::Layer], &options.layers) {
        for &kv_groups in &groups {
            for &heads_per_group in &heads {
                for &experts in &experts {
                    combinations.extend(channels.iter().map(|&channels| Counts {
                        layers,
                        kv_groups,
                        heads_per_group,
                        experts,
                        channels,
                    }));
                }
            }
        }
    }
    combinations
}

/// The smallest count of every kind.
fn fewest(options: &Options) -> Option<Counts> {
    Some(Counts {
        layers: *options.layers.first()?,
        kv_groups: *options.kv_groups.first()?,
        heads_per_group: *options.heads_per_group.first()?,
        experts: *options.experts.first()?,
        channels: *options.channels.first()?,
    })
}

/// Parameters between all units of the filling kind and one step fewer.
fn step(shape: &Shape, options: &Options, counts: &Counts, fill: Unit) -> u64 {
    match list(options, fill) {
        [.., before, all] => {
            let with = |count: usize| shape.parameters(&filled(*counts, Some(fill), count));
            with(*all) - with(*before)
        }
        _ => 0,
    }
}

/// The objective of the module header, kind by kind: its parameters and the kept share for every count.
struct Worth<'a> {
    shape: &'a Shape,
    kinds: Vec<(Unit, f64, Vec<f64>)>,
}

impl<'a> Worth<'a> {
    fn new(request: &Request<'a>) -> Self {
        let shape = request.shape;
        let kinds = request.units.iter().filter_map(|&unit| {
            let layers = request.scores.get(unit)?;
            let shares = match unit {
                Unit::Layer => depth_shares(layers, request.options, shape.pairs),
                _ => mean(layers.iter().map(|scores| match unit {
                    Unit::Head => shares_by_count(scores, shape.whole.kv_groups),
                    Unit::ExpertChannel => {
                        shares_by_count(&block_sums(scores, shape.channel_block), shape.whole.experts)
                    }
                    _ => shares_by_count(scores, 1),
                })),
            };
            Some((unit, shape.parameters_of(unit) as f64, shares))
        });
        Self { shape, kinds: kinds.collect() }
    }

    fn kept(&self, counts: &Counts) -> f64 {
        let of_kind = |(unit, parameters, shares): &(Unit, f64, Vec<f64>)| {
            let place = match unit {
                Unit::Layer => counts.layers,
                Unit::KvGroup => counts.kv_groups,
                Unit::Head => counts.heads_per_group,
                Unit::Expert => counts.experts,
                Unit::FfnChannel => counts.channels,
                Unit::ExpertChannel => counts.channels / self.shape.channel_block,
            };
            parameters * shares.get(place).copied().unwrap_or(1.0)
        };
        self.kinds.iter().map(of_kind).sum()
    }
}

/// The share of all layers' scores that stays for every number of layers.
fn depth_shares(layers: &[Vec<f64>], options: &Options, pairs: bool) -> Vec<f64> {
    let scores: Vec<f64> = layers.iter().map(|scores| scores.iter().sum()).collect();
    let floor = scores.iter().copied().fold(0.0_f64, f64::min);
    let total: f64 = scores.iter().map(|score| score - floor).sum();
    let mut shares = vec![0.0; scores.len() + 1];
    for &keep in &options.layers {
        let Some(removed) = removed_layers(&scores, keep, pairs) else { continue };
        let lost: f64 =
            removed.iter().filter_map(|&layer| scores.get(layer)).map(|score| score - floor).sum();
        if let Some(share) = shares.get_mut(keep) {
            *share = if total > 0.0 { 1.0 - lost / total } else { keep as f64 / scores.len().max(1) as f64 };
        }
    }
    shares
}

/// The mean of lists of equal length, place by place.
fn mean(lists: impl ExactSizeIterator<Item = Vec<f64>>) -> Vec<f64> {
    let count = lists.len().max(1) as f64;
    let mut sums: Vec<f64> = Vec::new();
    for list in lists {
        sums.resize(sums.len().max(list.len()), 0.0);
        for (sum, value) in sums.iter_mut().zip(list) {
            *sum += value / count;
        }
    }
    sums
}
