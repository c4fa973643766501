//! The packed product with AVX2: the 16 rows in two halves of eight, one after the other.
//!
//! `vpmaddubsw` multiplies unsigned codes by signed activations and adds pairs in 16 bits. Codes of up to 4 bits leave
//! room to add all eight steps of a block before widening; those of five (and MXFP4's, up to 28 with their offset) to
//! add four, those of six to add two. Bytes are taken as signed numbers with their sign moved to the activation, since
//! 2 · 255 · 127 would not fit.

use std::arch::x86_64::*;

use super::layout::{Codes, Packed, SUPER_BYTES, SUPER_SIGNED_BYTES, Scales, formats};
use super::{BLOCK, Cells, GROUP};
use crate::WeightFormat;
use crate::dequantize::MXFP4_DOUBLED;

/// Activation rows whose sums stay in registers beside a cell's codes.
const ROWS: usize = 4;

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: the caller is on an AVX2 path and has checked the activation rows.
    unsafe {
        match cells.format {
            WeightFormat::Q4_0 => by_rows::<formats::Q4_0>(cells, out),
            WeightFormat::Q4_1 => by_rows::<formats::Q4_1>(cells, out),
            WeightFormat::Q5_0 => by_rows::<formats::Q5_0>(cells, out),
            WeightFormat::Q5_1 => by_rows::<formats::Q5_1>(cells, out),
            WeightFormat::Q8_0 => by_rows::<formats::Q8_0>(cells, out),
            WeightFormat::Mxfp4 => by_rows::<formats::Mxfp4>(cells, out),
            WeightFormat::Q4K => by_rows::<formats::Q4K>(cells, out),
            WeightFormat::Q5K => by_rows::<formats::Q5K>(cells, out),
            WeightFormat::Q6K => by_rows::<formats::Q6K>(cells, out),
            WeightFormat::F32 | WeightFormat::F16 | WeightFormat::Bf16 => {}
        }
    }
}

unsafe fn by_rows<F: Packed>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    for (part, out) in out.chunks_mut(ROWS).enumerate() {
        let first = cells.first + part * ROWS;
        for half in 0..2 {
            // SAFETY: passed on from `multiply`; each arm names the length of `out`.
            unsafe {
                match out.len() {
                    4 => tile::<F, 4>(cells, first, half, out),
                    3 => tile::<F, 3>(cells, first, half, out),
                    2 => tile::<F, 2>(cells, first, half, out),
                    _ => tile::<F, 1>(cells, first, half, out),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile<F: Packed, const N: usize>(
    cells: &Cells,
    first: usize,
    half: usize,
    out: &mut [[f32; GROUP]],
) {
    let activations = cells.activations;
    let (columns, blocks) = (activations.columns, activations.columns / BLOCK);
    let codes = activations.codes[first * columns..].as_ptr().cast::<i32>();
    let scales = activations.scales[first * blocks..].as_ptr();
    let scaled_sums = activations.scaled_sums[first * blocks..].as_ptr();
    let negated_sums = activations.negated_sums[first * blocks..].as_ptr();
    debug_assert!(cells.codes.len() >= blocks * F::LAYOUT.code_bytes());
    // SAFETY: `blocks` cells of codes and scales were laid out for this matrix; N activation rows of `columns` codes and
    // `blocks` scales and sums follow `first`; `out` has N elements of 16 values.
    unsafe {
        let mut totals = [_mm256_setzero_ps(); N];
        for block in 0..blocks {
            let cell = cells.codes.as_ptr().add(block * F::LAYOUT.code_bytes() + half * 32);
            let weights = unpack::<F>(cell);
            let (first, second) = scale_pair::<F>(cells.scales.as_ptr(), block, half);
            for (n, total) in totals.iter_mut().enumerate() {
                let at = n * blocks + block;
                let codes = codes.add((n * columns + block * BLOCK) / 4);
                let factor = _mm256_set1_ps(*scales.add(at));
                let [low, high] = *negated_sums.add(at);
                if matches!(F::LAYOUT.scales, Scales::SuperSigned) {
                    let low = _mm256_add_epi32(dot_quad::<F>(&weights, codes, 0), offset::<F>(low));
                    *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(low), _mm256_mul_ps(first, factor), *total);
                    let high = _mm256_add_epi32(dot_quad::<F>(&weights, codes, 4), offset::<F>(high));
                    *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(high), _mm256_mul_ps(second, factor), *total);
                    continue;
                }
                let sum = _mm256_add_epi32(dot::<F>(&weights, codes), offset::<F>(low + high));
                *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(first, factor), *total);
                if F::LAYOUT.offset_bits().is_none() {
                    *total = _mm256_fmadd_ps(second, _mm256_set1_ps(*scaled_sums.add(at)), *total);
                }
            }
        }
        for (out, total) in out.iter_mut().zip(totals) {
            _mm256_storeu_ps(out.as_mut_ptr().add(half * 8), total);
        }
    }
}

/// Minus the offset of unsigned codes times the sum of the activations.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn offset<F: Packed>(negated_sum: i32) -> __m256i {
    match F::LAYOUT.offset_bits() {
        Some(bits) if !matches!(F::LAYOUT.codes, Codes::Eight) => _mm256_set1_epi32(negated_sum << bits),
        _ => _mm256_setzero_si256(),
    }
}

