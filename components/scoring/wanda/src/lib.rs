//! Wanda, structured: a unit matters by the weights that read it and by how large what they read is.
//!
//! With X the input of the output projection (heads) or of the down projection (channels) over all calibration tokens and
//! W that projection's weights, Wanda (Sun et al., arXiv 2306.11695) scores the weight `|W_ij| · ‖X_j‖₂`. A structured unit
//! takes whole columns, so the score of a channel is the mean over the rows of W, as in the baseline "Wanda-sp" of FLAP
//! (arXiv 2312.11983), and that of a head is the sum over its channels:
//!
//! ```text
//! s_j = ‖X_j‖₂ · mean_i |W_ij|
//! ```
//!
//! The score of a key/value group is the sum over its heads.

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, Projection, ScoredUnit, Sums, Traces, Unit,
    by_group, by_head, identity, values, weights,
};

struct Wanda;

impl Guest for Wanda {
    type Job = Pass;

    fn describe() -> Description {
        Description {
            identity: identity!(),
            units: vec![
                ScoredUnit::seeing(Unit::Head, &[Probe::HeadOutput]),
                ScoredUnit::seeing(Unit::KvGroup, &[Probe::HeadOutput]),
                ScoredUnit::seeing(Unit::FfnChannel, &[Probe::FfnActivation]),
            ],
        }
    }
}

/// One pass over the calibration text: sums of squares of the inputs.
struct Pass {
    shape: ModelShape,
    units: Vec<Unit>,
    heads: Sums,
    channels: Sums,
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self { shape, units, heads: Sums::default(), channels: Sums::default() }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let tokens = f64::from(traces.tokens());
        let squares = |probe: Probe| values(&traces.values(probe)?.sum_squares());
        if self.units.iter().any(|unit| *unit != Unit::FfnChannel) {
            self.heads.add(layer, &squares(Probe::HeadOutput)?, tokens);
        }
        if self.units.contains(&Unit::FfnChannel) {
            self.channels.add(layer, &squares(Probe::FfnActivation)?, tokens);
        }
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let (sums, projection) = match unit {
            Unit::FfnChannel => (&self.channels, Projection::Down),
            _ => (&self.heads, Projection::AttentionOutput),
        };
        let weights = values(&weights::values(layer, projection, None)?.mean_abs())?;
        let squares = sums.of(layer)?.values;
        let channels: Vec<f64> =
            squares.iter().zip(&weights).map(|(squares, weight)| squares.sqrt() * weight).collect();
        Ok(match unit {
            Unit::FfnChannel => channels,
            Unit::KvGroup => by_group(&by_head(&channels, &self.shape), &self.shape, layer),
            _ => by_head(&channels, &self.shape),
        })
    }
}

espalier_scoring_policy::export!(Wanda);
