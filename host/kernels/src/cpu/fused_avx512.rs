//! Products of few activation rows with AVX-512: blocks are decoded in registers and multiplied at once.
//!
//! The lanes and their order are those of [`super::tile`], so the results are the same bits.

use std::arch::x86_64::*;

use super::decode::avx512::{Blocks, Factors, SCALES, first_words, formats};
use super::lanes::Lanes;
use super::tile::Rows;
use crate::WeightFormat;

/// Weight rows that are taken together, for as many independent chains of additions.
pub(super) const WEIGHTS: usize = 4;

/// Activation rows at most.
pub(super) const ACTIVATIONS: usize = 4;

/// Whether there is a kernel for rows of `columns` values in `format`.
pub(super) fn supports(format: WeightFormat, columns: usize) -> bool {
    use WeightFormat as F;
    matches!(format, F::Q4_0 | F::Q4_1 | F::Q5_0 | F::Q5_1 | F::Q8_0 | F::Mxfp4)
        || matches!(format, F::Bf16 | F::F16) && columns.is_multiple_of(32)
}

/// Values that stand for themselves, taken 32 at a time.
macro_rules! plain {
    ($($format:ident: $convert:expr;)*) => {
        $(struct $format;

        impl Blocks<64> for $format {
            const SCALED: bool = false;

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
            unsafe fn factors(_: __m512i) -> Factors {
                Factors { d: [0.0; SCALES], m: [0.0; SCALES] }
            }

            #[inline]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
            unsafe fn values(block: &[u8; 64], _: f32, _: f32) -> (__m512, __m512) {
                // SAFETY: 16 values of two bytes are read from each half of the block, and the features are enabled.
                unsafe {
                    let half = |first: usize| $convert(_mm256_loadu_si256(block.as_ptr().add(first).cast()));
                    (half(0), half(32))
                }
            }
        })*
    };
}
plain! {
    Bf16: |bits| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)));
    F16: |bits| _mm512_cvtph_ps(bits);
}

/// Adds the products of four rows of blocks with up to four activation rows to `sums[w · activations.count() + a]`.
/// The caller has detected AVX-512.
pub(super) fn accumulate(
    format: WeightFormat,
    weights: [&[u8]; WEIGHTS],
    activations: Rows,
    sums: &mut [Lanes],
) {
    match format {
        WeightFormat::Q4_0 => by_rows::<18, formats::Q4_0>(weights, activations, sums),
        WeightFormat::Q4_1 => by_rows::<20, formats::Q4_1>(weights, activations, sums),
        WeightFormat::Q5_0 => by_rows::<22, formats::Q5_0>(weights, activations, sums),
        WeightFormat::Q5_1 => by_rows::<24, formats::Q5_1>(weights, activations, sums),
        WeightFormat::Q8_0 => by_rows::<34, formats::Q8_0>(weights, activations, sums),
        WeightFormat::Mxfp4 => by_rows::<17, formats::Mxfp4>(weights, activations, sums),
        WeightFormat::Bf16 => by_rows::<64, Bf16>(weights, activations, sums),
        WeightFormat::F16 => by_rows::<64, F16>(weights, activations, sums),
        _ => {}
    }
}

/// Fixes the number of activation rows, whose sums stay in registers.
fn by_rows<const BYTES: usize, F: Blocks<BYTES>>(
    weights: [&[u8]; WEIGHTS],
    activations: Rows,
    sums: &mut [Lanes],
) {
    let weights = weights.map(|row| row.as_chunks::<BYTES>().0);
    // SAFETY: the caller has detected AVX-512; each arm names the number of activation rows.
    unsafe {
        match activations.count() {
            1 => tile::<BYTES, F, 1>(weights, activations, sums),
            2 => tile::<BYTES, F, 2>(weights, activations, sums),
            3 => tile::<BYTES, F, 3>(weights, activations, sums),
            4 => tile::<BYTES, F, ACTIVATIONS>(weights, activations, sums),
            _ => {}
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn tile<const BYTES: usize, F: Blocks<BYTES>, const N: usize>(
    weights: [&[[u8; BYTES]]; WEIGHTS],
    activations: Rows,
    sums: &mut [Lanes],
) {
    let inputs: [&[[f32; 32]]; N] = std::array::from_fn(|n| activations.row(n).as_chunks::<32>().0);
    let blocks =
        weights.iter().map(|row| row.len()).chain(inputs.iter().map(|row| row.len())).min().unwrap_or(0);
    // Equal lengths that the compiler can see spare it bounds checks.
    let (weights, inputs) = (weights.map(|row| &row[..blocks]), inputs.map(|row| &row[..blocks]));
    let (sums, _) = sums.as_chunks_mut::<N>();
    // SAFETY: registers are loaded from and stored to arrays of their size, and the features are enabled.
    unsafe {
        let mut tile = [[_mm512_setzero_ps(); N]; WEIGHTS];
        for (tile, sums) in tile.iter_mut().zip(&*sums) {
            *tile = std::array::from_fn(|n| _mm512_loadu_ps(sums[n].as_ptr()));
        }
        for start in (0..blocks).step_by(SCALES) {
            let end = blocks.min(start + SCALES);
            let factors: [Factors; WEIGHTS] = std::array::from_fn(|row| {
                let words =
                    if F::SCALED { first_words(&weights[row][start..end]) } else { _mm512_setzero_si512() };
                F::factors(words)
            });
            for block in start..end {
                let halves: [(__m512, __m512); N] = std::array::from_fn(|n| {
                    let input = inputs[n][block].as_ptr();
                    (_mm512_loadu_ps(input), _mm512_loadu_ps(input.add(16)))
                });
                for ((tile, row), Factors { d, m }) in tile.iter_mut().zip(&weights).zip(&factors) {
                    // Rows follow each other in memory, so this is the same block of the next four.
                    let ahead = row[block].as_ptr().wrapping_add(WEIGHTS * blocks * BYTES);
                    _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
                    let (low, high) = F::values(&row[block], d[block - start], m[block - start]);
                    for (lanes, input) in tile.iter_mut().zip(&halves) {
                        *lanes = _mm512_fmadd_ps(low, input.0, *lanes);
                        *lanes = _mm512_fmadd_ps(high, input.1, *lanes);
                    }
                }
            }
        }
        for (tile, sums) in tile.iter().zip(sums) {
            for (lanes, sums) in tile.iter().zip(sums) {
                _mm512_storeu_ps(sums.as_mut_ptr(), *lanes);
            }
        }
    }
}
