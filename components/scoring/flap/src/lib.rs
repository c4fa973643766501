//! FLAP: a unit whose output hardly fluctuates can be replaced by its mean, so it goes first.
//!
//! With a the input of the output projection (heads) or of the down projection (channels) and W that projection's weights,
//! the score of a channel is its variance over all calibration tokens by the squared norm of its column, standardised
//! among the channels of the layer; the score of a head is the mean over its channels (An et al., "Fluctuation-based
//! Adaptive Structured Pruning for Large Language Models", arXiv 2312.11983, metric WIFV):
//!
//! ```text
//! s_j = z( Var_t(a_t,j) · ‖W_:j‖₂² )
//! ```
//!
//! The variance is the population's, merged from those of single sequences (Chan, Golub and LeVeque, 1983). The score of a
//! key/value group is the sum over its heads.
//!
//! The other half of the method, adding the mean of what goes to the projection's bias, changes the model and is the host's
//! business: `espalier prune --policy flap --refit --bias-only`, or `--refit` alone, whose least squares have the bias as one
//! more input. A projection without a bias (those of a Llama and Qwen2) gets fitted weights in its place; the biases of experts
//! make up for their channels.

use std::cell::RefCell;
use std::collections::BTreeMap;

use espalier_scoring_policy::{
    Description, Guest, GuestJob, Job, ModelShape, Probe, Projection, ScoredUnit, Traces, Unit, by_group,
    by_head, identity, standardised, values, weights,
};

struct Flap;

impl Guest for Flap {
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

/// One pass over the calibration text.
struct Pass {
    shape: ModelShape,
    units: Vec<Unit>,
    moments: RefCell<BTreeMap<(u32, Probe), Moments>>,
}

/// Mean and squared deviations of every channel over the tokens so far.
#[derive(Default)]
struct Moments {
    tokens: f64,
    channels: Vec<(f64, f64)>,
}

impl Moments {
    /// Takes in further tokens with these means and variances.
    fn merge(&mut self, tokens: f64, means: &[f64], variances: &[f64]) {
        self.channels.resize(means.len(), (0.0, 0.0));
        let all = self.tokens + tokens;
        for ((mean, deviations), (new, variance)) in self.channels.iter_mut().zip(means.iter().zip(variances))
        {
            let difference = new - *mean;
            *deviations += variance * tokens + difference * difference * self.tokens * tokens / all;
            *mean += difference * tokens / all;
        }
        self.tokens = all;
    }
}

impl GuestJob for Pass {
    fn begin(shape: ModelShape, units: Vec<Unit>) -> Result<Job, String> {
        Ok(Job::new(Self { shape, units, moments: RefCell::default() }))
    }

    fn observe(&self, layer: u32, traces: &Traces) -> Result<(), String> {
        let wants_heads = self.units.iter().any(|unit| *unit != Unit::FfnChannel);
        let wants_channels = self.units.contains(&Unit::FfnChannel);
        for (probe, wanted) in [(Probe::HeadOutput, wants_heads), (Probe::FfnActivation, wants_channels)] {
            if wanted {
                let trace = traces.values(probe)?;
                let (means, variances) = (values(&trace.mean())?, values(&trace.variance())?);
                let mut moments = self.moments.borrow_mut();
                moments.entry((layer, probe)).or_default().merge(
                    f64::from(traces.tokens()),
                    &means,
                    &variances,
                );
            }
        }
        Ok(())
    }

    fn scores(&self, layer: u32, unit: Unit) -> Result<Vec<f64>, String> {
        let (probe, projection) = match unit {
            Unit::FfnChannel => (Probe::FfnActivation, Projection::Down),
            _ => (Probe::HeadOutput, Projection::AttentionOutput),
        };
        let moments = self.moments.borrow();
        let moments =
            moments.get(&(layer, probe)).ok_or_else(|| format!("layer {layer} was never observed"))?;
        let columns = values(&weights::values(layer, projection, None)?.sum_squares())?;
        let variances = moments.channels.iter().map(|(_, deviations)| deviations / moments.tokens);
        let metric: Vec<f64> = variances.zip(&columns).map(|(variance, column)| variance * column).collect();
        let channels = standardised(&metric);
        if unit == Unit::FfnChannel {
            return Ok(channels);
        }
        let channels_per_head = f64::from(self.shape.head_dim.max(1));
        let heads: Vec<f64> =
            by_head(&channels, &self.shape).into_iter().map(|sum| sum / channels_per_head).collect();
        Ok(if unit == Unit::KvGroup { by_group(&heads, &self.shape, layer) } else { heads })
    }
}

espalier_scoring_policy::export!(Flap);
