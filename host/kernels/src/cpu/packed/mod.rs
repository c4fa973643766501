//! Weights rearranged for products with 8-bit activations.
//!
//! Sixteen rows are interleaved so that each lane of a register belongs to one row: a 32-bit lane takes four codes,
//! the four activations that go with them are the same for all lanes, and no sum across a register is needed. The
//! codes keep their size, and so do the scales (but for Q4_K, whose 6-bit scales become bytes).
//!
//! With unsigned codes u of offset o, a weight scale d and minimum m of the block, and activations `s·x` of whole numbers
//! x, a block of 32 gives `Σ (d·(u − o) + m)·s·x = d·s·Σ (u − o)·x + m·(s·Σ x)`. The sums are exact in whole numbers; the
//! terms are added by fused multiply-adds, block after block, so this path too gives the same result in every batch
//! and with every instruction set.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod portable;

use super::InstructionSet;
use super::activations::Quantized;
use crate::dequantize::{half_scale, half_to_f32};
use crate::{Bytes, WeightFormat};

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
    layout: Layout,
    columns: usize,
    bytes: Bytes,
}

/// How a format is laid out once packed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Q4_0: 16 half scales; nibbles, offset 8.
    Nibbles,
    /// Q4_1: 16 half scales, 16 half minima; nibbles.
    NibblesMinimum,
    /// Q8_0: 16 half scales; bytes, offset 128.
    Octets,
    /// MXFP4: 16 exponents; nibbles that stand for doubled E2M1 values, offset 16.
    Microscaling,
    /// Q4_K: per 8 blocks 16 half scales and 16 half minima, then per block 16 + 16 bytes that multiply them; nibbles.
    NibblesSuper,
}

impl Layout {
    pub(crate) fn of(format: WeightFormat) -> Option<Self> {
        match format {
            WeightFormat::Q4_0 => Some(Self::Nibbles),
            WeightFormat::Q4_1 => Some(Self::NibblesMinimum),
            WeightFormat::Q8_0 => Some(Self::Octets),
            WeightFormat::Mxfp4 => Some(Self::Microscaling),
            WeightFormat::Q4K => Some(Self::NibblesSuper),
            _ => None,
        }
    }

    /// The power of two that is subtracted from codes, as a shift of the sum of the activations.
    const fn offset_bits(self) -> Option<u32> {
        match self {
            Self::Nibbles => Some(3),
            Self::Octets => Some(7),
            Self::Microscaling => Some(4),
            Self::NibblesMinimum | Self::NibblesSuper => None,
        }
    }

    /// Bytes of codes in a cell (16 rows by 32 columns).
    const fn code_bytes(self) -> usize {
        match self {
            Self::Octets => GROUP * BLOCK,
            _ => GROUP * BLOCK / 2,
        }
    }

    /// Bytes of scales of a group of `blocks` blocks, without padding.
    const fn scale_bytes(self, blocks: usize) -> usize {
        match self {
            Self::Nibbles | Self::Octets => blocks * 32,
            Self::NibblesMinimum => blocks * 64,
            Self::Microscaling => blocks * 16,
            Self::NibblesSuper => blocks.div_ceil(8) * SUPER_SCALE_BYTES,
        }
    }

    /// Where the codes of a group begin.
    const fn codes_start(self, blocks: usize) -> usize {
        self.scale_bytes(blocks).next_multiple_of(64)
    }

    /// Bytes of a group.
    const fn group_bytes(self, blocks: usize) -> usize {
        self.codes_start(blocks) + blocks * self.code_bytes()
    }
}

/// Scales of 8 blocks of Q4_K: 32 bytes of d, 32 of dmin, then 8 × (16 scales, 16 minima).
const SUPER_SCALE_BYTES: usize = 64 + 8 * 32;

/// One group's scales and codes, and the activations that it meets.
struct Cells<'a> {
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
        let cells = Cells { layout: self.layout, scales, codes, activations, first };
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512Vnni => avx512::multiply(&cells, out),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 | InstructionSet::Avx2 => avx2::multiply(&cells, out),
            _ => portable::multiply(&cells, out),
        }
    }
}

/// The scale d and the minimum m of a row in a block.
#[inline(always)]
fn scale_and_minimum(layout: Layout, scales: &[u8], block: usize, row: usize) -> (f32, f32) {
    let half = |offset: usize| half_to_f32(u16::from_le_bytes([scales[offset], scales[offset + 1]]));
    match layout {
        Layout::Nibbles | Layout::Octets => (half(block * 32 + row * 2), 0.0),
        Layout::NibblesMinimum => (half(block * 64 + row * 2), half(block * 64 + 32 + row * 2)),
        Layout::Microscaling => (half_scale(scales[block * 16 + row]), 0.0),
        Layout::NibblesSuper => {
            let start = block / 8 * SUPER_SCALE_BYTES;
            let factors = start + 64 + block % 8 * 32 + row;
            let d = half(start + row * 2) * f32::from(scales[factors]);
            let m = half(start + 32 + row * 2) * f32::from(scales[factors + 16]);
            (d, -m)
        }
    }
}
