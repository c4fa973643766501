//! The packed product with AVX-512 VNNI: one register of four codes for each of 16 rows against four broadcast
//! activations is 64 multiply-adds.

use std::arch::x86_64::*;

use super::layout::{Codes, Packed, SUPER_BYTES, SUPER_SIGNED_BYTES, Scales, formats};
use super::{BLOCK, Cells, GROUP};
use crate::WeightFormat;
use crate::dequantize::MXFP4_DOUBLED;

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: the caller is on the AVX-512 VNNI path and has checked the activation rows.
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

/// Fixes the number of activation rows, whose sums stay in registers.
unsafe fn by_rows<F: Packed>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: passed on from `multiply`; each arm names the length of `out`.
    unsafe {
        match out.len() {
            0 => {}
            1 => tile::<F, 1>(cells, out),
            2 => tile::<F, 2>(cells, out),
            3 => tile::<F, 3>(cells, out),
            4 => tile::<F, 4>(cells, out),
            5 => tile::<F, 5>(cells, out),
            6 => tile::<F, 6>(cells, out),
            7 => tile::<F, 7>(cells, out),
            _ => tile::<F, 8>(cells, out),
        }
    }
}

/// Bytes by which weights are fetched ahead: the processor's own prefetcher stops at every border of 4 KiB. Groups follow each
/// other in memory, so at a group's end this is the next one.
const AHEAD: usize = 4096;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn tile<F: Packed, const N: usize>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    let activations = cells.activations;
    let (columns, blocks) = (activations.columns, activations.columns / BLOCK);
    let codes = activations.codes[cells.first * columns..].as_ptr().cast::<i32>();
    let scales = activations.scales[cells.first * blocks..].as_ptr();
    let scaled_sums = activations.scaled_sums[cells.first * blocks..].as_ptr();
    let negated_sums = activations.negated_sums[cells.first * blocks..].as_ptr();
    debug_assert!(cells.codes.len() >= blocks * F::LAYOUT.code_bytes());
    // SAFETY: `blocks` cells of codes and scales were laid out for this matrix; N activation rows of `columns` codes and
    // `blocks` scales and sums follow `first`; `out` has N elements of 16 values.
    unsafe {
        let mut totals = [_mm512_setzero_ps(); N];
        for block in 0..blocks {
            let cell = cells.codes.as_ptr().add(block * F::LAYOUT.code_bytes());
            for line in (0..F::LAYOUT.code_bytes()).step_by(64) {
                _mm_prefetch::<_MM_HINT_T0>(cell.wrapping_add(AHEAD + line).cast());
            }
            let weights = unpack::<F>(cell);
            let (first, second) = scale_pair::<F>(cells.scales.as_ptr(), block);
            let inputs = Inputs { codes, scales, negated_sums, blocks, columns, block };
            if matches!(F::LAYOUT.scales, Scales::SuperSigned) {
                add::<F, N, 0, 4>(&mut totals, &weights, first, &inputs);
                add::<F, N, 4, 8>(&mut totals, &weights, second, &inputs);
                continue;
            }
            add::<F, N, 0, 8>(&mut totals, &weights, first, &inputs);
            if F::LAYOUT.offset_bits().is_none() {
                for (n, total) in totals.iter_mut().enumerate() {
                    let scaled_sum = _mm512_set1_ps(*scaled_sums.add(n * blocks + block));
                    *total = _mm512_fmadd_ps(second, scaled_sum, *total);
                }
            }
        }
        for (out, total) in out.iter_mut().zip(totals) {
            _mm512_storeu_ps(out.as_mut_ptr(), total);
        }
    }
}

/// The block of activations that a cell meets, in the first of the rows.
struct Inputs {
    codes: *const i32,
    scales: *const f32,
    negated_sums: *const [i32; 2],
    blocks: usize,
    columns: usize,
    block: usize,
}

/// Adds the products of registers `FROM..TO` of a cell, whose scale is `scale`, to the totals of N activation rows. Step
/// by step for all rows, because each sum waits for the one before it.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn add<F: Packed, const N: usize, const FROM: usize, const TO: usize>(
    totals: &mut [__m512; N],
    weights: &[__m512i; 8],
    scale: __m512,
    inputs: &Inputs,
) {
    let Inputs { codes, scales, negated_sums, blocks, columns, block } = *inputs;
    // SAFETY: the caller's rows have that many blocks and columns.
    unsafe {
        let mut dots = [_mm512_setzero_si512(); N];
        for (n, dot) in dots.iter_mut().enumerate() {
            let [low, high] = *negated_sums.add(n * blocks + block);
            let sum = if FROM > 0 {
                high
            } else if TO < 8 {
                low
            } else {
                low + high
            };
            *dot = offset::<F>(sum);
        }
        for (j, weights) in weights[FROM..TO].iter().enumerate() {
            for (n, dot) in dots.iter_mut().enumerate() {
                let codes = codes.add((n * columns + block * BLOCK) / 4 + FROM + j);
                *dot = _mm512_dpbusd_epi32(*dot, *weights, _mm512_set1_epi32(codes.read_unaligned()));
            }
        }
        for (n, (total, dot)) in totals.iter_mut().zip(dots).enumerate() {
            let factor = _mm512_set1_ps(*scales.add(n * blocks + block));
            *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(scale, factor), *total);
        }
    }
}

