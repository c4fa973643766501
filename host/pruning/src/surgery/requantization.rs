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
