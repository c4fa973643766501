//! Register tiles with AVX-512: one register holds the 16 lanes of a pair of rows.

use std::arch::x86_64::*;

use super::{RegisterTile, Rows, accumulate_tiles};
use crate::cpu::lanes::{LANES, Lanes};

struct Avx512;

pub(super) fn accumulate(weights: Rows, activations: Rows, sums: &mut [Lanes]) {
    // SAFETY: the caller is on the AVX-512 path and has checked the number of sums.
    unsafe { accumulate_tiles::<Avx512>(weights, activations, sums) }
}

pub(super) fn reduce(sums: &[Lanes], out: &mut [f32]) {
    // SAFETY: the caller is on the AVX-512 path.
    unsafe { reduce_all(sums, out) }
}

impl RegisterTile for Avx512 {
    const ACTIVATIONS: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    unsafe fn run<const W: usize, const A: usize>(
        weights: Rows,
        activations: Rows,
        sums: &mut [Lanes],
        stride: usize,
    ) {
        let (w, a) = (weights.values.as_ptr(), activations.values.as_ptr());
        let (w_stride, a_stride, columns) = (weights.stride, activations.stride, weights.columns);
        let sums = sums.as_mut_ptr().cast::<f32>();
        // SAFETY: row r of either side starts at r · stride and holds `columns` values, loads stay below `columns` (the
        // last one is masked), and the caller vouches for the rows and the sums.
        unsafe {
            let mut tile = [[_mm512_setzero_ps(); A]; W];
            for (row, tile) in tile.iter_mut().enumerate() {
                for (column, lanes) in tile.iter_mut().enumerate() {
                    *lanes = _mm512_loadu_ps(sums.add((row * stride + column) * LANES));
                }
            }
            let whole = columns / LANES * LANES;
            let mut k = 0;
            while k < whole {
                let mut inputs = [_mm512_setzero_ps(); A];
                for (row, input) in inputs.iter_mut().enumerate() {
                    *input = _mm512_loadu_ps(a.add(row * a_stride + k));
                }
                for (row, tile) in tile.iter_mut().enumerate() {
                    let weight = _mm512_loadu_ps(w.add(row * w_stride + k));
                    for (lanes, input) in tile.iter_mut().zip(inputs) {
                        *lanes = _mm512_fmadd_ps(weight, input, *lanes);
                    }
                }
                k += LANES;
            }
            if whole < columns {
                let mask: __mmask16 = (1 << (columns - whole)) - 1;
                for (row, tile) in tile.iter_mut().enumerate() {
                    let weight = _mm512_maskz_loadu_ps(mask, w.add(row * w_stride + whole));
                    for (input, lanes) in tile.iter_mut().enumerate() {
                        let input = _mm512_maskz_loadu_ps(mask, a.add(input * a_stride + whole));
                        *lanes = _mm512_mask3_fmadd_ps(weight, input, *lanes, mask);
                    }
                }
            }
            for (row, tile) in tile.iter().enumerate() {
                for (column, lanes) in tile.iter().enumerate() {
                    _mm512_storeu_ps(sums.add((row * stride + column) * LANES), *lanes);
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn reduce_all(sums: &[Lanes], out: &mut [f32]) {
    let (sums, sums_rest) = sums.as_chunks::<4>();
    let (out, out_rest) = out.as_chunks_mut::<4>();
    for (sums, out) in sums.iter().zip(out) {
        // SAFETY: four whole registers are read and four values written.
        unsafe { _mm_storeu_ps(out.as_mut_ptr(), reduce_four(sums)) };
    }
    for (lanes, out) in sums_rest.iter().zip(out_rest) {
        *out = crate::cpu::lanes::sum(lanes);
    }
}

/// Folds four registers at once: 16→8→4 lanes with both halves of the register busy, then 4→2→1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn reduce_four(sums: &[Lanes; 4]) -> __m128 {
    // SAFETY: four whole registers are read; the rest is register arithmetic.
    unsafe {
        let [a, b, c, d] = [0, 1, 2, 3].map(|index| _mm512_loadu_ps(sums[index].as_ptr()));
        // Quarters (128 bits) q of a register: 0 with 2 and 1 with 3 are lanes l and l + 8.
        let ab = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
        let cd = _mm512_add_ps(_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
        // Now each register has two rows of two quarters: lanes l and l + 4.
        let four = _mm512_add_ps(_mm512_shuffle_f32x4::<0x88>(ab, cd), _mm512_shuffle_f32x4::<0xdd>(ab, cd));
        // One row per quarter: lanes l and l + 2, then the last two.
        let two = _mm512_add_ps(four, _mm512_permute_ps::<0b11_10_11_10>(four));
        let one = _mm512_add_ps(two, _mm512_permute_ps::<0b01_01_01_01>(two));
        let order = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
        _mm512_castps512_ps128(_mm512_permutexvar_ps(order, one))
    }
}