/// Minus the codes' offset times the sum of the activations: starting from it turns unsigned codes into signed ones.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn offset<F: Packed>(negated_sum: i32) -> __m512i {
    match F::LAYOUT.offset_bits() {
        Some(bits) => _mm512_set1_epi32(negated_sum << bits),
        None => _mm512_setzero_si512(),
    }
}

/// The 8 registers of unsigned codes of a cell: register j holds values 4j…4j+3 of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn unpack<F: Packed>(cell: *const u8) -> [__m512i; 8] {
    // SAFETY: the caller passes a whole cell.
    unsafe {
        let load = |index: usize| _mm512_loadu_si512(cell.add(index * 64).cast());
        if matches!(F::LAYOUT.codes, Codes::Eight) {
            return [load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)];
        }
        let mask = _mm512_set1_epi8(15);
        let low = |index: usize| _mm512_and_si512(load(index), mask);
        let high = |index: usize| _mm512_and_si512(_mm512_srli_epi16::<4>(load(index)), mask);
        let nibbles = [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)];
        match F::LAYOUT.codes {
            Codes::Four | Codes::Eight => nibbles,
            Codes::E2m1 => {
                let shifted = _mm_add_epi8(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()), _mm_set1_epi8(16));
                let table = _mm512_broadcast_i32x4(shifted);
                nibbles.map(|codes| _mm512_shuffle_epi8(table, codes))
            }
            Codes::Five => {
                // Bit j of each byte to the place of the fifth bit.
                let (bits, fifth) = (load(4), _mm512_set1_epi8(16));
                let moved = [
                    _mm512_slli_epi16::<4>(bits),
                    _mm512_slli_epi16::<3>(bits),
                    _mm512_slli_epi16::<2>(bits),
                    _mm512_slli_epi16::<1>(bits),
                    bits,
                    _mm512_srli_epi16::<1>(bits),
                    _mm512_srli_epi16::<2>(bits),
                    _mm512_srli_epi16::<3>(bits),
                ];
                std::array::from_fn(|j| _mm512_or_si512(nibbles[j], _mm512_and_si512(moved[j], fifth)))
            }
            Codes::Six => {
                // Bits 2j of each byte to the place of the fifth and sixth bits.
                let pairs = _mm512_set1_epi8(48);
                let moved = |bits: __m512i| {
                    [
                        _mm512_slli_epi16::<4>(bits),
                        _mm512_slli_epi16::<2>(bits),
                        bits,
                        _mm512_srli_epi16::<2>(bits),
                    ]
                };
                let (first, second) = (moved(load(4)), moved(load(5)));
                std::array::from_fn(|j| {
                    let bits = if j < 4 { first[j] } else { second[j - 4] };
                    _mm512_or_si512(nibbles[j], _mm512_and_si512(bits, pairs))
                })
            }
        }
    }
}

/// As [`super::layout::Layout::scale_pair`], for all rows; the second is meaningful only for layouts that have one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
pub(super) unsafe fn scale_pair<F: Packed>(scales: *const u8, block: usize) -> (__m512, __m512) {
    // SAFETY: the caller passes the scales of a group that has this block.
    unsafe {
        let halves = |offset: usize| _mm512_cvtph_ps(_mm256_loadu_si256(scales.add(offset).cast()));
        let octets = |offset: usize| _mm512_cvtepu8_epi32(_mm_loadu_si128(scales.add(offset).cast()));
        let signed = |offset: usize| _mm512_cvtepi8_epi32(_mm_loadu_si128(scales.add(offset).cast()));
        match F::LAYOUT.scales {
            Scales::Halves => (halves(block * 32), _mm512_setzero_ps()),
            Scales::HalvesMinimum => (halves(block * 64), halves(block * 64 + 32)),
            Scales::Exponents => {
                // 2^(e − 128): subnormal for e < 2.
                let exponents = octets(block * 16);
                let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
                let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
                let small = _mm512_cmplt_epu32_mask(exponents, _mm512_set1_epi32(2));
                let scale = _mm512_mask_mov_epi32(normal, small, subnormal);
                (_mm512_castsi512_ps(scale), _mm512_setzero_ps())
            }
            Scales::Super => {
                let start = block / 8 * SUPER_BYTES;
                let factors = start + 64 + block % 8 * 32;
                let d = _mm512_mul_ps(halves(start), _mm512_cvtepi32_ps(octets(factors)));
                let m = _mm512_mul_ps(halves(start + 32), _mm512_cvtepi32_ps(octets(factors + 16)));
                (d, _mm512_sub_ps(_mm512_setzero_ps(), m))
            }
            Scales::SuperSigned => {
                let start = block / 8 * SUPER_SIGNED_BYTES;
                let (d, factors) = (halves(start), start + 32 + block % 8 * 32);
                let scale = |offset: usize| _mm512_mul_ps(d, _mm512_cvtepi32_ps(signed(offset)));
                (scale(factors), scale(factors + 16))
            }
        }
    }
}
