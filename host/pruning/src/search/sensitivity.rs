//! How much worse a model gets when fewer units of one kind stay, measured.
//!
//! The units that a policy scores lowest are taken out of the unpruned model, of one kind at a time and of all layers
//! together, and the loss of calibration text without them is compared with the loss of the whole model. Between the
//! counts that were measured the loss is interpolated in a straight line, which is too high where the curve bends
//! upwards, as these do.

use std::collections::BTreeMap;

use espalier_components::{AblatedUnit, Unit};
use serde::{Deserialize, Serialize};

use crate::error::PruningError;

/// Shares of a kind's units at which the loss is measured.
const SHARES: [f64; 5] = [0.9, 0.75, 0.6, 0.45, 0.3];

/// The loss by the number of units that stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sensitivity {
    /// The kind.
    pub unit: Unit,
    /// Units that stay and by how many nats per token the loss rises, from all (and 0) to the fewest measured.
    pub points: Vec<(usize, f64)>,
}

impl Sensitivity {
    /// The rise of the loss when `count` units stay; none where fewer stay than were measured.
    #[must_use]
    pub fn rise(&self, count: usize) -> Option<f64> {
        let above = self.points.iter().rposition(|&(measured, _)| measured >= count)?;
        let &(high, rise) = self.points.get(above)?;
        if high == count {
            return Some(rise);
        }
        let &(low, more) = self.points.get(above + 1)?;
        Some(rise + (more - rise) * (high - count) as f64 / (high - low) as f64)
    }

    /// The fewest units measured.
    #[must_use]
    pub fn fewest(&self) -> usize {
        self.points.last().map_or(0, |&(count, _)| count)
    }
}

/// The counts to measure of those that are allowed, which ascend: from all downwards.
pub(super) fn levels(allowed: &[usize]) -> Vec<usize> {
    let Some(&whole) = allowed.last() else { return Vec::new() };
    let nearest = |share: &f64| {
        let wanted = share * whole as f64;
        allowed
            .iter()
            .copied()
            .min_by(|a, b| (*a as f64 - wanted).abs().total_cmp(&(*b as f64 - wanted).abs()))
    };
    let mut levels: Vec<usize> = SHARES.iter().filter_map(nearest).filter(|&count| count < whole).collect();
    levels.dedup();
    levels
}

/// Asks for the loss without some units.
pub(super) type Loss<'a> = dyn FnMut(&[AblatedUnit]) -> Result<f64, PruningError> + 'a;

/// Measures one kind: `removed` gives the units that go where so many stay.
pub(super) fn measure(
    unit: Unit,
    whole: usize,
    levels: &[usize],
    removed: &dyn Fn(usize) -> Result<Vec<AblatedUnit>, PruningError>,
    unpruned: f64,
    loss: &mut Loss<'_>,
) -> Result<Sensitivity, PruningError> {
    let mut points = vec![(whole, 0.0)];
    let mut worst = 0.0_f64;
    for &count in levels {
        // Fewer units that measure better are noise: a plan must not be drawn to it.
        worst = worst.max(loss(&removed(count)?)? - unpruned);
        points.push((count, worst));
    }
    Ok(Sensitivity { unit, points })
}

/// The sum of the kinds' rises; none if a count was not measured.
pub(super) fn predicted(sensitivities: &[Sensitivity], counts: &BTreeMap<Unit, usize>) -> Option<f64> {
    let of = |found: &Sensitivity| counts.get(&found.unit).map_or(Some(0.0), |&count| found.rise(count));
    sensitivities.iter().map(of).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_between_two_counts_is_on_the_line() {
        let found = Sensitivity { unit: Unit::Head, points: vec![(8, 0.0), (6, 0.2), (2, 1.0)] };
        assert_eq!(found.rise(8), Some(0.0));
        assert_eq!(found.rise(7), Some(0.1));
        assert_eq!(found.rise(6), Some(0.2));
        assert!((found.rise(4).unwrap() - 0.6).abs() < 1e-12);
        assert_eq!(found.rise(1), None);
    }

    #[test]
    fn levels_are_allowed_counts_below_the_whole() {
        let allowed: Vec<usize> = (1..=48).map(|count| count * 32).collect();
        assert_eq!(levels(&allowed), [1376, 1152, 928, 704, 448]);
        assert_eq!(levels(&[1, 2, 3]), [2, 1]);
        assert!(levels(&[9]).is_empty());
    }

    #[test]
    fn noise_does_not_make_fewer_units_better() {
        let mut losses = [2.5, 2.4, 3.0].into_iter();
        let mut loss = |_: &[AblatedUnit]| Ok(losses.next().unwrap());
        let found = measure(Unit::Head, 8, &[6, 4, 2], &|_| Ok(Vec::new()), 2.0, &mut loss).unwrap();
        assert_eq!(found.points, [(8, 0.0), (6, 0.5), (4, 0.5), (2, 1.0)]);
    }
}
