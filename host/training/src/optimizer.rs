//! AdamW (arXiv 1711.05101): Adam with weight decay apart from the gradient.
//!
//! `m = β₁ m + (1 - β₁) g`, `v = β₂ v + (1 - β₂) g²`, and `w = w - lr · (λ w + m̂ / (sqrt(v̂) + ε))` with the moments
//! divided by `1 - βᵗ`. Matrices decay; norms, biases and sinks don't.

use rayon::prelude::*;

use crate::error::TrainingError;
use crate::gradients::Gradients;
use crate::network::Network;

/// Values that one thread takes at once.
const PIECE: usize = 1 << 13;

/// AdamW's constants, but for the learning rate, which a schedule gives for every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the mean of gradients.
    pub beta1: f32,
    /// Decay of the mean of squared gradients.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of a weight that a step with learning rate 1 would take away.
    pub weight_decay: f32,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1 }
    }
}

/// The two moments of every trainable tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    settings: AdamWSettings,
    steps: u64,
    moments: Vec<Moments>,
}

/// The moments of one tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Moments {
    pub(crate) first: Vec<f32>,
    pub(crate) second: Vec<f32>,
}

impl AdamW {
    /// An optimizer that has made no step.
    #[must_use]
    pub fn new(network: &Network, settings: AdamWSettings) -> Self {
        let lengths = network.trainable().iter().map(|parameter| parameter.shape().iter().product::<usize>());
        let moments = lengths.map(|length| Moments { first: vec![0.0; length], second: vec![0.0; length] });
        Self { settings, steps: 0, moments: moments.collect() }
    }

    /// One that goes on after `steps` steps.
    pub(crate) fn resumed(settings: AdamWSettings, steps: u64, moments: Vec<Moments>) -> Self {
        Self { settings, steps, moments }
    }

    pub(crate) fn moments(&self) -> &[Moments] {
        &self.moments
    }

    /// Changes the network's trainable tensors by one step.
    ///
    /// # Errors
    /// The tensor library refuses to read or write them.
    pub fn step(
        &mut self,
        network: &Network,
        gradients: &Gradients,
        learning_rate: f32,
    ) -> Result<(), TrainingError> {
        self.steps += 1;
        let settings = self.settings;
        let correction = |beta: f32| 1.0 - f64::from(beta).powf(self.steps as f64);
        let (first, second) = (correction(settings.beta1) as f32, correction(settings.beta2).sqrt() as f32);
        let tensors = network.trainable().iter().zip(gradients.values()).zip(&mut self.moments);
        for ((parameter, gradients), moments) in tensors {
            let decay = if decays(&parameter.name) { settings.weight_decay } else { 0.0 };
            parameter.change(|weights| {
                let pieces = weights.par_chunks_mut(PIECE).zip(gradients.par_chunks(PIECE));
                let moments = moments.first.par_chunks_mut(PIECE).zip(moments.second.par_chunks_mut(PIECE));
                pieces.zip(moments).for_each(|((weights, gradients), (means, squares))| {
                    let values = weights.iter_mut().zip(gradients).zip(means.iter_mut().zip(squares));
                    for ((weight, gradient), (mean, square)) in values {
                        *mean = settings.beta1 * *mean + (1.0 - settings.beta1) * gradient;
                        *square = settings.beta2 * *square + (1.0 - settings.beta2) * gradient * gradient;
                        let change = *mean / first / (square.sqrt() / second + settings.epsilon);
                        *weight -= learning_rate * (decay * *weight + change);
                    }
                });
            })?;
        }
        Ok(())
    }
}

/// Whether weight decay is for a tensor of this name.
fn decays(name: &str) -> bool {
    name.ends_with(".lora_A")
        || name.ends_with(".lora_B")
        || name.ends_with(".weight") && !name.contains("norm")
}

#[cfg(test)]
mod tests {
    use super::decays;

    #[test]
    fn matrices_decay_and_nothing_else() {
        for name in
            ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight", "a.mlp.experts.up_proj.lora_A"]
        {
            assert!(decays(name), "{name}");
        }
        for name in
            ["model.norm.weight", "a.post_attention_layernorm.weight", "a.q_proj.bias", "a.self_attn.sinks"]
        {
            assert!(!decays(name), "{name}");
        }
    }
}
