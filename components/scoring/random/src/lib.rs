//! Random scores: the control that every other policy must beat at the same budget.
//!
//! Each unit's score is a number in [0, 1) that looks random and is a function of the job's seed, the kind of unit, the
//! layer and the unit's index alone (splitmix64). It needs no probes, so the host neither loads the model nor reads text.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, ScoredUnit, Traces, Unit, calibration, identity, model,
};

struct Random;

const UNITS: [Unit; 6] =
    [Unit::Layer, Unit::Head, Unit::KvGroup, Unit::FfnChannel, Unit::Expert, Unit::ExpertChannel];

impl Guest for Random {
    type Job = Draw;

    fn describe() -> Description {
        Description { identity: identity!(), units: UNITS.map(|unit| ScoredUnit::seeing(unit, &[])).to_vec() }
    }
}

/// Nothing is measured, so nothing is kept.
struct Draw;

impl GuestJob for Draw {
    fn begin(_shape: ModelShape, _units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self))
    }

    fn observe(&self, _layer: u32, _traces: &Traces) -> Result<(), String> {
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let count = model::unit_count(layer, unit)?;
        let kind = UNITS.iter().position(|&known| known == unit).unwrap_or_default() as u64;
        let stream = mix(mix(calibration::seed() ^ kind) ^ u64::from(layer));
        Ok((0..u64::from(count)).map(|index| unit_interval(mix(stream ^ index))).collect())
    }
}

/// splitmix64's step and finaliser (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014).
fn mix(state: u64) -> u64 {
    let mut mixed = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The upper 53 bits as a number in [0, 1).
fn unit_interval(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

espalier_scoring_policy::export!(Random);
