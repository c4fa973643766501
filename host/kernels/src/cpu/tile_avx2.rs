//! Register tiles with AVX2: the 16 lanes of a pair of rows in two passes of eight, over rows that lie in the cache.

use std::arch::x86_64::*;

use super::{RegisterTile, Rows, accumulate_tiles};
use crate::cpu::lanes::{LANES, Lanes};

struct Avx2;

/// Lanes in one register.
const HALF: usize = LANES / 2;

pub(super) fn accumulate(weights: Rows, activations: Rows, sums: &mut [Lanes]) {
    // SAFETY: the caller is on the AVX2 path and has checked the number of sums.
    unsafe { accumulate_tiles::<Avx2>(weights, activations, sums) }
}

impl RegisterTile for Avx2 {
    // 4 × 3 sums, 3 activations and a weight fill the sixteen registers.
    const ACTIVATIONS: usize = 3;

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn run<const W: usize, const A: usize>(
        weights: Rows,
        activations: Rows,
        sums: &mut [Lanes],
        stride: usize,
    ) {
        let (w_stride, a_stride, columns) = (weights.stride, activations.stride, weights.columns);
        let whole = columns / LANES * LANES;
        for half in [0, HALF] {
            let (w, a) = (weights.values.as_ptr(), activations.values.as_ptr());
            // SAFETY: row r of either side starts at r · stride and holds `columns` values, loads end at or before
            // `whole ≤ columns`, and the caller vouches for the rows and the sums.
            unsafe {
                let (w, a) = (w.add(half.min(columns)), a.add(half.min(columns)));
                let sums = sums.as_mut_ptr().cast::<f32>().add(half);
                let mut tile = [[_mm256_setzero_ps(); A]; W];
                for (row, tile) in tile.iter_mut().enumerate() {
                    for (column, lanes) in tile.iter_mut().enumerate() {
                        *lanes = _mm256_loadu_ps(sums.add((row * stride + column) * LANES));
                    }
                }
                let mut k = 0;
                while k < whole {
                    let mut inputs = [_mm256_setzero_ps(); A];
                    for (row, input) in inputs.iter_mut().enumerate() {
                        *input = _mm256_loadu_ps(a.add(row * a_stride + k));
                    }
                    for (row, tile) in tile.iter_mut().enumerate() {
                        let weight = _mm256_loadu_ps(w.add(row * w_stride + k));
                        for (lanes, input) in tile.iter_mut().zip(inputs) {
                            *lanes = _mm256_fmadd_ps(weight, input, *lanes);
                        }
                    }
                    k += LANES;
                }
                for (row, tile) in tile.iter().enumerate() {
                    for (column, lanes) in tile.iter().enumerate() {
                        _mm256_storeu_ps(sums.add((row * stride + column) * LANES), *lanes);
                    }
                }
            }
        }
        for row in 0..W {
            for column in 0..A {
                let (weight, input) = (&weights.row(row)[whole..], &activations.row(column)[whole..]);
                let lanes = &mut sums[row * stride + column];
                for (lane, (weight, input)) in lanes.iter_mut().zip(weight.iter().zip(input)) {
                    *lane = weight.mul_add(*input, *lane);
                }
            }
        }
    }
}
