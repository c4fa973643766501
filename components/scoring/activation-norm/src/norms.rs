//! The norm of each unit's mean activation.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use espalier_scoring_policy::{ModelShape, Probe, Tensor, Traces, Unit, by_group, values};

/// One pass over the calibration text.
pub struct ActivationNorms {
    shape: ModelShape,
    /// What the units that will be scored need.
    probes: Vec<Probe>,
    /// Per layer and probe, the sum over the sequences so far of the squared mean magnitudes.
    sums: RefCell<BTreeMap<(u32, Probe), Tensor>>,
}

impl ActivationNorms {
    /// For those of the units that have activations.
    pub fn new(shape: ModelShape, units: &[Unit]) -> Self {
        let mut probes: Vec<Probe> = units.iter().filter_map(|unit| probe(*unit)).collect();
        probes.sort_unstable();
        probes.dedup();
        Self { shape, probes, sums: RefCell::default() }
    }

    /// Takes in one sequence.
    pub fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let mut sums = self.sums.borrow_mut();
        for probe in &self.probes {
            let mean = traces.values(*probe)?.mean_abs();
            let sum = match sums.entry((layer, *probe)) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Tensor::zeros(&mean.shape())?),
            };
            sum.accumulate_squares(&mean)?;
        }
        Ok(())
    }

    /// The norm of each unit of the layer.
    pub fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let probe = probe(unit).ok_or_else(|| format!("units of the kind {unit:?} have no activation"))?;
        let sums = self.sums.borrow();
        let sum = sums.get(&(layer, probe)).ok_or_else(|| format!("layer {layer} was never observed"))?;
        let norms = sum.square_root();
        if unit == Unit::FfnChannel {
            return values(&norms);
        }
        let heads = values(&norms.grouped_l2_norm(self.shape.head_dim)?)?;
        Ok(if unit == Unit::KvGroup { by_group(&heads, &self.shape, layer) } else { heads })
    }
}

/// What a unit is scored by.
pub const fn probe(unit: Unit) -> Option<Probe> {
    match unit {
        Unit::Head | Unit::KvGroup => Some(Probe::HeadOutput),
        Unit::FfnChannel => Some(Probe::FfnActivation),
        _ => None,
    }
}
