//! What a conversion changed, and by how much.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;

use espalier_kernels::WeightFormat;
use serde::Serialize;

use crate::inspect::{FormatSum, grouped};
use crate::stored_tensor::StoredTensor;

/// Sums over the values of tensors, in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SquaredError {
    error: f64,
    energy: f64,
}

impl SquaredError {
    pub(crate) fn add(&mut self, before: &[f32], after: &[f32]) {
        for (&before, &after) in before.iter().zip(after) {
            let (before, after) = (f64::from(before), f64::from(after));
            self.error += (before - after) * (before - after);
            self.energy += before * before;
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.error += other.error;
        self.energy += other.energy;
    }

    /// The root of the error's energy over the values' energy; 0 where nothing changed.
    pub(crate) fn relative_rms(self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.energy).sqrt() }
    }
}

impl Sum for SquaredError {
    fn sum<I: Iterator<Item = Self>>(sums: I) -> Self {
        let mut total = Self::default();
        sums.for_each(|sum| total.merge(sum));
        total
    }
}

/// The tensors that went from one format into another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FormatChange {
    /// Name of the format before.
    pub from: &'static str,
    /// Name of the format after.
    pub to: &'static str,
    /// Number of tensors.
    pub tensors: u64,
    /// Their values.
    pub values: u64,
    /// Root of the sum of all squared differences, over the root of the sum of all squared values.
    pub relative_rms_error: f64,
    /// HF name of the tensor with the largest such error of its own.
    pub worst_tensor: String,
    /// That error.
    pub worst_relative_rms_error: f64,
    #[serde(skip)]
    sums: SquaredError,
}

/// What a conversion did to all tensors.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ConversionReport {
    /// What changed its format, by the names of both.
    pub changes: Vec<FormatChange>,
    /// What kept format and bytes, by its format's name.
    pub kept: BTreeMap<&'static str, FormatSum>,
}

impl ConversionReport {
    /// Counts a tensor that was written in `format`, with the error of that.
    pub(super) fn add(&mut self, tensor: &StoredTensor, format: WeightFormat, error: SquaredError) {
        if tensor.format == format { self.keep(tensor) } else { self.change(tensor, format, error) }
    }

    fn keep(&mut self, tensor: &StoredTensor) {
        let sum = self.kept.entry(tensor.format.name()).or_default();
        sum.tensors += 1;
        sum.bytes += tensor.byte_len() as u64;
    }

    fn change(&mut self, tensor: &StoredTensor, to: WeightFormat, error: SquaredError) {
        let (from, to) = (tensor.format.name(), to.name());
        let place = self.changes.iter().position(|change| (change.from, change.to) == (from, to));
        let mut change = place.map_or_else(
            || FormatChange {
                from,
                to,
                tensors: 0,
                values: 0,
                relative_rms_error: 0.0,
                worst_tensor: String::new(),
                worst_relative_rms_error: 0.0,
                sums: SquaredError::default(),
            },
            |place| self.changes.remove(place),
        );
        change.tensors += 1;
        change.values += tensor.values() as u64;
        change.sums.merge(error);
        change.relative_rms_error = change.sums.relative_rms();
        if change.worst_tensor.is_empty() || error.relative_rms() > change.worst_relative_rms_error {
            change.worst_tensor.clone_from(&tensor.name);
            change.worst_relative_rms_error = error.relative_rms();
        }
        self.changes.push(change);
        self.changes.sort_by_key(|change| (change.from, change.to));
    }
}

impl fmt::Display for ConversionReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            formatter,
            "{:<16} {:>8} {:>18} {:>12}  largest in one tensor",
            "weight format", "tensors", "values", "rel. RMS"
        )?;
        for change in &self.changes {
            let formats = format!("{} -> {}", change.from, change.to);
            let (tensors, values) = (grouped(change.tensors), grouped(change.values));
            let (error, worst) = (change.relative_rms_error, change.worst_relative_rms_error);
            writeln!(
                formatter,
                "{formats:<16} {tensors:>8} {values:>18} {error:>12.6}  {worst:.6} {}",
                change.worst_tensor
            )?;
        }
        for (name, sum) in &self.kept {
            let bytes = format!("{} bytes", grouped(sum.bytes));
            writeln!(formatter, "{:<16} {:>8} {bytes:>31}  as they were", name, grouped(sum.tensors))?;
        }
        Ok(())
    }
}
