//! The input rows of matrix products.

use super::Cpu;
use crate::KernelError;

/// How a product treats its activations.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 activations, f32 accumulation: a row's result is the same in every batch and on every machine.
    #[default]
    Exact,
    /// Activations rounded to 8 bits in blocks of 32 where that is faster; the rest runs as `Exact`.
    Fast,
}

/// Rows of activations, prepared once and shared by every product that reads them.
pub struct Activations<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    precision: Precision,
}

impl Activations<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values in a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The precision that was asked for.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

impl Cpu {
    /// Prepares `values` (`n × columns`, row-major) for products in the given precision.
    ///
    /// # Errors
    /// When `columns` is 0 or does not divide the number of values.
    pub fn activations<'a>(
        &self,
        values: &'a [f32],
        columns: usize,
        precision: Precision,
    ) -> Result<Activations<'a>, KernelError> {
        if columns == 0 || !values.len().is_multiple_of(columns) {
            let reason = format!("{} values do not divide into rows of {columns}", values.len());
            return Err(KernelError::Shape { what: "activations", reason });
        }
        Ok(Activations { values, rows: values.len() / columns, columns, precision })
    }
}
