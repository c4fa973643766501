//! Blocks of every weight format back to f32.
//!
//! Every product here is exact in f32 (an f16 scale has 11 significant bits, a group scale at most 8, a code at most
//! 8), so at most one rounding happens per value and the vector kernels, which may fuse the addition of a minimum,
//! give the same bits.

mod k_quants;
mod legacy;
mod mxfp4;

use crate::error::check_length;
use crate::{KernelError, WeightFormat};

pub(crate) use mxfp4::{MXFP4_DOUBLED, half_scale};

/// Writes the values of `bytes`, a whole number of blocks, to `out`.
///
/// # Errors
/// When `out` does not divide into blocks or `bytes` has not exactly the blocks for it.
pub fn dequantize(format: WeightFormat, bytes: &[u8], out: &mut [f32]) -> Result<(), KernelError> {
    check_length("a run of weight blocks", bytes.len(), format.row_bytes(out.len())?)?;
    match format {
        WeightFormat::F32 => {
            for (bytes, value) in bytes.as_chunks::<4>().0.iter().zip(out) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        WeightFormat::F16 => {
            for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = half::f16::from_le_bytes(*bytes).to_f32();
            }
        }
        WeightFormat::Bf16 => {
            for (bytes, value) in bytes.as_chunks::<2>().0.iter().zip(out) {
                *value = half::bf16::from_le_bytes(*bytes).to_f32();
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
    Ok(())
}

/// Applies `decode` to each block of `BYTES` bytes and `VALUES` values.
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
pub(crate) fn half_at<const BYTES: usize>(block: &[u8; BYTES], offset: usize) -> f32 {
    half::f16::from_le_bytes([block[offset], block[offset + 1]]).to_f32()
}