/// The 8 registers of codes of half a cell; bytes come out signed, all others unsigned.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn unpack<F: Packed>(cell: *const u8) -> [__m256i; 8] {
    // SAFETY: the caller passes one half (every other 32 bytes) of a whole cell.
    unsafe {
        let load = |index: usize| _mm256_loadu_si256(cell.add(index * 64).cast());
        if matches!(F::LAYOUT.codes, Codes::Eight) {
            let signed = |index: usize| _mm256_xor_si256(load(index), _mm256_set1_epi8(-128));
            return [0, 1, 2, 3, 4, 5, 6, 7].map(signed);
        }
        let mask = _mm256_set1_epi8(15);
        let low = |index: usize| _mm256_and_si256(load(index), mask);
        let high = |index: usize| _mm256_and_si256(_mm256_srli_epi16::<4>(load(index)), mask);
        let nibbles = [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)];
        match F::LAYOUT.codes {
            Codes::Four | Codes::Eight => nibbles,
            Codes::E2m1 => {
                let shifted = _mm_add_epi8(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()), _mm_set1_epi8(16));
                let table = _mm256_broadcastsi128_si256(shifted);
                nibbles.map(|codes| _mm256_shuffle_epi8(table, codes))
            }
            Codes::Five => {
                // Bit j of each byte to the place of the fifth bit.
                let (bits, fifth) = (load(4), _mm256_set1_epi8(16));
                let moved = [
                    _mm256_slli_epi16::<4>(bits),
                    _mm256_slli_epi16::<3>(bits),
                    _mm256_slli_epi16::<2>(bits),
                    _mm256_slli_epi16::<1>(bits),
                    bits,
                    _mm256_srli_epi16::<1>(bits),
                    _mm256_srli_epi16::<2>(bits),
                    _mm256_srli_epi16::<3>(bits),
                ];
                std::array::from_fn(|j| _mm256_or_si256(nibbles[j], _mm256_and_si256(moved[j], fifth)))
            }
            Codes::Six => {
                // Bits 2j of each byte to the place of the fifth and sixth bits.
                let pairs = _mm256_set1_epi8(48);
                let moved = |bits: __m256i| {
                    [
                        _mm256_slli_epi16::<4>(bits),
                        _mm256_slli_epi16::<2>(bits),
                        bits,
                        _mm256_srli_epi16::<2>(bits),
                    ]
                };
                let (first, second) = (moved(load(4)), moved(load(5)));
                std::array::from_fn(|j| {
                    let bits = if j < 4 { first[j] } else { second[j - 4] };
                    _mm256_or_si256(nibbles[j], _mm256_and_si256(bits, pairs))
                })
            }
        }
    }
}

