//! The input rows of matrix products.

use std::sync::OnceLock;

use super::Cpu;
#[cfg(target_arch = "x86_64")]
use super::amx::TileRows;
use super::packed::BLOCK;
use super::quantized::Quantized;
use crate::KernelError;

/// How a product treats its activations.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 activations, f32 accumulation.
    #[default]
    Exact,
    /// Activations rounded to 16 bits in blocks of 32, an error of at most 1.6e-5 of a block's largest value, for weights
    /// whose format has a packed form (see [`Cpu::pack`]); products with other weights run as `Exact`. With AMX, in rows of
    /// long texts, both sides are sums of two numbers of bf16 (16 bits of mantissa), whatever the format.
    Wide,
    /// As `Wide`, with 8 bits, an error of at most 4e-3 of a block's largest value; or both sides bf16 (8 bits of mantissa).
    Fast,
}

impl Precision {
    /// The precision for what a pass of this precision must not round to 8 bits.
    #[must_use]
    pub fn gentle(self) -> Self {
        if self == Self::Fast { Self::Wide } else { self }
    }
}

/// Rows of activations, shared by every product that reads them. What a product needs them rounded to is made once.
pub struct Activations<'a> {
    pub(super) values: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    precision: Precision,
    quantized: OnceLock<Quantized>,
    #[cfg(target_arch = "x86_64")]
    tiles: OnceLock<TileRows>,
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

    /// Whether products may round them: the precision allows it and rows are whole blocks.
    pub(super) fn rounded(&self) -> bool {
        self.precision != Precision::Exact && self.columns.is_multiple_of(BLOCK)
    }

    /// As whole numbers. Only if they are [`Activations::rounded`].
    pub(super) fn quantized(&self, cpu: &Cpu) -> &Quantized {
        let wide = self.precision == Precision::Wide;
        self.quantized.get_or_init(|| Quantized::new(cpu, self.values, self.columns, wide))
    }

    /// As bf16. Only if they are [`Activations::rounded`].
    #[cfg(target_arch = "x86_64")]
    pub(super) fn tiles(&self, cpu: &Cpu) -> &TileRows {
        let wide = self.precision == Precision::Wide;
        self.tiles.get_or_init(|| TileRows::new(cpu, self.values, self.columns, wide))
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
        Ok(Activations {
            values,
            rows: values.len() / columns,
            columns,
            precision,
            quantized: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            tiles: OnceLock::new(),
        })
    }
}
