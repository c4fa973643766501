//! Activation norm: a unit whose activation is small on calibration text matters little.
//!
//! With a the input of the output projection (heads) or of the down projection (FFN channels), T the tokens of one
//! calibration sequence and the sum over all sequences, the score of channel c is
//!
//! ```text
//! s_c = sqrt( Σ_sequences ( 1/T · Σ_t |a_t,c| )² )
//! ```
//!
//! and the score of a head is the Euclidean norm of s over the head's channels, that of a key/value group the sum over its
//! heads. This is Minitron's statistic
//! (Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", arXiv 2407.14679, §2.2),
//! in the form of NVIDIA's Model Optimizer (`mcore_minitron.py`). Heads should be ranked inside their KV group.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, ScoredUnit, Tensor, Traces, Unit, identity,
};

struct ActivationNorm;

impl Guest for ActivationNorm {
    type Job = Pass;

    fn describe() -> Description {
        Description {
            identity: identity!(),
            units: vec![
                ScoredUnit { unit: Unit::Head, probes: vec![Probe::HeadOutput], ablation: false },
                ScoredUnit { unit: Unit::KvGroup, probes: vec![Probe::HeadOutput], ablation: false },
                ScoredUnit { unit: Unit::FfnChannel, probes: vec![Probe::FfnActivation], ablation: false },
            ],
        }
    }
}

/// One pass over the calibration text.
struct Pass {
    shape: ModelShape,
    /// What the units that will be scored need.
    probes: Vec<Probe>,
    /// Per layer and probe, the sum over the sequences so far of the squared mean magnitudes.
    sums: RefCell<BTreeMap<(u32, Probe), Tensor>>,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        let mut probes: Vec<Probe> = units.into_iter().map(probe).collect::<Result<_, _>>()?;
        probes.sort_unstable();
        probes.dedup();
        Ok(Job::new(Self { shape, probes, sums: RefCell::default() }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
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

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let sums = self.sums.borrow();
        let sum =
            sums.get(&(layer, probe(unit)?)).ok_or_else(|| format!("layer {layer} was never observed"))?;
        let norms = sum.square_root();
        if unit == Unit::FfnChannel {
            return values(&norms);
        }
        let heads = values(&norms.grouped_l2_norm(self.shape.head_dim)?)?;
        if unit == Unit::Head {
            return Ok(heads);
        }
        let groups = self.shape.layers.get(layer as usize).map_or(0, |layer| layer.kv_heads as usize);
        let heads_per_group = heads.len().checked_div(groups).unwrap_or(0).max(1);
        Ok(heads.chunks(heads_per_group).map(|group| group.iter().sum()).collect())
    }
}

fn values(tensor: &Tensor) -> Result<Vec<f64>, String> {
    Ok(tensor.read()?.into_iter().map(f64::from).collect())
}

/// What a unit is scored by.
fn probe(unit: Unit) -> Result<Probe, String> {
    match unit {
        Unit::Head | Unit::KvGroup => Ok(Probe::HeadOutput),
        Unit::FfnChannel => Ok(Probe::FfnActivation),
        other => Err(format!("units of the kind {other:?} are not scored")),
    }
}

espalier_scoring_policy::export!(ActivationNorm);
