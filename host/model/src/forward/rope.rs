//! Cosines and sines of the rotary position embedding for the positions of a batch.
//!
//! Which frequencies a model turns with is [`RopeSpec`]'s knowledge; pairs are "halves" as in Hugging Face's code.

use crate::spec::RopeSpec;

/// One model's rotary frequencies in the precision of the kernels.
pub(crate) struct RotaryTable {
    inverse_frequencies: Vec<f32>,
    attention_factor: f32,
}

impl RotaryTable {
    pub(crate) fn new(spec: &RopeSpec, head_dim: usize) -> Self {
        Self {
            inverse_frequencies: spec
                .inverse_frequencies(head_dim)
                .into_iter()
                .map(|value| value as f32)
                .collect(),
            attention_factor: spec.attention_factor() as f32,
        }
    }

    /// Cosines and sines `[positions, head_dim / 2]`, each times the attention factor.
    pub(crate) fn angles(&self, positions: impl Iterator<Item = usize>) -> (Vec<f32>, Vec<f32>) {
        // The product is rounded to f32 before the cosine is taken, as the reference implementation does: at large
        // positions that rounding is part of what the model was trained with.
        positions
            .flat_map(|position| {
                self.inverse_frequencies.iter().map(move |frequency| {
                    let (sine, cosine) = f64::from(position as f32 * frequency).sin_cos();
                    (cosine as f32 * self.attention_factor, sine as f32 * self.attention_factor)
                })
            })
            .unzip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::RopeScaling;

    #[test]
    fn angles_are_position_times_frequency() {
        let table = RotaryTable::new(&RopeSpec { theta: 10_000.0, scaling: RopeScaling::None }, 8);
        let (cosines, sines) = table.angles([0, 3].into_iter());
        assert_eq!(cosines[..4], [1.0; 4]);
        assert!((sines[4] - 3f32.sin()).abs() < 1e-7);
        assert!((cosines[7] - 0.003f32.cos()).abs() < 1e-7);
    }
}
