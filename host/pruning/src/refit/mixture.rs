//! What a mixture misses after units go, put into the biases of the experts that stay. Weights stay as they are, so those in
//! MXFP4 keep their codes.
//!
//! Where channels of an expert go, its bias gets the mean of what its down projection no longer gets, over the tokens that
//! pass through the expert (FLAP's bias compensation, An et al., arXiv 2312.11983, expert by expert):
//!
//! ```text
//! b += W[:, gone] · E[a_gone]
//! ```
//!
//! The host weighs an expert's output with its bias, so no token gets more of it than it had. An expert that no token of the
//! calibration text passes through is left alone.
//!
//! Where whole experts go, their tokens pass through others. What that changes in the mean over all tokens can be added to
//! the biases of those that stay: a token's weights over its experts add up to 1, so each token gets it once.

use espalier_kernels::{Cpu, Matrix, Precision};
use espalier_model::{LayerSteps, MixtureStep, ModelError};

use super::Fitting;
use crate::error::PruningError;
use crate::plan::{ExpertChannels, LayerPlan};

const DOWN: &str = "mlp.experts.down_proj";

impl Fitting<'_> {
    /// Adds the mixture of a layer, which becomes layer `place`, to the hidden states, and what its experts' biases make up
    /// for; keeps the biases.
    pub(super) fn mixture(&mut self, entry: &LayerPlan, place: usize) -> Result<(), PruningError> {
        let Some(experts) = &entry.experts else { return Ok(()) };
        let biases = format!("model.layers.{}.{DOWN}.bias", entry.layer);
        let has_bias = self.checkpoint.tensor(&biases).is_ok();
        let expected = match &mut self.whole {
            Some(whole) if has_bias && !experts.removed.is_empty() => {
                Some(mean_behind(whole, entry.layer, &self.hidden)?)
            }
            _ => None,
        };
        let steps: Vec<MixtureStep> = self
            .hidden
            .iter_mut()
            .map(|hidden| self.steps.mixture(entry.layer, hidden))
            .collect::<Result<_, _>>()?;
        let loses_channels = entry.expert_channels.iter().any(|of| !of.channels.removed.is_empty());
        if !has_bias || (expected.is_none() && !loses_channels) {
            return Ok(());
        }
        let (cpu, width) = (self.steps.cpu(), self.steps.hidden_size());
        let mut shifts = vec![0.0; experts.count * width];
        if loses_channels {
            self.channel_shifts(entry, &steps, &mut shifts)?;
            for (hidden, step) in self.hidden.iter_mut().zip(&steps) {
                add_weighted(cpu, hidden, &shifts, (experts.count, width), &step.weights)?;
            }
        }
        if let Some(expected) = expected {
            let found = column_means(&self.hidden, width);
            let shift: Vec<f32> = expected.iter().zip(&found).map(|(a, b)| (a - b) as f32).collect();
            shifts.chunks_exact_mut(width).for_each(|of_expert| cpu.add(of_expert, &shift));
            self.hidden.iter_mut().for_each(|hidden| cpu.add_bias(hidden, &shift));
        }
        let mut biases = self.checkpoint.tensor(&biases)?.to_f32()?;
        cpu.add(&mut biases, &shifts);
        let row = |index: &usize| biases.get(index * width..(index + 1) * width).unwrap_or_default();
        let kept = experts.kept().iter().flat_map(row).copied().collect();
        self.tensors.insert(format!("model.layers.{place}.{DOWN}.bias"), kept);
        Ok(())
    }

    /// Writes what each expert misses in the mean over its tokens without its channels that go: `[experts, hidden_size]`.
    fn channel_shifts(
        &self,
        entry: &LayerPlan,
        steps: &[MixtureStep],
        shifts: &mut [f32],
    ) -> Result<(), ModelError> {
        let weights = self.checkpoint.tensor(&format!("model.layers.{}.{DOWN}.weight", entry.layer))?;
        let experts = entry.experts.as_ref().map_or(0, |experts| experts.count);
        let width = self.steps.hidden_size();
        for ExpertChannels { expert, channels } in &entry.expert_channels {
            let tokens = tokens_of(steps, *expert, experts);
            if channels.removed.is_empty() || tokens == 0 {
                continue;
            }
            let means = activation_means(steps, *expert, channels.count, tokens);
            let weights = weights.slice(*expert..*expert + 1)?.to_f32()?;
            let own = shifts.get_mut(expert * width..(expert + 1) * width).unwrap_or_default();
            for (shift, row) in own.iter_mut().zip(weights.chunks_exact(channels.count.max(1))) {
                let missed = channels
                    .removed
                    .iter()
                    .filter_map(|&channel| Some(f64::from(*row.get(channel)?) * means.get(channel)?));
                *shift = missed.sum::<f64>() as f32;
            }
        }
        Ok(())
    }
}

/// How many tokens pass through an expert.
fn tokens_of(steps: &[MixtureStep], expert: usize, experts: usize) -> usize {
    let weights = steps.iter().flat_map(|step| step.weights.iter().skip(expert).step_by(experts.max(1)));
    weights.filter(|weight| **weight > 0.0).count()
}

/// The mean over its tokens of what enters an expert's down projection.
fn activation_means(steps: &[MixtureStep], expert: usize, channels: usize, tokens: usize) -> Vec<f64> {
    let mut means = vec![0.0; channels];
    for step in steps {
        let sums = step.activation_sums.get(expert * channels..(expert + 1) * channels).unwrap_or_default();
        means.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += f64::from(*sum) / tokens as f64);
    }
    means
}

/// Adds the rows of `shifts`, `[experts, width]`, to each token's hidden state as the router weighs the experts.
fn add_weighted(
    cpu: &Cpu,
    hidden: &mut [f32],
    shifts: &[f32],
    (experts, width): (usize, usize),
    weights: &[f32],
) -> Result<(), PruningError> {
    let columns = (0..width).flat_map(|output| shifts.iter().skip(output).step_by(width).copied());
    let matrix = Matrix::from_f32(width, experts, &columns.collect::<Vec<f32>>())?;
    let mut change = vec![0.0; hidden.len()];
    cpu.matmul(&matrix, &cpu.activations(weights, experts, Precision::Exact)?, &mut change)?;
    cpu.add(hidden, &change);
    Ok(())
}

/// The mean over all tokens of the hidden states behind the feed-forward part of the whole layer.
fn mean_behind(
    whole: &mut LayerSteps<'_>,
    layer: usize,
    hidden: &[Vec<f32>],
) -> Result<Vec<f64>, ModelError> {
    let width = whole.hidden_size();
    let mut means = vec![0.0; width];
    for hidden in hidden {
        let mut behind = hidden.clone();
        whole.feed_forward(layer, &mut behind)?;
        let of_window = column_means(&[behind], width);
        means.iter_mut().zip(of_window).for_each(|(sum, mean)| *sum += mean);
    }
    // Windows have equally many tokens.
    let windows = hidden.len().max(1) as f64;
    Ok(means.into_iter().map(|sum| sum / windows).collect())
}

/// The mean of each of `width` columns.
fn column_means(rows: &[Vec<f32>], width: usize) -> Vec<f64> {
    let mut means = vec![0.0; width];
    let count = rows.iter().map(Vec::len).sum::<usize>() / width.max(1);
    for row in rows.iter().flat_map(|rows| rows.chunks_exact(width.max(1))) {
        means.iter_mut().zip(row).for_each(|(mean, value)| *mean += f64::from(*value));
    }
    means.into_iter().map(|sum: f64| sum / count.max(1) as f64).collect()
}
