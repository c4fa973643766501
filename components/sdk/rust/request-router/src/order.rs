//! Choices from variants that were put in order.

use crate::{Choice, Shadow, VariantStatus};

impl Choice {
    /// The variants of these indices, tried one after the other.
    pub fn in_order(order: impl IntoIterator<Item = usize>) -> Self {
        // The host never has as many variants as a u32 holds.
        Self {
            order: order.into_iter().filter_map(|index| u32::try_from(index).ok()).collect(),
            shadow: None,
        }
    }

    /// The same, with a copy of a share of the requests for the variant of this index.
    pub fn with_shadow(self, variant: usize, share: f32) -> Self {
        Self { shadow: u32::try_from(variant).ok().map(|target| Shadow { target, share }), ..self }
    }
}

/// The index of the variant of this name.
pub fn position(variants: &[VariantStatus], name: &str) -> Option<usize> {
    variants.iter().position(|variant| variant.name == name)
}

/// A number that was drawn as a fraction: 0 to below 1.
pub fn fraction(draw: u64) -> f64 {
    // The upper 53 bits, which a double holds exactly.
    (draw >> 11) as f64 / (1_u64 << 53) as f64
}
