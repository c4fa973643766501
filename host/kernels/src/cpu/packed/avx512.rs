//! The packed product with AVX-512 VNNI: one register of four codes for each of 16 rows against four broadcast
//! activations is 64 multiply-adds.

use std::arch::x86_64::*;

use super::{BLOCK, Cells, GROUP, Layout, SUPER_SCALE_BYTES};
use crate::dequantize::MXFP4_DOUBLED;

pub(super) fn multiply(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: the caller is on the AVX-512 VNNI path and has checked the activation rows.
    unsafe {
        match cells.layout {
            Layout::Nibbles => by_rows::<{ Layout::Nibbles as u8 }>(cells, out),
            Layout::NibblesMinimum => by_rows::<{ Layout::NibblesMinimum as u8 }>(cells, out),
            Layout::Octets => by_rows::<{ Layout::Octets as u8 }>(cells, out),
            Layout::Microscaling => by_rows::<{ Layout::Microscaling as u8 }>(cells, out),
            Layout::NibblesSuper => by_rows::<{ Layout::NibblesSuper as u8 }>(cells, out),
        }
    }
}

/// Fixes the number of activation rows, whose sums stay in registers.
unsafe fn by_rows<const LAYOUT: u8>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    // SAFETY: passed on from `multiply`; each arm names the length of `out`.
    unsafe {
        match out.len() {
            0 => {}
            1 => tile::<LAYOUT, 1>(cells, out),
            2 => tile::<LAYOUT, 2>(cells, out),
            3 => tile::<LAYOUT, 3>(cells, out),
            4 => tile::<LAYOUT, 4>(cells, out),
            5 => tile::<LAYOUT, 5>(cells, out),
            6 => tile::<LAYOUT, 6>(cells, out),
            7 => tile::<LAYOUT, 7>(cells, out),
            _ => tile::<LAYOUT, 8>(cells, out),
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c")]
unsafe fn tile<const LAYOUT: u8, const N: usize>(cells: &Cells, out: &mut [[f32; GROUP]]) {
    let activations = cells.activations;
    let (columns, blocks) = (activations.columns, activations.columns / BLOCK);
    let codes = activations.codes[cells.first * columns..].as_ptr().cast::<i32>();
    let scales = activations.scales[cells.first * blocks..].as_ptr();
    let scaled_sums = activations.scaled_sums[cells.first * blocks..].as_ptr();
    let negated_sums = activations.negated_sums[cells.first * blocks..].as_ptr();
    debug_assert!(cells.codes.len() >= blocks * cells.layout.code_bytes());
    // SAFETY: `blocks` cells of codes and scales were laid out for this matrix; N activation rows of `columns` codes and
    // `blocks` scales and sums follow `first`; `out` has N elements of 16 values.
    unsafe {
        let mut totals = [_mm512_setzero_ps(); N];
        for block in 0..blocks {
            let weights = unpack::<LAYOUT>(cells.codes.as_ptr().add(block * cells.layout.code_bytes()));
            let (scale, minimum) = scale_and_minimum::<LAYOUT>(cells.scales.as_ptr(), block);
            for (n, total) in totals.iter_mut().enumerate() {
                let codes = codes.add((n * columns + block * BLOCK) / 4);
                // Starting from −o·Σx turns the unsigned codes into signed ones.
                let negated = _mm512_set1_epi32(*negated_sums.add(n * blocks + block));
                let mut dot = if LAYOUT == Layout::Nibbles as u8 {
                    _mm512_slli_epi32::<3>(negated)
                } else if LAYOUT == Layout::Octets as u8 {
                    _mm512_slli_epi32::<7>(negated)
                } else if LAYOUT == Layout::Microscaling as u8 {
                    _mm512_slli_epi32::<4>(negated)
                } else {
                    _mm512_setzero_si512()
                };
                for (j, weights) in weights.iter().enumerate() {
                    dot =
                        _mm512_dpbusd_epi32(dot, *weights, _mm512_set1_epi32(codes.add(j).read_unaligned()));
                }
                let factor = _mm512_mul_ps(scale, _mm512_set1_ps(*scales.add(n * blocks + block)));
                *total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), factor, *total);
                if LAYOUT == Layout::NibblesMinimum as u8 || LAYOUT == Layout::NibblesSuper as u8 {
                    let sum = _mm512_set1_ps(*scaled_sums.add(n * blocks + block));
                    *total = _mm512_fmadd_ps(minimum, sum, *total);
                }
            }
        }
        for (out, total) in out.iter_mut().zip(totals) {
            _mm512_storeu_ps(out.as_mut_ptr(), total);
        }
    }
}

/// The 8 registers of unsigned codes of a cell: register j holds values 4j…4j+3 of each row.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn unpack<const LAYOUT: u8>(cell: *const u8) -> [__m512i; 8] {
    // SAFETY: the caller passes a whole cell: 512 bytes of octets, else 256.
    unsafe {
        let load = |index: usize| _mm512_loadu_si512(cell.add(index * 64).cast());
        if LAYOUT == Layout::Octets as u8 {
            return [load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)];
        }
        let mask = _mm512_set1_epi8(15);
        let low = |index: usize| _mm512_and_si512(load(index), mask);
        let high = |index: usize| _mm512_and_si512(_mm512_srli_epi16::<4>(load(index)), mask);
        let nibbles = [low(0), low(1), low(2), low(3), high(0), high(1), high(2), high(3)];
        if LAYOUT != Layout::Microscaling as u8 {
            return nibbles;
        }
        let doubled = _mm_add_epi8(_mm_loadu_si128(MXFP4_DOUBLED.as_ptr().cast()), _mm_set1_epi8(16));
        let table = _mm512_broadcast_i32x4(doubled);
        nibbles.map(|codes| _mm512_shuffle_epi8(table, codes))
    }
}

/// As [`super::scale_and_minimum`], for all rows; the minimum is meaningful only for layouts that have one.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,f16c")]
unsafe fn scale_and_minimum<const LAYOUT: u8>(scales: *const u8, block: usize) -> (__m512, __m512) {
    // SAFETY: the caller passes the scales of a group that has this block.
    unsafe {
        let halves = |offset: usize| _mm512_cvtph_ps(_mm256_loadu_si256(scales.add(offset).cast()));
        let octets = |offset: usize| _mm512_cvtepu8_epi32(_mm_loadu_si128(scales.add(offset).cast()));
        let none = _mm512_setzero_ps();
        if LAYOUT == Layout::Nibbles as u8 || LAYOUT == Layout::Octets as u8 {
            (halves(block * 32), none)
        } else if LAYOUT == Layout::NibblesMinimum as u8 {
            (halves(block * 64), halves(block * 64 + 32))
        } else if LAYOUT == Layout::Microscaling as u8 {
            // 2^(e − 128): subnormal for e < 2.
            let exponents = octets(block * 16);
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
            let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(0x0020_0000), exponents);
            let small = _mm512_cmplt_epu32_mask(exponents, _mm512_set1_epi32(2));
            (_mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, small, subnormal)), none)
        } else {
            let start = block / 8 * SUPER_SCALE_BYTES;
            let factors = start + 64 + block % 8 * 32;
            let d = _mm512_mul_ps(halves(start), _mm512_cvtepi32_ps(octets(factors)));
            let m = _mm512_mul_ps(halves(start + 32), _mm512_cvtepi32_ps(octets(factors + 16)));
            (d, _mm512_sub_ps(none, m))
        }
    }
}