/// `Σ code·x` over a block, for eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<F: Packed>(weights: &[__m256i; 8], activations: *const i32) -> __m256i {
    // SAFETY: the caller passes the 32 codes of a block of activations.
    unsafe {
        if matches!(F::LAYOUT.codes, Codes::Four) {
            let pairs =
                _mm256_add_epi16(pair_sums(weights, activations, 0), pair_sums(weights, activations, 4));
            return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
        }
        _mm256_add_epi32(dot_quad::<F>(weights, activations, 0), dot_quad::<F>(weights, activations, 4))
    }
}

/// `Σ code·x` over the 16 values of the registers `first..first + 4`, for eight rows.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot_quad<F: Packed>(weights: &[__m256i; 8], activations: *const i32, first: usize) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    // SAFETY: the caller passes the 32 codes of a block of activations, and first is 0 or 4.
    unsafe {
        match F::LAYOUT.codes {
            Codes::Four | Codes::E2m1 | Codes::Five => {
                _mm256_madd_epi16(pair_sums(weights, activations, first), ones)
            }
            Codes::Six => {
                let product = |j: usize| _mm256_maddubs_epi16(weights[j], four(activations, j));
                let two = |j: usize| _mm256_madd_epi16(_mm256_add_epi16(product(j), product(j + 1)), ones);
                _mm256_add_epi32(two(first), two(first + 2))
            }
            Codes::Eight => {
                let product = |j: usize| {
                    let moved = _mm256_sign_epi8(four(activations, j), weights[j]);
                    _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(weights[j]), moved), ones)
                };
                let two = |j: usize| _mm256_add_epi32(product(j), product(j + 1));
                _mm256_add_epi32(two(first), two(first + 2))
            }
        }
    }
}

/// Four activations in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(activations: *const i32, index: usize) -> __m256i {
    // SAFETY: the caller passes a block of activations and an index below 8.
    unsafe { _mm256_set1_epi32(activations.add(index).read_unaligned()) }
}

/// The sums of pairs of products of four registers, in 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pair_sums(weights: &[__m256i; 8], activations: *const i32, first: usize) -> __m256i {
    // SAFETY: the caller passes a block of activations, and first is 0 or 4.
    unsafe {
        let product = |j: usize| _mm256_maddubs_epi16(weights[j], four(activations, j));
        let two = |j: usize| _mm256_add_epi16(product(j), product(j + 1));
        _mm256_add_epi16(two(first), two(first + 2))
    }
}

/// As [`super::layout::Layout::scale_pair`], for half of the rows; the second is meaningful only for layouts that have
/// one.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn scale_pair<F: Packed>(scales: *const u8, block: usize, half: usize) -> (__m256, __m256) {
    // SAFETY: the caller passes the scales of a group that has this block.
    unsafe {
        let halves = |offset: usize| _mm256_cvtph_ps(_mm_loadu_si128(scales.add(offset + half * 16).cast()));
        let eight = |offset: usize| _mm_loadl_epi64(scales.add(offset + half * 8).cast());
        match F::LAYOUT.scales {
            Scales::Halves => (halves(block * 32), _mm256_setzero_ps()),
            Scales::HalvesMinimum => (halves(block * 64), halves(block * 64 + 32)),
            Scales::Exponents => {
                // 2^(e − 128): subnormal for e < 2.
                let exponents = _mm256_cvtepu8_epi32(eight(block * 16));
                let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(exponents, _mm256_set1_epi32(1)));
                let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), exponents);
                let small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), exponents);
                (_mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, small)), _mm256_setzero_ps())
            }
            Scales::Super => {
                let start = block / 8 * SUPER_BYTES;
                let factors = start + 64 + block % 8 * 32;
                let octets = |offset: usize| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(eight(offset)));
                let d = _mm256_mul_ps(halves(start), octets(factors));
                let m = _mm256_mul_ps(halves(start + 32), octets(factors + 16));
                (d, _mm256_sub_ps(_mm256_setzero_ps(), m))
            }
            Scales::SuperSigned => {
                let start = block / 8 * SUPER_SIGNED_BYTES;
                let (d, factors) = (halves(start), start + 32 + block % 8 * 32);
                let signed = |offset: usize| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight(offset)));
                (_mm256_mul_ps(d, signed(factors)), _mm256_mul_ps(d, signed(factors + 16)))
            }
        }
    }
}
