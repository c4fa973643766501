//! What a spec must hold for the arithmetic behind it to be defined.

use super::{Activation, LayerSpec, ModelSpec, RopeScaling, RopeSpec};
use crate::error::ModelError;

impl ModelSpec {
    /// Checks what the arithmetic of a forward pass relies on, so that nothing behind it needs to.
    ///
    /// # Errors
    /// Names the field, what it holds and what it must hold.
    pub fn validate(&self) -> Result<(), ModelError> {
        let positive = [
            ("hidden size", self.hidden_size),
            ("vocabulary size", self.vocab_size),
            ("head dimension", self.head_dim),
            ("number of layers", self.layers.len()),
            ("maximum of positions", self.max_positions),
        ];
        for (what, value) in positive {
            within(what, value, LARGEST_SIDE)?;
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(ModelError::malformed("head dimension", self.head_dim, "an even number"));
        }
        if !(self.rms_norm_eps.is_finite() && self.rms_norm_eps >= 0.0) {
            return Err(ModelError::malformed(
                "RMS norm epsilon",
                self.rms_norm_eps,
                "a finite number, 0 or more",
            ));
        }
        if let Activation::ClampedSwiglu { alpha, limit } = self.activation
            && !(alpha.is_finite() && limit.is_finite() && limit > 0.0)
        {
            let found = format!("alpha {alpha}, limit {limit}");
            return Err(ModelError::malformed("SwiGLU", found, "finite numbers and a limit above 0"));
        }
        self.rope.validate(self.head_dim)?;
        for (index, layer) in self.layers.iter().enumerate() {
            layer.validate(index)?;
            let widest = layer.heads.saturating_mul(self.head_dim);
            within(&format!("layer {index}: heads x head dimension"), widest, LARGEST_SIDE)?;
        }
        for &token in self.bos.iter().chain(&self.eos) {
            if token as usize >= self.vocab_size {
                let expected = format!("less than the vocabulary size {}", self.vocab_size);
                return Err(ModelError::malformed("beginning or end token", token, expected));
            }
        }
        Ok(())
    }
}

/// No published model comes near it; it keeps every product of two sides inside 64 bits.
const LARGEST_SIDE: usize = 1 << 28;

fn within(what: &str, value: usize, limit: usize) -> Result<(), ModelError> {
    if value == 0 || value > limit {
        return Err(ModelError::malformed(what, value, format!("1 to {limit}")));
    }
    Ok(())
}

impl LayerSpec {
    fn validate(&self, index: usize) -> Result<(), ModelError> {
        within(&format!("layer {index}: query heads"), self.heads, 1 << 16)?;
        within(&format!("layer {index}: key/value heads"), self.kv_heads, 1 << 16)?;
        within(&format!("layer {index}: feed-forward size"), self.ffn_size, LARGEST_SIDE)?;
        if !self.heads.is_multiple_of(self.kv_heads) {
            let expected = format!("a multiple of the {} key/value heads", self.kv_heads);
            return Err(ModelError::malformed(format!("layer {index}: query heads"), self.heads, expected));
        }
        if let Some(experts) = self.experts {
            within(&format!("layer {index}: experts"), experts.count, 1 << 16)?;
            within(&format!("layer {index}: experts of a token"), experts.active, experts.count)?;
        }
        if self.sliding_window == Some(0) {
            return Err(ModelError::malformed(format!("layer {index}: sliding window"), 0, "1 or more"));
        }
        Ok(())
    }
}

impl RopeSpec {
    fn validate(&self, head_dim: usize) -> Result<(), ModelError> {
        let positive = |what: &str, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(ModelError::malformed(format!("rope {what}"), value, "a finite number above 0"))
            }
        };
        positive("theta", self.theta)?;
        match &self.scaling {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear { factor } => positive("factor", *factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_positions } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("high_freq_factor", *high_freq_factor)?;
                positive("original maximum of positions", *original_max_positions as f64)?;
                if high_freq_factor <= low_freq_factor {
                    let expected = format!("above low_freq_factor {low_freq_factor}");
                    return Err(ModelError::malformed("rope high_freq_factor", high_freq_factor, expected));
                }
                Ok(())
            }
            RopeScaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original_max_positions,
                attention_factor,
                ..
            } => {
                positive("factor", *factor)?;
                positive("beta_fast", *beta_fast)?;
                positive("beta_slow", *beta_slow)?;
                positive("attention_factor", *attention_factor)?;
                positive("original maximum of positions", *original_max_positions as f64)
            }
            RopeScaling::Factors { factors } => {
                if factors.len() != head_dim / 2 {
                    let expected = format!("half the head dimension, {}", head_dim / 2);
                    return Err(ModelError::malformed("number of rope factors", factors.len(), expected));
                }
                factors.iter().try_for_each(|&factor| positive("factor", f64::from(factor)))
            }
        }
    }
}
