//! Weights rearranged for products with 8-bit activations.
//!
//! Sixteen rows are interleaved so that each lane of a register belongs to one row: a 32-bit lane takes four codes,
//! the four activations that go with them are the same for all lanes, and no sum across a register is needed. The
//! codes keep their size, and so do the scales (but for Q4_K and Q5_K, whose 6-bit scales become bytes).
//!
//! With unsigned codes u of offset o, a weight scale d and minimum m of the block, and activations `s·x` of whole numbers
//! x, a block of 32 gives `Σ (d·(u − o) + m)·s·x = d·s·Σ (u − o)·x + m·(s·Σ x)`. The sums are exact in whole numbers; the
//! terms are added by fused multiply-adds, block after block, so this path too gives the same result in every batch
//! and with every instruction set.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod layout;
mod pack;
mod portable;

use super::InstructionSet;
use super::quantized::Quantized;
use crate::{Bytes, WeightFormat};
use layout::Layout;

pub(crate) use pack::pack;

/// Rows that are interleaved.
pub(crate) const GROUP: usize = 16;

/// Values in a block of activations, and in a cell of weights per row.
pub(crate) const BLOCK: usize = 32;

/// Activation rows that one call of [`PackedMatrix::multiply`] takes at most.
pub(crate) const MAX_ROWS: usize = 8;

/// A matrix in groups of 16 interleaved rows; rows beyond the last are zeros.
///
/// Each group has the scales of all its blocks, then the codes of all its blocks, both from a 64-byte border on.
#[derive(Debug)]
pub(crate) struct PackedMatrix {
    format: WeightFormat,
    layout: Layout,
    columns: usize,
    bytes: Bytes,
}

/// One group's scales and codes, and the activations that it meets.
struct Cells<'a> {
    format: WeightFormat,
    layout: Layout,
    scales: &'a [u8],
    codes: &'a [u8],
    activations: &'a Quantized,
    /// First activation row; the output tells how many.
    first: usize,
}

impl PackedMatrix {
    /// Groups of 16 rows.
    pub(crate) fn groups(&self) -> usize {
        self.bytes.len() / self.layout.group_bytes(self.columns / BLOCK)
    }

    /// Bytes of a group.
    pub(crate) fn group_bytes(&self) -> usize {
        self.layout.group_bytes(self.columns / BLOCK)
    }

    /// All bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The products of the 16 rows of `group` with `out.len()` (at most 8) activation rows from `first` on.
    pub(in crate::cpu) fn multiply(
        &self,
        set: InstructionSet,
        group: usize,
        activations: &Quantized,
        first: usize,
        out: &mut [[f32; GROUP]],
    ) {
        assert!(
            out.len() <= MAX_ROWS
                && first + out.len() <= activations.rows
                && activations.columns == self.columns
        );
        let blocks = self.columns / BLOCK;
        let size = self.layout.group_bytes(blocks);
        let bytes = &self.bytes.as_slice()[group * size..(group + 1) * size];
        let (scales, codes) = bytes.split_at(self.layout.codes_start(blocks));
        let cells = Cells { format: self.format, layout: self.layout, scales, codes, activations, first };
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni | InstructionSet::Amx => avx512::multiply(&cells, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx2 => avx2::multiply(&cells, out),
            _ => portable::multiply(&cells, out),
        }
    }
}
