//! Blocks of every weight format back to f32.
//!
//! Every product here is exact in f32 (an f16 scale has 11 significant bits, a group scale at most 8, a code at most
//! 8), so at most one rounding happens per value and the vector kernels, which may fuse the addition of a minimum,
//! give the same bits.

mod k_quants;
mod legacy;
mod mxfp4;

use crate::cpu::{InstructionSet, decode_blocks};
use crate::error::check_length;
use crate::{KernelError, WeightFormat};

pub(crate) use k_quants::group_scale_and_minimum;
pub(crate) use mxfp4::{MXFP4_DOUBLED, half_scale};

/// Writes the values of `bytes`, a whole number of blocks, to `out`.
///
/// # Errors
/// When `out` does not divide into blocks or `bytes` has not exactly the blocks for it.
pub fn dequantize(format: WeightFormat, bytes: &[u8], out: &mut [f32]) -> Result<(), KernelError> {
    dequantize_with(InstructionSet::detect(), format, bytes, out)
}

/// As [`dequantize`], with the given instruction set.
pub(crate) fn dequantize_with(
    set: InstructionSet,
    format: WeightFormat,
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), KernelError> {
    check_length("a run of weight blocks", bytes.len(), format.row_bytes(out.len())?)?;
    decode_blocks(set, format, bytes, out);
    Ok(())
}

/// The portable reference, written so that it vectorises in each instruction set that it is compiled for.
#[inline(always)]
pub(crate) fn decode_portable(format: WeightFormat, bytes: &[u8], out: &mut [f32]) {
    match format {
        WeightFormat::F32 => {
            for (bytes, value) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        WeightFormat::F16 => {
            for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = half_to_f32(u16::from_le_bytes(*bytes));
            }
        }
        WeightFormat::Bf16 => {
            for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            }
        }
        WeightFormat::Q4_0 => blocks(bytes, out, legacy::q4_0),
        WeightFormat::Q4_1 => blocks(bytes, out, legacy::q4_1),
        WeightFormat::Q5_0 => blocks(bytes, out, legacy::q5_0),
        WeightFormat::Q5_1 => blocks(bytes, out, legacy::q5_1),
        WeightFormat::Q8_0 => blocks(bytes, out, legacy::q8_0),
        WeightFormat::Q4K => blocks(bytes, out, k_quants::q4_k),
        WeightFormat::Q5K => blocks(bytes, out, k_quants::q5_k),
        WeightFormat::Q6K => blocks(bytes, out, k_quants::q6_k),
        WeightFormat::Mxfp4 => blocks(bytes, out, mxfp4::mxfp4),
    }
}

/// Applies `decode` to each block of `BYTES` bytes and `VALUES` values.
#[inline(always)]
fn blocks<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (block, values) in bytes.as_chunks::<BYTES>().0.iter().zip(out.as_chunks_mut::<VALUES>().0) {
        decode(block, values);
    }
}

/// The little-endian half at `offset`; callers pass offsets inside their fixed-size block.
#[inline(always)]
pub(crate) fn half_at<const BYTES: usize>(block: &[u8; BYTES], offset: usize) -> f32 {
    half_to_f32(u16::from_le_bytes([block[offset], block[offset + 1]]))
}

/// An IEEE half as f32, exactly and without branches.
///
/// The exponent and mantissa bits, moved to their place in an f32, are off by the difference of the biases, which a
/// multiplication repairs for subnormals as well. Infinities and NaNs keep their all-ones exponent.
#[inline(always)]
pub(crate) fn half_to_f32(half: u16) -> f32 {
    const BIAS: f32 = f32::from_bits((127 + 112) << 23);
    let magnitude = u32::from(half & 0x7fff) << 13;
    let finite = (f32::from_bits(magnitude) * BIAS).to_bits();
    let special = magnitude | 0x7f80_0000;
    let bits = if magnitude >= 0x7c00 << 13 { special } else { finite };
    f32::from_bits(bits | u32::from(half & 0x8000) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_converts_exactly() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (half_to_f32(bits), half::f16::from_bits(bits).to_f32());
            assert!(
                found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan()),
                "{bits:#06x}"
            );
        }
    }
}
