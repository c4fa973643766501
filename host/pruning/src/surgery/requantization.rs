//! How far values moved that had to be quantised a second time.

use std::collections::BTreeSet;

use espalier_kernels::{WeightFormat, dequantize};
use serde::{Deserialize, Serialize};

use crate::error::PruningError;

/// What a second quantisation did to the tensors that needed one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Requantized {
    /// Their number.
    pub tensors: usize,
    /// sqrt(Σ (after − before)² / Σ before²) over all of their values, beside the error of the first quantisation.
    pub relative_rms_error: f64,
}

/// The sums on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Requantization {
    tensors: BTreeSet<String>,
    squared_error: f64,
    squared_values: f64,
    decoded: Vec<f32>,
}

impl Requantization {
    /// Takes a row of `tensor` as it was and as it was `written`.
    pub(super) fn measure(
        &mut self,
        tensor: &str,
        format: WeightFormat,
        values: &[f32],
        written: &[u8],
    ) -> Result<(), PruningError> {
        if !self.tensors.contains(tensor) {
            self.tensors.insert(tensor.to_owned());
        }
        self.decoded.resize(values.len(), 0.0);
        dequantize(format, written, &mut self.decoded)?;
        for (&before, &after) in values.iter().zip(&self.decoded) {
            self.squared_error += f64::from(after - before).powi(2);
            self.squared_values += f64::from(before).powi(2);
        }
        Ok(())
    }

    /// The figures, if anything was quantised again.
    pub(super) fn result(&self) -> Option<Requantized> {
        let share = if self.squared_values > 0.0 { self.squared_error / self.squared_values } else { 0.0 };
        let relative_rms_error = share.sqrt();
        (!self.tensors.is_empty()).then_some(Requantized { tensors: self.tensors.len(), relative_rms_error })
    }
}

#[cfg(test)]
mod tests {
    use espalier_kernels::quantize;

    use super::*;

    #[test]
    fn the_error_is_that_of_all_rows_together() {
        let mut sums = Requantization::default();
        assert_eq!(sums.result(), None);
        let (mut error, mut norm) = (0.0_f64, 0.0_f64);
        for (tensor, factor) in [("a", 0.9_f32), ("b", 0.3), ("a", 7.0)] {
            let values: Vec<f32> = (0..64).map(|index| factor * (index as f32).sin()).collect();
            let (mut written, mut decoded) = (Vec::new(), vec![0.0; 64]);
            quantize(WeightFormat::Mxfp4, &values, &mut written).unwrap();
            dequantize(WeightFormat::Mxfp4, &written, &mut decoded).unwrap();
            sums.measure(tensor, WeightFormat::Mxfp4, &values, &written).unwrap();
            for (value, after) in values.iter().zip(&decoded) {
                error += f64::from(after - value).powi(2);
                norm += f64::from(*value).powi(2);
            }
        }
        let found = sums.result().unwrap();
        assert_eq!(found.tensors, 2);
        assert!((found.relative_rms_error - (error / norm).sqrt()).abs() < 1e-12);
        assert!((0.02..0.3).contains(&found.relative_rms_error), "{found:?}");
    }
}
